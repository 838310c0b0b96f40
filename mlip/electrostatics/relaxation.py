"""Relaxed charges and dipoles inside a model: solved without a graph, made exact to second derivatives by Newton steps.

With F(x; theta) quadratic in x = (q, mu, lambda), a solution x* found without gradients has every derivative wrong.
One step x* - M^-1 dF/dx(x*, theta) with M^-1 held constant leaves the value and makes the first derivative right, a
second step the second. The energy, stationary in x, is then right to the fifth: training through forces is exact,
and only one factorisation, no gradient of a matrix, was needed. In inference no step is taken (Hellmann-Feynman).
"""

import torch
from torch import Tensor

from mlip.electrostatics.interaction import Interaction, matrix_of
from mlip.electrostatics.problem import Problem, Relaxed, slopes
from mlip.electrostatics.refinement import conjugate_gradients


def relax(interaction: Interaction, problem: Problem, start: Relaxed, differentiable: bool) -> Relaxed:
    """Minimum of F under the constraint; constants without `differentiable`, else exact to second derivatives.

    start  from where, e.g. the last step of a trajectory; its charges are kept where the problem has no constraint
    """
    free, polar = problem.constraint.shape[0] > 0, problem.stiffness.shape[0] > 0
    state = Relaxed(start.charges, start.dipoles, torch.zeros_like(problem.target))
    if (free or polar) and not differentiable:
        state = conjugate_gradients(interaction, problem, state)
    elif free or polar:
        factors, pivots = _factors(interaction, problem)
        state = _first_step(interaction, problem, state, factors, pivots)
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
