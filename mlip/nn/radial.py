"""Radial basis: Bessel functions times a cutoff that is smooth to second order."""

import math

import torch
from torch import Tensor


def polynomial_cutoff(distance: Tensor, cutoff: float, p: int = 6) -> Tensor:
    """Envelope  u(x) = 1 - (p+1)(p+2)/2 x^p + p(p+2) x^(p+1) - p(p+1)/2 x^(p+2),  x = r / cutoff.

    u and its first two derivatives vanish at the cutoff; u = 0 beyond. Eq. 8 of arXiv:2003.03123.

    distance  [...]  Å
    returns   [...]  1
    """
    x = (distance / cutoff).clamp(max=1.0)
    a = (p + 1.0) * (p + 2.0) / 2.0
    b = p * (p + 2.0)
    c = p * (p + 1.0) / 2.0
    return 1.0 - x.pow(p) * (a - x * (b - c * x))


def bessel_basis(distance: Tensor, cutoff: float, n_basis: int) -> Tensor:
    """b_n(r) = sqrt(2/3) c sin(n pi r / c) / r,  n = 1..n_basis,  c the cutoff: unit mean square in the sphere.

    distance  [...]           Å, greater than zero
    returns   [..., n_basis]  1
    """
    n = torch.arange(1, n_basis + 1, dtype=distance.dtype, device=distance.device)
    r = distance.unsqueeze(-1)
    return (math.sqrt(2.0 / 3.0) * cutoff) * (r * (n * (math.pi / cutoff))).sin() / r


def radial_basis(distance: Tensor, cutoff: float, n_basis: int) -> Tensor:
    """Bessel functions times the polynomial cutoff, [..., n_basis]."""
    return bessel_basis(distance, cutoff, n_basis) * polynomial_cutoff(distance, cutoff).unsqueeze(-1)
