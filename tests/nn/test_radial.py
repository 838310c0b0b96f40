"""Radial basis: smooth at the cutoff, of unit size inside."""

import torch

from mlip.nn.radial import bessel_basis, polynomial_cutoff, radial_basis


def test_basis_and_its_first_two_derivatives_vanish_at_the_cutoff():
    r = torch.tensor([5.0 - 1e-12], dtype=torch.float64, requires_grad=True)
    for value in radial_basis(r, 5.0, 4)[0]:
        first = torch.autograd.grad(value, r, create_graph=True)[0]
        second = torch.autograd.grad(first, r, retain_graph=True)[0]
        assert max(abs(float(x.detach())) for x in (value, first, second)) < 1e-8


def test_cutoff_is_one_at_zero_and_falls_monotonically():
    u = polynomial_cutoff(torch.linspace(0, 6, 601, dtype=torch.float64), 5.0)
    assert u[0] == 1 and (u[501:] == 0).all() and (u.diff() <= 0).all()


def test_bessel_functions_have_unit_mean_square_in_the_sphere_and_are_orthogonal():
    r = torch.linspace(1e-6, 5.0, 200001, dtype=torch.float64)
    b = bessel_basis(r, 5.0, 6)
    overlap = torch.trapezoid(b[:, :, None] * b[:, None, :] * (3 * r**2 / 125)[:, None, None], r, dim=0)
    assert (overlap - torch.eye(6, dtype=torch.float64)).abs().max() < 1e-6
