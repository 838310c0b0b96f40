"""Radial basis: Bessel functions times a cutoff that is smooth to second order."""

import math

import torch
from torch import Tensor

from mlip.nn.scatter import segment_sum


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


def crowding(envelope: Tensor, centre: Tensor, n_atoms: int) -> Tensor:
    """Neighbours of each atom, each with its weight u(r) in the cutoff: c_i = sum_j u(r_ij), [n_atoms].

    envelope [n_edges] of `polynomial_cutoff`; centre [n_edges] int64, ascending
    """
    return segment_sum(envelope, centre, n_atoms)


def soft_floor(x: Tensor, width: float = 0.1) -> Tensor:
    """x above 1, a constant below 1 - width, with three continuous derivatives.

        f = 1 - width/2 + width t^4 (5/2 - 3 t + t^2),  t = (x - 1 + width) / width

    The slope is the smooth step t^3 (10 - 15 t + 6 t^2), so f never falls below 1 - width/2.
    x [n], in units of the limit
    """
    t = ((x - 1.0 + width) / width).clamp(0.0, 1.0)
    return 1.0 - 0.5 * width + width * t.pow(4) * (2.5 - 3.0 * t + t * t) + (x - 1.0).clamp(min=0.0)


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
