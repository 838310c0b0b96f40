"""Structure factors of Gaussian charges: the reciprocal-space part of every lattice sum.

A periodic, smooth interaction is a sum over waves k of weight times cos(k . (r_i - r_j)). With the features
[cos(k . r_i), sin(k . r_i)] it is one matrix product, and applied to charges it costs O(N n_k) and no matrix.
Only half of the k's are kept (cosine is even) and each counts twice. k = 0 is not among them.
"""

import math
from typing import Any, NamedTuple

import torch
from torch import Tensor

from mlip import units
from mlip.electrostatics.kernels import smooth_cutoff


class StructureFactors(NamedTuple):
    """E = 1/2 sum_k weight |sum_i q_i form_i(k) exp(i k.r_i)|^2, form that of the Gaussian."""

    k: Tensor  # [n_k, 3] Å^-1
    weight: Tensor  # [n_k] eV/e^2
    cosine: Tensor  # [n_atoms, n_k], form_i(k) cos(k.r_i)
    sine: Tensor  # [n_atoms, n_k]


def wave_vectors(cell: Tensor, cutoff: float) -> Tensor:
    """Half of the reciprocal lattice inside |k| < cutoff, without k = 0: [n_k, 3] Å^-1, differentiable in the cell.

    cell    [3, 3] Å, rows are lattice vectors
    cutoff  Å^-1
    """
    box = cell.detach()
    reach = (cutoff / (2 * math.pi) * torch.linalg.vector_norm(box, dim=1)).floor()
    n1 = torch.arange(0, int(reach[0]) + 1, dtype=cell.dtype, device=cell.device)
    n2 = torch.arange(-int(reach[1]), int(reach[1]) + 1, dtype=cell.dtype, device=cell.device)
    n3 = torch.arange(-int(reach[2]), int(reach[2]) + 1, dtype=cell.dtype, device=cell.device)
    n = torch.cartesian_prod(n1, n2, n3)
    upper = (n[:, 0] > 0) | ((n[:, 0] == 0) & ((n[:, 1] > 0) | ((n[:, 1] == 0) & (n[:, 2] > 0))))
    n = n[upper]
    k2 = (2 * math.pi * n @ torch.linalg.inv(box).t()).square().sum(1)
    n = n[k2 < cutoff * cutoff]
    return 2 * math.pi * n @ torch.linalg.inv(cell).t()


def wave_cutoff(width: float, tolerance: float, start: float = 0.9) -> float:
    """Å^-1 at which a Gaussian exp(-width^2 k^2) has fallen to the tolerance, and room for the smooth cutoff."""
    return math.sqrt(-math.log(tolerance) / start) / width


def coulomb_weight(k2: Tensor, volume: Tensor, cutoff: float) -> Tensor:
    """Weight of a wave of point charges, both halves counted: 2 * 4 pi k_e f_c(k) / (V k^2), [n_k] eV/e^2."""
    return 8 * math.pi * units.COULOMB / volume * smooth_cutoff(k2, cutoff) / k2


def structure_factors(positions: Tensor, cell: Tensor, width: Tensor, tolerance: float) -> StructureFactors:
    """Structure factors of Gaussian charges: the whole periodic interaction when every width is smooth.

    positions [n_atoms, 3] Å, cell [3, 3] Å, width [n_atoms] Å > 0, or [1]: one for all, at half the cost
    """
    cutoff = wave_cutoff(float(width.detach().min()), tolerance)
    k = wave_vectors(cell, cutoff)
    k2 = k.square().sum(1)
    weight = coulomb_weight(k2, torch.linalg.det(cell).abs(), cutoff)
    phase = positions @ k.t()
    cosine, sine = phase.cos(), phase.sin()
    if width.shape[0] == 1:
        return StructureFactors(k, weight * torch.exp(-width.square() * k2), cosine, sine)
    form = torch.exp(-0.5 * width.square()[:, None] * k2)
    return StructureFactors(k, weight, form * cosine, form * sine)


def structure_amplitudes(factors: StructureFactors, charges: Tensor, dipoles: Tensor) -> tuple[Tensor, Tensor]:
    """Real and imaginary part of sum_i (q_i + i k.mu_i) form_i exp(i k.r_i), [n_k] each."""
    if dipoles.shape[0] == 0:
        return charges @ factors.cosine, charges @ factors.sine
    sources = torch.cat([charges[None], dipoles.t()])
    by_cosine, by_sine, k = sources @ factors.cosine, sources @ factors.sine, factors.k.t()
    return by_cosine[0] - (by_sine[1:] * k).sum(0), by_sine[0] + (by_cosine[1:] * k).sum(0)


def apply_structure_factors(factors: StructureFactors, charges: Tensor, dipoles: Tensor) -> tuple[Tensor, Tensor]:
    """Potential and its gradient at every atom, self-interaction included: one pass there, one back.

    charges [n_atoms] e, dipoles [n_atoms, 3] e Å (no rows: no dipoles)
    returns dE/dq [n_atoms] V and dE/dmu [n_atoms, 3] V/Å, of E = 1/2 x A x
    """
    real, imaginary = structure_amplitudes(factors, charges, dipoles)
    real, imaginary = factors.weight * real, factors.weight * imaginary
    if dipoles.shape[0] == 0:
        return factors.cosine @ real + factors.sine @ imaginary, dipoles
    both = factors.cosine @ torch.cat([real[:, None], imaginary[:, None] * factors.k], 1)
    both = both + factors.sine @ torch.cat([imaginary[:, None], -real[:, None] * factors.k], 1)
    return both[:, 0], both[:, 1:]


class ChargeEnergies(torch.autograd.Function):
    """Energies q_i phi_i / 2 [n_atoms] eV of charges of one width, with derivatives that are products with few columns.

    Plain differentiation of cos(k.r) and sin(k.r) makes a dozen arrays [n_atoms, n_k] for the forces and their derivatives
    by the charges. Any further derivative is right too: it goes through the cosines and sines.
    """

    @staticmethod
    def forward(
        ctx: Any, charges: Tensor, positions: Tensor, k: Tensor, weight: Tensor, cosine: Tensor, sine: Tensor
    ) -> Tensor:
        """Of the parts of StructureFactors; charges [n_atoms] e, positions [n_atoms, 3] Å."""
        ctx.save_for_backward(charges, positions, k, weight, cosine, sine)
        real, imaginary = weight * (charges @ cosine), weight * (charges @ sine)
        return 0.5 * charges * (cosine @ real + sine @ imaginary)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        """Of sum_i g_i q_i phi_i / 2 = 1/2 sum_k weight (C C' + S S'), C + iS = sum_i q_i exp(i k.r_i), C' + iS' of g_i q_i."""
        charges, positions, k, weight, cosine, sine = ctx.saved_tensors
        scaled = gradients[0] * charges
        both = torch.stack([charges, scaled])
        real, imaginary = both @ cosine, both @ sine  # C, C' and S, S', [2, n_k]
        by_weight = 0.5 * (real[0] * real[1] + imaginary[0] * imaginary[1])
        real, imaginary = weight * real, weight * imaginary
        potential = cosine @ real.t() + sine @ imaginary.t()
        by_charge = 0.5 * (gradients[0] * potential[:, 0] + potential[:, 1])
        columns = [(x[:, :, None] * k).transpose(0, 1).flatten(1) for x in (imaginary, real)]  # [n_k, 6]
        field = (cosine @ columns[0] - sine @ columns[1]).view(-1, 2, 3)
        by_position = 0.5 * (scaled[:, None] * field[:, 0] + charges[:, None] * field[:, 1])
        moments = (both.flip(0)[:, :, None] * positions).transpose(0, 1).flatten(1)  # [n_atoms, 6]: g q r, q r
        by_cosine, by_sine = (part.t() @ moments for part in (cosine, sine))
        by_k = 0.5 * (
            imaginary.t()[:, :, None] * by_cosine.view(-1, 2, 3) - real.t()[:, :, None] * by_sine.view(-1, 2, 3)
        ).sum(1)
        return by_charge, by_position, by_k, by_weight, None, None


def structure_factor_matrix(factors: StructureFactors, charges: bool, dipoles: bool) -> Tensor:
    """A of E = 1/2 x A x: [n, n] for charges, [3 n, 3 n] for dipoles, [4 n, 4 n] for charges and then dipoles."""
    weight, k = factors.weight, factors.k.t()
    cosine, sine = factors.cosine, factors.sine
    if dipoles:
        cosine, sine = (-factors.sine[:, None, :] * k).flatten(0, 1), (factors.cosine[:, None, :] * k).flatten(0, 1)
        if charges:
            cosine, sine = torch.cat([factors.cosine, cosine]), torch.cat([factors.sine, sine])
    return torch.addmm((cosine * weight) @ cosine.t(), sine * weight, sine.t())
