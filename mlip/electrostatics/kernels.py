"""Radial functions of the Coulomb interaction of multipoles, and a smooth cutoff."""

import math

import torch
from torch import Tensor

from mlip import units
from mlip.errors import InputError


def radial_kernels(distance2: Tensor, g: Tensor, order: int) -> list[Tensor]:
    """Radial functions of the interaction of Gaussian multipoles.

    B_0 = erf(g d) / d, B_{n+1} = -(1/d) dB_n/dd

    charge - charge  q_i q_j B_0            charge - dipole  q_i (mu_j . r) B_1,  r = r_i - r_j
    dipole - dipole  mu_i.mu_j B_1 - (mu_i.r)(mu_j.r) B_2
    Written in d^2, so all derivatives exist at d = 0, where B_0 is the self-interaction 2 g / sqrt(pi).

    distance2  d^2, [n] Å^2, may be zero
    g          1 / sqrt(2 (s_i^2 + s_j^2)), [n] Å^-1, finite
    returns    B_0 .. B_order (order <= 2), Å^-(2n+1)
    """
    x2 = g * g * distance2
    small = x2 < 0.5  # below, the closed form loses digits: take the power series
    # double where: neither branch may see an argument at which its derivative is infinite
    near = torch.where(small, x2, torch.zeros_like(x2))
    far = torch.where(small, torch.ones_like(x2) / (g * g), distance2)
    d = far.sqrt()
    gauss = (2.0 / math.sqrt(math.pi)) * g * torch.exp(-g * g * far)
    kernels: list[Tensor] = []
    closed = torch.erf(g * d) / d
    for n in range(order + 1):
        if n > 0:
            closed = ((2 * n - 1) * closed - (2.0 * g * g) ** (n - 1) * gauss) / far
        prefactor = (2.0 / math.sqrt(math.pi)) * g * (2.0 * g * g) ** n
        kernels.append(torch.where(small, prefactor * _series(near, 2 * n + 1), closed))
    return kernels


def _series(x2: Tensor, first: int) -> Tensor:
    """sum_m (-x^2)^m / (m! (2 m + first)), by Horner's rule."""
    total = torch.zeros_like(x2)
    for step in range(15):  # 0.5^15 / 15! is 2e-17
        m = 14 - step
        total = 1.0 / (math.factorial(m) * (2 * m + first)) - x2 * total
    return total


def point_kernels(distance2: Tensor, order: int) -> list[Tensor]:
    """Radial functions of point multipoles, 1/d, 1/d^3, 3/d^5; distance2 [n] Å^2, greater than zero."""
    kernels = [distance2.rsqrt()]
    for n in range(order):
        kernels.append((2 * n + 1) * kernels[n] / distance2)
    return kernels


def short_range_kernels(distance2: Tensor, g: Tensor, eta: float, cutoff: float, order: int) -> list[Tensor]:
    """Radial functions of a pair less those of the mesh.

    B_0 = [erf(g d) - erf(d / (sqrt2 eta))] / d and B_{n+1} = -(1/d) dB_n/dd

    A parabola in d^2, of the size of the tail, makes B_0 and its slope vanish at the cutoff, so that energy and
    forces have no step there.

    distance2 [n] Å^2 > 0;  g = 1 / sqrt(2 (s_i^2 + s_j^2)) [n] Å^-1, large for point charges
    """
    inside = _erf_difference(distance2, g, eta, order)
    edge = kernels_at_cutoff(g, eta, cutoff)
    inside[0] = inside[0] - edge[0] + 0.5 * edge[1] * (distance2 - cutoff * cutoff)
    if order > 0:
        inside[1] = inside[1] - edge[1]
    return inside


def kernels_at_cutoff(g: Tensor, eta: float, cutoff: float) -> list[Tensor]:
    """B_0, Å^-1, and B_1, Å^-3, of `short_range_kernels` at the cutoff, before the parabola takes them off."""
    return _erf_difference(torch.full_like(g, cutoff * cutoff), g, eta, 1)


def _erf_difference(distance2: Tensor, g: Tensor, eta: float, order: int) -> list[Tensor]:
    d = distance2.sqrt()
    b = 1.0 / (math.sqrt(2.0) * eta)
    gauss_g = (2.0 / math.sqrt(math.pi)) * g * torch.exp(-g * g * distance2)
    gauss_b = (2.0 / math.sqrt(math.pi)) * b * torch.exp(-b * b * distance2)
    # erfc: no cancellation in the tail
    kernels = [(torch.erfc(b * d) - torch.erfc(g * d)) / d]
    for n in range(order):
        gauss = (2.0 * g * g) ** n * gauss_g - (2.0 * b * b) ** n * gauss_b
        kernels.append(((2 * n + 1) * kernels[n] - gauss) / distance2)
    return kernels


def point_correction(distance: Tensor, width: float) -> Tensor:
    """Short-range correction from Gaussian to point charges, erfc(r / 2 s) / r, Å^-1.

    Times k_e q q' it is an energy.
    distance [n] Å, greater than zero; width s of both Gaussians, Å
    """
    return torch.erfc(distance / (2.0 * width)) / distance


def smooth_cutoff(square: Tensor, cutoff: float, start: float = 0.9) -> Tensor:
    """Smooth cutoff: 1 while x^2 < start * cutoff^2, 0 from cutoff^2 on; square is x^2.

    Twice differentiable, so a wave that enters or leaves as the cell strains does so at weight zero: energy and stress
    have no jump.
    """
    t = ((square / (cutoff * cutoff) - start) / (1 - start)).clamp(0.0, 1.0)
    return 1 - t * t * t * (10 + t * (6 * t - 15))


def cutoff_error(cutoff: float, width: float) -> float:
    """Force between two unit charges at the cutoff that Gaussians of one width s (Å) leave out, eV/Å.

    k_e / c^2 [erfc(x) + 2 x exp(-x^2) / sqrt(pi)],  x = c / 2 s: that of points less that of Gaussians.
    """
    x = cutoff / (2.0 * width)
    missing = math.erfc(x) + 2.0 * x * math.exp(-x * x) / math.sqrt(math.pi)
    return units.COULOMB / cutoff**2 * missing


def width_of_cutoff(cutoff: float, error: float) -> float:
    """Widest Gaussians (Å) whose `cutoff_error` is at most `error`, eV/Å: narrower ones cost more waves, as s^-3."""
    if not 0 < error < cutoff_error(cutoff, cutoff):
        raise InputError(
            f"a force of {error:g} eV/Å left out at the cutoff must be above 0 and below {cutoff_error(cutoff, cutoff):.3g}"
        )
    narrow, wide = 0.01 * cutoff, cutoff
    for _ in range(60):
        middle = 0.5 * (narrow + wide)
        if cutoff_error(cutoff, middle) > error:
            wide = middle
        else:
            narrow = middle
    return narrow
