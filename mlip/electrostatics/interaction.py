"""The interaction of smooth (Gaussian) charges in one system, whatever its boundary: waves plus a dense part.

bulk: waves alone · slab: waves of the padded box and its correction · isolated: the pair kernel alone.
This is what models use: no real-space sum, no neighbour list, and no jump when the cell strains.
"""

from typing import NamedTuple

import torch
from torch import Tensor

from mlip import units
from mlip.electrostatics.factors import Factors, apply_factors, factor_carrier, factorise, no_factors
from mlip.electrostatics.kernels import erf_ladder
from mlip.electrostatics.kspace import Waves, apply_waves, matrix_of_waves, waves_of_gaussians
from mlip.electrostatics.slab import slab_box, slab_matrix


class Interaction(NamedTuple):
    """E = 1/2 x A x with A = waves (or factors) + dense; x is the charges, or the charges and then the dipoles."""

    waves: Waves  # for training and matrices; no k: none
    factors: Factors  # the same waves for inference; nothing in them has a graph but k2 and weight
    dense: Tensor  # [n, n] or [4 n, 4 n] eV/e^2; no rows: none
    box: Tensor  # [3, 3] Å, of the waves


def smooth_interaction(
    positions: Tensor,
    cell: Tensor,
    pbc: Tensor,
    width: Tensor,
    tolerance: float,
    dipoles: bool,
    frozen: bool = False,
) -> Interaction:
    """Interaction of Gaussian charges (and dipoles) of the widths s_i, tin-foil, zero mean potential.

    positions [n, 3] Å, cell [3, 3] Å, pbc [3] bool, width [n] or [1] Å > 0; tolerance of the waves left out
    frozen    for inference: factors instead of waves, their derivatives come from `carrier`
    """
    n_periodic = int(pbc.sum())
    box, dense = cell, positions.new_zeros(0, 0)
    if n_periodic == 2:
        # the padding changes with the slab: what it leaves must not show in energies
        tolerance = 1e-3 * tolerance
        box, normal = slab_box(positions, cell, pbc, width, tolerance)
        dense = slab_matrix(positions, box, normal, width, dipoles)
    if n_periodic == 1:
        raise ValueError(
            "one periodic direction is not supported by the Coulomb sum (pbc must be all, two or none): "
            "use pbc=False for a molecule, or a cell with vacuum and pbc=True for a wire"
        )
    none = positions.new_zeros(0, 3)
    waves, factors = Waves(none, none[:, 0], none, none), no_factors(box)
    if n_periodic == 0:
        dense = isolated_matrix(positions, width, dipoles)
    elif frozen:
        factors = factorise(positions, box, width, tolerance)
    else:
        waves = waves_of_gaussians(positions, box, width, tolerance)
    return Interaction(waves, factors, dense, box)


def carrier(interaction: Interaction, positions: Tensor, charges: Tensor, dipoles: Tensor) -> Tensor:
    """Zero, [n] eV, with the first derivatives of 1/2 x A x at constant x, of a frozen interaction."""
    total = torch.zeros_like(charges)
    if interaction.dense.shape[0] > 0:
        x = torch.cat([charges, dipoles.flatten()])
        change = interaction.dense - interaction.dense.detach()
        total = total + 0.5 * (x @ change @ x) / charges.shape[0]
    if interaction.factors.n12.shape[0] > 0:
        total = total + factor_carrier(interaction.factors, positions, interaction.box, charges, dipoles)
    return total


def constant(interaction: Interaction) -> Interaction:
    """A frozen interaction without a graph."""
    return Interaction(interaction.waves, interaction.factors, interaction.dense.detach(), interaction.box.detach())


def apply_interaction(interaction: Interaction, charges: Tensor, dipoles: Tensor) -> tuple[Tensor, Tensor]:
    """dE/dq [n] V and dE/dmu [n, 3] V/Å (no rows where dipoles has none); differentiable in everything."""
    potential = torch.zeros_like(charges)
    gradient = torch.zeros_like(dipoles)
    if interaction.waves.k.shape[0] > 0:
        potential, gradient = apply_waves(interaction.waves, charges, dipoles)
    elif interaction.factors.n12.shape[0] > 0:
        potential, gradient = apply_factors(interaction.factors, charges, dipoles)
    if interaction.dense.shape[0] > 0:
        n = charges.shape[0]
        product = interaction.dense @ torch.cat([charges, dipoles.flatten()])
        potential = potential + product[:n]
        gradient = gradient + product[n:].view(-1, 3)
    return potential, gradient


def matrix_of(interaction: Interaction, charges: bool, dipoles: bool) -> Tensor:
    """A as one dense matrix over charges, dipoles or both, eV/e^2 [n, n], [3 n, 3 n] or [4 n, 4 n]."""
    dense = interaction.dense
    if not charges and dense.shape[0] > 0:
        n = dense.shape[0] // 4
        dense = dense[n:, n:]
    if interaction.waves.k.shape[0] == 0:
        return dense
    matrix = matrix_of_waves(interaction.waves, charges, dipoles)
    if dense.shape[0] > 0:
        matrix = matrix + dense
    return matrix


def isolated_matrix(positions: Tensor, width: Tensor, dipoles: bool) -> Tensor:
    """Pair kernel of Gaussian charges without images, self-interaction 1 / (s sqrt(pi)) on the diagonal."""
    n = positions.shape[0]
    r = positions[:, None, :] - positions
    pair_width2 = width.square()[:, None] + width.square()
    ladder = erf_ladder(r.square().sum(2), (2 * pair_width2).rsqrt(), 2 if dipoles else 0)
    if not dipoles:
        return units.COULOMB * ladder[0]
    mixed = (ladder[1][:, :, None] * r).reshape(n, 3 * n)
    unit = torch.eye(3, dtype=r.dtype, device=r.device)
    both = ladder[1][:, :, None, None] * unit - ladder[2][:, :, None, None] * r[:, :, :, None] * r[:, :, None, :]
    both = both.permute(0, 2, 1, 3).reshape(3 * n, 3 * n)
    return units.COULOMB * torch.cat([torch.cat([ladder[0], mixed], 1), torch.cat([mixed.t(), both], 1)], 0)
