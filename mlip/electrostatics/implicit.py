"""Training through the relaxed charges of a large system, without a matrix: exact to second derivatives.

x* found without gradients has every derivative wrong. One step x* - M^-1 dF/dx(x*, theta), with M^-1 a constant,
leaves the value and makes the first derivative right, a second step the second one: as in relaxation.py. Here M^-1
is conjugate gradients, and because M is symmetric its derivative is another conjugate-gradient solution.
"""

import torch
from torch import Tensor

from mlip.electrostatics.conjugate import (
    Screening,
    conjugate_solve,
    hessian_product,
    make_screening,
    own_energies,
    relax_large,
)
from mlip.electrostatics.large import Large, large_potential, make_large, split_interaction
from mlip.electrostatics.problem import Problem, Relaxed


class ConstantSolve(torch.autograd.Function):
    """M^-1 right inside the constraint; symmetric, so backward (any number of times) is the same function."""

    @staticmethod
    def forward(ctx, right: Tensor, large: Large, problem: Problem, screening: Screening, tolerance: float) -> Tensor:
        ctx.system = large, problem, screening, tolerance
        return conjugate_solve(large, problem, screening, right, tolerance)[0]

    @staticmethod
    def backward(ctx, gradient: Tensor):
        # a right side of any size: the tolerance is relative to it
        size = gradient.detach().abs().max().clamp(min=1e-300)
        return size * ConstantSolve.apply(gradient / size, *ctx.system), None, None, None, None


class ConstantProduct(torch.autograd.Function):
    """M x with M constant and symmetric."""

    @staticmethod
    def forward(ctx, x: Tensor, large: Large, problem: Problem) -> Tensor:
        ctx.system = large, problem
        return hessian_product(large, problem, x)

    @staticmethod
    def backward(ctx, gradient: Tensor):
        return ConstantProduct.apply(gradient, *ctx.system), None, None


def solve_large_differentiable(
    positions: Tensor,
    cell: Tensor,
    pbc: Tensor,
    width: Tensor,
    problem: Problem,
    start: Relaxed,
    tolerance: float = 1e-7,
    slope: float = 1e-10,
) -> tuple[Relaxed, Tensor]:
    """solve_large for training: state and energies [n] eV with exact first and second derivatives in everything.

    Not scriptable (a Python autograd function); arguments as in conjugate.solve_large. A relative error of about
    `slope` remains in derivatives.
    """
    split = split_interaction(positions, cell, pbc, width, tolerance)
    with torch.no_grad():
        large = make_large(positions, split, width, problem.stiffness.shape[0] > 0, True)
        state, _ = relax_large(large, problem, start, slope)
        order = large.order
        fixed = Problem(*(part[order] if part.shape[:1] == order.shape else part for part in problem[:4]), *problem[4:])
        fixed = fixed._replace(constraint=problem.constraint[:, order])
        screening = make_screening(large, fixed)
    back = torch.empty_like(order)
    back[order] = torch.arange(order.shape[0], device=order.device)
    constraint = problem.constraint
    if constraint.shape[0] == 0:
        state = Relaxed(start.charges, state.dipoles, state.multipliers)
    for _ in range(2):
        by_charge, by_dipole = _slopes(positions, split, large, width, problem, state)
        right = torch.cat([by_charge[:, None], by_dipole], 1) if by_dipole.shape[0] > 0 else by_charge[:, None]
        right = right[order]
        shift = torch.zeros_like(right)
        if constraint.shape[0] > 0:
            missing = (constraint @ state.charges - problem.target) / constraint.sum(1)
            shift = torch.cat([(missing @ constraint)[order, None], torch.zeros_like(right[:, 1:])], 1)
            right = right - ConstantProduct.apply(shift, large, fixed)
        step = (shift + ConstantSolve.apply(right, large, fixed, screening, slope))[back]
        charges = state.charges - step[:, 0] if constraint.shape[0] > 0 else state.charges
        state = Relaxed(
            charges, state.dipoles - step[:, 1:] if step.shape[1] == 4 else state.dipoles, state.multipliers
        )
    potential, gradient = large_potential(positions, split, large, width, state.charges, state.dipoles)
    energies = own_energies(problem, state) + 0.5 * state.charges * potential
    if state.dipoles.shape[0] > 0:
        energies = energies + 0.5 * (state.dipoles * gradient).sum(1)
    if constraint.shape[0] > 0:
        left = problem.electronegativity + problem.hardness * state.charges + potential
        state = state._replace(multipliers=-(constraint @ left) / constraint.sum(1))
    return state, energies


def _slopes(positions, split, large: Large, width: Tensor, problem: Problem, state: Relaxed) -> tuple[Tensor, Tensor]:
    potential, gradient = large_potential(positions, split, large, width, state.charges, state.dipoles)
    by_charge = problem.electronegativity + problem.hardness * state.charges + potential
    if gradient.shape[0] > 0:
        gradient = problem.dipole_source + problem.stiffness[:, None] * state.dipoles + gradient
    return by_charge, gradient
