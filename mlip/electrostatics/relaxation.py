"""Relaxed charges and dipoles inside a model: solved without a graph, made exact to second derivatives by Newton steps.

With F(x; theta) quadratic in x = (q, mu, lambda), a solution x* found without gradients has every derivative wrong.
One step x* - M^-1 dF/dx(x*, theta) with M^-1 held constant leaves the value and makes the first derivative right, a
second step the second. The energy, stationary in x, is then right to the fifth: training through forces is exact,
and only one factorisation, no gradient of a matrix, was needed. In inference no step is taken (Hellmann-Feynman).
"""

from typing import NamedTuple

import torch
from torch import Tensor

from mlip.electrostatics.factors import long_waves, self_terms
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


class Preconditioner(NamedTuple):
    """Inverse of diagonal + U U^T (Woodbury), U the longest waves on the charges, projected on the constraint."""

    inverse: Tensor  # [n, 1] or [n, 4], of the diagonal
    waves: Tensor  # U [n, m]; no columns: none
    factor: Tensor  # [m, m], Cholesky factor of 1 + U^T inverse U
    image: Tensor  # [n, n_groups], P C^T
    metric: Tensor  # [n_groups, n_groups], inverse of C P C^T


def preconditioner(interaction: Interaction, problem: Problem, count: int = 64) -> Preconditioner:
    """Long waves make the matrix of a large cell stiff, 4 pi k_e n / k^2; inverted exactly they cost no iterations."""
    n, n_groups = problem.hardness.shape[0], problem.constraint.shape[0]
    diagonal = _diagonal(interaction, problem)
    waves = diagonal.new_zeros(n, 0)
    if n_groups > 0 and interaction.factors.n12.shape[0] > 0:
        waves = long_waves(interaction.factors, n, min(count, n // 3))
        diagonal[:, 0] -= waves.square().sum(1)
    inverse = 1.0 / diagonal
    small = waves.t() @ (inverse[:, :1] * waves)
    factor = torch.linalg.cholesky(small + torch.eye(small.shape[0], dtype=small.dtype, device=small.device))
    bare = Preconditioner(inverse, waves, factor, diagonal.new_zeros(n, 0), diagonal.new_zeros(0, 0))
    image = _on_charges(bare, problem.constraint.t())
    return Preconditioner(inverse, waves, factor, image, torch.linalg.inv(problem.constraint @ image))


def _on_charges(p: Preconditioner, slope: Tensor) -> Tensor:
    """P applied to charge slopes, [n, any] -> [n, any]."""
    scaled = p.inverse[:, :1] * slope
    if p.waves.shape[1] == 0:
        return scaled
    return scaled - p.inverse[:, :1] * (p.waves @ torch.cholesky_solve(p.waves.t() @ scaled, p.factor))


def _step_from(p: Preconditioner, problem: Problem, slope: Tensor) -> tuple[Tensor, Tensor]:
    """-P (slope + C^T lambda) with C step = 0, [n, 1 or 4], and lambda [n_groups]."""
    if problem.constraint.shape[0] == 0:
        still = torch.zeros_like(slope[:, :1])  # given charges stay
        return torch.cat([still, -(p.inverse * slope)[:, 1:]], 1), problem.target
    charge = _on_charges(p, slope[:, :1])
    multipliers = -(p.metric @ (problem.constraint @ charge))
    step = -(charge + p.image @ multipliers)
    return torch.cat([step, -(p.inverse * slope)[:, 1:]], 1), multipliers[:, 0]


def conjugate_gradients(
    interaction: Interaction, problem: Problem, state: Relaxed, tolerance: float = 1e-8, limit: int = 300
) -> Relaxed:
    """The same minimum by preconditioned conjugate gradients: no matrix, and no graph.

    Every step is projected and keeps the charge of each group, so a slab, whose matrix is positive only there, is
    legal too. tolerance: largest slope left, V and V/Å; an error in the forces is about that times a charge per Å
    """
    with torch.no_grad():
        p = preconditioner(interaction, problem)
        if problem.constraint.shape[0] > 0:
            spread = p.image @ (p.metric @ problem.target)
            state = Relaxed(spread, state.dipoles, state.multipliers)
        x = _together(state.charges, state.dipoles)
        slope = _slope(interaction, problem, state)
        _, multipliers = _step_from(p, problem, slope)
        slope = _held(slope, multipliers, problem)
        step, change = _step_from(p, problem, slope)
        direction, old = torch.zeros_like(x), torch.ones_like(x[0, 0])
        bare = Problem(
            torch.zeros_like(problem.electronegativity),
            problem.hardness,
            torch.zeros_like(problem.dipole_source),
            problem.stiffness,
            problem.constraint,
            problem.target,
        )
        count = 0
        while bool(slope.abs().max() > tolerance):
            if count == limit:
                raise RuntimeError(
                    f"charges not relaxed after {limit} steps, slope {float(slope.abs().max())} V left: "
                    "are atoms on top of each other, or is a hardness near zero?"
                )
            new = -(step * slope).sum()
            direction = step + (new / old) * direction
            old = new
            image = _slope(interaction, bare, Relaxed(direction[:, 0], _dipoles(direction), multipliers))
            length = new / (direction * image).sum()
            x = x + length * direction
            slope = slope + length * image
            step, change = _step_from(p, problem, slope)
            multipliers = multipliers + change
            slope = _held(slope, change, problem)  # without the constant part rounding stays small
            count += 1
    return Relaxed(x[:, 0], _dipoles(x), multipliers)


def _held(slope: Tensor, multipliers: Tensor, problem: Problem) -> Tensor:
    """Slope less what the constraint holds; given charges are held wholly."""
    charge = torch.zeros_like(slope[:, :1])
    if problem.constraint.shape[0] > 0:
        charge = slope[:, :1] + (multipliers @ problem.constraint)[:, None]
    return torch.cat([charge, slope[:, 1:]], 1)


def _together(charges: Tensor, dipoles: Tensor) -> Tensor:
    if dipoles.shape[0] == 0:
        return charges[:, None]
    return torch.cat([charges[:, None], dipoles], 1)


def _dipoles(x: Tensor) -> Tensor:
    return x[:, 1:] if x.shape[1] == 4 else x.new_zeros(0, 3)


def _slope(interaction: Interaction, problem: Problem, state: Relaxed) -> Tensor:
    by_charge, by_dipole = slopes(interaction, problem, state)
    return _together(by_charge, by_dipole)


def _diagonal(interaction: Interaction, problem: Problem) -> Tensor:
    """Second derivative of F in each charge and (about) each dipole, [n, 1] or [n, 4]."""
    n = problem.hardness.shape[0]
    polar = problem.stiffness.shape[0] > 0
    charge, dipole = torch.zeros_like(problem.hardness), torch.zeros_like(problem.hardness)
    if interaction.factors.n12.shape[0] > 0:
        charge, dipole = self_terms(interaction.factors, n)
    elif interaction.dense.shape[0] > 0:
        diagonal = interaction.dense.diagonal()
        charge = diagonal[:n]
        if polar:
            dipole = diagonal[n:].view(n, 3).mean(1)
    charge = (charge + problem.hardness)[:, None]
    if not polar:
        return charge
    return torch.cat([charge, (dipole + problem.stiffness)[:, None].expand(n, 3)], 1)


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
