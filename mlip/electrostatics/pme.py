"""Particle-mesh Ewald: Coulomb interaction in N log N, of mesh, near pairs and self-terms.

Same energy as ewald.coulomb_matrix, for any Gaussian widths s_i >= 0. Bulk (three periodic directions) and slab
(two). Inside, atoms are sorted by place; sources and results are in the caller's order.
"""

import math
from typing import NamedTuple

import torch
from torch import Tensor

from mlip import units
from mlip.electrostatics.compiled_splines import plain
from mlip.electrostatics.half_pairs import HalfPairs, apply_half_pairs, half_pair_slopes, half_pairs
from mlip.electrostatics.mesh import Mesh, apply_mesh, make_mesh, mesh_gradient_carrier, mesh_shape, mesh_spacing
from mlip.electrostatics.pairs import (
    Pairs,
    apply_pairs,
    make_pairs,
    neighbour_pairs,
    no_pairs,
    pair_slopes,
    pairs_of_charges,
    sort_into_bins,
    with_vectors,
)
from mlip.electrostatics.slab import truncated_slab_box
from mlip.electrostatics.splines import Stencil, make_stencil, mesh_coordinates
from mlip.errors import InputError


class EwaldSplit(NamedTuple):
    """How the interaction is divided: everything that follows from cell, widths and tolerance."""

    box: Tensor  # [3, 3] Å: the cell, or that of the slab with its vacuum
    slab: bool
    eta: float  # Å, the width of the mesh's kernel erf(d / (sqrt2 eta)) / d
    cutoff: float  # Å, of the pairs
    mesh: Mesh


class ParticleMesh(NamedTuple):
    """The operator; only the split has a graph (of the cell), unless it was made for training."""

    split: EwaldSplit
    order: Tensor  # [n] atoms by place
    rank: Tensor  # [n] place of every atom, the inverse of `order`
    positions: Tensor  # [n, 3] Å, by place
    width: Tensor  # [n] Å, by place
    stencil: Stencil
    pairs: Pairs
    half: HalfPairs | None  # instead of them, where they are compiled


def ewald_split(
    positions: Tensor,
    cell: Tensor,
    pbc: Tensor,
    width: Tensor,
    tolerance: float,
    narrowest: float = 1.4,
    training: bool = True,
) -> EwaldSplit:
    """Widths, cutoff and mesh such that forces between unit charges err by about `tolerance` (eV/Å).

    At 1e-7 the energy jumps by less than 1e-6 meV/atom when strain changes the number of mesh points.
    narrowest: eta is at least so wide (Å); more makes pairs expensive, less the mesh. training: the mesh's kernel has a
    graph of the cell, ten times its memory.
    """
    n_periodic = int(pbc.sum())
    if n_periodic < 2:
        raise InputError(
            f"the particle mesh needs three periodic directions or two (a slab), got {n_periodic}: "
            "use the dense solution for a molecule, or a cell with vacuum and pbc=True for a wire"
        )
    eta = max(math.sqrt(2.0) * float(width.detach().max()), narrowest)
    cutoff = eta * math.sqrt(2.0 * math.log(10.0 / tolerance))
    box = cell if n_periodic == 3 else truncated_slab_box(positions, cell, pbc, eta, 0.1 * tolerance)
    order = 6 if tolerance > 3e-6 else 8
    if not torch.jit.is_scripting():  # noqa: SIM102  nested, so that TorchScript leaves it out
        if order == 8 and not training and plain(positions.detach()):
            order = 10  # compiled, wider splines cost less than the transforms of a finer mesh
    shape = mesh_shape(box, mesh_spacing(eta, order, 0.02 * tolerance))
    mesh = make_mesh(box if training else box.detach(), shape, eta, order, n_periodic == 2)
    return EwaldSplit(box, n_periodic == 2, eta, cutoff, mesh)


def particle_mesh(positions: Tensor, split: EwaldSplit, width: Tensor, dipoles: bool, training: bool) -> ParticleMesh:
    """Spline weights and near pairs, made once and applied many times.

    width     [n] Å
    training  differentiable any number of times in positions, cell and width; order^3 numbers and more per atom, for
              up to some thousand atoms. Otherwise derivatives come from `particle_mesh_gradient_carrier`
    """
    fixed = detached_split(split)
    bins = sort_into_bins(positions.detach(), fixed.box, split.cutoff)
    order = bins.order
    rank = torch.empty_like(order)
    rank[order] = torch.arange(order.shape[0], device=order.device)
    width = width[order]
    # two atoms of the mesh's own width have no short-range part, but a derivative by their widths
    narrow = (width.detach() < split.eta / math.sqrt(2.0) * (1.0 - 1e-12)) | training
    if not training and not dipoles and bool(narrow.any()):
        if not torch.jit.is_scripting():  # noqa: SIM102  nested, so that TorchScript leaves it out
            if plain(bins.wrapped):
                half = half_pairs(bins, fixed.box, split.cutoff, narrow, width.detach(), split.eta)
                if half is not None:
                    stencil, none = _stencil(fixed, bins.wrapped, dipoles), no_pairs(positions)
                    return ParticleMesh(split, order, rank, bins.wrapped, width.detach(), stencil, none, half)
        pairs = pairs_of_charges(bins, fixed.box, split.cutoff, narrow, width.detach(), split.eta)
        stencil = _stencil(fixed, bins.wrapped, dipoles)
        return ParticleMesh(split, order, rank, bins.wrapped, width.detach(), stencil, pairs, None)
    centre, neighbour = torch.zeros([2, 0], dtype=torch.int32, device=order.device).unbind(0)
    vector = torch.zeros([0, 3], dtype=positions.dtype, device=order.device)
    if bool(narrow.any()):
        centre, neighbour, vector = neighbour_pairs(bins, fixed.box, split.cutoff, narrow)
    if not training:
        pairs = make_pairs(centre, neighbour, vector, width.detach(), split.eta, split.cutoff, 3)
        stencil = _stencil(fixed, bins.wrapped, dipoles)
        return ParticleMesh(split, order, rank, bins.wrapped, width.detach(), stencil, pairs, None)
    positions = positions[order]
    difference = positions.index_select(0, neighbour) - positions.index_select(0, centre)
    shift = ((vector - difference.detach()) @ torch.linalg.inv(fixed.box)).round()
    pairs = make_pairs(
        centre, neighbour, difference + shift @ split.box, width, split.eta, split.cutoff, 2 if dipoles else 0
    )
    return ParticleMesh(split, order, rank, positions, width, _stencil(split, positions, dipoles), pairs, None)


def _stencil(split: EwaldSplit, positions: Tensor, dipoles: bool) -> Stencil:
    coordinates = mesh_coordinates(positions, split.box, split.mesh.shape)
    return make_stencil(coordinates, split.mesh.shape, split.mesh.order, 1 if dipoles else 0)


def detached_split(split: EwaldSplit) -> EwaldSplit:
    """The same without a graph."""
    mesh = Mesh(split.mesh.shape, split.mesh.order, split.mesh.eta, split.mesh.slab, split.mesh.kernel.detach())
    return EwaldSplit(split.box.detach(), split.slab, split.eta, split.cutoff, mesh)


def detached_particle_mesh(mesh: ParticleMesh) -> ParticleMesh:
    """The same without a graph."""
    stencil = Stencil(mesh.stencil.points, mesh.stencil.jet.detach())
    kernels = [kernel.detach() for kernel in mesh.pairs.kernels]
    pairs = Pairs(mesh.pairs.centre, mesh.pairs.neighbour, mesh.pairs.vector.detach(), mesh.pairs.image, kernels)
    split, positions, width = detached_split(mesh.split), mesh.positions.detach(), mesh.width.detach()
    return ParticleMesh(split, mesh.order, mesh.rank, positions, width, stencil, pairs, mesh.half)


def apply_particle_mesh(mesh: ParticleMesh, charges: Tensor, dipoles: Tensor) -> tuple[Tensor, Tensor]:
    """dE/dq [n] V and dE/dmu [n, 3] V/Å of E = 1/2 x A x; no rows of dipoles: charges alone."""
    polar = dipoles.shape[0] > 0
    q, mu = charges[mesh.order], dipoles[mesh.order] if polar else dipoles
    potential, gradient = apply_mesh(mesh.split.mesh, mesh.stencil, mesh.split.box, q, mu)
    near_potential, near_gradient = _apply_near(mesh, q, mu)
    potential = potential + near_potential
    if polar:
        gradient = (gradient + near_gradient)[mesh.rank]
    return potential[mesh.rank], gradient


def _apply_near(mesh: ParticleMesh, q: Tensor, mu: Tensor) -> tuple[Tensor, Tensor]:
    """Of pairs and self-interaction, and the k = 0 term of widths unlike the mesh's; by place."""
    potential, gradient = torch.zeros_like(q), torch.zeros_like(mu)
    half = mesh.half
    if half is not None:
        if not torch.jit.is_scripting():
            potential = apply_half_pairs(half, q)
    elif mesh.pairs.centre.shape[0] > 0:
        potential, gradient = apply_pairs(mesh.pairs, q, mu)
    by_charge, by_dipole = self_difference(mesh.width, mesh.split.eta)
    potential = potential + by_charge * q
    if mu.shape[0] > 0:
        gradient = gradient + by_dipole[:, None] * mu
    if not mesh.split.slab:  # in a slab nothing is taken from k = 0
        scale = 2 * math.pi * units.COULOMB / torch.linalg.det(mesh.split.box).abs()
        missing = mesh.split.eta * mesh.split.eta * q.sum() - (q * mesh.width.square()).sum()
        potential = potential - scale * (missing - mesh.width.square() * q.sum())
    return potential, gradient


def _near_slopes(mesh: ParticleMesh, q: Tensor, mu: Tensor) -> tuple[Tensor, Tensor]:
    """Derivatives of the energy of pairs by position, by place, and by strain."""
    pairs, split, half = mesh.pairs, mesh.split, mesh.half
    if half is not None:  # noqa: SIM102  nested, so that TorchScript leaves it out
        if not torch.jit.is_scripting():
            return half_pair_slopes(half, mesh.positions, split.box.detach(), split.cutoff, split.eta, q)
    if pairs.vector.shape[0] > 0:
        return pair_slopes(pairs, q, mu)
    slope, virial = torch.zeros_like(mesh.positions), torch.zeros_like(split.box)
    box, chunk = split.box.detach(), max(1 << 18, pairs.centre.shape[0] // 64)  # each adds to all atoms
    for first in range(0, pairs.centre.shape[0], chunk):
        some = with_vectors(pairs, first, first + chunk, mesh.positions, box, mesh.width, split.eta, split.cutoff)
        by_position, by_strain = pair_slopes(some, q, mu)
        slope, virial = slope + by_position, virial + by_strain
    return slope, virial


def self_difference(width: Tensor, eta: float) -> tuple[Tensor, Tensor]:
    """Self-interaction of charges [n] eV/e^2 and dipoles [n] eV/(e Å)^2 less that on the mesh.

    k_e [1 / (s sqrt(pi)) - 1 / (t sqrt(pi))] and k_e / (6 sqrt(pi)) [1 / s^3 - 1 / t^3]
    t = eta / sqrt(2) is the width on the mesh. A point charge has no self-energy: its first terms are zero.
    """
    t = eta / math.sqrt(2.0)
    inverse = torch.where(width > 0, 1.0 / torch.where(width > 0, width, torch.ones_like(width)), 0.0 * width)
    scale = units.COULOMB / math.sqrt(math.pi)
    return scale * (inverse - 1.0 / t), scale / 6.0 * (inverse**3 - 1.0 / t**3)


def particle_mesh_gradient_carrier(mesh: ParticleMesh, positions: Tensor, charges: Tensor, dipoles: Tensor) -> Tensor:
    """Zero, [n] eV, with the first derivatives of 1/2 x A x by positions and cell at constant x."""
    charges, dipoles, split = charges.detach(), dipoles.detach(), mesh.split
    inverse = torch.linalg.inv(split.box)
    with torch.no_grad():
        q, mu = charges[mesh.order], dipoles[mesh.order] if dipoles.shape[0] > 0 else dipoles
        slope, virial = _near_slopes(mesh, q, mu)
        slope = slope[mesh.rank]
        if not split.slab:  # proportional to 1 / V
            total, spread = q.sum(), (q * mesh.width.square()).sum()
            volume = torch.linalg.det(split.box).abs()
            value = -math.pi * units.COULOMB / volume * total * (split.eta * split.eta * total - 2.0 * spread)
            virial = virial - value * torch.eye(3, dtype=q.dtype, device=q.device)
        fraction_slope = slope @ split.box.t()
        # at fixed fractional coordinates a change of the cell is a strain inverse @ change
        cell_slope = inverse.t() @ virial
    fraction = positions @ inverse
    carrier = ((fraction - fraction.detach()) * fraction_slope).sum(1)
    strain = ((split.box - split.box.detach()) * cell_slope).sum() / positions.shape[0]
    return mesh_gradient_carrier(positions, split.box, split.mesh, charges, dipoles) + carrier + strain
