"""Functions on the sphere: harmonics, exact quadrature, couplings."""

import numpy as np
import pytest
import torch

from mlip.nn.sphere import gaunt, harmonics_from_powers, quadrature, real_harmonics, spherical_harmonics


def unit_vectors(n=40):
    u = np.random.default_rng(0).normal(size=(n, 3))
    return u / np.linalg.norm(u, axis=1, keepdims=True)


def test_harmonics_by_outer_powers_equal_scipys():
    u = unit_vectors()
    for l_max in (1, 2, 3, 4):
        ours = spherical_harmonics(torch.from_numpy(u), harmonics_from_powers(l_max), l_max)
        assert np.abs(ours.numpy() - real_harmonics(u, l_max)).max() < 1e-12


def test_first_harmonics_are_the_textbook_ones():
    u = unit_vectors()
    x, y, z = u.T
    expected = np.stack([np.ones(len(u)), *(np.sqrt(3) * np.stack([y, z, x])), np.sqrt(15) * x * y], axis=1)
    assert np.abs(real_harmonics(u, 2)[:, :5] - expected).max() < 1e-12


@pytest.mark.parametrize("degree", [7, 10, 13])
def test_quadrature_is_exact_to_its_degree(degree):
    points, weights = quadrature(degree)
    assert (weights > 0).all()
    # mean of z^n over the sphere is 1 / (n + 1) for even n, along any axis
    axis = unit_vectors(1)[0]
    for n in range(degree + 1):
        assert abs(weights @ (points @ axis) ** n - (0 if n % 2 else 1 / (n + 1))) < 1e-12


def test_pointwise_products_are_free_of_aliasing():
    """Projecting f g h with the rule of the network equals projecting with a far finer one."""
    rng = np.random.default_rng(1)
    coefficients = rng.normal(size=(3, 16))
    projections = []
    for degree in (10, 29):
        points, weights = quadrature(degree)
        harmonics = real_harmonics(points, 3)
        product = np.prod(coefficients @ harmonics.T, axis=0)
        projections.append((weights * product) @ harmonics[:, :4])
    assert np.abs(projections[0] - projections[1]).max() < 1e-10


def test_gaunt_coefficients_are_symmetric_and_vanish_for_odd_sums():
    assert abs(gaunt(0, 0, 0)[0, 0, 0] - 1) < 1e-12
    assert np.abs(gaunt(0, 2, 2)[0] - np.eye(5)).max() < 1e-12  # <Y00 Y2m Y2m'> is the overlap
    assert np.abs(gaunt(1, 1, 1)).max() < 1e-12
    assert np.abs(gaunt(1, 2, 3) - gaunt(3, 2, 1).transpose(2, 1, 0)).max() < 1e-12
    assert abs(gaunt(1, 1, 2)[1, 1, 2] - 2 / np.sqrt(5)) < 1e-12  # <Y10 Y10 Y20> = 2/sqrt(5)
