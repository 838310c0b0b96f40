"""Coulomb interaction of two Gaussian charges, and its derivatives, finite and smooth down to zero distance."""

import math

import torch
from torch import Tensor


def erf_ladder(distance2: Tensor, g: Tensor, order: int) -> list[Tensor]:
    """Radial functions of the screened multipole interaction, B_0 = erf(g d) / d, B_{n+1} = -(1/d) dB_n/dd.

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
    ladder: list[Tensor] = []
    closed = torch.erf(g * d) / d
    for n in range(order + 1):
        if n > 0:
            closed = ((2 * n - 1) * closed - (2.0 * g * g) ** (n - 1) * gauss) / far
        prefactor = (2.0 / math.sqrt(math.pi)) * g * (2.0 * g * g) ** n
        ladder.append(torch.where(small, prefactor * _series(near, 2 * n + 1), closed))
    return ladder


def _series(x2: Tensor, first: int) -> Tensor:
    """sum_m (-x^2)^m / (m! (2 m + first)), by Horner's rule."""
    total = torch.zeros_like(x2)
    for step in range(15):  # 0.5^15 / 15! is 2e-17
        m = 14 - step
        total = 1.0 / (math.factorial(m) * (2 * m + first)) - x2 * total
    return total


def point_ladder(distance2: Tensor, order: int) -> list[Tensor]:
    """The same functions for point charges: 1/d, 1/d^3, 3/d^5. distance2 [n] Å^2, greater than zero."""
    ladder = [distance2.rsqrt()]
    for n in range(order):
        ladder.append((2 * n + 1) * ladder[n] / distance2)
    return ladder
