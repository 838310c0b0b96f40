"""Relaxation of shells: Newton's method with the exact second derivative, a few steps.

The matrix is dense, [3 m, 3 m] for m shells: meant for up to about a thousand of them.
"""

import torch
from torch import Tensor

from mlip import units
from mlip.electrostatics.kernels import point_correction, radial_kernels, smooth_cutoff
from mlip.electrostatics.operator import CoulombOperator
from mlip.electrostatics.structure_factors import structure_amplitudes
from mlip.errors import ConvergenceError
from mlip.models.classical.core_shell_energy import (
    CoreShellSystem,
    charge_sites,
    core_shell_energies,
    edges_from_cores,
    outer_pair,
    site_operator,
)


def relax_shells(ions: CoreShellSystem, tolerance: float = 1e-9, limit: int = 50, longest: float = 0.2) -> Tensor:
    """Displacements u [m, 3] Å at which no shell feels a force above `tolerance` eV/Å; without a graph.

    ions   of `detached`       longest  Å, that a shell moves in one step
    Starts from u = 0; a step that would go uphill is shortened. Raises RuntimeError after `limit` steps.
    """
    u = torch.zeros_like(ions.positions[ions.shelled])
    if u.shape[0] == 0:
        return u
    energy, slope = energy_and_slope(ions, u)
    steps = 0
    while not bool(slope.abs().max() <= tolerance):  # NaN goes on, to be refused
        if steps == limit or not bool(torch.isfinite(slope).all()):
            raise ConvergenceError(
                f"shells not relaxed after {steps} steps, force {float(slope.abs().max())} eV/Å left: are ions on "
                "top of each other, or is a spring too soft? A smaller `stiffening` holds shells to their cores"
            )
        step = -torch.cholesky_solve(slope.reshape(-1, 1), stable_factor(curvature(ions, u))).reshape(-1, 3)
        step = step * min(1.0, longest / float(torch.linalg.norm(step, dim=1).max()))
        before = energy
        energy, slope = energy_and_slope(ions, u + step)
        for _ in range(20):
            # rounding of an energy of keV must not stop the last steps
            if bool(energy <= before + 1e-12 * before.abs() + 1e-10):
                break
            step = 0.25 * step
            energy, slope = energy_and_slope(ions, u + step)
        u = u + step
        steps += 1
    return u


def shells_at_rest(ions: CoreShellSystem, rest: Tensor) -> Tensor:
    """Relaxed displacements with their derivatives by all tensors of `ions`; rest [m, 3] Å from `relax_shells`.

    One Newton step u - H^-1 dE/du, H^-1 held constant, leaves the value and makes du right to first order. The energy
    is stationary in u: it and its first, second and third derivatives are then right, training on forces included.
    """
    if rest.shape[0] == 0:
        return rest
    fixed = rest.detach().requires_grad_(True)
    gradients = torch.autograd.grad([core_shell_energies(ions, fixed).sum()], [fixed], create_graph=True)
    slope: Tensor | None = gradients[0]
    assert slope is not None
    factor = stable_factor(curvature(ions, rest))
    return rest - torch.cholesky_solve(slope.reshape(-1, 1), factor.detach()).reshape(-1, 3)


def energy_and_slope(ions: CoreShellSystem, u: Tensor) -> tuple[Tensor, Tensor]:
    """E eV and dE/du [m, 3] eV/Å, without a graph."""
    leaf = u.detach().requires_grad_(True)
    energy = core_shell_energies(ions, leaf).sum()
    gradients = torch.autograd.grad([energy], [leaf])
    slope: Tensor | None = gradients[0]
    assert slope is not None
    return energy.detach(), slope


def stable_factor(matrix: Tensor) -> Tensor:
    """Cholesky factor of a symmetric matrix, moved up along the diagonal until it is positive."""
    factor, failed = torch.linalg.cholesky_ex(matrix)
    shift = 0.1 * matrix.diagonal().abs().mean()
    while bool(failed > 0):
        matrix = matrix + torch.diag(torch.ones_like(matrix.diagonal()) * shift)
        factor, failed = torch.linalg.cholesky_ex(matrix)
        shift = 2.0 * shift
    return factor


def curvature(ions: CoreShellSystem, u: Tensor) -> Tensor:
    """d^2 E / du du, [3 m, 3 m] eV/Å^2, without a graph."""
    m, n = ions.shelled.shape[0], ions.positions.shape[0]
    u = u.detach()
    positions, charges, moved = charge_sites(ions, u)
    blocks = coulomb_curvature(site_operator(ions, positions.detach(), True), charges.detach(), ions.shelled)
    place = torch.arange(m, device=u.device)
    shell = torch.full([n], -1, dtype=torch.int64, device=u.device).index_copy(0, ions.shelled, place)

    blocks = blocks.index_add(0, place * m + place, _within(ions, u))
    near = smooth_cutoff(ions.vector.detach().square().sum(1), ions.cutoff, 0.81)
    vector = (ions.vector + moved[ions.neighbour] - moved[ions.centre]).detach()
    distance = torch.linalg.norm(vector, dim=1).requires_grad_(True)
    pair = radial_curvature(outer_pair(ions, distance), distance, vector, near)
    one, other = shell[ions.centre], shell[ions.neighbour]
    mine = torch.nonzero(one >= 0).squeeze(1)
    blocks = blocks.index_add(0, one[mine] * (m + 1), pair[mine])
    both = torch.nonzero((one >= 0) & (other >= 0)).squeeze(1)
    blocks = blocks.index_add(0, one[both] * m + other[both], -pair[both])

    edges, core = edges_from_cores(ions)
    other = shell[ions.neighbour[edges]]
    vector = (ions.vector[edges] + moved[ions.neighbour[edges]]).detach()
    distance = torch.linalg.norm(vector, dim=1).requires_grad_(True)
    strength = units.COULOMB * (core * ions.outer[ions.neighbour[edges]]).detach()
    pair = radial_curvature(strength * point_correction(distance, ions.width), distance, vector, near[edges])
    mine = torch.nonzero(other >= 0).squeeze(1)
    blocks = blocks.index_add(0, other[mine] * (m + 1), pair[mine])
    return blocks.reshape(m, m, 3, 3).permute(0, 2, 1, 3).reshape(3 * m, 3 * m).detach()


def _within(ions: CoreShellSystem, u: Tensor) -> Tensor:
    """Of the spring, and of core and shell without their own Coulomb energy, [m, 9]."""
    k, q = ions.spring.detach(), units.COULOMB * (ions.core * ions.outer[ions.shelled]).detach()
    u2 = u.square().sum(1)
    kernels = radial_kernels(u2, torch.full_like(u2, 0.5 / ions.width), 2)
    quartic = k / (6.0 * ions.stiffening * ions.stiffening)
    unit = torch.eye(3, dtype=u.dtype, device=u.device)
    along = (2.0 * quartic - q * kernels[2])[:, None, None] * u[:, :, None] * u[:, None, :]
    return ((k + quartic * u2 + q * kernels[1])[:, None, None] * unit + along).reshape(-1, 9)


def radial_curvature(energy: Tensor, distance: Tensor, vector: Tensor, weight: Tensor) -> Tensor:
    """w [f'' n n + f' / r (1 - n n)] of a pair energy f(r), [n_edges, 9]; `energy` has the graph of `distance`."""
    gradients = torch.autograd.grad([energy.sum()], [distance], create_graph=True)
    first: Tensor | None = gradients[0]
    assert first is not None
    gradients = torch.autograd.grad([first.sum()], [distance])
    second: Tensor | None = gradients[0]
    assert second is not None
    r = distance.detach()
    across = weight * first.detach() / r
    normal = vector / r[:, None]
    along = (weight * second - across)[:, None, None] * normal[:, :, None] * normal[:, None, :]
    unit = torch.eye(3, dtype=r.dtype, device=r.device)
    return (along + across[:, None, None] * unit).reshape(-1, 9)


def coulomb_curvature(operator: CoulombOperator, charges: Tensor, chosen: Tensor) -> Tensor:
    """d^2/dr dr of 1/2 q A q for the chosen sites, [m m, 9] eV/Å^2.

    A charge's derivative is a dipole, so off the diagonal this is q q' A of dipoles; on it, what leaves all sites
    moving together without a force.
    """
    m, q = chosen.shape[0], charges[chosen]
    blocks = charges.new_zeros(m * m, 9)
    place = torch.arange(m, device=charges.device) * (m + 1)
    factors, dense = operator.factors, operator.dense
    if factors is not None:
        k, weight = factors.k, factors.weight
        cosine, sine = factors.cosine[chosen], factors.sine[chosen]
        real, imaginary = structure_amplitudes(factors, charges, charges.new_zeros(0, 3))
        field = (weight * (cosine * real + sine * imaginary)) @ (k[:, :, None] * k[:, None, :]).reshape(-1, 9)
        c = ((q[:, None] * cosine)[:, None, :] * k.t()).flatten(0, 1)
        s = ((q[:, None] * sine)[:, None, :] * k.t()).flatten(0, 1)
        whole = torch.addmm((c * weight) @ c.t(), s * weight, s.t())
        blocks = blocks + whole.reshape(m, 3, m, 3).permute(0, 2, 1, 3).reshape(m * m, 9)
        blocks = blocks.index_add(0, place, -q[:, None] * field)
    if dense is not None:
        n = charges.shape[0]
        dipoles = dense[n:, n:].reshape(n, 3, n, 3).permute(0, 2, 1, 3).reshape(n, n, 9)
        others = (charges[:, None] * charges * (1.0 - torch.eye(n, dtype=q.dtype, device=q.device)))[:, :, None]
        rows = (dipoles * others)[chosen]
        blocks = blocks + rows[:, chosen].reshape(m * m, 9)
        blocks = blocks.index_add(0, place, -rows.sum(1))
    return blocks
