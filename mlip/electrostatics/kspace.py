"""Waves: the reciprocal-space half of every lattice sum, as a product of structure factors.

A periodic, smooth interaction is a sum over waves k of (amplitude)^2 cos(k . (r_i - r_j)). With the features
[cos(k . r_i), sin(k . r_i)] it is one matrix product, and applied to charges it costs O(N n_k) and no matrix.
Only half of the k's are kept (cosine is even) and each counts twice. k = 0 is not among them.
"""

import math
from typing import NamedTuple

import torch
from torch import Tensor

from mlip.units import COULOMB

SWITCH_ON = 0.9  # fraction of cutoff^2 at which waves begin to fade


class Waves(NamedTuple):
    """k [n_k, 3] Å^-1; cosine and sine [n_atoms, n_k], amplitude included, eV^1/2 / e."""

    k: Tensor
    cosine: Tensor
    sine: Tensor


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


def fade(k2: Tensor, cutoff: float) -> Tensor:
    """1 below SWITCH_ON cutoff^2, 0 from cutoff^2 on, twice differentiable between.

    So a wave that enters or leaves as the cell strains does so at weight zero: energy and stress have no jump.
    """
    t = ((k2 / (cutoff * cutoff) - SWITCH_ON) / (1 - SWITCH_ON)).clamp(0.0, 1.0)
    return 1 - t * t * t * (10 + t * (6 * t - 15))


def wave_cutoff(width: float, tolerance: float) -> float:
    """Å^-1 at which a Gaussian exp(-width^2 k^2) has fallen to the tolerance, plus the room to fade."""
    return math.sqrt(-math.log(tolerance) / SWITCH_ON) / width


def coulomb_weight(k2: Tensor, volume: Tensor, cutoff: float) -> Tensor:
    """Amplitude of a wave of unit charge, both halves counted: fade(k) sqrt(2 * 4 pi k_e / (V k^2)), [n_k] eV^1/2 / e."""
    return fade(k2, cutoff) * (8 * math.pi * COULOMB / (volume * k2)).sqrt()


def waves_of_gaussians(positions: Tensor, cell: Tensor, width: Tensor, tolerance: float) -> Waves:
    """Structure factors of Gaussian charges: the whole periodic interaction when every width is smooth.

    positions [n_atoms, 3] Å, cell [3, 3] Å, width [n_atoms] Å > 0
    """
    cutoff = wave_cutoff(float(width.min()), tolerance)
    k = wave_vectors(cell, cutoff)
    k2 = k.square().sum(1)
    amplitude = coulomb_weight(k2, torch.linalg.det(cell).abs(), cutoff) * torch.exp(
        -0.5 * width.square()[:, None] * k2
    )
    phase = positions @ k.t()
    return Waves(k, amplitude * phase.cos(), amplitude * phase.sin())


def apply_waves(waves: Waves, charges: Tensor, dipoles: Tensor) -> tuple[Tensor, Tensor]:
    """Potential and its gradient at every atom, self-interaction included: one pass there, one back.

    charges [n_atoms] e, dipoles [n_atoms, 3] e Å (no rows: no dipoles)
    returns dE/dq [n_atoms] V and dE/dmu [n_atoms, 3] V/Å, of E = 1/2 x A x
    """
    real = charges @ waves.cosine
    imaginary = charges @ waves.sine
    if dipoles.shape[0] > 0:
        along = torch.stack([dipoles.t() @ waves.cosine, dipoles.t() @ waves.sine])  # [2, 3, n_k]
        along = (along * waves.k.t()).sum(1)
        real = real - along[1]
        imaginary = imaginary + along[0]
    potential = waves.cosine @ real + waves.sine @ imaginary
    gradient = dipoles
    if dipoles.shape[0] > 0:
        gradient = waves.cosine @ (imaginary[:, None] * waves.k) - waves.sine @ (real[:, None] * waves.k)
    return potential, gradient


def matrix_of_waves(waves: Waves, dipoles: bool) -> Tensor:
    """A of E = 1/2 x A x: [n, n] for charges, [4 n, 4 n] for charges then dipoles (x, y, z of each atom)."""
    feature = torch.cat([waves.cosine, waves.sine], dim=1)
    if dipoles:
        slope = torch.cat([-waves.sine[:, None, :] * waves.k.t(), waves.cosine[:, None, :] * waves.k.t()], dim=2)
        feature = torch.cat([feature, slope.flatten(0, 1)], dim=0)
    return feature @ feature.t()
