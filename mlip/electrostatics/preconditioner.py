"""Preconditioners of the charge functional: its diagonal, and the screening of long waves.

The largest eigenvalue of the problem is that of the longest wave, 4 pi k_e n / k_min^2: with the diagonal alone the
steps of conjugate gradients grow like the cell's length. With Woodbury's formula, D + U G U^T is inverted as
P = D^-1 - D^-1 U [G^-1 + U^T D^-1 U]^-1 U^T D^-1. In a small system U are the longest waves, exactly; in a large one U
spreads charge on a coarse mesh, and the bracket is that of a uniform gas of the same hardness: the response of a metal.
"""

import math
from typing import NamedTuple

import torch
from torch import Tensor

from mlip import units
from mlip.electrostatics.functional import ChargeFunctional
from mlip.electrostatics.mesh import Mesh, apply_mesh, make_mesh, mesh_shape, squared_waves
from mlip.electrostatics.operator import CoulombOperator
from mlip.electrostatics.pme import ParticleMesh
from mlip.electrostatics.separable import longest_waves, separable_diagonal
from mlip.electrostatics.splines import Stencil, gather, make_stencil, mesh_coordinates, spread


class CoarseMesh(NamedTuple):
    """U and the bracket G / (1 + kappa G), kappa the sum of 1 / D per mesh point."""

    mesh: Mesh
    stencil: Stencil
    box: Tensor
    share: Tensor  # [n] sqrt(mean kappa / local kappa): one in a bulk, keeps P positive if atoms lie unevenly


class Preconditioner(NamedTuple):
    """P, the inverse of diagonal + U G U^T, and its projection on the constraint C."""

    inverse: Tensor  # D^-1 [n, 1] or [n, 4]
    waves: Tensor  # U [n, m] with G = 1; no columns: none
    factor: Tensor  # [m, m], Cholesky factor of 1 + U^T D^-1 U
    coarse: CoarseMesh | None
    image: Tensor  # B [n, n_groups] of the projection: P C^T, or D^-1 C^T with a coarse mesh
    metric: Tensor  # [n_groups, n_groups], inverse of C B


def preconditioner(functional: ChargeFunctional, operator: CoulombOperator) -> Preconditioner:
    """Of charges that flow, with the waves they screen; of fixed charges, the diagonal."""
    mesh = operator.mesh
    if functional.constraint.shape[0] == 0:
        return diagonal_preconditioner(functional, operator)
    if mesh is not None:
        return metallic_preconditioner(functional, operator, mesh)
    return wave_preconditioner(functional, operator)


def diagonal_preconditioner(functional: ChargeFunctional, operator: CoulombOperator) -> Preconditioner:
    """1 / D alone."""
    diagonal = hessian_diagonal(functional, operator)
    return _projected(functional, 1.0 / diagonal, diagonal[:, :0], None)


def wave_preconditioner(functional: ChargeFunctional, operator: CoulombOperator, count: int = 64) -> Preconditioner:
    """The `count` longest waves of the structure factors, inverted exactly: they cost no iterations."""
    separable, n = operator.separable, functional.hardness.shape[0]
    diagonal = hessian_diagonal(functional, operator)
    waves = diagonal[:, :0]
    if separable is not None:
        waves = longest_waves(separable, n, min(count, n // 3))
        diagonal[:, 0] -= waves.square().sum(1)
    return _projected(functional, 1.0 / diagonal, waves, None)


def metallic_preconditioner(
    functional: ChargeFunctional, operator: CoulombOperator, mesh: ParticleMesh
) -> Preconditioner:
    """Screening by a uniform gas of the same hardness: the steps do not grow with the cell.

    The softness is averaged over about eta: its atoms do not matter to the waves that are screened, and an error
    in kappa would leave the longest wave growing with the cell.
    """
    inverse, box, eta = 1.0 / hessian_diagonal(functional, operator), mesh.split.box, mesh.split.eta
    none = torch.zeros([0, 3], dtype=box.dtype, device=box.device)
    spacing = 0.7 * float(torch.linalg.det(box).abs() / inverse.shape[0]) ** (1.0 / 3.0)
    shape = mesh_shape(box, min(max(spacing, 1.0), 2.0))
    bare = make_mesh(box, shape, eta, 4, mesh.split.slab)
    stencil = make_stencil(mesh_coordinates(mesh.positions[mesh.rank], box, shape), shape, 4, 0)
    softness = torch.fft.rfftn(spread(stencil, shape, inverse[:, 0], none))
    smooth = torch.exp(-0.25 * eta * eta * squared_waves(box, shape, 0, shape[0])[0])
    kappa = gather(stencil, torch.fft.irfftn(softness * smooth, s=shape))[0]
    kernel = bare.kernel.clamp(min=0.0)
    coarse = CoarseMesh(
        Mesh(shape, 4, eta, mesh.split.slab, kernel / (1.0 + kappa.mean() * kernel)),
        stencil,
        box,
        (kappa.mean() / kappa).sqrt(),
    )
    return _projected(functional, inverse, inverse[:, :0], coarse)


def _projected(
    functional: ChargeFunctional, inverse: Tensor, waves: Tensor, coarse: CoarseMesh | None
) -> Preconditioner:
    small = waves.t() @ (inverse[:, :1] * waves)
    factor = torch.linalg.cholesky(small + torch.eye(small.shape[0], dtype=small.dtype, device=small.device))
    bare = Preconditioner(inverse, waves, factor, coarse, waves[:, :0], small[:0, :0])
    rows = functional.constraint.t()
    image = _on_charges(bare, rows) if coarse is None else inverse[:, :1] * rows
    metric = torch.linalg.inv(functional.constraint @ image)
    return Preconditioner(inverse, waves, factor, coarse, image, metric)


def _on_charges(p: Preconditioner, slope: Tensor) -> Tensor:
    """P applied to charge slopes, [n, any] -> [n, any]; [n, 1] with a coarse mesh."""
    scaled, coarse = p.inverse[:, :1] * slope, p.coarse
    if coarse is not None:
        charges = scaled[:, 0] * coarse.share
        response, _ = apply_mesh(coarse.mesh, coarse.stencil, coarse.box, charges, slope.new_zeros(0, 3))
        return scaled - p.inverse[:, :1] * (coarse.share * response)[:, None]
    if p.waves.shape[1] == 0:
        return scaled
    return scaled - p.inverse[:, :1] * (p.waves @ torch.cholesky_solve(p.waves.t() @ scaled, p.factor))


def projected_step(p: Preconditioner, functional: ChargeFunctional, slope: Tensor) -> tuple[Tensor, Tensor]:
    """-W P W^T slope, which keeps the charge of every group, [n, 1 or 4], and lambda [n_groups].

    W = 1 - B (C B)^-1 C of any B: P C^T is the best, but costs a P for every group. W^T slope = slope + C^T lambda is
    the slope less the forces of the constraint.
    """
    if functional.constraint.shape[0] == 0:  # fixed charges stay
        return torch.cat([torch.zeros_like(slope[:, :1]), -(p.inverse * slope)[:, 1:]], 1), functional.target
    multipliers = -(p.metric @ (p.image.t() @ slope[:, 0]))
    charge = _on_charges(p, slope[:, :1] + (multipliers @ functional.constraint)[:, None])
    charge = charge - p.image @ (p.metric @ (functional.constraint @ charge))
    return torch.cat([-charge, -(p.inverse * slope)[:, 1:]], 1), multipliers


def on_target(p: Preconditioner, functional: ChargeFunctional, x: Tensor) -> Tensor:
    """x [n, 1 or 4] with the charge that its groups lack distributed over them as the response would."""
    if functional.constraint.shape[0] == 0:
        return x
    missing = functional.target - functional.constraint @ x[:, 0]
    return torch.cat([x[:, :1] + (p.image @ (p.metric @ missing))[:, None], x[:, 1:]], 1)


def hessian_diagonal(functional: ChargeFunctional, operator: CoulombOperator) -> Tensor:
    """Second derivative of F in each charge and (about) each dipole, [n, 1] or [n, 4]."""
    n = functional.hardness.shape[0]
    polar = functional.inverse_polarizability.shape[0] > 0
    charge, dipole = torch.zeros_like(functional.hardness), torch.zeros_like(functional.hardness)
    separable, mesh, dense = operator.separable, operator.mesh, operator.dense
    if mesh is not None:
        width = mesh.width[mesh.rank]
        charge = 0.5 * units.COULOMB / math.sqrt(math.pi) / width.clamp(min=1e-3)  # half of the self-interaction
        dipole = units.COULOMB / (6.0 * math.sqrt(math.pi) * width.clamp(min=0.1) ** 3)
    elif separable is not None:
        charge, dipole = separable_diagonal(separable, n)
    elif dense is not None:
        diagonal = dense.diagonal()
        charge = diagonal[:n]
        if polar:
            dipole = diagonal[n:].view(n, 3).mean(1)
    charge = (charge + functional.hardness)[:, None]
    if not polar:
        return charge
    return torch.cat([charge, (dipole + functional.inverse_polarizability)[:, None].expand(n, 3)], 1)


def single_precision_preconditioner(p: Preconditioner) -> Preconditioner:
    """The same in single precision, without a coarse mesh."""
    return Preconditioner(p.inverse.float(), p.waves.float(), p.factor.float(), None, p.image.float(), p.metric.float())
