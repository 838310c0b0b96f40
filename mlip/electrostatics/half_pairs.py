"""Near pairs of charges in C++, each once, in 12 bytes: for charges on the CPU without a graph.

Forces search for the pairs again, so that no vectors are kept.
"""

import ctypes
import math
from typing import NamedTuple

import torch
from torch import Tensor

from mlip import units
from mlip.electrostatics.compiled_splines import address, library
from mlip.electrostatics.kernels import kernels_at_cutoff
from mlip.electrostatics.pairs import Bins, pair_exponent

MOST_KINDS = 64  # widths of a system, in tables of each with each


class HalfPairs(NamedTuple):
    """Pairs of each atom with later ones, in the order of the bins, and with images of itself."""

    start: Tensor  # [n + 1] int64: where each atom's pairs begin
    neighbour: Tensor  # [n_pairs] int32
    kernel: Tensor  # [n_pairs] eV/e^2, k_e B_0 of `short_range_kernels`
    bin_start: Tensor  # [n_bins + 1] int64
    number: list[int]  # bins along each lattice vector
    reach: list[int]  # bins to look at on either side
    wanted: Tensor  # [n] bool
    kind: Tensor  # [n] uint8, width of each atom
    exponent: Tensor  # [n_kinds, n_kinds] g, Å^-1
    edge: Tensor  # [2, n_kinds, n_kinds] B_0, Å^-1, and B_1, Å^-3, at the cutoff


class Search(ctypes.Structure):
    """Search of source/pairs.cpp."""

    _fields_ = (
        ("n", ctypes.c_int64), ("positions", ctypes.c_void_p), ("cell", ctypes.c_void_p), ("cutoff", ctypes.c_double),
        ("wanted", ctypes.c_void_p), ("bin_start", ctypes.c_void_p), ("number", ctypes.c_int64 * 3),
        ("reach", ctypes.c_int64 * 3), ("kind", ctypes.c_void_p), ("n_kinds", ctypes.c_int64),
        ("exponent", ctypes.c_void_p), ("edge", ctypes.c_void_p), ("mesh_exponent", ctypes.c_double),
        ("coulomb", ctypes.c_double), ("n_threads", ctypes.c_int64),
    )  # fmt: skip


def half_pairs(bins: Bins, cell: Tensor, cutoff: float, wanted: Tensor, width: Tensor, eta: float) -> HalfPairs | None:
    """Pairs closer than the cutoff; arguments as of `pairs_of_charges`. None: more than MOST_KINDS widths."""
    widths, kind = torch.unique(width, return_inverse=True)
    if len(widths) > MOST_KINDS:
        return None
    exponent = pair_exponent(widths[:, None], widths)
    edge = torch.stack(kernels_at_cutoff(exponent, eta, cutoff))
    none = torch.empty(0, dtype=torch.float64)
    pairs = HalfPairs(
        none, none, none, bins.start, bins.number, bins.reach, wanted.contiguous(), kind.to(torch.uint8), exponent, edge
    )
    positions, cell = bins.wrapped.contiguous(), cell.contiguous()
    search = _search(pairs, positions, cell, cutoff, eta)
    start = torch.zeros(len(positions) + 1, dtype=torch.int64)
    library().mlip_count_pairs(ctypes.byref(search), address(start[1:]))
    start.cumsum_(0)
    neighbour = torch.empty(int(start[-1]), dtype=torch.int32)
    kernel = torch.empty(len(neighbour), dtype=torch.float64)
    library().mlip_fill_pairs(ctypes.byref(search), address(start), address(neighbour), address(kernel))
    return pairs._replace(start=start, neighbour=neighbour, kernel=kernel)


def _search(pairs: HalfPairs, positions: Tensor, cell: Tensor, cutoff: float, eta: float) -> Search:
    """All tensors contiguous, and alive as long as the search."""
    return Search(
        len(positions), address(positions), address(cell), cutoff, address(pairs.wanted), address(pairs.bin_start),
        (ctypes.c_int64 * 3)(*pairs.number), (ctypes.c_int64 * 3)(*pairs.reach), address(pairs.kind), len(pairs.exponent),
        address(pairs.exponent), address(pairs.edge), 1.0 / (math.sqrt(2.0) * eta), units.COULOMB, torch.get_num_threads(),
    )  # fmt: skip


def apply_half_pairs(pairs: HalfPairs, charges: Tensor) -> Tensor:
    """Potential [n] V at the atoms, sum_j q_j k_e B_0 over all near j."""
    charges, potential = charges.contiguous(), torch.empty_like(charges)
    library().mlip_apply_pairs(
        ctypes.c_long(len(charges)), address(pairs.start), address(pairs.neighbour), address(pairs.kernel), address(charges),
        torch.get_num_threads(), address(potential),
    )  # fmt: skip
    return potential


def half_pair_slopes(
    pairs: HalfPairs, positions: Tensor, cell: Tensor, cutoff: float, eta: float, charges: Tensor
) -> tuple[Tensor, Tensor]:
    """`pairs.pair_slopes` of the energy of these pairs: by positions [n, 3] eV/Å, and by strain [3, 3] eV."""
    positions, cell, charges = positions.contiguous(), cell.contiguous(), charges.contiguous()
    slope, virial = torch.empty_like(positions), torch.empty_like(cell)
    search = _search(pairs, positions, cell, cutoff, eta)
    library().mlip_pair_slopes(
        ctypes.byref(search), address(pairs.start), address(pairs.kernel), address(charges), address(slope), address(virial)
    )  # fmt: skip
    return slope, virial
