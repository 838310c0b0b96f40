"""Coulomb operator of the charges and dipoles of one system, for every boundary and size.

bulk: structure factors · slab: structure factors of a padded box and a dense correction · isolated: a dense matrix ·
many atoms: particle mesh. Gaussian charges need no real-space sum and no neighbour list below the mesh, and their
energy has no jump when the cell strains.
"""

from typing import NamedTuple

import torch
from torch import Tensor

from mlip import units
from mlip.electrostatics.kernels import radial_kernels
from mlip.electrostatics.pme import (
    ParticleMesh,
    apply_particle_mesh,
    detached_particle_mesh,
    ewald_split,
    particle_mesh,
    particle_mesh_gradient_carrier,
)
from mlip.electrostatics.separable import (
    SeparableStructureFactors,
    apply_separable,
    separable_gradient_carrier,
    separable_structure_factors,
    single_precision_factors,
)
from mlip.electrostatics.slab import padded_slab_box, slab_matrix
from mlip.electrostatics.structure_factors import (
    StructureFactors,
    apply_structure_factors,
    structure_factor_matrix,
    structure_factors,
)
from mlip.errors import InputError


class System(NamedTuple):
    """Atoms in a cell with its periodic directions."""

    positions: Tensor  # [n, 3] Å
    cell: Tensor  # [3, 3] Å, rows are lattice vectors
    pbc: Tensor  # [3] bool


class CoulombOperator(NamedTuple):
    """A of E = 1/2 x A x, the sum of the parts that are not None; x: charges, then dipoles."""

    dense: Tensor | None  # [n, n] or [4 n, 4 n] eV/e^2
    factors: StructureFactors | None  # differentiable, for training and matrices
    separable: SeparableStructureFactors | None  # the same waves for inference; only k2 and weight have a graph
    mesh: ParticleMesh | None
    box: Tensor  # [3, 3] Å, of the structure factors


def coulomb_operator(
    system: System, width: Tensor, tolerance: float, dipoles: bool, training: bool, mesh: bool = False
) -> CoulombOperator:
    """Interaction of Gaussian charges (and dipoles) of the widths s_i, tin-foil, zero mean potential.

    width     [n] or [1] Å > 0
    tolerance of the waves left out; forces err by about as much, eV/Å. The mesh has its own, 1e-7
    training  differentiable any number of times; otherwise first derivatives come from `gradient_carrier`
    mesh      particle mesh if the system is a bulk or a slab
    """
    n_periodic, positions = int(system.pbc.sum()), system.positions
    if n_periodic == 1:
        raise InputError(
            "one periodic direction is not supported by the Coulomb sum (pbc must be all, two or none): "
            "use pbc=False for a molecule, or a cell with vacuum and pbc=True for a wire"
        )
    if n_periodic == 0:
        return CoulombOperator(isolated_matrix(positions, width, dipoles), None, None, None, system.cell)
    if mesh:
        return mesh_operator(system, width.expand(positions.shape[0]), 1e-7, dipoles, training)
    box = system.cell
    dense: Tensor | None = None
    if n_periodic == 2:
        # the padding changes with the slab: what it leaves must not show in energies
        tolerance = 1e-3 * tolerance
        box, normal = padded_slab_box(positions, system.cell, system.pbc, width, tolerance)
        dense = slab_matrix(positions, box, normal, width, dipoles)
    if training:
        return CoulombOperator(dense, structure_factors(positions, box, width, tolerance), None, None, box)
    return CoulombOperator(dense, None, separable_structure_factors(positions, box, width, tolerance), None, box)


def mesh_operator(system: System, width: Tensor, tolerance: float, dipoles: bool, training: bool) -> CoulombOperator:
    """Operator of a bulk or slab of many atoms, in N log N.

    About 180 us per atom and relaxation at any size on one thread (Li2O, charges).
    Below some 2000 atoms structure factors at their tolerance of 1e-5 are faster: scripts/bench_electrostatics.py.
    width      [n] Å >= 0    tolerance  see pme.ewald_split
    """
    split = ewald_split(system.positions, system.cell, system.pbc, width, tolerance, training=training)
    mesh = particle_mesh(system.positions, split, width, dipoles, training)
    return CoulombOperator(None, None, None, mesh, split.box)


def apply_operator(operator: CoulombOperator, charges: Tensor, dipoles: Tensor) -> tuple[Tensor, Tensor]:
    """dE/dq [n] V and dE/dmu [n, 3] V/Å (no rows if dipoles has none)."""
    potential, gradient = torch.zeros_like(charges), torch.zeros_like(dipoles)
    factors, separable, mesh, dense = operator.factors, operator.separable, operator.mesh, operator.dense
    if mesh is not None:
        return apply_particle_mesh(mesh, charges, dipoles)
    if factors is not None:
        potential, gradient = apply_structure_factors(factors, charges, dipoles)
    elif separable is not None:
        potential, gradient = apply_separable(separable, charges, dipoles)
    if dense is not None:
        n = charges.shape[0]
        product = dense @ torch.cat([charges, dipoles.flatten()])
        potential = potential + product[:n]
        gradient = gradient + product[n:].view(-1, 3)
    return potential, gradient


def gradient_carrier(operator: CoulombOperator, positions: Tensor, charges: Tensor, dipoles: Tensor) -> Tensor:
    """Zero, [n] eV, with the first derivatives of 1/2 x A x at constant x, of an operator for inference."""
    total = torch.zeros_like(charges)
    separable, mesh, dense = operator.separable, operator.mesh, operator.dense
    if mesh is not None:
        return particle_mesh_gradient_carrier(mesh, positions, charges, dipoles)
    if dense is not None:
        x = torch.cat([charges, dipoles.flatten()])
        total = total + 0.5 * (x @ (dense - dense.detach()) @ x) / charges.shape[0]
    if separable is not None:
        total = total + separable_gradient_carrier(separable, positions, operator.box, charges, dipoles)
    return total


def detached(operator: CoulombOperator) -> CoulombOperator:
    """An operator for inference, or one with a mesh, without a graph."""
    dense, mesh = operator.dense, operator.mesh
    if dense is not None:
        dense = dense.detach()
    if mesh is not None:
        mesh = detached_particle_mesh(mesh)
    return CoulombOperator(dense, None, operator.separable, mesh, operator.box.detach())


def single_precision(operator: CoulombOperator) -> CoulombOperator:
    """An operator for inference, without a mesh, in single precision."""
    dense, separable = operator.dense, operator.separable
    if dense is not None:
        dense = dense.float()
    if separable is not None:
        separable = single_precision_factors(separable)
    return CoulombOperator(dense, None, separable, None, operator.box.float())


def operator_matrix(operator: CoulombOperator, charges: bool, dipoles: bool) -> Tensor:
    """A as one matrix over charges, dipoles or both, eV/e^2 [n, n], [3 n, 3 n] or [4 n, 4 n]; differentiable."""
    dense, factors = operator.dense, operator.factors
    if dense is not None and not charges:
        n = dense.shape[0] // 4
        dense = dense[n:, n:]
    if factors is None:
        assert dense is not None, "an operator for inference has no matrix"
        return dense
    matrix = structure_factor_matrix(factors, charges, dipoles)
    return matrix if dense is None else matrix + dense


def isolated_matrix(positions: Tensor, width: Tensor, dipoles: bool) -> Tensor:
    """Pair kernel of Gaussian charges without images, self-interaction 1 / (s sqrt(pi)) on the diagonal."""
    n = positions.shape[0]
    r = positions[:, None, :] - positions
    pair_width2 = width.square()[:, None] + width.square()
    b = radial_kernels(r.square().sum(2), (2 * pair_width2).rsqrt(), 2 if dipoles else 0)
    if not dipoles:
        return units.COULOMB * b[0]
    mixed = (b[1][:, :, None] * r).reshape(n, 3 * n)
    unit = torch.eye(3, dtype=r.dtype, device=r.device)
    both = b[1][:, :, None, None] * unit - b[2][:, :, None, None] * r[:, :, :, None] * r[:, :, None, :]
    both = both.permute(0, 2, 1, 3).reshape(3 * n, 3 * n)
    return units.COULOMB * torch.cat([torch.cat([b[0], mixed], 1), torch.cat([mixed.t(), both], 1)], 0)
