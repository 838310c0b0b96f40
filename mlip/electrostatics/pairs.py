"""What the mesh leaves to do at short range: a kernel between near atoms, kept pair by pair."""

import math
from typing import NamedTuple

import torch
from torch import Tensor

from mlip import units


class Pairs(NamedTuple):
    """Every pair stands in both directions; float64, indices int32."""

    centre: Tensor  # [n_pairs]
    neighbour: Tensor  # [n_pairs]
    vector: Tensor  # [n_pairs, 3] Å, r_neighbour - r_centre
    ladder: list[Tensor]  # k_e B_0 .. of `difference_ladder`, [n_pairs] each


def difference_ladder(distance2: Tensor, g: Tensor, eta: float, cutoff: float, order: int) -> list[Tensor]:
    """B_0 = [erf(g d) - erf(d / (sqrt2 eta))] / d and B_{n+1} = -(1/d) dB_n/dd: the pair's kernel less the mesh's.

    A parabola in d^2, of the size of the tail, makes B_0 and its slope vanish at the cutoff, so that energy and
    forces have no step there.

    distance2 [n] Å^2 > 0;  g = 1 / sqrt(2 (s_i^2 + s_j^2)) [n] Å^-1, large for point charges
    """
    at_cutoff = torch.full_like(g, cutoff * cutoff)
    inside = _erf_difference(distance2, g, eta, order)
    edge = _erf_difference(at_cutoff, g, eta, 1)
    inside[0] = inside[0] - edge[0] + 0.5 * edge[1] * (distance2 - at_cutoff)
    if order > 0:
        inside[1] = inside[1] - edge[1]
    return inside


def _erf_difference(distance2: Tensor, g: Tensor, eta: float, order: int) -> list[Tensor]:
    d = distance2.sqrt()
    b = 1.0 / (math.sqrt(2.0) * eta)
    gauss_g = (2.0 / math.sqrt(math.pi)) * g * torch.exp(-g * g * distance2)
    gauss_b = (2.0 / math.sqrt(math.pi)) * b * torch.exp(-b * b * distance2)
    # erfc: no cancellation in the tail
    ladder = [(torch.erfc(b * d) - torch.erfc(g * d)) / d]
    for n in range(order):
        gauss = (2.0 * g * g) ** n * gauss_g - (2.0 * b * b) ** n * gauss_b
        ladder.append(((2 * n + 1) * ladder[n] - gauss) / distance2)
    return ladder


def pair_screening(width_i: Tensor, width_j: Tensor) -> Tensor:
    """g = 1 / sqrt(2 (s_i^2 + s_j^2)) Å^-1; two point charges have a number so large that erf(g d) is one."""
    return 1.0 / (2.0 * (width_i.square() + width_j.square()) + 1e-18).sqrt()


def make_pairs(
    centre: Tensor,
    neighbour: Tensor,
    vector: Tensor,
    width: Tensor,
    eta: float,
    cutoff: float,
    order: int,
    chunk: int = 1 << 20,
) -> Pairs:
    """Kernel of every pair; order 1 for energies and forces of charges, 3 with dipoles; chunk: pairs at once."""
    parts: list[list[Tensor]] = [[] for _ in range(order + 1)]
    for first in range(0, max(vector.shape[0], 1), chunk):
        last = first + chunk
        g = pair_screening(width.index_select(0, centre[first:last]), width.index_select(0, neighbour[first:last]))
        square = vector[first:last].square().sum(1)
        for k, values in enumerate(difference_ladder(square, g, eta, cutoff, order)):
            parts[k].append(units.COULOMB * values)
    return Pairs(centre, neighbour, vector, [torch.cat(part) for part in parts])


def apply_pairs(pairs: Pairs, charges: Tensor, dipoles: Tensor, chunk: int = 1 << 17) -> tuple[Tensor, Tensor]:
    """Potential [n] V and its gradient [n, 3] V/Å at the atoms; no rows of dipoles: the gradient is left out.

    phi_i = sum_j q_j B_0 - B_1 mu_j.r;  gradient_i = sum_j r (B_1 q_j - B_2 mu_j.r) + B_1 mu_j,  r = r_j - r_i
    """
    potential, gradient = torch.zeros_like(charges), torch.zeros_like(dipoles)
    for first in range(0, pairs.vector.shape[0], chunk):  # small enough for the cache
        last = first + chunk
        i, j = pairs.centre[first:last], pairs.neighbour[first:last]
        q = charges.index_select(0, j)
        values = q * pairs.ladder[0][first:last]
        if dipoles.shape[0] > 0:
            r, b1, mu = pairs.vector[first:last], pairs.ladder[1][first:last], dipoles.index_select(0, j)
            along = (mu * r).sum(1)
            values = values - b1 * along
            radial = b1 * q - pairs.ladder[2][first:last] * along
            gradient.index_add_(0, i, radial[:, None] * r + b1[:, None] * mu)
        potential.index_add_(0, i, values)
    return potential, gradient


def pair_slopes(pairs: Pairs, charges: Tensor, dipoles: Tensor, chunk: int = 1 << 17) -> tuple[Tensor, Tensor]:
    """Derivatives of the pair energy 1/2 sum_ij e(r_ij) at fixed sources: by positions, and by strain.

    e = q_i q_j B_0 + B_1 (q_j mu_i.r - q_i mu_j.r + mu_i.mu_j) - B_2 (mu_i.r) (mu_j.r)
    returns [n, 3] eV/Å and W [3, 3] eV, the energy's change for r -> r + r @ strain being sum strain * W
    """
    n = charges.shape[0]
    forward = torch.zeros([n, 3], dtype=charges.dtype, device=charges.device)
    virial = torch.zeros([3, 3], dtype=charges.dtype, device=charges.device)
    for first in range(0, pairs.vector.shape[0], chunk):
        last = first + chunk
        i, j, r = pairs.centre[first:last], pairs.neighbour[first:last], pairs.vector[first:last]
        q_i, q_j = charges.index_select(0, i), charges.index_select(0, j)
        b1 = pairs.ladder[1][first:last]
        if dipoles.shape[0] == 0:
            slope = -(q_i * q_j * b1)[:, None] * r
        else:
            b2, b3 = pairs.ladder[2][first:last], pairs.ladder[3][first:last]
            mu_i, mu_j = dipoles.index_select(0, i), dipoles.index_select(0, j)
            along_i, along_j = (mu_i * r).sum(1), (mu_j * r).sum(1)
            radial = q_i * q_j * b1 + b2 * (q_j * along_i - q_i * along_j + (mu_i * mu_j).sum(1))
            radial = radial - b3 * along_i * along_j
            slope = b1[:, None] * (q_j[:, None] * mu_i - q_i[:, None] * mu_j) - radial[:, None] * r
            slope = slope - b2[:, None] * (along_j[:, None] * mu_i + along_i[:, None] * mu_j)
        forward.index_add_(0, i, slope, alpha=-1.0)  # the other half of each pair is the pair the other way
        virial += 0.5 * r.t() @ slope
    return forward, virial
