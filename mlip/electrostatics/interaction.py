"""The interaction of smooth (Gaussian) charges in one system, whatever its boundary: waves plus a dense part.

bulk: waves alone · slab: waves of the padded box and its correction · isolated: the pair kernel alone.
This is what models use: no real-space sum, no neighbour list, and no jump when the cell strains.
"""

from typing import NamedTuple

import torch
from torch import Tensor

from mlip.electrostatics.kernels import erf_ladder
from mlip.electrostatics.kspace import Waves, apply_waves, matrix_of_waves, waves_of_gaussians
from mlip.electrostatics.slab import slab_box, slab_matrix
from mlip.units import COULOMB


class Interaction(NamedTuple):
    """E = 1/2 x A x with A = waves + dense; x is the charges, or the charges and then the dipoles."""

    waves: Waves
    dense: Tensor  # [n, n] or [4 n, 4 n] eV/e^2; no rows: none


def smooth_interaction(
    positions: Tensor, cell: Tensor, pbc: Tensor, width: Tensor, tolerance: float, dipoles: bool
) -> Interaction:
    """Interaction of Gaussian charges (and dipoles) of the widths s_i, tin-foil, zero mean potential.

    positions [n, 3] Å, cell [3, 3] Å, pbc [3] bool, width [n] Å > 0; tolerance of the waves left out
    """
    n_periodic = int(pbc.sum())
    nothing = positions.new_zeros(0, 0)
    if n_periodic == 3:
        return Interaction(waves_of_gaussians(positions, cell, width, tolerance), nothing)
    if n_periodic == 2:
        box, normal = slab_box(positions, cell, pbc, width, tolerance)
        correction = slab_matrix(positions, box, normal, width, dipoles)
        return Interaction(waves_of_gaussians(positions, box, width, tolerance), correction)
    if n_periodic == 1:
        raise ValueError(
            "one periodic direction is not supported by the Coulomb sum (pbc must be all, two or none): "
            "use pbc=False for a molecule, or a cell with vacuum and pbc=True for a wire"
        )
    waves = Waves(positions.new_zeros(0, 3), positions.new_zeros(0, 0), positions.new_zeros(0, 0))
    return Interaction(waves, isolated_matrix(positions, width, dipoles))


def apply_interaction(interaction: Interaction, charges: Tensor, dipoles: Tensor) -> tuple[Tensor, Tensor]:
    """dE/dq [n] V and dE/dmu [n, 3] V/Å (no rows where dipoles has none); differentiable in everything."""
    potential = torch.zeros_like(charges)
    gradient = torch.zeros_like(dipoles)
    if interaction.waves.k.shape[0] > 0:
        potential, gradient = apply_waves(interaction.waves, charges, dipoles)
    if interaction.dense.shape[0] > 0:
        n = charges.shape[0]
        product = interaction.dense @ torch.cat([charges, dipoles.flatten()])
        potential = potential + product[:n]
        gradient = gradient + product[n:].view(-1, 3)
    return potential, gradient


def matrix_of(interaction: Interaction, dipoles: bool) -> Tensor:
    """A as one dense matrix, [n, n] or [4 n, 4 n] eV/e^2."""
    if interaction.waves.k.shape[0] == 0:
        return interaction.dense
    matrix = matrix_of_waves(interaction.waves, dipoles)
    if interaction.dense.shape[0] > 0:
        matrix = matrix + interaction.dense
    return matrix


def isolated_matrix(positions: Tensor, width: Tensor, dipoles: bool) -> Tensor:
    """Pair kernel of Gaussian charges without images, self-interaction 1 / (s sqrt(pi)) on the diagonal."""
    n = positions.shape[0]
    r = positions[:, None, :] - positions
    pair_width2 = width.square()[:, None] + width.square()
    ladder = erf_ladder(r.square().sum(2), (2 * pair_width2).rsqrt(), 2 if dipoles else 0)
    if not dipoles:
        return COULOMB * ladder[0]
    mixed = (ladder[1][:, :, None] * r).reshape(n, 3 * n)
    unit = torch.eye(3, dtype=r.dtype, device=r.device)
    both = ladder[1][:, :, None, None] * unit - ladder[2][:, :, None, None] * r[:, :, :, None] * r[:, :, None, :]
    both = both.permute(0, 2, 1, 3).reshape(3 * n, 3 * n)
    return COULOMB * torch.cat([torch.cat([ladder[0], mixed], 1), torch.cat([mixed.t(), both], 1)], 0)
