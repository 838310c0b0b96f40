"""Building of the native kernel on this machine: one library for each size of network."""

import ctypes
from pathlib import Path

from mlip.compiled import compiled


def library_file(sizes: dict[str, int]) -> Path:
    """Path of the kernel for these sizes. Raises NoCompilerError."""
    return compiled(Path(__file__).parent, sizes, "the native kernel for this network")


def library(sizes: dict[str, int]) -> ctypes.CDLL:
    """The kernel for these sizes. Raises NoCompilerError."""
    return ctypes.CDLL(str(library_file(sizes)))
