"""The Coulomb interaction of a large system as an operator in N log N: mesh, near pairs, self-interaction.

Same energy as ewald.coulomb_matrix, for any Gaussian widths s_i >= 0. Bulk (three periodic directions) and slab
(two). Every function but `large_potential` works without a graph, on atoms sorted by place.
"""

import math
from typing import NamedTuple

import torch
from torch import Tensor

from mlip import units
from mlip.electrostatics.mesh import (
    Mesh,
    make_mesh,
    mesh_energies,
    mesh_potential,
    mesh_shape,
    mesh_spacing,
    potential_on_mesh,
    slab_box,
)
from mlip.electrostatics.neighbours import neighbour_pairs, sort_into_bins
from mlip.electrostatics.pairs import (
    Pairs,
    apply_pairs,
    difference_ladder,
    make_pairs,
    pair_screening,
    pair_slopes,
)
from mlip.electrostatics.splines import mesh_coordinates, outer_weights, spline_jet, stencil


class Split(NamedTuple):
    """How the interaction is divided: everything that follows from cell, widths and tolerance."""

    box: Tensor  # [3, 3] Å: the cell, or that of the slab with its vacuum
    slab: bool
    eta: float  # Å, the width of the mesh's kernel erf(d / (sqrt2 eta)) / d
    cutoff: float  # Å, of the pairs
    mesh: Mesh


class Samples(NamedTuple):
    """How atoms and mesh exchange charge and potential."""

    points: Tensor  # [n * order^3] int32
    weights: list[Tensor]  # spline weights [n * order^3]; with dipoles also their slopes along x, y, z, Å^-1


class Large(NamedTuple):
    """The operator; nothing in it has a graph, and atoms are in the order `order` of their places."""

    split: Split
    order: Tensor  # [n]
    positions: Tensor  # [n, 3] Å
    width: Tensor  # [n] Å
    samples: Samples
    pairs: Pairs


def split_interaction(
    positions: Tensor, cell: Tensor, pbc: Tensor, width: Tensor, tolerance: float, narrowest: float = 1.4
) -> Split:
    """Widths, cutoff and mesh such that forces between unit charges err by about `tolerance` (eV/Å).

    Below 1e-7 the energy's jump when the number of mesh points changes under strain is less than 1e-6 meV/atom.
    narrowest: eta is at least so wide (Å); more makes pairs expensive, less the mesh.
    """
    n_periodic = int(pbc.sum())
    if n_periodic < 2:
        raise ValueError(
            f"the particle mesh needs three periodic directions or two (a slab), got {n_periodic}: "
            "use the dense solution for a molecule, or a cell with vacuum and pbc=True for a wire"
        )
    eta = max(math.sqrt(2.0) * float(width.detach().max()), narrowest)
    cutoff = eta * math.sqrt(2.0 * math.log(10.0 / tolerance))
    box = cell if n_periodic == 3 else slab_box(positions, cell, pbc, eta, 0.1 * tolerance)
    order = 6 if tolerance > 3e-6 else 8
    shape = mesh_shape(box, mesh_spacing(eta, order, 0.02 * tolerance))
    return Split(box, n_periodic == 2, eta, cutoff, make_mesh(box, shape, eta, order, n_periodic == 2))


def make_large(positions: Tensor, split: Split, width: Tensor, polar: bool, all_pairs: bool = False) -> Large:
    """Spline weights and near pairs, made once and applied many times. width [n] Å; polar: with dipoles.

    all_pairs: also those of two atoms of the mesh's own width, whose kernel is zero but not its derivative by width
    """
    positions, box = positions.detach(), split.box.detach()
    mesh = Mesh(split.mesh.shape, split.mesh.order, split.mesh.kernel.detach())
    split = Split(box, split.slab, split.eta, split.cutoff, mesh)
    bins = sort_into_bins(positions, box, split.cutoff)
    width = width.detach()[bins.order]
    narrow = (width < split.eta / math.sqrt(2.0) * (1.0 - 1e-12)) | all_pairs
    centre, neighbour = torch.zeros([2, 0], dtype=torch.int32, device=box.device).unbind(0)
    vector = torch.zeros([0, 3], dtype=box.dtype, device=box.device)
    if bool(narrow.any()):
        centre, neighbour, vector = neighbour_pairs(bins, box, split.cutoff, narrow)
    pairs = make_pairs(centre, neighbour, vector, width, split.eta, split.cutoff, 3 if polar else 1)
    return Large(split, bins.order, bins.wrapped, width, sample(mesh, bins.wrapped, box, polar), pairs)


def sample(mesh: Mesh, positions: Tensor, box: Tensor, polar: bool, chunk: int = 1 << 19) -> Samples:
    """Mesh points and spline weights of every atom; chunk: weights at once."""
    coordinates = mesh_coordinates(positions, box, mesh.shape)
    to_mesh = mesh_coordinates(torch.eye(3, dtype=box.dtype, device=box.device), box, mesh.shape)
    points: list[Tensor] = []
    weights: list[list[Tensor]] = [[] for _ in range(4 if polar else 1)]
    step = max(1, chunk // (mesh.order * mesh.order * mesh.order))
    for first in range(0, positions.shape[0], step):
        index, fraction = stencil(coordinates[first : first + step], mesh.shape, mesh.order)
        points.append(index.flatten().int())
        w = spline_jet(fraction, mesh.order, 1 if polar else 0)
        weights[0].append(outer_weights(w[0, :, 0], w[0, :, 1], w[0, :, 2]).flatten())
        if polar:
            along_x = outer_weights(w[1, :, 0], w[0, :, 1], w[0, :, 2]).flatten()
            along_y = outer_weights(w[0, :, 0], w[1, :, 1], w[0, :, 2]).flatten()
            along_z = outer_weights(w[0, :, 0], w[0, :, 1], w[1, :, 2]).flatten()
            for a in range(3):
                weights[a + 1].append(to_mesh[a, 0] * along_x + to_mesh[a, 1] * along_y + to_mesh[a, 2] * along_z)
    return Samples(torch.cat(points), [torch.cat(part) for part in weights])


def spread_samples(mesh: Mesh, samples: Samples, charges: Tensor, dipoles: Tensor, chunk: int = 1 << 17) -> Tensor:
    """Charge on the mesh [n0, n1, n2] e of charges [n] and dipoles [n, 3] (no rows: none)."""
    n, n_points = charges.shape[0], mesh.order * mesh.order * mesh.order
    size = mesh.shape[0] * mesh.shape[1] * mesh.shape[2]
    grid = torch.zeros([size], dtype=charges.dtype, device=charges.device)
    step = max(1, chunk // n_points)
    for first in range(0, n, step):
        last = min(n, first + step)
        begin, end = first * n_points, last * n_points
        values = charges[first:last, None] * samples.weights[0][begin:end].reshape(-1, n_points)
        if dipoles.shape[0] > 0:
            for a in range(3):
                values += dipoles[first:last, a : a + 1] * samples.weights[a + 1][begin:end].reshape(-1, n_points)
        grid.index_add_(0, samples.points[begin:end], values.flatten())
    return grid.reshape(mesh.shape)


def apply_mesh(mesh: Mesh, samples: Samples, charges: Tensor, dipoles: Tensor) -> tuple[Tensor, Tensor]:
    """Potential [n] and its gradient [n, 3] at the atoms of the charge they spread on the mesh."""
    grid = potential_on_mesh(mesh, spread_samples(mesh, samples, charges, dipoles))
    columns = gather_samples(mesh, samples, grid)
    if dipoles.shape[0] == 0:
        return columns[0], dipoles
    return columns[0], torch.stack(columns[1:], 1)


def gather_samples(mesh: Mesh, samples: Samples, grid: Tensor, chunk: int = 1 << 17) -> list[Tensor]:
    """Values [n] of a function on the mesh at the atoms, and its slopes where the samples have them."""
    n_points = mesh.order * mesh.order * mesh.order
    flat = grid.flatten()
    step = max(1, chunk // n_points) * n_points
    parts: list[list[Tensor]] = [[] for _ in samples.weights]
    for first in range(0, samples.points.shape[0], step):
        near = torch.index_select(flat, 0, samples.points[first : first + step])
        for k, weights in enumerate(samples.weights):
            parts[k].append((near * weights[first : first + step]).reshape(-1, n_points).sum(1))
    return [torch.cat(part) for part in parts]


def apply_large(large: Large, charges: Tensor, dipoles: Tensor) -> tuple[Tensor, Tensor]:
    """Potential dE/dq [n] V and gradient dE/dmu [n, 3] V/Å of E = 1/2 x A x; no rows of dipoles: charges alone."""
    potential, gradient = apply_mesh(large.split.mesh, large.samples, charges, dipoles)
    if large.pairs.vector.shape[0] > 0:
        near = apply_pairs(large.pairs, charges, dipoles)
        potential, gradient = potential + near[0], gradient + near[1]
    return add_self(large.split, large.width, charges, dipoles, potential, gradient)


def add_self(
    split: Split, width: Tensor, charges: Tensor, dipoles: Tensor, potential: Tensor, gradient: Tensor
) -> tuple[Tensor, Tensor]:
    """Self-interaction of the Gaussians in place of the mesh's, and the k = 0 term of widths unlike the mesh's."""
    by_charge, by_dipole = self_difference(width, split.eta)
    potential = potential + by_charge * charges
    if dipoles.shape[0] > 0:
        gradient = gradient + by_dipole[:, None] * dipoles
    if not split.slab:  # in a slab nothing is taken from k = 0
        scale = 2 * math.pi * units.COULOMB / torch.linalg.det(split.box).abs()
        missing = split.eta * split.eta * charges.sum() - (charges * width.square()).sum()
        potential = potential - scale * (missing - width.square() * charges.sum())
    return potential, gradient


def self_difference(width: Tensor, eta: float) -> tuple[Tensor, Tensor]:
    """k_e [1 / (s sqrt(pi)) - 1 / (t sqrt(pi))] eV/e^2 and k_e / (6 sqrt(pi)) [1 / s^3 - 1 / t^3] eV/(e Å)^2 [n].

    t = eta / sqrt(2) is the width on the mesh. A point charge has no self-energy: its first terms are zero.
    """
    t = eta / math.sqrt(2.0)
    inverse = torch.where(width > 0, 1.0 / torch.where(width > 0, width, torch.ones_like(width)), 0.0 * width)
    scale = units.COULOMB / math.sqrt(math.pi)
    return scale * (inverse - 1.0 / t), scale / 6.0 * (inverse**3 - 1.0 / t**3)


def large_energies(positions: Tensor, split: Split, large: Large, charges: Tensor, dipoles: Tensor) -> Tensor:
    """Coulomb energies [n] eV of given sources, with first derivatives by positions and cell (for inference).

    positions, charges and dipoles in the caller's order; `split` with the graph of the cell, `large` made from it.
    """
    charges, dipoles = charges.detach(), dipoles.detach()
    polar = dipoles.shape[0] > 0
    energies = mesh_energies(positions, split.box, split.mesh, charges, dipoles)
    inverse = torch.linalg.inv(split.box)
    with torch.no_grad():
        q, mu = charges[large.order], dipoles[large.order] if polar else dipoles
        potential, gradient = torch.zeros_like(q), torch.zeros_like(mu)
        slope, virial = torch.zeros_like(positions), torch.zeros_like(inverse)
        if large.pairs.vector.shape[0] > 0:
            potential, gradient = apply_pairs(large.pairs, q, mu)
            sorted_slope, virial = pair_slopes(large.pairs, q, mu)
            slope[large.order] = sorted_slope
        background = torch.zeros_like(virial)
        potential, gradient = add_self(large.split, large.width, q, mu, potential, gradient)
        near = 0.5 * q * potential
        if polar:
            near = near + 0.5 * (mu * gradient).sum(1)
        energies_near = torch.zeros_like(near)
        energies_near[large.order] = near
        if not split.slab:  # proportional to 1 / V
            total, spread = q.sum(), (q * large.width.square()).sum()
            volume = torch.linalg.det(large.split.box).abs()
            value = -math.pi * units.COULOMB / volume * total * (split.eta * split.eta * total - 2.0 * spread)
            background = -value * torch.eye(3, dtype=q.dtype, device=q.device)
        fixed_inverse = inverse.detach()
        fraction_slope = slope @ large.split.box.t()
        # at fixed fractional coordinates a change of the cell is a strain inverse @ change
        cell_slope = fixed_inverse.t() @ (virial + background)
    fraction = positions @ inverse
    carrier = ((fraction - fraction.detach()) * fraction_slope).sum(1)
    strain = ((split.box - split.box.detach()) * cell_slope).sum() / positions.shape[0]
    return energies + energies_near + carrier + strain


def large_potential(
    positions: Tensor, split: Split, large: Large, width: Tensor, charges: Tensor, dipoles: Tensor
) -> tuple[Tensor, Tensor]:
    """apply_large in the caller's order, differentiable any number of times in everything (for training).

    `large` gives the list of pairs only. Memory: order^3 numbers and more per atom; meant for up to some thousand.
    """
    potential, gradient = mesh_potential(positions, split.box, split.mesh, charges, dipoles)
    if large.pairs.vector.shape[0] > 0:
        i, j = large.order[large.pairs.centre], large.order[large.pairs.neighbour]
        with torch.no_grad():
            inverse = torch.linalg.inv(split.box)
            shift = ((large.pairs.vector - positions[j] + positions[i]) @ inverse).round()
        r = positions[j] - positions[i] + shift @ split.box
        g = pair_screening(width[i], width[j])
        polar = dipoles.shape[0] > 0
        ladder = difference_ladder(r.square().sum(1), g, split.eta, split.cutoff, 2 if polar else 0)
        near = units.COULOMB * ladder[0] * charges[j]
        if polar:
            along = (dipoles[j] * r).sum(1)
            near = near - units.COULOMB * ladder[1] * along
            field = (ladder[1] * charges[j] - ladder[2] * along)[:, None] * r + ladder[1][:, None] * dipoles[j]
            gradient = gradient.index_add(0, i, units.COULOMB * field)
        potential = potential.index_add(0, i, near)
    return add_self(split, width, charges, dipoles, potential, gradient)
