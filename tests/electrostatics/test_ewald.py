"""The Ewald matrix against textbook lattices, other codes, other splittings and finite differences."""

import math

import pytest
import torch
from charged_cells import derivatives, differences, random_cell, strained

from mlip.electrostatics import coulomb_energy, coulomb_matrix
from mlip.electrostatics.structure_factors import ChargeEnergies, apply_structure_factors, structure_factors
from mlip.units import COULOMB

CUBE = torch.eye(3, dtype=torch.float64)
FCC = torch.tensor([[0.0, 0.5, 0.5], [0.5, 0.0, 0.5], [0.5, 0.5, 0.0]], dtype=torch.float64)
BCC = torch.tensor([[-0.5, 0.5, 0.5], [0.5, -0.5, 0.5], [0.5, 0.5, -0.5]], dtype=torch.float64)
HEXAGONAL = torch.tensor(
    [[1.0, 0.0, 0.0], [-0.5, math.sqrt(3) / 2, 0.0], [0.0, 0.0, math.sqrt(8 / 3)]], dtype=torch.float64
)
QUARTERS = [[0.25, 0.25, 0.25], [0.75, 0.75, 0.25], [0.75, 0.25, 0.75], [0.25, 0.75, 0.75]]  # around one anion
# cell, fractional positions, charges, length that the constant refers to, formula units, constant
MADELUNG = {
    "NaCl": (FCC, [[0, 0, 0], [0.5, 0.5, 0.5]], [1, -1], 0.5, 1, 1.7475645946331822),
    "CsCl": (CUBE, [[0, 0, 0], [0.5, 0.5, 0.5]], [1, -1], math.sqrt(3) / 2, 1, 1.7626747730709900),
    "CsCl in a": (CUBE, [[0, 0, 0], [0.5, 0.5, 0.5]], [1, -1], 1.0, 1, 2.0353615094526),
    "zincblende": (FCC, [[0, 0, 0], [0.25, 0.25, 0.25]], [1, -1], math.sqrt(3) / 4, 1, 1.6380550533888),
    "wurtzite": (
        HEXAGONAL,
        [[1 / 3, 2 / 3, 0], [2 / 3, 1 / 3, 0.5], [1 / 3, 2 / 3, 3 / 8], [2 / 3, 1 / 3, 7 / 8]],
        [1, 1, -1, -1],
        math.sqrt(3 / 8),
        2,
        1.6413216273720,
    ),
    "antifluorite Li2O": (FCC, [[0, 0, 0], [0.25] * 3, [0.75] * 3], [-2, 1, 1], 1.0, 1, 11.6365752270768),
    "cuprite": (CUBE, [[0, 0, 0], [0.5] * 3, *QUARTERS], [-2, -2, 1, 1, 1, 1], 1.0, 2, 10.2594570330750),
    "perovskite": (
        CUBE,
        [[0, 0, 0], [0.5, 0.5, 0.5], [0.5, 0.5, 0], [0.5, 0, 0.5], [0, 0.5, 0.5]],
        [2, 4, -2, -2, -2],
        1.0,
        1,
        49.5098721133587,
    ),
}
WIGNER = {"sc": (CUBE, -0.880059442111), "bcc": (BCC, -0.895929255682), "fcc": (FCC, -0.895873615195)}


@pytest.mark.parametrize("lattice", MADELUNG)
def test_madelung_constants_to_1e_10(lattice):
    cell, fractional, charges, length, units, constant = MADELUNG[lattice]
    positions = torch.tensor(fractional, dtype=torch.float64) @ cell
    energy = coulomb_energy(positions, cell, True, torch.tensor(charges, dtype=torch.float64))
    assert -energy.item() / COULOMB * length / units == pytest.approx(constant, abs=1e-10 * max(1, constant))


@pytest.mark.parametrize("lattice", WIGNER)
def test_wigner_crystals_in_a_background_to_1e_10(lattice):
    cell, constant = WIGNER[lattice]
    radius = (3 * torch.linalg.det(cell).abs().item() / (4 * math.pi)) ** (1 / 3)
    energy = coulomb_energy(torch.zeros(1, 3), cell, True, torch.ones(1)).item() / COULOMB
    assert energy * radius == pytest.approx(constant, abs=1e-10)


@pytest.mark.parametrize("pbc", [(True, True, True), (True, False, True)])
@pytest.mark.parametrize("dipoles", [False, True])
def test_matrix_forces_and_stress_do_not_depend_on_the_splitting(pbc, dipoles):
    positions, cell, charges, width = random_cell(6)
    width[0] = 0.0
    mu = 0.3 * torch.sin(torch.arange(18.0, dtype=torch.float64)).view(6, 3) if dipoles else None
    results = []
    for eta in (0.5, 0.8, None):

        def energy(r, h, eta=eta):
            return coulomb_energy(r, h, pbc, charges, width, mu, eta=eta)

        results.append([energy(positions, cell), *derivatives(energy, positions, cell)])
    for other in results[1:]:
        for a, b in zip(results[0], other, strict=True):
            assert (a - b).abs().max() < 1e-10 * max(1.0, a.abs().max())


def test_waves_alone_equal_ewald_for_smooth_charges():
    positions, cell, _, width = random_cell(6, size=4.0)
    a = coulomb_matrix(positions, cell, True, width + 0.6, dipoles=True)
    b = coulomb_matrix(positions, cell, True, width + 0.6, dipoles=True, eta=0.7)
    assert (a - b).abs().max() < 1e-10


@pytest.mark.parametrize("pbc", [(True, True, True), (True, True, False), (False, False, False)])
@pytest.mark.parametrize("dipoles", [False, True])
def test_forces_and_stress_match_finite_differences_triclinic_and_charged(pbc, dipoles):
    positions, cell, charges, width = random_cell(5, seed=3)
    mu = 0.3 * torch.sin(torch.arange(15.0, dtype=torch.float64)).view(5, 3) if dipoles else None

    def energy(r, h):
        return coulomb_energy(r, h, pbc, charges, width, mu, tolerance=1e-12)

    for exact, slow in zip(
        derivatives(energy, positions, cell), differences(energy, positions, cell, 2e-3), strict=True
    ):
        assert (exact - slow).abs().max() < 1e-7


@pytest.mark.parametrize("pbc", [(True, True, True), (True, True, False), (False, False, False)])
def test_second_derivatives_match_also_for_atoms_on_top_of_each_other(pbc):
    positions, cell, charges, width = random_cell(3, seed=5, size=4.0)
    positions[1] = positions[0]  # smooth charges may coincide
    mu = torch.randn(3, 3, generator=torch.Generator().manual_seed(1), dtype=torch.float64)

    def energy(r, h, q, m):
        return coulomb_energy(r, h, pbc, q, width, m, tolerance=1e-13)

    inputs = [x.requires_grad_(True) for x in (positions, cell, charges, mu)]
    assert torch.autograd.gradcheck(energy, inputs, atol=1e-6)
    assert torch.autograd.gradgradcheck(energy, inputs, atol=1e-5)


def test_dipole_is_the_limit_of_two_charges():
    positions, cell, charges, width = random_cell(4, seed=2)
    mu = torch.randn(4, 3, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    for pbc in ((True, True, True), (True, False, True), (False, False, False)):
        exact = coulomb_matrix(positions, cell, pbc, width, dipoles=True)
        x = torch.cat([charges, mu.flatten()])
        errors = []
        for h in (2e-2, 1e-2):  # charges +-1/h at the ends of h mu: the error falls as h^2
            six = torch.cat([positions, positions + h / 2 * mu, positions - h / 2 * mu])
            q = torch.cat([charges, torch.full((4,), 1 / h), torch.full((4,), -1 / h)]).double()
            pairs = q @ coulomb_matrix(six, cell, pbc, width.repeat(3)) @ q / 2
            errors.append((pairs - x @ exact @ x / 2).abs().item())
        assert errors[0] < 5e-2 and errors[1] < 0.3 * errors[0]


def test_supercell_has_the_energy_of_its_cells():
    positions, cell, charges, width = random_cell(5)
    double = torch.cat([positions, positions + cell[2]])
    cell2 = cell * torch.tensor([[1.0], [1.0], [2.0]])
    one = coulomb_energy(positions, cell, True, charges, width)
    two = coulomb_energy(double, cell2, True, charges.repeat(2), width.repeat(2))
    assert two.item() == pytest.approx(2 * one.item(), abs=1e-10)


def test_lattice_images_translation_rotation_and_order_change_nothing():
    positions, cell, _, width = random_cell(6)
    matrix = coulomb_matrix(positions, cell, True, width)
    image = positions.clone()
    image[2] += cell[0] - 3 * cell[1]
    rotation = torch.linalg.qr(torch.randn(3, 3, generator=torch.Generator().manual_seed(0), dtype=torch.float64))[0]
    order = torch.tensor([3, 1, 0, 5, 2, 4])
    same = [
        coulomb_matrix(image, cell, True, width),
        coulomb_matrix(positions + 0.7, cell, True, width),
        coulomb_matrix(positions @ rotation, cell @ rotation, True, width),
    ]
    for other in same:
        assert (matrix - other).abs().max() < 1e-10
    assert (matrix[order][:, order] - coulomb_matrix(positions[order], cell, True, width[order])).abs().max() < 1e-10


def test_charged_cell_approaches_the_lone_ion_as_2_837297_over_2_l():
    errors = []
    for length in (20.0, 40.0):
        periodic = coulomb_energy(torch.zeros(1, 3), length * CUBE, True, torch.ones(1), 0.5).item()
        alone = coulomb_energy(torch.zeros(1, 3), None, False, torch.ones(1), 0.5).item()
        errors.append(alone - 2.8372974794806 * COULOMB / (2 * length) - periodic)
    # what is left is the width against the background, 2 pi k_e s^2 / V
    assert errors[0] == pytest.approx(-2 * math.pi * COULOMB * 0.25 / 20.0**3, rel=1e-6)
    assert errors[1] == pytest.approx(errors[0] / 8, rel=1e-6)


def test_two_ions_attract_as_one_over_r():
    for distance in (8.0, 15.0, 30.0):
        positions = torch.tensor([[0.0, 0, 0], [distance, 0, 0]])
        matrix = coulomb_matrix(positions, None, False, 0.7)
        assert -matrix[0, 1].item() == pytest.approx(-COULOMB / distance, abs=1e-12)


def test_charged_sheet_makes_the_field_of_a_plane():
    cell = torch.tensor([[3.0, 0.4, 0.0], [0.0, 2.5, 0.0], [0.0, 0.0, 9.0]])
    positions = torch.tensor([[0.0, 0.0, 0.0], [1.0, 1.0, 14.0], [1.0, 1.0, 15.0]])  # far from the sheet, smooth
    matrix = coulomb_matrix(positions, cell, (True, True, False), 0.5)
    area = 7.5
    assert (matrix[0, 2] - matrix[0, 1]).item() == pytest.approx(-2 * math.pi * COULOMB / area, abs=1e-9)


def test_slab_is_the_limit_of_ever_more_vacuum_with_dipole_correction_and_of_any_padding():
    positions, cell, _charges, width = random_cell(5, seed=4)
    pbc = (True, True, False)
    loose = coulomb_matrix(positions, cell, pbc, width, tolerance=1e-11)
    tight = coulomb_matrix(positions, cell, pbc, width, tolerance=1e-16)
    assert (loose - tight).abs().max() < 1e-9


def test_agrees_with_pymatgen():
    pymatgen = pytest.importorskip("pymatgen.analysis.ewald", reason="pymatgen is a test-only oracle")
    from pymatgen.core import Structure

    positions, cell, charges, _ = random_cell(6)
    structure = Structure(cell.numpy(), ["Li"] * 6, positions.numpy(), coords_are_cartesian=True)
    structure.add_oxidation_state_by_site(charges.tolist())
    theirs = pymatgen.EwaldSummation(structure, acc_factor=16.0, compute_forces=True)
    ours = coulomb_energy(positions, cell, True, charges)
    # pymatgen leaves the background of a net charge in a separate number, included in total_energy
    assert ours.item() == pytest.approx(theirs.total_energy, rel=1e-7)


def test_agrees_with_torch_pme():
    torchpme = pytest.importorskip("torchpme", reason="torch-pme is a test-only oracle")
    from ase import Atoms
    from ase.neighborlist import neighbor_list

    positions, cell, charges, _ = random_cell(6)
    charges = charges - charges.mean()
    atoms = Atoms("Li6", positions.numpy(), cell=cell.numpy(), pbc=True)
    i, j, d = (torch.as_tensor(x) for x in neighbor_list("ijd", atoms, 8.0))
    potential = torchpme.CoulombPotential(smearing=1.0)
    calculator = torchpme.EwaldCalculator(potential, lr_wavelength=0.6, full_neighbor_list=True).double()
    theirs = calculator(charges[:, None], cell, positions, torch.stack([i, j], 1), d)[:, 0]
    ours = coulomb_energy(positions, cell, True, charges)
    assert ours.item() == pytest.approx((charges * theirs).sum().item() * COULOMB, rel=1e-8)


def test_positive_semidefinite_so_that_no_dipoles_run_away():
    positions, cell, _, width = random_cell(6)
    for pbc in (True, False):
        eigenvalues = torch.linalg.eigvalsh(coulomb_matrix(0.3 * positions, 0.3 * cell, pbc, width, dipoles=True))
        assert eigenvalues.min() > -1e-10 * eigenvalues.max()


BAD = [
    ({"pbc": (True, False, False)}, "one periodic direction"),
    ({"cell": torch.zeros(3, 3)}, "no volume"),
    ({"cell": torch.ones(3, 3), "pbc": (True, True, False)}, "no area"),
    ({"positions": torch.zeros(2, 3)}, "coincident point charges"),
    ({"positions": torch.zeros(2, 3), "pbc": False}, "coincident point charges"),
    ({"width": -1.0}, "width must be zero"),
    ({"positions": torch.zeros(2, 2)}, r"\[n_atoms, 3\]"),
]


@pytest.mark.parametrize("change, message", BAD)
def test_bad_input_is_refused_with_value_and_remedy(change, message):
    good = {"positions": torch.tensor([[0.0, 0, 0], [1.0, 1, 1]]), "cell": 4 * CUBE, "pbc": True, "width": 0.0}
    with pytest.raises(ValueError, match=message):
        coulomb_matrix(**{**good, **change})
    assert coulomb_matrix(**good).isfinite().all()


def test_strain_helper_is_the_ase_sign():
    positions, cell, charges, width = random_cell(4)
    _, stress = derivatives(lambda r, h: coulomb_energy(r, h, True, charges, width), positions, cell)
    bigger = coulomb_energy(*strained(positions, cell, 1e-5 * CUBE), True, charges, width)
    smaller = coulomb_energy(*strained(positions, cell, -1e-5 * CUBE), True, charges, width)
    assert (bigger - smaller).item() / 2e-5 == pytest.approx(stress.trace().item(), rel=1e-6)


def test_energies_of_charges_of_one_width_have_right_first_and_second_derivatives():
    """By charges, positions and cell: the forms of their own against the same sum differentiated plainly."""
    positions, cell, _, _ = random_cell(4, 3)
    charges = torch.tensor([1.0, -0.7, 0.4, -0.2], dtype=torch.float64)
    inputs = [each.clone().requires_grad_(True) for each in (charges, positions, cell)]
    weights = torch.linspace(0.5, 2.0, 4, dtype=torch.float64)
    width = torch.tensor([1.1], dtype=torch.float64)
    found = []
    for plain in (True, False):
        q, r, box = inputs
        factors = structure_factors(r, box, width, 1e-6)
        if plain:
            energies = 0.5 * q * apply_structure_factors(factors, q, r[:0])[0]
        else:
            energies = ChargeEnergies.apply(q, r, *factors)
        first = torch.autograd.grad((weights * energies).sum(), inputs, create_graph=True)
        square = sum((each * torch.linspace(-1, 1, each.numel()).view_as(each)).sum() for each in first)
        found.append([energies, *first, *torch.autograd.grad(square, inputs)])
    for one, other in zip(*found, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-10, atol=1e-10)
