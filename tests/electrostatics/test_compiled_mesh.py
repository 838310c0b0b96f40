"""Compiled sums on a mesh and over near pairs are those of torch, and torch's run where nothing is compiled."""

import os
import shutil

import pytest
import torch
from charged_cells import random_cell
from ionic_crystals import lithium_oxide

from mlip.electrostatics import compiled_splines, half_pairs, pme
from mlip.electrostatics.compiled_splines import library, plain
from mlip.electrostatics.half_pairs import MOST_KINDS, apply_half_pairs, half_pair_slopes
from mlip.electrostatics.mesh import make_mesh, mesh_gradient_carrier
from mlip.electrostatics.pairs import apply_pairs, make_pairs, neighbour_pairs, pair_slopes, sort_into_bins
from mlip.electrostatics.pme import apply_particle_mesh, ewald_split, particle_mesh, particle_mesh_gradient_carrier
from mlip.electrostatics.splines import gather, make_stencil, spread

pytestmark = pytest.mark.skipif(
    shutil.which((os.environ.get("CXX") or "g++").split()[0]) is None, reason="needs a C++ compiler: g++ or $CXX"
)
BULK = torch.tensor([True, True, True])
NO_DIPOLES = torch.zeros(0, 3, dtype=torch.float64)


@pytest.fixture(params=[1, 3], ids=["one thread", "three threads"])
def threads(request):
    before = torch.get_num_threads()
    torch.set_num_threads(request.param)
    yield
    torch.set_num_threads(before)


def by_torch(monkeypatch, compute):
    """A result without compiled functions."""
    with monkeypatch.context() as patch:
        patch.setattr(compiled_splines, "library", lambda: None)
        return compute()


@pytest.mark.parametrize("order, shape", [(4, [6, 5, 8]), (6, [16, 9, 20]), (8, [4, 10, 5]), (10, [12, 30, 18])])
def test_splines_are_those_of_torch(order, shape, threads, monkeypatch):
    random = torch.Generator().manual_seed(order)
    n = 4000 if order == 6 else 50  # enough for several threads
    coordinates = 40 * torch.rand(n, 3, dtype=torch.float64, generator=random) - 20  # many cross a boundary
    charges = torch.randn(n, dtype=torch.float64, generator=random)
    grid = torch.randn(shape, dtype=torch.float64, generator=random)
    for n_derivatives in (0, 1):
        stencil = make_stencil(coordinates, shape, order, n_derivatives)
        expected = by_torch(monkeypatch, lambda s=stencil: [spread(s, shape, charges, NO_DIPOLES), *gather(s, grid)])
        found = [spread(stencil, shape, charges, NO_DIPOLES), *gather(stencil, grid)]
        for one, other in zip(found, expected, strict=True):
            torch.testing.assert_close(one, other, rtol=0, atol=1e-12)


@pytest.mark.parametrize("many", [False, True], ids=["images", "several bins"])
def test_half_pairs_are_all_pairs(many, threads):
    positions, cell, charges, _ = random_cell(12, seed=4, size=4.0)
    eta, cutoff = 1.0, 6.5
    if many:  # enough for several threads
        random = torch.Generator().manual_seed(0)
        cell, eta, cutoff = 3.5 * cell, 0.6, 2.9
        positions = torch.rand(3000, 3, dtype=torch.float64, generator=random) @ cell
        charges = torch.randn(3000, dtype=torch.float64, generator=random)
    width = torch.tensor([0.3, 0.7, 0.5], dtype=torch.float64)[torch.arange(len(positions)) % 3]
    bins = sort_into_bins(positions, cell, cutoff)
    width, charges = width[bins.order], charges[bins.order]
    wanted = width < 0.6
    i, j, r = neighbour_pairs(bins, cell, cutoff, wanted)
    pairs = make_pairs(i, j, r, width, eta, cutoff, 1)
    half = half_pairs.half_pairs(bins, cell, cutoff, wanted, width, eta)
    assert 0 < len(i) == 2 * len(half.neighbour)
    expected, _ = apply_pairs(pairs, charges, NO_DIPOLES)
    scale = float(expected.abs().max())
    torch.testing.assert_close(apply_half_pairs(half, charges), expected, rtol=0, atol=1e-13 * scale)
    slope, virial = pair_slopes(pairs, charges, NO_DIPOLES)
    found = half_pair_slopes(half, bins.wrapped, cell, cutoff, eta, charges)
    torch.testing.assert_close(found[0], slope, rtol=0, atol=1e-12 * float(slope.abs().max()))
    torch.testing.assert_close(found[1], virial, rtol=0, atol=1e-12 * float(virial.abs().max()))


def test_potential_and_derivatives_of_a_crystal_are_those_of_torch(monkeypatch):
    positions, cell, charges, width = lithium_oxide(2)

    def answer():
        r, box = positions.clone().requires_grad_(), cell.clone().requires_grad_()
        # order 6, which is taken with and without compiled functions
        large = particle_mesh(r, ewald_split(r, box, BULK, width, 1e-5, training=False), width, False, False)
        potential, _ = apply_particle_mesh(large, charges, NO_DIPOLES)
        carrier = particle_mesh_gradient_carrier(large, r, charges, NO_DIPOLES)
        assert (large.half is None) == (compiled_splines.library() is None)
        return [potential, *torch.autograd.grad(carrier.sum(), [r, box])]

    for one, other in zip(answer(), by_torch(monkeypatch, answer), strict=True):
        torch.testing.assert_close(one, other, rtol=0, atol=1e-11)


def test_wider_splines_of_a_coarser_mesh_are_as_exact(monkeypatch):
    positions, cell, charges, width = lithium_oxide(2)

    def forces(tolerance):
        r = positions.clone().requires_grad_()
        split = ewald_split(r, cell, BULK, width, tolerance, training=False)
        large = particle_mesh(r, split, width, False, False)
        carrier = particle_mesh_gradient_carrier(large, r, charges, NO_DIPOLES)
        return split.mesh, torch.autograd.grad(carrier.sum(), r)[0]

    coarse, found = forces(1e-7)
    fine, _ = by_torch(monkeypatch, lambda: forces(1e-7))
    _, exact = by_torch(monkeypatch, lambda: forces(1e-11))
    assert (coarse.order, fine.order) == (10, 8)
    assert coarse.shape[0] < fine.shape[0]
    assert (found - exact).abs().max() < 1e-7  # eV/Å


def test_what_asks_for_a_derivative_or_lies_elsewhere_is_left_to_torch():
    ones = torch.ones(3, dtype=torch.float64)
    assert plain(ones)
    assert not plain(ones, ones.clone().requires_grad_())
    assert not plain(ones.float())
    with torch.no_grad():
        assert plain(ones.clone().requires_grad_())
    positions, cell, _, _ = random_cell(MOST_KINDS + 1, seed=1, size=12.0)
    bins = sort_into_bins(positions, cell, 3.0)
    width = torch.linspace(0.3, 0.6, MOST_KINDS + 1, dtype=torch.float64)
    assert half_pairs.half_pairs(bins, cell, 3.0, width < 0.6, width, 1.0) is None
    charges = torch.ones(len(positions), dtype=torch.float64)
    large = particle_mesh(
        positions, ewald_split(positions, cell, BULK, width, 1e-5, training=False), width, False, False
    )
    assert large.half is None
    assert apply_particle_mesh(large, charges, NO_DIPOLES)[0].isfinite().all()


def test_derivatives_by_the_kernels_of_a_mesh_pass_through(monkeypatch):
    positions, cell, charges, _ = random_cell(20, seed=2)
    positions.requires_grad_()

    def slope():
        mesh = make_mesh(cell, [12, 12, 12], 1.1, 6)
        return torch.autograd.grad(mesh_gradient_carrier(positions, cell, mesh, charges, NO_DIPOLES).sum(), positions)[
            0
        ]

    torch.testing.assert_close(slope(), by_torch(monkeypatch, slope), rtol=0, atol=1e-12)


def test_without_a_compiler_torch_runs(monkeypatch):
    monkeypatch.setenv("CXX", "no-such-compiler")
    library.cache_clear()
    try:
        assert library() is None
        assert not plain(torch.ones(1, dtype=torch.float64))
    finally:
        library.cache_clear()
    assert pme.plain is plain
