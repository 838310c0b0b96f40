"""Solvers of the charge functional: conjugate gradients, and Newton steps for derivatives.

With F(x; theta) quadratic in x = (q, mu, lambda), a solution x* computed without gradients has every derivative wrong.
One step x* - M^-1 dF/dx(x*, theta) with M^-1 held constant leaves the value and makes the first derivative right, a
second step the second. The energy, stationary in x, is then right to the fifth: training through forces is exact,
and only one factorisation, no gradient of a matrix, was needed. In inference no step is taken (Hellmann-Feynman).
"""

from typing import Any

import torch
from torch import Tensor

from mlip.electrostatics.functional import (
    ChargeFunctional,
    ChargeState,
    constraint_slope,
    hessian_product,
    single_precision_functional,
    slopes,
    stacked,
    unstacked,
)
from mlip.electrostatics.operator import CoulombOperator, detached, operator_matrix, single_precision
from mlip.electrostatics.preconditioner import (
    Preconditioner,
    diagonal_preconditioner,
    on_target,
    preconditioner,
    projected_step,
    single_precision_preconditioner,
)
from mlip.errors import ConvergenceError


def minimise(
    functional: ChargeFunctional, operator: CoulombOperator, start: ChargeState, tolerance: float = 1e-7
) -> ChargeState:
    """Minimum of F under its hard constraints, without a graph; `operator` without one too.

    start      e.g. the last step of a trajectory; its charges stay if the functional has no constraint
    tolerance  largest slope left, V and V/Å; an error in the forces is about that times a charge per Å
    """
    state = ChargeState(start.charges, start.dipoles, functional.target)
    if functional.constraint.shape[0] > 0 or functional.inverse_polarizability.shape[0] > 0:
        with torch.no_grad():
            p = preconditioner(functional, operator)
            state, _ = minimise_with(p, functional, operator, start, tolerance)
    return state


def minimise_with(
    p: Preconditioner,
    functional: ChargeFunctional,
    operator: CoulombOperator,
    start: ChargeState,
    tolerance: float,
    single_above: int = 300,
    limit: int = 20,
) -> tuple[ChargeState, int]:
    """`minimise` with any preconditioner: the state and the steps of conjugate gradients.

    Iterative refinement: slopes in double, corrections in single precision. A correction need only take four digits
    off the slope, so it costs half; the next slope shows what it missed. Every step is projected and keeps the charge
    of each group, so a slab, whose matrix is positive only there, is legal too.
    single_above  atoms from which single precision saves more than its overhead
    """
    with torch.no_grad():
        fast, fast_p, fast_functional, steps = operator, p, functional, 0
        use_single = functional.hardness.shape[0] > single_above and operator.mesh is None
        if use_single:
            fast, fast_p = single_precision(operator), single_precision_preconditioner(p)
            fast_functional = single_precision_functional(functional)
        x = on_target(p, functional, stacked(start.charges, start.dipoles))
        slope, multipliers = _free_slope(p, functional, operator, x)
        worst, last, count = float(slope.abs().max()), float("inf"), 0
        finest = 1e-9 if operator.mesh is None else 1e-12  # on a mesh a restart costs more than it mends
        while not worst <= tolerance:  # NaN is not <= and is reported
            if count == limit:
                raise ConvergenceError(
                    f"charges not relaxed after {limit} corrections, slope {worst} V left: "
                    "are atoms on top of each other, or is a hardness near zero?"
                )
            enough = 0.3 * tolerance / worst
            if use_single and worst < 0.1 * last:
                single, taken = conjugate_gradients(
                    fast_p, fast_functional, fast, (slope / worst).float(), max(1e-4, enough)
                )
                correction = single.to(x.dtype)
            else:  # a small system, a mesh, or single precision cannot resolve the matrix
                correction, taken = conjugate_gradients(p, functional, operator, slope / worst, max(finest, enough))
            x = on_target(p, functional, x + worst * correction)
            slope, multipliers = _free_slope(p, functional, operator, x)
            last, worst = worst, float(slope.abs().max())
            count, steps = count + 1, steps + taken
        charges, dipoles = unstacked(x)
    return ChargeState(charges, dipoles, multipliers), steps


def conjugate_gradients(
    p: Preconditioner,
    functional: ChargeFunctional,
    operator: CoulombOperator,
    slope: Tensor,
    tolerance: float,
    limit: int = 300,
) -> tuple[Tensor, int]:
    """-M^-1 slope [n, 1 or 4] under the constraint, to at most `tolerance` of slope, and the steps."""
    x, direction, old = torch.zeros_like(slope), torch.zeros_like(slope), torch.ones_like(slope[0, 0])
    step, multipliers = projected_step(p, functional, slope)
    count = 0
    while bool(slope.abs().max() > tolerance) and count < limit:
        new = -(step * slope).sum()
        if bool(new <= 0.0) and p.coarse is not None:  # atoms so uneven that the gas is no guide: the diagonal alone
            p = diagonal_preconditioner(functional, operator)
            step, multipliers = projected_step(p, functional, slope)
            direction = torch.zeros_like(x)
            continue
        direction = step + (new / old) * direction
        old = new
        image = hessian_product(functional, operator, direction)
        curvature = (direction * image).sum()
        if bool(curvature <= 0.0):
            if slope.dtype != torch.float64:  # rounding: the next correction is in double precision
                break
            raise ConvergenceError(
                f"the charges have no minimum: curvature {float(curvature)} eV along a direction; "
                "a larger hardness or width is needed"
            )
        length = new / curvature
        x = x + length * direction
        slope = slope + length * image
        step, multipliers = projected_step(p, functional, slope)
        slope = _without_constraint(functional, slope, multipliers)  # without the constant part rounding stays small
        count += 1
    return x, count


def _free_slope(
    p: Preconditioner, functional: ChargeFunctional, operator: CoulombOperator, x: Tensor
) -> tuple[Tensor, Tensor]:
    """Slope at x less the forces of the constraint, [n, 1 or 4], and the multipliers [n_groups]."""
    charges, dipoles = unstacked(x)
    by_charge, by_dipole = slopes(functional, operator, ChargeState(charges, dipoles, functional.target))
    slope = stacked(by_charge, by_dipole)
    _, multipliers = projected_step(p, functional, slope)
    return _without_constraint(functional, slope, multipliers), multipliers


def _without_constraint(functional: ChargeFunctional, slope: Tensor, multipliers: Tensor) -> Tensor:
    """Slope less the forces of the constraint; fixed charges have no slope."""
    charge = torch.zeros_like(slope[:, :1])
    if functional.constraint.shape[0] > 0:
        charge = slope[:, :1] + (multipliers @ functional.constraint)[:, None]
    return torch.cat([charge, slope[:, 1:]], 1)


def newton_correct(functional: ChargeFunctional, operator: CoulombOperator, start: ChargeState) -> ChargeState:
    """Stationary state of F, exact to second derivatives in everything; `operator` for training.

    F is quadratic: a first step, without a graph, is the solution from any start. With a mesh (Python only) that is
    `minimise`, and M^-1 are conjugate gradients.
    """
    if functional.constraint.shape[0] == 0 and functional.inverse_polarizability.shape[0] == 0:
        return ChargeState(start.charges, start.dipoles, functional.target)
    if not torch.jit.is_scripting():  # noqa: SIM102  nested, so that TorchScript leaves it out
        if operator.mesh is not None:
            return _matrix_free_newton(functional, operator, start)
    factors, pivots = _factorised_hessian(functional, operator)
    state = _stationary(functional, operator, start, factors, pivots)
    for _ in range(2):
        state = _newton_step(functional, operator, state, factors, pivots)
    return state


def stationary_state(functional: ChargeFunctional, operator: CoulombOperator, start: ChargeState) -> ChargeState:
    """Stationary state of F without a graph, by one factorisation; also under soft constraints."""
    factors, pivots = _factorised_hessian(functional, operator)
    return _stationary(functional, operator, start, factors, pivots)


def _factorised_hessian(functional: ChargeFunctional, operator: CoulombOperator) -> tuple[Tensor, Tensor]:
    """LU factors of the second derivative of F over its free variables, bordered by the constraint."""
    with torch.no_grad():
        free, polar = functional.constraint.shape[0] > 0, functional.inverse_polarizability.shape[0] > 0
        diagonal = torch.repeat_interleave(functional.inverse_polarizability, 3)
        constraint = torch.nn.functional.pad(functional.constraint, [0, diagonal.shape[0]])
        if free:
            diagonal = torch.cat([functional.hardness, diagonal])
        else:
            constraint = constraint[:, : diagonal.shape[0]]
        matrix = operator_matrix(operator, free, polar) + torch.diag(diagonal)
        factors, pivots = torch.linalg.lu_factor(bordered(matrix, constraint, functional.compliance))
    return factors, pivots


def _stationary(
    functional: ChargeFunctional, operator: CoulombOperator, start: ChargeState, factors: Tensor, pivots: Tensor
) -> ChargeState:
    with torch.no_grad():
        origin = ChargeState(start.charges, start.dipoles, torch.zeros_like(functional.target))
        return _newton_step(functional, operator, origin, factors, pivots)


def _newton_step(
    functional: ChargeFunctional, operator: CoulombOperator, state: ChargeState, factors: Tensor, pivots: Tensor
) -> ChargeState:
    by_charge, by_dipole = slopes(functional, operator, state)
    free = functional.constraint.shape[0] > 0
    residual = by_dipole.flatten()
    if free:
        by_charge = by_charge + state.multipliers @ functional.constraint
        residual = torch.cat([by_charge, residual, constraint_slope(functional, state)])
    step = torch.linalg.lu_solve(factors, pivots, residual[:, None])[:, 0]
    n = state.charges.shape[0] if free else 0
    last = step.shape[0] - state.multipliers.shape[0]
    charges = state.charges - step[:n] if free else state.charges
    dipoles = state.dipoles - step[n:last].view(-1, 3)
    return ChargeState(charges, dipoles, state.multipliers - step[last:])


class ConstantSolve(torch.autograd.Function):
    """M^-1 right inside the constraint; symmetric, so that backward is the same function."""

    @staticmethod
    def forward(
        ctx: Any,
        right: Tensor,
        p: Preconditioner,
        functional: ChargeFunctional,
        operator: CoulombOperator,
        tolerance: float,
    ) -> Tensor:
        ctx.system = p, functional, operator, tolerance
        _, multipliers = projected_step(p, functional, right)
        right = _without_constraint(functional, right, multipliers)
        x, steps = conjugate_gradients(p, functional, operator, right, tolerance, limit=500)
        if steps == 500:
            raise ConvergenceError("derivatives of the charges not converged in 500 steps: is a hardness near zero?")
        return -x

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None, None, None, None]:
        # a right side of any size: the tolerance is relative to it
        size = gradient.detach().abs().max().clamp(min=1e-300)
        return size * ConstantSolve.apply(gradient / size, *ctx.system), None, None, None, None


class ConstantProduct(torch.autograd.Function):
    """M x with M constant and symmetric."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, functional: ChargeFunctional, operator: CoulombOperator) -> Tensor:
        ctx.system = functional, operator
        return hessian_product(functional, operator, x)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None, None]:
        return ConstantProduct.apply(gradient, *ctx.system), None, None


def _matrix_free_newton(
    functional: ChargeFunctional, operator: CoulombOperator, start: ChargeState, tolerance: float = 1e-10
) -> ChargeState:
    """M^-1 by conjugate gradients; a relative error of about `tolerance` remains in derivatives."""
    constraint = functional.constraint
    with torch.no_grad():
        fixed, constant = ChargeFunctional(*(part.detach() for part in functional)), detached(operator)
        p = preconditioner(fixed, constant)
        state, _ = minimise_with(p, fixed, constant, start, tolerance)
    for _ in range(2):
        right = stacked(*slopes(functional, operator, state))
        shift = torch.zeros_like(right)
        if constraint.shape[0] > 0:
            missing = (constraint @ state.charges - functional.target) / constraint.sum(1)
            shift = torch.cat([(missing @ constraint)[:, None], torch.zeros_like(right[:, 1:])], 1)
            right = right - ConstantProduct.apply(shift, fixed, constant)
        charges, dipoles = unstacked(shift + ConstantSolve.apply(right, p, fixed, constant, tolerance))
        charges = state.charges - charges if constraint.shape[0] > 0 else start.charges
        state = ChargeState(charges, state.dipoles - dipoles, state.multipliers)
    if constraint.shape[0] > 0:
        by_charge, _ = slopes(functional, operator, state)
        state = state._replace(multipliers=-(constraint @ by_charge) / constraint.sum(1))
    return state


def solve_constrained(matrix: Tensor, slope: Tensor, constraint: Tensor, target: Tensor) -> tuple[Tensor, Tensor]:
    """Minimum of slope.x + x matrix x / 2 under constraint x = target: x [n] and the multipliers [m].

    matrix [n, n] positive definite on the constraint, slope [n], constraint [m, n], target [m].
    """
    solution = torch.linalg.solve(bordered(matrix, constraint, matrix[:0, :0]), torch.cat([-slope, target]))
    return solution[: slope.shape[0]], solution[slope.shape[0] :]


def bordered(matrix: Tensor, constraint: Tensor, compliance: Tensor) -> Tensor:
    """[[matrix, C^T], [C, -L]], [n + m, n + m]; no rows of L: zero."""
    corner = matrix.new_zeros(constraint.shape[0], constraint.shape[0])
    if compliance.shape[0] > 0:
        corner = -compliance
    return torch.cat([torch.cat([matrix, constraint.t()], 1), torch.cat([constraint, corner], 1)], 0)
