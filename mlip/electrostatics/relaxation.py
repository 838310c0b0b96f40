"""Relaxed charges and dipoles inside a model: solved without a graph, made exact to second derivatives by Newton steps.

With F(x; theta) quadratic in x = (q, mu, lambda), a solution x* found without gradients has every derivative wrong.
One step x* - M^-1 dF/dx(x*, theta) with M^-1 held constant leaves the value and makes the first derivative right, a
second step the second. The energy, stationary in x, is then right to the fifth: training through forces is exact,
and only one factorisation, no gradient of a matrix, was needed. In inference no step is taken (Hellmann-Feynman).
"""

from typing import NamedTuple

import torch
from torch import Tensor

from mlip.electrostatics.interaction import Interaction, apply_interaction, matrix_of


class Problem(NamedTuple):
    """What a charge and a dipole cost besides the Coulomb energy; no rows in dipole fields: no dipoles."""

    electronegativity: Tensor  # [n] V
    hardness: Tensor  # [n] eV/e^2
    dipole_source: Tensor  # [n, 3] V/Å
    stiffness: Tensor  # [n] 1 / polarizability, eV/(e Å)^2
    constraint: Tensor  # [n_groups, n]; no rows: the charges are given and stay
    target: Tensor  # [n_groups] e


class Relaxed(NamedTuple):
    """charges [n] e, dipoles [n, 3] e Å, multipliers [n_groups] eV/e"""

    charges: Tensor
    dipoles: Tensor
    multipliers: Tensor


def slopes(interaction: Interaction, problem: Problem, state: Relaxed) -> tuple[Tensor, Tensor]:
    """dF/dq [n] and dF/dmu [n, 3] without constraints."""
    potential, gradient = apply_interaction(interaction, state.charges, state.dipoles)
    by_charge = problem.electronegativity + problem.hardness * state.charges + potential
    by_dipole = problem.dipole_source + problem.stiffness[:, None] * state.dipoles + gradient
    return by_charge, by_dipole


def energies(interaction: Interaction, problem: Problem, state: Relaxed) -> Tensor:
    """F split among the atoms, [n] eV."""
    by_charge, by_dipole = slopes(interaction, problem, state)
    energy = 0.5 * state.charges * (problem.electronegativity + by_charge)
    if state.dipoles.shape[0] > 0:
        energy = energy + 0.5 * (state.dipoles * (problem.dipole_source + by_dipole)).sum(1)
    return energy


def relax(interaction: Interaction, problem: Problem, given: Tensor, differentiable: bool) -> Relaxed:
    """Minimum of F under the constraint; constants without `differentiable`, else exact to second derivatives.

    given  [n] e, the charges where the problem has no constraint (ignored otherwise)
    """
    free, polar = problem.constraint.shape[0] > 0, problem.stiffness.shape[0] > 0
    start = torch.zeros_like(given) if free else given
    state = Relaxed(start, torch.zeros_like(problem.dipole_source), torch.zeros_like(problem.target))
    if (free or polar) and not differentiable:
        state = conjugate_gradients(interaction, problem, state)
    elif free or polar:
        factors, pivots = _factors(interaction, problem)
        state = _first_step(interaction, problem, state, factors, pivots)
        if differentiable:
            for _ in range(2):
                state = _newton_step(interaction, problem, state, factors, pivots)
    return state


def _factors(interaction: Interaction, problem: Problem) -> tuple[Tensor, Tensor]:
    with torch.no_grad():
        factors, pivots = torch.linalg.lu_factor(_hessian(interaction, problem))
    return factors, pivots


def _first_step(interaction: Interaction, problem: Problem, state: Relaxed, factors: Tensor, pivots: Tensor) -> Relaxed:
    with torch.no_grad():
        solved = _newton_step(interaction, problem, state, factors, pivots)
    return solved


def conjugate_gradients(
    interaction: Interaction, problem: Problem, state: Relaxed, tolerance: float = 1e-8, limit: int = 300
) -> Relaxed:
    """The same minimum by projected, preconditioned conjugate gradients: no matrix, and no graph.

    A dense matrix with dipoles costs sixteen times that of charges. The preconditioner is the diagonal, projected
    so that every step keeps the charge of each group; legal also for a slab, whose matrix is positive only there.
    tolerance: largest slope left, V and V/Å
    """
    with torch.no_grad():
        inverse = 1.0 / _diagonal(interaction, problem)  # [n, 4]: charge, dipole
        per_group = problem.constraint @ inverse[:, 0]
        if problem.constraint.shape[0] > 0:
            held = problem.target + problem.constraint @ (inverse[:, 0] * problem.electronegativity)
            start = inverse[:, 0] * (problem.constraint.t() @ (held / per_group) - problem.electronegativity)
            state = Relaxed(start, state.dipoles, state.multipliers)
        residual, multipliers = _projected(_slope(interaction, problem, state), inverse, problem, per_group)
        x = torch.cat([state.charges[:, None], state.dipoles], 1)
        direction, old = torch.zeros_like(x), torch.ones_like(x[0, 0])
        zero = torch.zeros_like(problem.electronegativity)
        bare = Problem(
            zero,
            problem.hardness,
            torch.zeros_like(state.dipoles),
            problem.stiffness,
            problem.constraint,
            problem.target,
        )
        steps = 0
        while bool(residual.abs().max() > tolerance):
            if steps == limit:
                raise RuntimeError(
                    f"dipoles not relaxed after {limit} steps, slope {float(residual.abs().max())} V/Å left: "
                    "are two atoms on top of each other?"
                )
            preconditioned = -inverse * residual
            new = -(residual * preconditioned).sum()
            direction = preconditioned + (new / old) * direction
            old = new
            image = _slope(interaction, bare, Relaxed(direction[:, 0], direction[:, 1:], multipliers))
            length = new / (direction * image).sum()
            x = x + length * direction
            residual, change = _projected(residual + length * image, inverse, problem, per_group)
            multipliers = multipliers + change
            steps += 1
    return Relaxed(x[:, 0], x[:, 1:], multipliers)


def _slope(interaction: Interaction, problem: Problem, state: Relaxed) -> Tensor:
    by_charge, by_dipole = slopes(interaction, problem, state)
    return torch.cat([by_charge[:, None], by_dipole], 1)


def _projected(slope: Tensor, inverse: Tensor, problem: Problem, per_group: Tensor) -> tuple[Tensor, Tensor]:
    """Slope less the forces of the constraint, and the multipliers that cancel them."""
    multipliers = torch.zeros_like(problem.target)
    if problem.constraint.shape[0] > 0:
        multipliers = -(problem.constraint @ (inverse[:, 0] * slope[:, 0])) / per_group
        by_charge = slope[:, 0] + problem.constraint.t() @ multipliers
    else:
        by_charge = torch.zeros_like(slope[:, 0])  # given charges stay
    return torch.cat([by_charge[:, None], slope[:, 1:]], 1), multipliers


def _diagonal(interaction: Interaction, problem: Problem) -> Tensor:
    """Second derivative of F in each charge and (about) each dipole, [n, 4]."""
    waves = interaction.waves
    n = problem.hardness.shape[0]
    charge, dipole = problem.hardness, problem.stiffness
    if waves.k.shape[0] > 0:
        square = waves.cosine.square() + waves.sine.square()
        charge = charge + square @ waves.weight
        dipole = dipole + square @ (waves.weight * waves.k.square().sum(1)) / 3
    else:
        diagonal = interaction.dense.diagonal()
        charge, dipole = charge + diagonal[:n], dipole + diagonal[n:].view(n, 3).mean(1)
    return torch.cat([charge[:, None], dipole[:, None].expand(n, 3)], 1)


def _hessian(interaction: Interaction, problem: Problem) -> Tensor:
    """Second derivative of F over the free variables, bordered by the constraint."""
    free, polar = problem.constraint.shape[0] > 0, problem.stiffness.shape[0] > 0
    matrix = matrix_of(interaction, free, polar)
    diagonal = torch.repeat_interleave(problem.stiffness, 3)
    if free:
        diagonal = torch.cat([problem.hardness, diagonal])
    matrix = matrix + torch.diag(diagonal)
    m, n = problem.constraint.shape[0], matrix.shape[0]
    whole = torch.zeros([n + m, n + m], dtype=matrix.dtype, device=matrix.device)
    whole[:n, :n] = matrix
    if free:
        atoms = problem.constraint.shape[1]
        whole[n:, :atoms] = problem.constraint
        whole[:atoms, n:] = problem.constraint.t()
    return whole


def _newton_step(
    interaction: Interaction, problem: Problem, state: Relaxed, factors: Tensor, pivots: Tensor
) -> Relaxed:
    by_charge, by_dipole = slopes(interaction, problem, state)
    free = problem.constraint.shape[0] > 0
    residual = by_dipole.flatten()
    if free:
        by_charge = by_charge + state.multipliers @ problem.constraint
        missing = problem.constraint @ state.charges - problem.target
        residual = torch.cat([by_charge, residual, missing])
    step = torch.linalg.lu_solve(factors, pivots, residual[:, None])[:, 0]
    n = state.charges.shape[0] if free else 0
    last = step.shape[0] - state.multipliers.shape[0]
    charges = state.charges - step[:n] if free else state.charges
    dipoles = state.dipoles - step[n:last].view(-1, 3)
    return Relaxed(charges, dipoles, state.multipliers - step[last:])
