"""Phonons against ASE's own, sum rules, limits of statistical mechanics, unstable crystals."""

import numpy as np
import pytest
from ase.build import bulk
from ase.calculators.calculator import Calculator
from ase.calculators.emt import EMT
from ase.phonons import Phonons

from mlip import units
from mlip.evaluation.static import phonons


@pytest.fixture(scope="module")
def aluminium():
    atoms = bulk("Al", a=3.995)
    phonon = phonons.displaced(atoms, (3, 3, 3), 0.02)
    phonons.force_constants(phonon, EMT())
    return atoms, phonon


def test_frequencies_are_those_of_ase(aluminium, tmp_path):
    atoms, phonon = aluminium
    points = [[1 / 3, 0, 0], [1 / 3, 1 / 3, 0], [0, 1 / 3, 2 / 3]]  # they fit into three cells
    theirs = Phonons(atoms, EMT(), supercell=(3, 3, 3), delta=0.02, name=str(tmp_path / "ase"))
    theirs.run()
    theirs.read(acoustic=True)
    expected = np.sort(theirs.band_structure(points)) / phonons.PLANCK
    np.testing.assert_allclose(np.sort(phonons.at(phonon, points)), expected, atol=0.01)


def test_three_modes_cost_nothing_at_gamma(aluminium):
    _, phonon = aluminium
    np.testing.assert_allclose(phonons.at(phonon, [[0, 0, 0]]), 0, atol=1e-4)
    exact = phonons.exact_frequencies(phonon)
    assert exact.shape == (27, 3)
    assert (exact == 0).sum() == 3


def test_an_oscillator_has_its_textbook_free_energy():
    frequency, t = 5.0, 300.0  # THz, K
    quantum, heat = phonons.PLANCK * frequency, units.BOLTZMANN * t
    free, entropy, capacity = phonons.harmonic(np.array([[frequency]]), np.array([1]), t)
    levels = quantum * (0.5 + np.arange(400))
    weight = np.exp(-levels / heat)
    mean = (levels * weight).sum() / weight.sum()
    assert free == pytest.approx(-heat * np.log(weight.sum()))
    assert entropy == pytest.approx((mean - free) / t)
    assert capacity == pytest.approx(((levels**2 * weight).sum() / weight.sum() - mean**2) / (heat * t))


def test_a_stable_crystal_passes_with_dulong_and_petit_when_hot():
    section = phonons.Phonons(bulk("Al", a=4.0, cubic=True), width=7.0, temperature_K=3000.0).evaluate(EMT())
    found = {r.name: r for r in section.results}
    assert found["lowest_frequency"].verdict == "pass"
    assert found["heat_capacity"].value == pytest.approx(3, abs=0.01)
    assert found["highest_frequency"].value == pytest.approx(8.6, abs=0.3)
    assert found["displaced_supercells"].value == 1  # symmetry leaves one of the 4 x 3 x 2
    assert found["force_noise"].value < 1e-9
    assert list(phonons.Phonons.figures(section.data)) == ["phonons"]


def test_a_reference_stands_beside(aluminium):
    section = phonons.Phonons(bulk("Al", a=3.995), width=4.5, reference=Scaled(1.21)).evaluate(Scaled(1.0))
    found = {r.name: r.value for r in section.results}
    assert found["frequency_bias"] < 0
    top = np.max(section.data["bands_reference_THz"]) / np.max(section.data["bands_THz"])
    assert top == pytest.approx(1.1, rel=1e-3)  # frequencies go as the root of the force
    assert found["frequency_rmse"] > 0.1
    phonons.Phonons.figures(section.data)


def test_a_simple_cubic_metal_is_no_minimum():
    section = phonons.Phonons(bulk("Cu", "sc", a=2.4), width=4.5).evaluate(EMT())
    result = next(r for r in section.results if r.name == "lowest_frequency")
    assert result.verdict == "fail"
    assert "imaginary frequency" in section.notes[0]
    assert "left out" in next(r for r in section.results if r.name == "heat_capacity").notes[0]


def test_rounded_forces_are_noticed():
    section = phonons.Phonons(bulk("Al", a=3.995), width=4.5, displacement=0.01, fmax=0.01).evaluate(Rounded())
    assert any("rounding of the forces" in note for note in section.notes)
    with pytest.raises(ValueError, match="got 0.3 Å"):
        phonons.Phonons(bulk("Al", a=3.995), displacement=0.3).evaluate(EMT())


class Scaled(Calculator):
    """EMT times a number."""

    implemented_properties = ("energy", "forces", "stress")

    def __init__(self, factor):
        super().__init__()
        self.factor, self.emt = factor, EMT()

    def calculate(self, atoms=None, properties=("energy",), system_changes=()):
        super().calculate(atoms, properties, system_changes)
        copy = atoms.copy()
        copy.calc = self.emt
        self.results = {"energy": self.factor * copy.get_potential_energy(), "forces": self.factor * copy.get_forces(),
                        "stress": self.factor * copy.get_stress()}  # fmt: skip


class Rounded(Scaled):
    """EMT with forces that depend on where the crystal stands, as those in few digits do."""

    def __init__(self):
        super().__init__(1.0)

    def calculate(self, atoms=None, properties=("energy",), system_changes=()):
        super().calculate(atoms, properties, system_changes)
        self.results["forces"] = self.results["forces"] + 1e-3 * np.sin(1e3 * atoms.positions)
