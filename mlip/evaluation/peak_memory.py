"""Peak memory of a calculation, and total memory of the device."""

import contextlib
import ctypes
import os
from collections.abc import Callable
from pathlib import Path

import torch

STATUS, RESET = Path("/proc/self/status"), Path("/proc/self/clear_refs")


def peak_bytes(calculate: Callable[[], None], device: torch.device) -> int | None:
    """Bytes that a calculation needs at its peak beyond what was in use before; None if the system does not measure it.

    On a CPU: the peak of the resident memory, after freed memory was given back and the peak was reset (Linux, glibc).
    """
    if device.type == "cuda":
        torch.cuda.synchronize(device)
        torch.cuda.reset_peak_memory_stats(device)
        before = torch.cuda.memory_allocated(device)
        calculate()
        torch.cuda.synchronize(device)
        return torch.cuda.max_memory_allocated(device) - before
    try:
        ctypes.CDLL("libc.so.6").malloc_trim(0)  # or this calculation would reuse, unseen, what an earlier one left
        RESET.write_text("5")
        before = _kilobytes("VmRSS")
        calculate()
        return 1024 * (_kilobytes("VmHWM") - before)
    except (OSError, AttributeError):
        return None


def _kilobytes(name: str) -> int:
    line = next(line for line in STATUS.read_text().splitlines() if line.startswith(f"{name}:"))
    return int(line.split()[1])


def total_bytes(device: torch.device) -> int:
    """Memory of the device: of the GPU, or of the machine and not more than its control group allows."""
    if device.type == "cuda":
        return torch.cuda.mem_get_info(device)[1]
    limits = [os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")]
    for name in ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes"):
        with contextlib.suppress(OSError, ValueError):  # no control group, or "max"
            limits.append(int(Path(name).read_text()))
    return min(limits)
