"""The particle mesh gives the energy of the Ewald sum, and every derivative of it."""

import math

import pytest
import torch
from charged_cells import derivatives, differences, random_cell, strained
from ionic_crystals import lithium_oxide, rock_salt

from mlip import units
from mlip.electrostatics import coulomb_matrix
from mlip.electrostatics.mesh import apply_mesh, good_size, kernel_slope, make_mesh, mesh_shape, mesh_spacing
from mlip.electrostatics.pairs import make_pairs, neighbour_pairs, pairs_of_charges, sort_into_bins, with_vectors
from mlip.electrostatics.pme import (
    EwaldSplit,
    apply_particle_mesh,
    detached_particle_mesh,
    ewald_split,
    particle_mesh,
    particle_mesh_gradient_carrier,
)
from mlip.electrostatics.splines import make_stencil, mesh_coordinates, spline_jet

BULK = torch.tensor([True, True, True])
SLAB = torch.tensor([True, True, False])
NO_DIPOLES = torch.zeros(0, 3, dtype=torch.float64)


def direct_potential(positions, cell, charges, eta, n_max=12):
    """4 pi k_e / V sum over k != 0 of exp(-eta^2 k^2 / 2) / k^2 cos(k . r_ij), wave by wave."""
    n = torch.arange(-n_max, n_max + 1, dtype=torch.float64)
    k = 2 * math.pi * torch.cartesian_prod(n, n, n) @ torch.linalg.inv(cell).T
    k = k[k.square().sum(1) > 1e-12]
    k2 = k.square().sum(1)
    amplitude = torch.exp(-0.5 * eta**2 * k2) / k2
    phase = (positions[:, None] - positions) @ k.T
    matrix = 4 * math.pi * units.COULOMB / torch.linalg.det(cell) * (amplitude * phase.cos()).sum(2)
    return matrix @ charges


def mesh_potential(positions, box, mesh, charges, dipoles):
    """Potential of the wide Gaussians and its gradient at the atoms."""
    coordinates = mesh_coordinates(positions, box, mesh.shape)
    stencil = make_stencil(coordinates, mesh.shape, mesh.order, 1 if len(dipoles) else 0)
    return apply_mesh(mesh, stencil, box, charges, dipoles)


def inference_energies(
    positions: torch.Tensor, split: EwaldSplit, width: torch.Tensor, charges: torch.Tensor, dipoles: torch.Tensor
) -> torch.Tensor:
    """Energies [n] eV with first derivatives by positions and cell."""
    large = particle_mesh(positions, split, width, dipoles.shape[0] > 0, False)
    phi, gradient = apply_particle_mesh(detached_particle_mesh(large), charges, dipoles)
    energies = 0.5 * charges * phi
    if dipoles.shape[0] > 0:
        energies = energies + 0.5 * (dipoles * gradient).sum(1)
    return energies + particle_mesh_gradient_carrier(large, positions, charges, dipoles)


def large_energy(pbc, width, charges, dipoles=NO_DIPOLES, tolerance=1e-7, twice=False):
    """Energy as a function of positions and cell; `twice` by the route that has all derivatives."""

    def energy(positions, cell):
        split = ewald_split(positions, cell, pbc, width, tolerance)
        if not twice:
            return inference_energies(positions, split, width, charges, dipoles).sum()
        large = particle_mesh(positions, split, width, len(dipoles) > 0, True)
        phi, gradient = apply_particle_mesh(large, charges, dipoles)
        return 0.5 * (charges * phi).sum() + 0.5 * (dipoles * gradient).sum()

    return energy


def exact_energy(pbc, width, charges, dipoles=NO_DIPOLES):
    def energy(positions, cell):
        x = torch.cat([charges, dipoles.flatten()])
        return 0.5 * x @ coulomb_matrix(positions, cell, pbc, width, dipoles=len(dipoles) > 0) @ x

    return energy


def test_splines_share_out_one_charge_and_their_slopes_cancel():
    fraction = torch.rand(5, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    jet = spline_jet(fraction, 6, 2)
    torch.testing.assert_close(jet[0].sum(2), torch.ones(5, 3, dtype=torch.float64))
    torch.testing.assert_close(jet[1:].sum(3), torch.zeros(2, 5, 3, dtype=torch.float64), atol=1e-14, rtol=0)
    step = 1e-5
    slope = (spline_jet(fraction + step, 6, 1) - spline_jet(fraction - step, 6, 1)) / (2 * step)
    torch.testing.assert_close(slope, jet[1:], atol=1e-9, rtol=0)


def test_a_stencil_does_not_depend_on_how_many_atoms_are_taken_at_once():
    coordinates = 30 * torch.rand(25, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    whole, parts = (make_stencil(coordinates, [12, 10, 8], 6, 1, chunk=chunk) for chunk in (25, 7))
    assert torch.equal(parts.points, whole.points)
    assert torch.equal(parts.jet, whole.jet)


def test_mesh_sizes_are_even_products_of_two_three_and_five():
    assert [good_size(n) for n in (1, 7, 11, 14, 33, 62, 121)] == [2, 8, 12, 16, 36, 64, 128]


def test_neighbours_are_all_images_within_the_cutoff_once_each_way():
    positions, cell, _, _ = random_cell(12, seed=4, size=4.0)
    cutoff = 7.3
    bins = sort_into_bins(positions * 3 - 5, cell, cutoff)
    centre, neighbour, vector = neighbour_pairs(bins, cell, cutoff, torch.ones(12, dtype=torch.bool))
    n = torch.arange(-5, 6, dtype=torch.float64)
    shifts = torch.cartesian_prod(n, n, n) @ cell
    there = bins.wrapped[None, :, None] - bins.wrapped[:, None, None] + shifts
    length = there.norm(dim=3)
    near = (length < cutoff) & (length > 1e-9)
    assert len(centre) == int(near.sum())
    counted = torch.zeros(12, 12, dtype=torch.float64)
    counted.index_put_((centre.long(), neighbour.long()), vector.norm(dim=1), accumulate=True)
    torch.testing.assert_close(counted, (length * near).sum(2))


def test_mesh_potential_is_the_sum_over_waves_in_a_triclinic_charged_cell():
    positions, cell, charges, _ = random_cell(seed=1)
    exact = direct_potential(positions, cell, charges, 1.0)
    for order, tolerance in ((6, 1e-6), (8, 1e-9)):
        shape = mesh_shape(cell, mesh_spacing(1.0, order, tolerance))
        phi, _ = mesh_potential(positions, cell, make_mesh(cell, shape, 1.0, order), charges, NO_DIPOLES)
        assert (phi - exact).abs().max() < 60 * tolerance


def test_madelung_constant_of_rock_salt_from_point_charges():
    positions, cell, charges = rock_salt()
    energy = large_energy(BULK, torch.zeros(8, dtype=torch.float64), charges, tolerance=1e-10)(positions, cell)
    madelung = -float(energy) / 4 * (5.64 / 2) / units.COULOMB
    assert madelung == pytest.approx(1.7475645946331822, abs=1e-9)


@pytest.mark.parametrize("pbc", [BULK, SLAB], ids=["bulk", "slab"])
@pytest.mark.parametrize("widths", [(1.0,), (1.28, 0.66), (0.0,), (1.28, 0.66, 0.0)], ids=str)
def test_energy_forces_and_stress_are_those_of_the_ewald_sum(pbc, widths):
    positions, cell, charges, _ = random_cell(9, seed=2)
    width = torch.tensor(widths, dtype=torch.float64)[torch.arange(9) % len(widths)]
    polar = len(widths) == 3
    dipoles = (
        torch.randn(9, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(5)) if polar else NO_DIPOLES
    )
    exact = exact_energy(pbc, width, charges, dipoles)
    large = large_energy(pbc, width, charges, dipoles)
    assert abs(float(large(positions, cell) - exact(positions, cell))) < 3e-6
    forces, virial = derivatives(large, positions, cell)
    exact_forces, exact_virial = derivatives(exact, positions, cell)
    assert (forces - exact_forces).abs().max() < 3e-6
    assert (virial - exact_virial).abs().max() < 5e-5
    again, again_virial = derivatives(large_energy(pbc, width, charges, dipoles, twice=True), positions, cell)
    torch.testing.assert_close(again, forces, atol=1e-11, rtol=0)
    torch.testing.assert_close(again_virial, virial, atol=1e-10, rtol=0)


def test_forces_and_stress_are_differences_of_the_discrete_energy_itself():
    # at a coarse mesh the energy is wrong by far more than 1e-7, and the forces are still its exact derivative
    positions, cell, charges, width = random_cell(6, seed=3)
    dipoles = torch.randn(6, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    energy = large_energy(BULK, width, charges, dipoles, tolerance=1e-3)
    for exact, difference in zip(
        derivatives(energy, positions, cell), differences(energy, positions, cell), strict=True
    ):
        torch.testing.assert_close(exact, difference, atol=2e-7, rtol=0)


def test_mesh_passes_gradgradcheck_in_positions_cell_charges_and_dipoles():
    positions, cell, charges, _ = random_cell(3, seed=6)
    dipoles = torch.randn(3, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(2))

    def potential(positions, cell, charges, dipoles):
        mesh = make_mesh(cell, [10, 12, 10], 1.2, 6)
        return mesh_potential(positions, cell, mesh, charges, dipoles)

    inputs = tuple(x.clone().requires_grad_() for x in (positions, cell, charges, dipoles))
    assert torch.autograd.gradcheck(potential, inputs, fast_mode=True)
    assert torch.autograd.gradgradcheck(potential, inputs, fast_mode=True)


def test_the_operator_of_relaxation_is_symmetric_and_the_differentiable_potential():
    positions, cell, charges, width = random_cell(9, seed=7)
    dipoles = torch.randn(9, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(3))
    split = ewald_split(positions, cell, BULK, width, 1e-4)
    large = particle_mesh(positions, split, width, True, False)
    phi, gradient = apply_particle_mesh(large, charges, dipoles)
    expected = apply_particle_mesh(particle_mesh(positions, split, width, True, True), charges, dipoles)
    torch.testing.assert_close(phi, expected[0])
    torch.testing.assert_close(gradient, expected[1])
    other = torch.randn(9, dtype=torch.float64, generator=torch.Generator().manual_seed(4))
    there = other @ apply_particle_mesh(large, charges, NO_DIPOLES)[0]
    back = charges @ apply_particle_mesh(large, other, NO_DIPOLES)[0]
    assert float(there - back) == pytest.approx(0, abs=1e-11)


def test_energy_hardly_knows_where_the_mesh_is():
    positions, cell, charges, width = lithium_oxide(1)
    energy = large_energy(BULK, width, charges, tolerance=1e-7)
    moved = [float(energy(positions + 0.37 * step, cell)) for step in range(4)]
    assert (max(moved) - min(moved)) / len(charges) < 1e-9  # eV/atom


def test_energy_jumps_by_less_than_a_microelectronvolt_per_thousand_atoms_when_the_mesh_changes():
    positions, cell, charges, width = lithium_oxide(2)
    split = ewald_split(positions, cell, BULK, width, 1e-7)
    shape = split.mesh.shape
    finer = [good_size(n + 1) for n in shape]
    meshes = [make_mesh(cell, s, split.eta, split.mesh.order) for s in (shape, finer)]
    energies = [0.5 * charges @ mesh_potential(positions, cell, mesh, charges, NO_DIPOLES)[0] for mesh in meshes]
    assert abs(float(energies[1] - energies[0])) / len(charges) < 1e-9  # eV/atom: 1e-6 meV/atom


def test_energy_is_continuous_when_a_pair_passes_the_cutoff_of_the_pairs():
    positions, cell, charges, width = lithium_oxide(1)
    strains = torch.linspace(0, 0.02, 81, dtype=torch.float64)
    shape = ewald_split(positions, cell, BULK, width, 1e-4).mesh.shape
    path = []
    for strain in strains:
        r, box = strained(positions, cell, strain * torch.eye(3, dtype=torch.float64))
        split = ewald_split(r, box, BULK, width, 1e-4)
        split = split._replace(mesh=make_mesh(box, shape, split.eta, split.mesh.order))
        path.append(inference_energies(r, split, width, charges, NO_DIPOLES).sum())
    path = torch.stack(path)
    third = path[3:] - 3 * path[2:-1] + 3 * path[1:-2] - path[:-3]
    assert third.abs().max() < 2e-6  # a step in energy would stand out; a smooth path has 1e-7


def test_pairs_by_images_are_those_by_vectors():
    positions, cell, _, width = random_cell(12, seed=4)
    eta, cutoff, wanted = 1.0, 6.5, width < 0.9 * width.max()
    bins = sort_into_bins(positions, cell, cutoff)
    width = width[bins.order]
    i, j, r = neighbour_pairs(bins, cell, cutoff, wanted)
    expected = make_pairs(i, j, r, width, eta, cutoff, 1)
    # ten candidates at once: bin by bin
    pairs = pairs_of_charges(bins, cell, cutoff, wanted, width, eta, candidates=10)
    assert 0 < len(i) == len(pairs.centre)
    assert torch.equal(pairs.centre, i)
    assert torch.equal(pairs.neighbour, j)
    torch.testing.assert_close(pairs.kernels[0], expected.kernels[0], rtol=0, atol=1e-12)
    first, last = len(i) // 3, len(i)
    found = with_vectors(pairs, first, last, bins.wrapped, cell, width, eta, cutoff)
    torch.testing.assert_close(found.vector, r[first:last], rtol=0, atol=1e-12)
    torch.testing.assert_close(found.kernels[1], expected.kernels[1][first:last], rtol=0, atol=1e-12)


@pytest.mark.parametrize("slab", [False, True])
def test_the_slope_of_the_kernel_does_not_depend_on_how_many_planes_are_taken_at_once(slab):
    cell = torch.tensor([[7.0, 0.0, 0.0], [1.0, 6.0, 0.0], [0.0, 0.0, 9.0]], dtype=torch.float64, requires_grad=True)
    mesh = make_mesh(cell, [10, 8, 12], 1.2, 6, slab)
    power = torch.rand(mesh.kernel.shape, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    (expected,) = torch.autograd.grad((power * mesh.kernel).sum(), cell)
    for chunk in (1, 150, 10**6):
        torch.testing.assert_close(kernel_slope(mesh, cell, power, chunk), expected, rtol=1e-12, atol=1e-12)


def test_energies_agree_with_torch_pme():
    torchpme = pytest.importorskip("torchpme")
    positions, cell, charges, _ = lithium_oxide(2)
    eta = 1.0
    cutoff = 7.0
    bins = sort_into_bins(positions, cell, cutoff)
    i, j, r = neighbour_pairs(bins, cell, cutoff, torch.ones(len(charges), dtype=torch.bool))
    calculator = torchpme.P3MCalculator(
        torchpme.CoulombPotential(smearing=eta), mesh_spacing=eta / 5, interpolation_nodes=5, full_neighbor_list=True
    ).to(torch.float64)
    q = charges[bins.order, None]
    pairs = torch.stack([i, j], 1).long()
    theirs = calculator(q, cell, bins.wrapped, pairs, r.norm(dim=1))
    energy = units.COULOMB * float((q * theirs).sum())
    ours = float(large_energy(BULK, torch.zeros_like(charges), charges)(positions, cell))
    assert ours == pytest.approx(energy, rel=1e-6)


def test_scripted_energies_are_the_eager_ones():
    positions, cell, charges, width = random_cell(9, seed=8)
    for pbc in (BULK, SLAB):
        split = torch.jit.script(ewald_split)(positions, cell, pbc, width, 1e-5)
        scripted = torch.jit.script(inference_energies)(positions, split, width, charges, NO_DIPOLES)
        eager = large_energy(pbc, width, charges, tolerance=1e-5)(positions, cell)
        assert float(scripted.sum() - eager) == pytest.approx(0, abs=1e-11)


def test_one_periodic_direction_is_refused():
    positions, cell, _, width = random_cell()
    with pytest.raises(ValueError, match="two"):
        ewald_split(positions, cell, torch.tensor([True, False, False]), width, 1e-5)
