"""Charges and dipoles relaxed without a matrix: conjugate gradients in single precision, refined in double."""

from typing import NamedTuple

import torch
from torch import Tensor

from mlip.electrostatics.factors import Factors, long_waves, self_terms
from mlip.electrostatics.interaction import Interaction
from mlip.electrostatics.kspace import Waves
from mlip.electrostatics.problem import Problem, Relaxed, dipoles_of, slopes, together


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
    interaction: Interaction,
    problem: Problem,
    state: Relaxed,
    tolerance: float = 1e-7,
    single_above: int = 300,
    limit: int = 20,
) -> Relaxed:
    """The same minimum without a matrix and without a graph: slopes in double, corrections in single precision.

    A correction by conjugate gradients need only take four digits off the slope, so it costs half; the next slope
    tells what it missed (iterative refinement). Every step is projected and keeps the charge of each group, so a
    slab, whose matrix is positive only there, is legal too.
    state      where to start: charges that miss their targets are brought to them
    tolerance  largest slope left, V and V/Å; an error in the forces is about that times a charge per Å
    single_above  atoms from which single precision saves more than its overhead
    """
    with torch.no_grad():
        p = preconditioner(interaction, problem)
        fast, fast_p, fast_problem = interaction, p, problem
        use_single = problem.hardness.shape[0] > single_above
        if use_single:
            fast, fast_p, fast_problem = single_interaction(interaction), single_preconditioner(p), single_problem(problem)
        x = on_target(p, problem, together(state.charges, state.dipoles))
        slope, multipliers = held_slope(interaction, p, problem, x)
        worst, last, count = float(slope.abs().max()), float("inf"), 0
        while not worst <= tolerance:  # a slope that is not a number must be heard
            if count == limit:
                raise RuntimeError(
                    f"charges not relaxed after {limit} corrections, slope {worst} V left: "
                    "are atoms on top of each other, or is a hardness near zero?"
                )
            enough = 0.3 * tolerance / worst
            if use_single and worst < 0.1 * last:
                correction = correct(fast, fast_p, fast_problem, (slope / worst).float(), max(1e-4, enough)).to(x.dtype)
            else:  # a small system, or single precision cannot resolve the matrix
                correction = correct(interaction, p, problem, slope / worst, max(1e-9, enough))
            x = on_target(p, problem, x + worst * correction)
            slope, multipliers = held_slope(interaction, p, problem, x)
            last, worst = worst, float(slope.abs().max())
            count += 1
    return Relaxed(x[:, 0], dipoles_of(x), multipliers)


def held_slope(interaction: Interaction, p: Preconditioner, problem: Problem, x: Tensor) -> tuple[Tensor, Tensor]:
    """Slope at x less what the constraint holds, [n, 1 or 4], and the multipliers [n_groups]."""
    slope = _slope(interaction, problem, Relaxed(x[:, 0], dipoles_of(x), problem.target))
    _, multipliers = _step_from(p, problem, slope)
    return _held(slope, multipliers, problem), multipliers


def correct(
    interaction: Interaction, p: Preconditioner, problem: Problem, slope: Tensor, tolerance: float, limit: int = 300
) -> Tensor:
    """x that takes all but `tolerance` off a slope, [n, 1 or 4], by preconditioned conjugate gradients."""
    x, direction, old = torch.zeros_like(slope), torch.zeros_like(slope), torch.ones_like(slope[0, 0])
    bare = Problem(
        torch.zeros_like(problem.electronegativity),
        problem.hardness,
        torch.zeros_like(problem.dipole_source),
        problem.stiffness,
        problem.constraint,
        torch.zeros_like(problem.target),
    )
    step, _ = _step_from(p, problem, slope)
    count = 0
    while bool(slope.abs().max() > tolerance) and count < limit:
        new = -(step * slope).sum()
        direction = step + (new / old) * direction
        old = new
        image = _slope(interaction, bare, Relaxed(direction[:, 0], dipoles_of(direction), bare.target))
        length = new / (direction * image).sum()
        x = x + length * direction
        slope = slope + length * image
        step, change = _step_from(p, problem, slope)
        slope = _held(slope, change, problem)  # without the constant part rounding stays small
        count += 1
    return x


def on_target(p: Preconditioner, problem: Problem, x: Tensor) -> Tensor:
    """x [n, 1 or 4] with what its groups lack spread over them as the response would."""
    if problem.constraint.shape[0] == 0:
        return x
    missing = problem.target - problem.constraint @ x[:, 0]
    spread = p.image @ (p.metric @ missing)
    return torch.cat([x[:, :1] + spread[:, None], x[:, 1:]], 1)


def single_interaction(interaction: Interaction) -> Interaction:
    """In single precision; for factors and a dense part, the waves of a frozen interaction are empty."""
    f = interaction.factors
    factors = Factors(
        f.members,
        [part.to(torch.complex64) for part in f.plane],
        [part.to(torch.complex64) for part in f.line],
        [part.float() for part in f.form],
        f.width2,
        f.n12.float(),
        f.n3.float(),
        f.k2.float(),
        f.weight.float(),
        f.to_fractional.float(),
    )
    w = interaction.waves
    waves = Waves(w.k.float(), w.weight.float(), w.cosine.float(), w.sine.float())
    return Interaction(waves, factors, interaction.dense.float(), interaction.box.float())


def single_preconditioner(p: Preconditioner) -> Preconditioner:
    """In single precision."""
    return Preconditioner(p.inverse.float(), p.waves.float(), p.factor.float(), p.image.float(), p.metric.float())


def single_problem(problem: Problem) -> Problem:
    """In single precision."""
    return Problem(
        problem.electronegativity.float(),
        problem.hardness.float(),
        problem.dipole_source.float(),
        problem.stiffness.float(),
        problem.constraint.float(),
        problem.target.float(),
    )


def _held(slope: Tensor, multipliers: Tensor, problem: Problem) -> Tensor:
    """Slope less what the constraint holds; given charges are held wholly."""
    charge = torch.zeros_like(slope[:, :1])
    if problem.constraint.shape[0] > 0:
        charge = slope[:, :1] + (multipliers @ problem.constraint)[:, None]
    return torch.cat([charge, slope[:, 1:]], 1)


def _slope(interaction: Interaction, problem: Problem, state: Relaxed) -> Tensor:
    by_charge, by_dipole = slopes(interaction, problem, state)
    return together(by_charge, by_dipole)


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
