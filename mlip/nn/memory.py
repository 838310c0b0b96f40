"""Keep freed memory in the process, so that large temporaries cost no page faults."""

import ctypes
import sys

_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3  # malloc.h of glibc


def keep_freed_memory() -> bool:
    """Tell glibc to reuse freed blocks of any size instead of giving them back to the kernel.

    A step of the network makes tens of tensors of several MB. By default each is mapped, zeroed page by
    page and unmapped again: an element-wise product of 5 MB takes 6.0 us per atom that way and 0.4 us
    with reused memory (416 atoms, 64 channels, one thread). The price is that the process keeps its peak
    memory until it ends. Returns False where the allocator is not glibc's.
    """
    if not sys.platform.startswith("linux"):
        return False
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is None:
        return False
    return bool(mallopt(_M_MMAP_THRESHOLD, 1 << 30)) and bool(mallopt(_M_TRIM_THRESHOLD, (1 << 31) - 1))
