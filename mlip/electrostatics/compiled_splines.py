"""Splines in C++, for tensors on the CPU without a graph: the same sums as in splines.py, ten times as fast."""

import ctypes
from functools import cache
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from mlip.compiled import NoCompilerError, compiled

ORDERS = (4, 6, 8, 10)


@cache
def library() -> Any:
    """Functions of the folder `source`, or None on a machine that cannot compile them."""
    try:
        found = ctypes.CDLL(str(compiled(Path(__file__).parent / "source", {}, "sums of charges on a mesh")))
    except (NoCompilerError, OSError):
        return None
    for name in ("mlip_spread", "mlip_gather", "mlip_count_pairs", "mlip_fill_pairs", "mlip_apply_pairs",
                 "mlip_pair_slopes"):  # fmt: skip
        getattr(found, name).restype = None
    return found


def plain(*tensors: Tensor) -> bool:
    """Whether compiled functions may read these: float64 on the CPU, and nothing asks for a derivative."""
    wanted = torch.is_grad_enabled()
    for tensor in tensors:
        if tensor.device.type != "cpu" or tensor.dtype != torch.float64 or (wanted and tensor.requires_grad):
            return False
    return library() is not None


def address(tensor: Tensor | None) -> ctypes.c_void_p:
    """Where the numbers of a contiguous tensor lie; None: null."""
    return ctypes.c_void_p(None if tensor is None else tensor.data_ptr())


def compiled_spread(points: Tensor, jet: Tensor, shape: list[int], charges: Tensor) -> Tensor:
    """`splines.spread` of charges [n] e; points and jet of the stencil."""
    grid = torch.zeros(shape, dtype=torch.float64)
    points, weights, charges = points.contiguous(), jet[0].contiguous(), charges.contiguous()
    n, order = len(charges), jet.shape[3]
    library().mlip_spread(
        ctypes.c_long(n), order, (ctypes.c_int64 * 3)(*shape), address(points), address(weights), address(charges), address(grid)
    )  # fmt: skip
    return grid


def compiled_gather(points: Tensor, jet: Tensor, grid: Tensor) -> list[Tensor]:
    """`splines.gather` of values [n], and of gradients [n, 3] if the stencil has derivatives."""
    points, grid, jet = points.contiguous(), grid.contiguous(), jet.contiguous()
    n, order = jet.shape[1], jet.shape[3]
    slopes = jet[1] if jet.shape[0] > 1 else None
    values = torch.empty(n, dtype=torch.float64)
    gradient = None if slopes is None else torch.empty(n, 3, dtype=torch.float64)
    library().mlip_gather(
        ctypes.c_long(n), order, (ctypes.c_int64 * 3)(*grid.shape), address(points), address(jet[0]), address(slopes),
        address(grid), torch.get_num_threads(), address(values), address(gradient),
    )  # fmt: skip
    return [values] if gradient is None else [values, gradient]
