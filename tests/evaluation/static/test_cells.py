"""Lattice, equation of state and elastic tensor of crystals with known numbers."""

import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk
from ase.calculators.calculator import Calculator
from ase.calculators.emt import EMT
from ase.eos import EquationOfState

from mlip import units
from mlip.evaluation.section import read_section, write_section
from mlip.evaluation.static import elastic, eos, lattice
from mlip.evaluation.static.relaxation import relax, relax_many, repeats, structure, widths


def numbers(section, **conditions):
    return {r.name: r.value for r in section.results if all(r.conditions.get(k) == v for k, v in conditions.items())}


def copper():
    return bulk("Cu", a=3.7, cubic=True)


class NoStress(Calculator):
    """A calculator of energy and forces only."""

    implemented_properties = ("energy", "forces")

    def calculate(self, atoms=None, properties=("energy",), system_changes=()):
        super().calculate(atoms, properties, system_changes)
        self.results = {"energy": 0.0, "forces": np.full((len(atoms), 3), getattr(self, "force", 0.0))}


def test_the_lattice_of_a_crystal_is_found_from_a_strained_and_rattled_cell(tmp_path):
    atoms = copper().repeat((2, 1, 1))
    atoms.set_cell(atoms.cell.array @ (np.eye(3) + [[0, 0.02, 0], [0, 0.01, 0], [0, 0, -0.01]]), scale_atoms=True)
    atoms.rattle(0.05, seed=1)
    section = lattice.Lattice(atoms, {"b": 3.6}).evaluate(EMT())
    found = numbers(section)
    assert found["a"] / 2 == pytest.approx(3.59, abs=1e-3)
    assert found["c"] == pytest.approx(3.59, abs=1e-3)
    assert found["gamma"] == pytest.approx(90, abs=0.05)
    assert numbers(section, against="reference") == {"b_change": pytest.approx(100 * (3.59 / 3.6 - 1), abs=0.03)}
    write_section(tmp_path / "lattice.json", section)
    again = read_section(tmp_path / "lattice.json")
    assert structure(again.data["structure"]).get_volume() == pytest.approx(found["volume"])
    assert list(lattice.Lattice.figures(again.data)) == ["lattice"]


def test_a_reference_of_another_cell_is_refused():
    with pytest.raises(ValueError, match="reference of the same cell"):
        lattice.Lattice(copper().repeat(2), {"a": 3.6}).evaluate(EMT())
    with pytest.raises(KeyError, match="no 'A'"):
        lattice.Lattice(copper(), {"A": 3.6}).evaluate(EMT())


def test_a_relaxation_that_ends_early_says_so():
    atoms = copper()
    atoms.rattle(0.1, seed=2)
    section = lattice.Lattice(atoms, steps=2).evaluate(EMT())
    assert section.results[0].verdict == "warn"
    assert "did not converge in 2 steps" in section.notes[0]


def test_crystals_relax_together_as_they_do_alone():
    one, two = copper(), bulk("Al", a=4.1, cubic=True)
    for atoms in (one, two):
        atoms.rattle(0.05, seed=3)
    together = relax_many([one, two], EMT(), cell=True)
    for atoms, both in zip((one, two), together, strict=True):
        assert both.energy == pytest.approx(relax(atoms, EMT()).energy, abs=1e-9)
        assert both.converged
        assert both.max_stress < 0.1 * units.KBAR


def test_bad_input_is_refused_in_words():
    with pytest.raises(ValueError, match="periodic in three directions"):
        relax(Atoms("Cu4", positions=np.eye(4, 3) * 2), EMT())
    lost = copper()
    lost.positions[2, 1] = np.nan
    with pytest.raises(ValueError, match=r"atoms \[2\] are not"):
        relax(lost, EMT())
    with pytest.raises(ValueError, match="gives no stress"):
        relax(copper(), NoStress())
    with pytest.raises(ValueError, match="gives no stress"):
        elastic.ElasticTensor(copper()).evaluate(NoStress())
    broken = NoStress()
    broken.force = np.nan
    with pytest.raises(ValueError, match="forces that is not finite"):
        relax(copper(), broken, cell=False)
    with pytest.raises(ValueError, match="at least 9 volumes"):
        eos.EquationOfState(copper(), n_volumes=7).evaluate(EMT())


def test_the_equation_of_state_is_that_of_ase():
    section = eos.EquationOfState(copper()).evaluate(EMT())
    found = numbers(section)
    volumes, energies = section.data["volumes_A3"], section.data["energies_eV"]
    theirs = EquationOfState(volumes, energies, "birchmurnaghan")
    v0, e0, b0 = theirs.fit()
    assert found["V0"] == pytest.approx(v0, rel=1e-5)
    assert found["E0"] == pytest.approx(e0, abs=1e-6)
    assert found["B0"] == pytest.approx(b0 * units.EV_PER_A3_IN_GPA, rel=1e-4)
    assert found["B0'"] == pytest.approx(theirs.eos_parameters[2], rel=1e-3)
    assert list(eos.EquationOfState.figures(section.data)) == ["eos"]


def test_intervals_of_the_equation_of_state_hold_the_truth_that_made_noisy_points():
    truth, volumes, rng = (-3.0, 40.0, 0.8, 4.5), 40 * np.linspace(0.94, 1.06, 9), np.random.default_rng(0)
    inside = np.zeros(4)
    for _ in range(300):
        fitted = eos.fit(volumes, eos.birch_murnaghan(volumes, *truth) + rng.normal(0, 1e-3, 9))
        inside += np.abs(fitted.values - truth) <= fitted.errors
    assert (inside / 300 > 0.91).all()
    assert (inside / 300 < 0.99).all()


def test_a_crystal_without_a_minimum_has_no_bulk_modulus():
    section = eos.EquationOfState(copper()).evaluate(NoStressButVolume())
    assert section.results[0].verdict == "fail"
    assert "at the end of the volumes" in section.notes[0]


class NoStressButVolume(Calculator):
    """E falls with the volume while the stress is said to be zero."""

    implemented_properties = ("energy", "forces", "stress")

    def calculate(self, atoms=None, properties=("energy",), system_changes=()):
        super().calculate(atoms, properties, system_changes)
        self.results = {"energy": -atoms.get_volume(), "forces": np.zeros((len(atoms), 3)), "stress": np.zeros(6)}


def second_derivative(atoms, component, step=2e-3):
    """GPa, of the energy alone."""
    energies = []
    for sign in (-1, 0, 1):
        cell = elastic.strained(atoms, component, sign * step)
        cell.calc = EMT()
        energies.append(cell.get_potential_energy())
    return (energies[0] - 2 * energies[1] + energies[2]) / step**2 / atoms.get_volume() * units.EV_PER_A3_IN_GPA


def test_elastic_constants_are_second_derivatives_of_the_energy_with_cubic_symmetry():
    atoms = bulk("Cu", a=3.6)  # the primitive cell: a skewed one
    section = elastic.ElasticTensor(atoms).evaluate(EMT())
    found, tensor = numbers(section), np.array(section.data["tensor_GPa"])
    start = relax(atoms, EMT(), fmax=1e-3).atoms
    assert found["C11"] == pytest.approx(second_derivative(start, 0), rel=2e-3)
    assert found["C44"] == pytest.approx(second_derivative(start, 3), rel=2e-3)
    cubic = np.zeros((6, 6))
    cubic[:3, :3] = found["C12"]
    np.fill_diagonal(cubic, [found["C11"]] * 3 + [found["C44"]] * 3)
    np.testing.assert_allclose(tensor, cubic, atol=0.05)
    b0 = numbers(eos.EquationOfState(atoms).evaluate(EMT()))["B0"]
    assert found["K"] == pytest.approx(b0, rel=3e-3)
    assert found["K_voigt"] == pytest.approx(found["K_reuss"])
    assert next(r.verdict for r in section.results if r.name == "smallest_elastic_eigenvalue") == "pass"
    assert list(elastic.ElasticTensor.figures(section.data)) == ["elastic"]


def test_ions_that_relax_soften_a_crystal():
    atoms = bulk("Cu", "hcp", a=2.55, c=4.1)
    section = elastic.ElasticTensor(atoms).evaluate(EMT())
    frozen = second_derivative(relax(atoms, EMT(), fmax=1e-3).atoms, 0)
    c11, c12, c66 = (numbers(section)[name] for name in ("C11", "C12", "C66"))
    assert c11 < frozen - 3
    assert c66 == pytest.approx((c11 - c12) / 2, rel=5e-3)  # a hexagonal crystal


def test_isotropic_averages_of_an_isotropic_solid_are_its_own_moduli():
    k, g = 40.0, 15.0
    tensor = np.zeros((6, 6))
    tensor[:3, :3] = k - 2 * g / 3
    np.fill_diagonal(tensor, [k + 4 * g / 3] * 3 + [g] * 3)
    found = elastic.averages(tensor)
    assert found["K_reuss"] == pytest.approx(k)
    assert found["G_voigt"] == pytest.approx(g)
    assert found["E"] == pytest.approx(9 * k * g / (3 * k + g))
    assert found["nu"] == pytest.approx((3 * k - 2 * g) / (6 * k + 2 * g))
    assert elastic.smallest_eigenvalue(tensor) == pytest.approx(g)


def test_an_asymmetric_stress_shows_in_the_error_and_a_soft_shear_is_not_stable():
    tensor = np.diag([50.0, 50, 50, 10, 10, 10])
    skew = tensor.copy()
    skew[0, 1], skew[1, 0] = 22.0, 18.0
    strains = np.array([0.005, 0.01])
    stresses = np.einsum("h,s,ij->jhsi", strains, [1, -1], skew)
    mean, error = elastic.slopes(strains, stresses)
    assert mean[0, 1] == pytest.approx(20)
    assert error[0, 1] == pytest.approx(2)
    tensor[3, 3] = -1.0
    notes = []
    results = elastic.tensor_results(tensor, 0 * tensor, {}, notes)
    assert next(r.verdict for r in results if r.name == "smallest_elastic_eigenvalue") == "fail"
    assert "not stable (Born)" in notes[0]


def test_supercells_are_as_wide_as_asked_between_their_faces():
    skewed = np.array([[4.0, 0, 0], [2.0, 3.0, 0], [0, 0, 12.0]])
    n = repeats(skewed, 10.0)
    assert n == (4, 4, 1)  # the parallelogram of area 12 Å^2 is 12 / |b| = 3.33 Å and 12 / |a| = 3 Å wide
    assert (widths(skewed * np.array(n)[:, None]) >= 10.0).all()
