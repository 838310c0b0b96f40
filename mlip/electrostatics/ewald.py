"""Ewald sum of one system, exact, with a Gaussian width (or none) for every atom.

A_ij / k_e = sum_R [ erf(g_ij d) - erf(d / (sqrt2 eta)) ] / d  +  (4 pi / V) sum_k exp(-eta^2 k^2 / 2) cos(k.r) / k^2
             - (2 pi / V) (eta^2 - s_i^2 - s_j^2),              g_ij = 1 / sqrt(2 (s_i^2 + s_j^2))
tin-foil, neutralising background of zero mean potential. Its value does not depend on the splitting width eta.
"""

import math

import torch
from numpy.typing import ArrayLike
from torch import Tensor

from mlip.electrostatics.kernels import point_kernels, radial_kernels
from mlip.electrostatics.operator import System, coulomb_operator, operator_matrix
from mlip.electrostatics.slab import padded_slab_box, slab_matrix
from mlip.electrostatics.structure_factors import (
    StructureFactors,
    coulomb_weight,
    structure_factor_matrix,
    wave_cutoff,
    wave_vectors,
)
from mlip.errors import InputError
from mlip.units import COULOMB

Values = Tensor | ArrayLike  # numbers, lists, arrays or tensors

COINCIDENT = 1e-6  # Å
# width of the split in units of V^(1/3): balances pairs (about 50 ns) against multiply-adds of the matrix product
BALANCED = 0.13


def coulomb_matrix(
    positions: Values,
    cell: Values | None = None,
    pbc: Values = True,
    width: Values | None = None,
    tolerance: float = 1e-14,
    eta: float | None = None,
    dipoles: bool = False,
) -> Tensor:
    """Interaction matrix A [n, n] eV/e^2 of the electrostatic energy E = 1/2 q A q.

    With dipoles [4 n, 4 n]: E = 1/2 x A x, x = (q, mu).

    positions  [n, 3] Å            cell  [3, 3] Å, rows; None if nothing is periodic
    pbc        bool or three: three directions (bulk), two (slab), none (isolated); one is refused
    width      s_i of exp(-r^2 / 2 s^2), [n] or a number, Å; None or 0: point charges
    eta        splitting width, Å; only for tests that nothing depends on it
    Differentiable in positions, cell and width (to second order and beyond).
    """
    positions, cell, pbc, width = checked_system(positions, cell, pbc, width)
    n_periodic = int(pbc.sum())
    if n_periodic == 0:
        return _real_space(positions, cell, pbc, width, 0.0, tolerance, dipoles)
    box, normal = cell, cell[0]
    if n_periodic == 2:
        box, normal = padded_slab_box(positions, cell, pbc, width, tolerance)
    if eta is None:
        plane_or_cell = torch.linalg.det(box).abs() if n_periodic == 3 else _area(cell, pbc) ** 1.5
        eta = BALANCED * float(plane_or_cell.detach()) ** (1 / 3)
        if math.sqrt(2) * float(width.detach().min()) > eta:  # all are smooth: waves alone are exact and cheaper
            system = System(positions, cell, pbc)
            return operator_matrix(coulomb_operator(system, width, tolerance, dipoles, True), True, dipoles)
    matrix = _real_space(positions, box, torch.ones_like(pbc), width, eta, tolerance, dipoles)
    matrix = matrix + structure_factor_matrix(_split_structure_factors(positions, box, eta, tolerance), True, dipoles)
    background = 2 * math.pi * COULOMB / torch.linalg.det(box).abs()
    background = -background * (eta**2 - width.square()[:, None] - width.square())
    matrix = matrix + torch.nn.functional.pad(background, (0, matrix.shape[0] - len(width)) * 2)
    if n_periodic == 2:
        matrix = matrix + slab_matrix(positions, box, normal, width, dipoles)
    return matrix


def coulomb_energy(
    positions: Values,
    cell: Values | None,
    pbc: Values,
    charges: Tensor,
    width: Values | None = None,
    dipoles: Tensor | None = None,
    tolerance: float = 1e-14,
    eta: float | None = None,
) -> Tensor:
    """Electrostatic energy (eV) of charges [n] e and dipoles [n, 3] e Å.

    With the self-energy of their Gaussians.
    Point charges and point dipoles (width None or 0) have no self-energy. Arguments as for `coulomb_matrix`.
    """
    matrix = coulomb_matrix(positions, cell, pbc, width, tolerance, eta, dipoles is not None)
    x = charges.to(matrix.dtype)
    if dipoles is not None:
        x = torch.cat([x, dipoles.to(matrix.dtype).flatten()])
    return 0.5 * x @ matrix @ x


def checked_system(
    positions: Values, cell: Values | None, pbc: Values, width: Values | None
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """The four as float64 tensors (pbc bool) of one shape; raises ValueError if they make no system."""
    positions = torch.as_tensor(positions, dtype=torch.float64)
    if positions.ndim != 2 or positions.shape[1] != 3:
        raise InputError(f"positions must be [n_atoms, 3], got {list(positions.shape)}")
    pbc = torch.as_tensor(pbc, device=positions.device).bool().expand(3)
    cell = as_double(torch.zeros(3, 3) if cell is None else cell, positions)
    if cell.shape != (3, 3):
        raise InputError(f"cell must be [3, 3] with lattice vectors as rows, got {list(cell.shape)}")
    n_periodic = int(pbc.sum())
    if n_periodic == 1:
        raise InputError(
            f"pbc={pbc.tolist()}: one periodic direction is not supported (three, two or none are): "
            "take pbc=False for a molecule, or a cell with vacuum and pbc=True for a wire"
        )
    if n_periodic == 3 and float(torch.linalg.det(cell.detach()).abs()) < 1e-9:
        raise InputError(f"cell {cell.tolist()} has no volume, but pbc={pbc.tolist()}: give three independent vectors")
    if n_periodic == 2 and float(_area(cell.detach(), pbc)) < 1e-9:
        raise InputError(f"cell {cell.tolist()} spans no area in its periodic directions {pbc.tolist()}")
    width = as_double(0.0 if width is None else width, positions).expand(len(positions))
    if bool((width < 0).any()):
        raise InputError(f"width must be zero (point charge) or positive, got {float(width.detach().min())} Å")
    return positions, cell, pbc, width


def as_double(value: Values, like: Tensor) -> Tensor:
    """A number, list, array or tensor as float64 (never by way of float32) beside `like`."""
    return torch.as_tensor(value, dtype=torch.float64, device=like.device)


def _area(cell: Tensor, pbc: Tensor) -> Tensor:
    return torch.linalg.vector_norm(torch.linalg.cross(*cell[pbc]))


def _split_structure_factors(positions: Tensor, cell: Tensor, eta: float, tolerance: float) -> StructureFactors:
    """Of Gaussians of one width eta / sqrt2 each."""
    cutoff = wave_cutoff(eta / math.sqrt(2), tolerance)
    k = wave_vectors(cell, cutoff)
    k2 = k.square().sum(1)
    weight = coulomb_weight(k2, torch.linalg.det(cell).abs(), cutoff) * torch.exp(-0.5 * eta**2 * k2)
    phase = positions @ k.t()
    return StructureFactors(k, weight, phase.cos(), phase.sin())


def _real_space(
    positions: Tensor, cell: Tensor, pbc: Tensor, width: Tensor, eta: float, tolerance: float, dipoles: bool
) -> Tensor:
    """Sum over images of [erf(g d) - erf(d / sqrt2 eta)] / d; eta = 0 and no pbc: the bare pair kernel.

    The pair of an atom with itself at d = 0 is an ordinary pair: its limit is the self-energy.
    """
    n = len(positions)
    reach = math.sqrt(-2 * math.log(tolerance)) * max(eta, math.sqrt(2) * float(width.detach().max()))
    i, j, r = _pairs(positions, cell, pbc, reach)
    distance2 = r.square().sum(1)
    pair_width2 = width[i].square() + width[j].square()
    itself = (i == j) & (distance2.detach() < COINCIDENT**2)
    point = pair_width2.detach() == 0
    _refuse_coincident(i, j, point & ~itself & (distance2.detach() < COINCIDENT**2))
    order = 2 if dipoles else 0
    g = (2 * torch.where(point, torch.ones_like(pair_width2), pair_width2)).rsqrt()
    gaussian = radial_kernels(distance2, g, order)
    bare = point_kernels(torch.where(point & ~itself, distance2, torch.ones_like(distance2)), order)
    kernels = [torch.where(point, torch.where(itself, 0.0, b), a) for a, b in zip(gaussian, bare, strict=True)]
    if eta > 0:
        split = radial_kernels(distance2, torch.full_like(g, 1 / (math.sqrt(2) * eta)), order)
        kernels = [a - b for a, b in zip(kernels, split, strict=True)]
    once = COULOMB * torch.where(i == j, 0.5, 1.0).to(r)  # pairs i == j come with both signs of r
    size = 4 * n if dipoles else n
    half = torch.zeros(size, size, dtype=positions.dtype, device=positions.device)
    half = half.index_put((i, j), once * kernels[0], accumulate=True)
    if dipoles:
        axis = torch.arange(3, device=r.device)
        mu_i, mu_j = n + 3 * i[:, None] + axis, n + 3 * j[:, None] + axis
        along = -r * (once * kernels[1])[:, None]  # r here is r_j - r_i
        half = half.index_put((i[:, None].expand(-1, 3), mu_j), along, accumulate=True)
        half = half.index_put((mu_i, j[:, None].expand(-1, 3)), -along, accumulate=True)
        b1, b2 = kernels[1][:, None, None], kernels[2][:, None, None]
        both = b1 * torch.eye(3).to(r) - b2 * r[:, :, None] * r[:, None, :]
        where = (mu_i[:, :, None].expand(-1, 3, 3), mu_j[:, None, :].expand(-1, 3, 3))
        half = half.index_put(where, once[:, None, None] * both, accumulate=True)
    return half + half.t()


def _refuse_coincident(i: Tensor, j: Tensor, bad: Tensor) -> None:
    if bool(bad.any()):
        first = int(bad.nonzero()[0])
        raise InputError(
            f"atoms {int(i[first])} and {int(j[first])} lie within {COINCIDENT} Å of each other: the energy of "
            "coincident point charges is infinite; remove one, or give them a width"
        )


def _pairs(positions: Tensor, cell: Tensor, pbc: Tensor, reach: float) -> tuple[Tensor, Tensor, Tensor]:
    """Pairs i <= j with all images inside reach (if nothing is periodic, all pairs): i, j, r_j - r_i [n_pairs, 3]."""
    n = len(positions)
    if not bool(pbc.any()):
        i, j = torch.triu_indices(n, n, device=positions.device)
        return i, j, positions[j] - positions[i]
    inverse = torch.linalg.inv(cell.detach())
    wrapped = positions - (positions.detach() @ inverse).floor() @ cell
    count = (reach * torch.linalg.vector_norm(inverse, dim=0)).ceil().long() + 1  # 1 / height of the cell, each way
    grids = [torch.arange(-int(c), int(c) + 1, dtype=cell.dtype, device=cell.device) for c in count]
    upper = torch.ones(n, n, dtype=torch.bool, device=cell.device).triu()
    parts = []
    with torch.no_grad():
        difference = wrapped[None] - wrapped[:, None]
        for shift in torch.cartesian_prod(*grids):
            inside = ((difference + shift @ cell).square().sum(2) < reach * reach) & upper
            i, j = inside.nonzero(as_tuple=True)
            if len(i):
                parts.append((i, j, shift.expand(len(i), 3)))
    i, j, shift = (torch.cat(part) for part in zip(*parts, strict=True))
    return i, j, wrapped[j] - wrapped[i] + shift @ cell
