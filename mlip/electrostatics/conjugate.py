"""Relaxed charges and dipoles of a large system: conjugate gradients that know how a metal screens.

Charge that flows screens long waves completely: the largest eigenvalue of the problem is 4 pi k_e n / k_min^2, and
with a diagonal preconditioner the steps grow like the cell's length. The cure is the response of a uniform gas of
the same hardness, 1 / (D + 4 pi k_e n / k^2), applied on a coarse mesh: then the steps do not grow at all.
"""

import math
from typing import NamedTuple

import torch
from torch import Tensor

from mlip import units
from mlip.electrostatics.large import (
    Large,
    Samples,
    apply_large,
    apply_mesh,
    gather_samples,
    large_energies,
    make_large,
    sample,
    split_interaction,
    spread_samples,
)
from mlip.electrostatics.mesh import Mesh, make_mesh, mesh_shape, squared_waves
from mlip.electrostatics.problem import Problem, Relaxed


class Screening(NamedTuple):
    """P^-1 = D^-1 - D^-1 U [G / (1 + kappa G)] U^T D^-1, the inverse of D + U G U^T where waves are orthogonal.

    U spreads charge on a coarse mesh, kappa is the sum of 1 / D per mesh point. Woodbury's formula.
    """

    inverse: Tensor  # 1 / D, [n, 1] for charges or [n, 4] with dipoles
    mesh: Mesh  # no points: the diagonal alone
    samples: Samples
    share: Tensor  # [n] sqrt(mean kappa / local kappa): one in a bulk, keeps P positive where atoms lie unevenly


def make_screening(large: Large, problem: Problem, screened: bool = True) -> Screening:
    """Preconditioner of a problem given in the order of `large`; screened=False: the diagonal alone.

    The softness is averaged over about eta: its atoms do not matter to the waves that are screened, and an error
    in kappa would leave the longest wave growing with the cell.
    """
    charge = problem.hardness + 0.5 * units.COULOMB / math.sqrt(math.pi) / large.width.clamp(min=1e-3)
    inverse = (1.0 / charge)[:, None]
    none = problem.dipole_source[:0]
    if problem.stiffness.shape[0] > 0:
        cube = 6.0 * math.sqrt(math.pi) * large.width.clamp(min=0.1) ** 3
        dipole = 1.0 / (problem.stiffness + units.COULOMB / cube)
        inverse = torch.cat([inverse, dipole[:, None].expand(-1, 3)], 1)
    share = inverse[:, 0]
    mesh, samples = Mesh([0, 0, 0], 4, inverse[:0]), Samples(large.samples.points[:0], [inverse[:0, 0]])
    if screened and problem.constraint.shape[0] > 0:
        box = large.split.box
        spacing = 0.7 * float(torch.linalg.det(box).abs() / charge.shape[0]) ** (1.0 / 3.0)
        shape = mesh_shape(box, min(max(spacing, 1.0), 2.0))
        mesh = make_mesh(box, shape, large.split.eta, 4, large.split.slab)
        samples = sample(mesh, large.positions, box, False)
        softness = torch.fft.rfftn(spread_samples(mesh, samples, 1.0 / charge, none))
        smooth = torch.exp(-0.25 * large.split.eta * large.split.eta * squared_waves(box, shape)[0])
        local = torch.fft.irfftn(softness * smooth, s=shape)
        kappa = gather_samples(mesh, samples, local)[0]
        share = (kappa.mean() / kappa).sqrt()
        kernel = mesh.kernel.clamp(min=0.0)
        mesh = Mesh(shape, 4, kernel / (1.0 + kappa.mean() * kernel))
    return Screening(inverse, mesh, samples, share)


def apply_screening(screening: Screening, residual: Tensor, screened: bool) -> Tensor:
    """P^-1 residual, [n, 1] or [n, 4]; screened=False: D^-1 residual."""
    z = screening.inverse * residual
    if screened:
        charges = z[:, 0] * screening.share
        response = apply_mesh(screening.mesh, screening.samples, charges, residual[:0, :1].expand(0, 3))[0]
        z[:, 0] -= screening.inverse[:, 0] * screening.share * response
    return z


def hessian_product(large: Large, problem: Problem, x: Tensor) -> Tensor:
    """Second derivative of the energy times x, [n, 1] or [n, 4] (charge, dipole)."""
    charges, dipoles = x[:, 0].contiguous(), _dipoles(x)
    potential, gradient = apply_large(large, charges, dipoles)
    product = (potential + problem.hardness * charges)[:, None]
    if dipoles.shape[0] > 0:
        product = torch.cat([product, gradient + problem.stiffness[:, None] * dipoles], 1)
    return product


def project(x: Tensor, constraint: Tensor) -> Tensor:
    """x without the part that changes the charge of a group; without constraint the charges stay as they are.

    constraint [n_groups, n]: one where an atom belongs to the group, groups share no atom
    """
    if constraint.shape[0] == 0:
        return torch.cat([torch.zeros_like(x[:, :1]), x[:, 1:]], 1)
    mean = (constraint @ x[:, 0]) / constraint.sum(1)
    return torch.cat([x[:, :1] - (mean @ constraint)[:, None], x[:, 1:]], 1)


def conjugate_solve(
    large: Large,
    problem: Problem,
    screening: Screening,
    right: Tensor,
    tolerance: float,
    limit: int = 500,
) -> tuple[Tensor, int]:
    """x with hessian x = right and no charge added to any group; the forces of the constraint are left over.

    right [n, 1] or [n, 4]; tolerance: largest slope left, V and V/Å. Returns x and the number of steps.
    """
    x = torch.zeros_like(right)
    residual = project(right, problem.constraint)
    direction, old = torch.zeros_like(x), torch.ones_like(x[0, 0])
    steps, screened = 0, screening.mesh.shape[0] > 0
    while bool(residual.abs().max() > tolerance):
        if steps == limit:
            raise RuntimeError(
                f"charges not relaxed after {limit} steps, slope {float(residual.abs().max())} V left: "
                "are atoms on top of each other, or is a hardness near zero?"
            )
        z = project(apply_screening(screening, residual, screened), problem.constraint)
        new = (residual * z).sum()
        if bool(new <= 0.0) and screened:  # atoms so uneven that the gas is no guide: go on with the diagonal
            screened = False
            direction = torch.zeros_like(x)
            continue
        direction = z + (new / old) * direction
        old = new
        image = project(hessian_product(large, problem, direction), problem.constraint)
        curvature = (direction * image).sum()
        if bool(curvature <= 0.0):
            raise RuntimeError(
                f"the charges have no minimum: curvature {float(curvature)} eV along a direction; "
                "a larger hardness or width is needed"
            )
        length = new / curvature
        x = x + length * direction
        residual = residual - length * image
        steps += 1
    return x, steps


def relax_large(
    large: Large,
    problem: Problem,
    start: Relaxed,
    tolerance: float = 1e-8,
    screened: bool = True,
) -> tuple[Relaxed, int]:
    """Minimum of the energy under the constraint, without a graph; all in the caller's order.

    start      from where, e.g. the last step of a trajectory; its charges are kept where the problem has no constraint
    tolerance  largest slope left, V and V/Å; the error of forces is proportional to it
    returns    charges, dipoles and multipliers, and the number of steps
    """
    with torch.no_grad():
        order, polar = large.order, problem.stiffness.shape[0] > 0
        here = Problem(
            problem.electronegativity[order],
            problem.hardness[order],
            problem.dipole_source[order] if polar else problem.dipole_source,
            problem.stiffness[order] if polar else problem.stiffness,
            problem.constraint[:, order],
            problem.target,
        )
        screening = make_screening(large, here, screened)
        slope = here.electronegativity[:, None]
        if polar:
            slope = torch.cat([slope, here.dipole_source], 1)
        first = start.charges[order][:, None]
        if polar:
            first = torch.cat([first, start.dipoles[order]], 1)
        constraint = here.constraint
        if constraint.shape[0] > 0:
            missing = (here.target - constraint @ first[:, 0]) / constraint.sum(1)
            first = torch.cat([first[:, :1] + (missing @ constraint)[:, None], first[:, 1:]], 1)
        slope = slope + hessian_product(large, here, first)
        change, steps = conjugate_solve(large, here, screening, -slope, tolerance)
        multipliers = torch.zeros_like(here.target)
        if constraint.shape[0] > 0:
            slope = slope + hessian_product(large, here, change)
            multipliers = -(constraint @ slope[:, 0]) / constraint.sum(1)
        x = torch.zeros_like(first)
        x[order] = first + change
    return Relaxed(x[:, 0].contiguous(), _dipoles(x), multipliers), steps


def solve_large(
    positions: Tensor,
    cell: Tensor,
    pbc: Tensor,
    width: Tensor,
    problem: Problem,
    start: Relaxed,
    tolerance: float = 1e-7,
    slope: float = 1e-8,
) -> tuple[Relaxed, Tensor, int]:
    """Relaxed charges (and dipoles) and energies [n] eV of one large system, for inference: N log N, scriptable.

    Charges are constants and the energies have first derivatives by positions, cell and what the features give
    (electronegativity, dipole source): exact, because the charges are a minimum. Two or three periodic directions.
    About 180 us per atom at any size on one thread (Li2O, charges); below some 2000 atoms the waves of kspace.py
    at their tolerance of 1e-5 are faster: scripts/bench_electrostatics.py.

    width      [n] Å, positive where charges flow    start  see relax_large
    tolerance  of mesh and pairs: forces err by about as much, eV/Å; at 1e-7 or below the energy jumps by less than
               1e-6 meV/atom when strain changes the number of mesh points
    slope      largest slope left by the relaxation, V and V/Å
    returns    state, energies and the number of steps
    """
    split = split_interaction(positions, cell, pbc, width, tolerance)
    large = make_large(positions, split, width, problem.stiffness.shape[0] > 0)
    state, steps = relax_large(large, problem, start, slope)
    energies = large_energies(positions, split, large, state.charges, state.dipoles)
    return state, energies + own_energies(problem, state), steps


def own_energies(problem: Problem, state: Relaxed) -> Tensor:
    """What charges and dipoles cost without the Coulomb energy, [n] eV."""
    energies = state.charges * (problem.electronegativity + 0.5 * problem.hardness * state.charges)
    if state.dipoles.shape[0] > 0:
        stretched = problem.dipole_source + 0.5 * problem.stiffness[:, None] * state.dipoles
        energies = energies + (state.dipoles * stretched).sum(1)
    return energies


def _dipoles(x: Tensor) -> Tensor:
    return x[:, 1:] if x.shape[1] == 4 else torch.zeros([0, 3], dtype=x.dtype, device=x.device)
