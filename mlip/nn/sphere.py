"""Functions on the unit sphere: real spherical harmonics, quadrature that is exact for their products.

Harmonics are real and component-normalised (the mean of Y_lm^2 over the sphere is 1), ordered
l = 0..L, m = -l..l; l = 1 is sqrt(3) (y, z, x). Lebedev rules integrate polynomials up to a degree
exactly, so pointwise products of sampled functions are free of aliasing and equivariance holds to rounding.
"""

import numpy as np
import torch
from scipy.integrate import lebedev_rule
from scipy.special import sph_harm_y
from torch import Tensor

from mlip.errors import InputError


def real_harmonics(points: np.ndarray, l_max: int) -> np.ndarray:
    """Y_lm(u) by scipy, for constants and tests: points [n, 3] unit vectors -> [n, (l_max+1)^2]."""
    theta = np.arccos(np.clip(points[:, 2], -1.0, 1.0))
    phi = np.arctan2(points[:, 1], points[:, 0])
    columns = []
    for l in range(l_max + 1):
        for m in range(-l, l + 1):
            complex_value = sph_harm_y(l, abs(m), theta, phi) * np.sqrt(4.0 * np.pi) * (-1.0) ** m
            if m < 0:
                columns.append(np.sqrt(2.0) * complex_value.imag)
            elif m > 0:
                columns.append(np.sqrt(2.0) * complex_value.real)
            else:
                columns.append(complex_value.real)
    return np.stack(columns, axis=1)


def quadrature(degree: int) -> tuple[np.ndarray, np.ndarray]:
    """Smallest Lebedev rule with positive weights that is exact to this degree: points [n, 3], weights [n], sum 1."""
    for rule in (3, 5, 7, 9, 11, 15, 17, 19, 21, 23, 29, 31, 35, 41):  # 13, 25, 27 have negative weights
        if rule >= degree:
            points, weights = lebedev_rule(rule)
            return points.T, weights / weights.sum()
    raise InputError(f"no quadrature on the sphere of degree {degree}; the largest here is 41: lower l_max or order")


def _monomials(unit: np.ndarray, l_max: int) -> np.ndarray:
    """Outer powers 1, u, u⊗u, ... flattened, [n, sum_l 3^l]."""
    powers = [np.ones((len(unit), 1))]
    for _ in range(l_max):
        powers.append((powers[-1][:, :, None] * unit[:, None, :]).reshape(len(unit), -1))
    return np.concatenate(powers, axis=1)


def harmonics_from_powers(l_max: int) -> Tensor:
    """Matrix C with Y(u) = monomials(u) @ C, block by block in l, [sum_l 3^l, (l_max+1)^2] float64."""
    points, _ = quadrature(4 * l_max + 2)
    values = real_harmonics(points, l_max)
    matrix = np.zeros((sum(3**l for l in range(l_max + 1)), (l_max + 1) ** 2))
    start = 0
    for l in range(l_max + 1):
        rows, columns = slice(start, start + 3**l), slice(l * l, (l + 1) ** 2)
        # minimum-norm solution: the symmetric, traceless tensor of the harmonic
        matrix[rows, columns] = np.linalg.pinv(_monomials(points, l_max)[:, rows]) @ values[:, columns]
        start += 3**l
    matrix[np.abs(matrix) < 1e-14] = 0.0
    return torch.from_numpy(matrix)


def spherical_harmonics(unit: Tensor, matrix: Tensor, l_max: int) -> Tensor:
    """Y_lm of unit vectors as one matrix product of their outer powers.

    unit     [n, 3]
    matrix   [sum_l 3^l, (l_max+1)^2] from harmonics_from_powers
    returns  [n, (l_max+1)^2]
    """
    n = unit.shape[0]
    powers = [torch.ones_like(unit[:, :1])]
    for _ in range(l_max):
        powers.append((powers[-1].unsqueeze(2) * unit.unsqueeze(1)).reshape(n, -1))
    return torch.cat(powers, dim=1) @ matrix


def gaunt(l_1: int, l_2: int, l_3: int) -> np.ndarray:
    """Mean of Y_l1m1 Y_l2m2 Y_l3m3 over the sphere, [2 l_1 + 1, 2 l_2 + 1, 2 l_3 + 1]; zero unless l_1 + l_2 + l_3 is even."""
    points, weights = quadrature(l_1 + l_2 + l_3)
    harmonics = real_harmonics(points, max(l_1, l_2, l_3))
    one, two, three = (harmonics[:, l * l : (l + 1) ** 2] for l in (l_1, l_2, l_3))
    return np.einsum("p,pa,pb,pc->abc", weights, one, two, three)
