"""Defects of copper by direct numbers, charged cells by Makov and Payne, voids of close packing; size transfer."""

import numpy as np
import pytest
from ase.build import bulk
from ase.calculators.calculator import Calculator
from ase.calculators.emt import EMT
from ase.optimize import BFGS

from mlip import keys
from mlip.commands.report import presentations
from mlip.config import CONFIGS, compose
from mlip.electrostatics.response import makov_payne
from mlip.evaluation.result import Result
from mlip.evaluation.static import defects, size_transfer
from mlip.evaluation.static.voids import distinct_sites, largest_voids
from mlip.evaluation.thresholds import judge


def values(section):
    return {r.name: r.value for r in section.results}


def test_the_vacancy_of_copper_costs_what_direct_numbers_say():
    atoms = bulk("Cu", a=3.59, cubic=True)
    section = defects.Defects(
        atoms, "Cu", metal=bulk("Cu", a=3.6), width=7.0, interstitials=[[0.5, 0, 0]], fmax=0.005
    ).evaluate(EMT())
    found = values(section)
    whole = atoms.repeat(2)
    whole.calc = EMT()
    missing = whole.copy()
    del missing[5]
    missing.calc = EMT()
    BFGS(missing, logfile=None).run(fmax=0.005)
    direct = missing.get_potential_energy() - 31 / 32 * whole.get_potential_energy()
    assert found["vacancy_formation_energy"] == pytest.approx(direct, abs=2e-3)
    assert found["frenkel_energy"] == pytest.approx(
        found["vacancy_formation_energy"] + found["interstitial_formation_energy"]
    )
    assert section.results[0].conditions["supercell"] == "2x2x2"
    assert list(defects.Defects.figures(section.data)) == ["defects"]


def test_the_largest_voids_of_close_packing_are_octahedral_then_tetrahedral():
    atoms = bulk("Cu", a=4.0, cubic=True)
    first, second = largest_voids(atoms, 2)
    reach = [np.sort(np.linalg.norm((atoms.repeat(3).positions - 4.0) - hole, axis=1))[:6] for hole in (first, second)]
    assert reach[0] == pytest.approx(6 * [2.0], abs=0.2)
    assert reach[1][:4] == pytest.approx(4 * [3**0.5], abs=0.25)
    assert distinct_sites(bulk("NaCl", "rocksalt", a=5.6, cubic=True), "Cl") == [1]


def test_charged_defects_carry_the_charge_of_the_ion_and_makov_payne():
    atoms = bulk("NaCl", "rocksalt", a=5.6, cubic=True)
    section = defects.Defects(atoms, "Na", charge=1, dielectric=6.0, width=5.0, n_sites=1).evaluate(Capacitor())
    correction = float(makov_payne(atoms.cell.array, 1.0, 6.0))
    assert correction > 0.1
    # q^2 / 2 of one missing and of one additional charge, two corrections
    assert values(section)["frenkel_energy"] == pytest.approx(1.0 + 2 * correction)
    metal = (
        Capacitor()
    )  # whose charges have one chemical potential: they screen, and the leading term would over-correct
    metal.implemented_properties = (*Capacitor.implemented_properties, "chemical_potential")
    screened = defects.Defects(atoms, "Na", charge=1, dielectric=6.0, width=5.0, n_sites=1).evaluate(metal)
    assert values(screened)["frenkel_energy"] == pytest.approx(1.0)
    assert any("as a metal" in note for note in screened.notes)
    neutral = defects.Defects(atoms, "Na", width=5.0, n_sites=1).evaluate(Capacitor())
    assert values(neutral)["frenkel_energy"] == pytest.approx(0)
    assert "vacancy_formation_energy" not in values(neutral)
    assert "no chemical potential" in neutral.notes[0]
    told = defects.Defects(
        bulk("Cu", a=3.59, cubic=True), "Cu", chemical_potential=0.0, charge=1, width=3.0, n_sites=1, steps=5
    ).evaluate(EMT())
    assert any("no charges" in note for note in told.notes)


class Capacitor(Calculator):
    """E = Q^2 / 2, wherever the atoms are."""

    implemented_properties = ("energy", "forces", "stress", "charges")

    def calculate(self, atoms=None, properties=("energy",), system_changes=()):
        super().calculate(atoms, properties, system_changes)
        charge = atoms.info.get(keys.TOTAL_CHARGE, 0.0)
        self.results = {"energy": charge**2 / 2, "forces": np.zeros((len(atoms), 3)), "stress": np.zeros(6)}


def test_a_chemical_potential_is_given_once_and_of_the_element():
    atoms = bulk("Cu", a=3.59, cubic=True)
    with pytest.raises(ValueError, match="not both"):
        defects.Defects(atoms, "Cu", chemical_potential=0.0, metal=atoms).evaluate(EMT())
    with pytest.raises(ValueError, match="must hold Cu only"):
        defects.Defects(atoms, "Cu", metal=bulk("Al")).evaluate(EMT())
    with pytest.raises(ValueError, match="no Li in"):
        defects.Defects(atoms, "Li", width=3.0).evaluate(EMT())


def test_repeats_of_a_cell_cost_the_same_per_atom_and_who_differs_fails():
    atoms = bulk("Cu", a=3.7, cubic=True)
    atoms.rattle(0.1, seed=0)
    section = size_transfer.SizeTransfer([atoms], repeat=(2, 1, 1)).evaluate(EMT())
    assert verdicts(section) == ["pass"] * 3
    assert values(section)["energy_change_on_repeat"] < 1e-9
    confined = size_transfer.SizeTransfer([atoms], repeat=(2, 1, 1)).evaluate(Confined())
    assert verdicts(confined)[0] == "fail"
    assert values(confined)["energy_change_on_repeat"] == pytest.approx(4e-3 * 1e3)


def verdicts(section):
    """With the thresholds that are shipped."""
    shipped = presentations(compose("report", [], [CONFIGS]).properties)["size_transfer"]
    return [row.result.verdict for row in judge([section], {"size_transfer": shipped.thresholds})]


class Confined(EMT):
    """EMT, and an energy that grows as the square of the number of atoms: 1 meV N^2."""

    def calculate(self, *arguments, **settings):
        super().calculate(*arguments, **settings)
        self.results["energy"] += 1e-3 * len(self.atoms) ** 2


def test_the_barrier_of_one_hop_is_measured_in_cells_of_several_sizes():
    atoms = bulk("Cu", a=3.59, cubic=True)
    section = size_transfer.SizeTransfer([atoms], repeat=(2, 1, 1), atoms=atoms, species="Cu", barrier_repeats=((2, 2, 1), (3, 2, 1)),
                                     max_length_A=3.0, fmax=0.1).evaluate(EMT())  # fmt: skip
    found = [r for r in section.results if r.name == "barrier_by_size"]
    assert [r.conditions["atoms"] for r in found] == [16, 24]
    assert all(0.4 < r.value < 1.2 for r in found)
    assert "size_barrier" in size_transfer.SizeTransfer.figures(section.data)
    with pytest.raises(ValueError, match="give species"):
        size_transfer.SizeTransfer([atoms], atoms=atoms).evaluate(EMT())


def test_errors_by_size_are_those_that_were_put_in():
    labelled = []
    for n, wrong in ((1, 0.01), (2, 0.03)):
        atoms = bulk("Cu", a=3.6, cubic=True).repeat((n, 1, 1))
        atoms.rattle(0.05, seed=n)
        copy = atoms.copy()
        copy.calc = EMT()
        atoms.info[keys.REF_ENERGY] = copy.get_potential_energy() + wrong * len(atoms)
        atoms.arrays[keys.REF_FORCES] = copy.get_forces() - wrong
        labelled.append(atoms)
    section = size_transfer.SizeTransfer(labelled[:1], repeat=(2, 1, 1), labelled=labelled).evaluate(EMT())
    assert [row["energy"] for row in section.data["errors"]] == pytest.approx([10, 30])
    assert [row["force"] for row in section.data["errors"]] == pytest.approx([10, 30])
    assert list(size_transfer.SizeTransfer.figures(section.data)) == ["size_errors"]


def test_diffusivities_that_depend_on_the_size_are_flagged():
    small, large = (
        Result("D", d, "cm2/s", 0.9 * d, 1.1 * d, conditions={"atoms": n}) for d, n in ((1e-6, 52), (2e-6, 416))
    )
    found = size_transfer.by_size([large, small])
    assert [r.conditions["atoms"] for r in found] == [52, 416]
    assert found[-1].verdict == "warn"
    assert "depends on the size" in found[-1].notes[0]
    with pytest.raises(ValueError, match="need 'atoms'"):
        size_transfer.by_size([Result("D", 1.0, "cm2/s")])
    assert "not the same hop" in size_transfer.one_hop([[52, 0.3, 2.5], [416, 0.3, 2.9]])[0]
