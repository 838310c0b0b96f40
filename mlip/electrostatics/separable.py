"""Separable structure factors: exp(i k.r) as a product of three, one per lattice vector.

For inference. Structure factors and potentials become small matrix products, sum_i (e1 e2)_i (q e3)_i, so neither
n_atoms x n_k numbers nor their sines are ever made; derivatives are written by hand. Values are those of
structure_factors.py.
With n = (n1, n2, n3) a wave is k.r = 2 pi n.f, f fractional: everything below is in fractional coordinates.
"""

import math
from typing import NamedTuple

import torch
from torch import Tensor

from mlip.electrostatics.structure_factors import coulomb_weight, wave_cutoff


class SeparableStructureFactors(NamedTuple):
    """Phases, forms and weights; lists have one entry per class of atoms of one width."""

    members: list[Tensor]  # [n_class] atoms
    plane: list[Tensor]  # [n_class, n_12] exp(2 pi i (n1 f1 + n2 f2))
    line: list[Tensor]  # [n_class, n_3] exp(2 pi i n3 f3)
    form: list[Tensor]  # [n_12, n_3] exp(-s^2 k^2 / 2)
    width2: list[Tensor]  # s^2, Å^2
    n12: Tensor  # [n_12, 2], the (n1, n2), n1 >= 0, within the cutoff
    n3: Tensor  # [n_3]
    k2: Tensor  # [n_12, n_3] Å^-2, differentiable in the box
    weight: Tensor  # [n_12, n_3] eV/e^2, differentiable in the box; zero at k = 0 and beyond the cutoff
    to_fractional: Tensor  # [3, 3] Å^-1, inverse of the box, without a graph


def separable_structure_factors(
    positions: Tensor, box: Tensor, width: Tensor, tolerance: float
) -> SeparableStructureFactors:
    """Phases and weights of the Gaussian charges of one periodic system.

    positions [n, 3] Å, box [3, 3] Å, width [n] or [1] Å > 0; see structure_factors for the tolerance
    """
    cutoff = wave_cutoff(float(width.detach().min()), tolerance)
    inverse = torch.linalg.inv(box)
    fixed = box.detach()
    reach = (cutoff / (2 * math.pi) * torch.linalg.vector_norm(fixed, dim=1)).floor()
    n1 = torch.arange(0, int(reach[0]) + 1, dtype=box.dtype, device=box.device)
    n2 = torch.arange(-int(reach[1]), int(reach[1]) + 1, dtype=box.dtype, device=box.device)
    n3 = torch.arange(-int(reach[2]), int(reach[2]) + 1, dtype=box.dtype, device=box.device)
    n12 = torch.cartesian_prod(n1, n2)
    metric = (2 * math.pi) ** 2 * inverse.t() @ inverse
    k2 = _norm2(metric, n12, n3)
    used = torch.nonzero(k2.detach().amin(1) < cutoff * cutoff)[:, 0]
    n12, k2 = n12[used], k2[used]
    origin = k2.detach() == 0
    # n1 > 0 stands for k and -k; in the plane n1 = 0 both are there
    half = torch.where(n12[:, 0] > 0, 1.0, 0.5).to(box.dtype)[:, None]
    safe = torch.where(origin, torch.ones_like(k2), k2)
    weight = half * coulomb_weight(safe, torch.linalg.det(box).abs(), cutoff)
    weight = torch.where(origin, torch.zeros_like(weight), weight)
    members: list[Tensor] = []
    planes: list[Tensor] = []
    lines: list[Tensor] = []
    forms: list[Tensor] = []
    width2: list[Tensor] = []
    with torch.no_grad():
        fraction = positions.detach() @ inverse.detach()
        line = _phases(fraction[:, 2:], n3[None])
        plane = _phases(fraction[:, :1], n1[None])[:, :, None] * _phases(fraction[:, 1:2], n2[None])[:, None, :]
        plane = plane.flatten(1)[:, used]
        widths, member = torch.unique(width.detach().expand(positions.shape[0]), return_inverse=True)
        for c in range(widths.shape[0]):
            atoms = torch.nonzero(member == c)[:, 0]
            members.append(atoms)
            planes.append(plane[atoms])
            lines.append(line[atoms])
            width2.append(widths[c].square())
            forms.append(torch.exp(-0.5 * widths[c].square() * k2.detach()))
    return SeparableStructureFactors(members, planes, lines, forms, width2, n12, n3, k2, weight, inverse.detach())


def _phases(fraction: Tensor, n: Tensor) -> Tensor:
    angle = 2 * math.pi * fraction * n
    return torch.complex(angle.cos(), angle.sin())


def _norm2(metric: Tensor, n12: Tensor, n3: Tensor) -> Tensor:
    """k^2 of every wave, [n_12, n_3]."""
    in_plane = ((n12 @ metric[:2, :2]) * n12).sum(1)
    mixed = 2 * (n12 @ metric[:2, 2])
    return in_plane[:, None] + mixed[:, None] * n3 + metric[2, 2] * n3 * n3


def _class_amplitudes(factors: SeparableStructureFactors, c: int, charges: Tensor, dipoles: Tensor) -> Tensor:
    """sum_i (q_i + i k.mu_i) exp(i k.r_i) over class c, [n_12, n_3]; dipoles [n, 3] times 2 pi, fractional."""
    atoms, plane, line = factors.members[c], factors.plane[c].t(), factors.line[c]
    if dipoles.shape[0] == 0:
        return plane @ (charges[atoms, None] * line)
    mu = dipoles[atoms]
    column = torch.complex(charges[atoms, None].expand(-1, line.shape[1]), mu[:, 2:] * factors.n3) * line
    columns = torch.cat([column, mu[:, :1] * line, mu[:, 1:2] * line], 1)
    parts = (plane @ columns).view(-1, 3, line.shape[1])
    along = factors.n12[:, :1] * parts[:, 1] + factors.n12[:, 1:] * parts[:, 2]
    return parts[:, 0] + 1j * along


def _at_atoms(factors: SeparableStructureFactors, c: int, wave: Tensor, order: int) -> Tensor:
    """Re sum_k wave exp(i k.r) at the atoms of class c and its derivatives in 2 pi f: [n_class, 1, 4 or 10].

    order 0: value; 1: and along 1, 2, 3; 2: and 11, 12, 13, 22, 23, 33.
    """
    plane, line, n12 = factors.plane[c], factors.line[c], factors.n12
    n1, n2 = n12[:, 0], n12[:, 1]
    product = plane * (line @ wave.t())  # [n_class, n_12]
    real = [product.real.sum(1)]
    if order > 0:
        slope = product.imag @ torch.stack([n1, n2], 1)
        second = plane * ((line * factors.n3) @ wave.t())
        real += [-slope[:, 0], -slope[:, 1], -second.imag.sum(1)]
        if order > 1:
            bend = product.real @ torch.stack([n1 * n1, n1 * n2, n2 * n2], 1)
            mixed = second.real @ torch.stack([n1, n2], 1)
            last = plane * ((line * factors.n3.square()) @ wave.t())
            real += [-bend[:, 0], -bend[:, 1], -mixed[:, 0], -bend[:, 2], -mixed[:, 1], -last.real.sum(1)]
    return torch.stack(real, 1)


def _amplitudes(factors: SeparableStructureFactors, charges: Tensor, dipoles: Tensor) -> tuple[Tensor, Tensor]:
    """rho = sum of all classes with their forms, and its derivative in k^2 through the forms, [n_12, n_3]."""
    zero = torch.zeros_like(factors.weight)
    rho = torch.complex(zero, zero)
    slope = torch.zeros_like(rho)
    for c in range(len(factors.members)):
        part = factors.form[c] * _class_amplitudes(factors, c, charges, dipoles)
        rho = rho + part
        slope = slope - 0.5 * factors.width2[c] * part
    return rho, slope


def apply_separable(factors: SeparableStructureFactors, charges: Tensor, dipoles: Tensor) -> tuple[Tensor, Tensor]:
    """dE/dq [n] V and dE/dmu [n, 3] V/Å, without a graph; like apply_structure_factors."""
    with torch.no_grad():
        scale = 2 * math.pi * factors.to_fractional
        rho, _ = _amplitudes(factors, charges, dipoles @ scale)
        field = factors.weight.detach() * rho.conj()
        potential, gradient = torch.zeros_like(charges), torch.zeros_like(dipoles)
        polar = dipoles.shape[0] > 0
        for c in range(len(factors.members)):
            at = _at_atoms(factors, c, factors.form[c] * field, 1 if polar else 0)
            potential[factors.members[c]] = at[:, 0]
            if polar:
                gradient[factors.members[c]] = at[:, 1:] @ scale.t()
    return potential, gradient


def separable_gradient_carrier(
    factors: SeparableStructureFactors, positions: Tensor, box: Tensor, charges: Tensor, dipoles: Tensor
) -> Tensor:
    """Zero, [n] eV, with the exact first derivatives of the energy in positions and box at constant x."""
    polar = dipoles.shape[0] > 0
    with torch.no_grad():
        moments = 2 * math.pi * dipoles @ factors.to_fractional
        rho, slope = _amplitudes(factors, charges, moments)
        weight = factors.weight.detach()
        field = weight * rho.conj()
        power = 0.5 * (rho * rho.conj()).real
        by_k2 = weight * (rho.conj() * slope).real
        force, gradient = torch.zeros_like(positions), torch.zeros_like(positions)
        for c in range(len(factors.members)):
            atoms = factors.members[c]
            at = _at_atoms(factors, c, factors.form[c] * field, 2 if polar else 1)
            push = charges[atoms, None] * at[:, 1:4]
            if polar:
                curvature = at[:, [4, 5, 6, 5, 7, 8, 6, 8, 9]].view(-1, 3, 3)
                push = push + (curvature @ moments[atoms, :, None])[:, :, 0]
            force[atoms] = 2 * math.pi * push
            gradient[atoms] = 2 * math.pi * at[:, 1:4]
    inverse = torch.linalg.inv(box)
    carrier = (_zero(positions @ inverse) * force).sum(1)
    if polar:
        carrier = carrier + (_zero(dipoles @ inverse) * gradient).sum(1)
    in_waves = (_zero(factors.k2) * by_k2).sum() + (_zero(factors.weight) * power).sum()
    return carrier + in_waves / charges.shape[0]


def separable_diagonal(factors: SeparableStructureFactors, n_atoms: int) -> tuple[Tensor, Tensor]:
    """Diagonal of the waves' matrix: of each charge, and of its dipole (mean over directions), [n_atoms] each."""
    charge, dipole = torch.zeros(n_atoms, dtype=torch.float64), torch.zeros(n_atoms, dtype=torch.float64)
    weight = factors.weight.detach()
    charge, dipole = charge.to(weight.device), dipole.to(weight.device)
    for c in range(len(factors.members)):
        spectrum = weight * factors.form[c].square()
        charge[factors.members[c]] = spectrum.sum()
        dipole[factors.members[c]] = (spectrum * factors.k2.detach()).sum() / 3
    return charge, dipole


def longest_waves(factors: SeparableStructureFactors, n_atoms: int, count: int) -> Tensor:
    """Features [n_atoms, 2 count] (at most) of the longest waves: their part of the matrix is U U^T, eV/e^2."""
    weight = factors.weight.detach().flatten()
    k2 = torch.where(weight > 0, factors.k2.detach().flatten(), torch.inf)
    longest = torch.topk(k2, min(count, int((weight > 0).sum())), largest=False).indices
    across, along = torch.div(longest, factors.n3.shape[0], rounding_mode="floor"), longest % factors.n3.shape[0]
    features = weight.new_zeros(n_atoms, 2 * longest.shape[0])
    for c in range(len(factors.members)):
        form = (factors.form[c].flatten() * weight.sqrt())[longest]
        wave = factors.plane[c][:, across] * factors.line[c][:, along]
        features[factors.members[c]] = torch.cat([form * wave.real, form * wave.imag], 1)
    return features


def single_precision_factors(f: SeparableStructureFactors) -> SeparableStructureFactors:
    """The same in single precision."""
    return SeparableStructureFactors(
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


def _zero(value: Tensor) -> Tensor:
    return value - value.detach()
