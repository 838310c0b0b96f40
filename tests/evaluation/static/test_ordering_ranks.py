"""Orderings ranked by a calculator: relaxed order, rank correlation with labels, what cannot be compared."""

import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk
from ase.calculators.emt import EMT

from mlip import keys
from mlip.data.structures import read
from mlip.evaluation.static import orderings


def alloys():
    """Cu2Au2 in five settings of a strained fcc cell."""
    found = []
    for k, symbols in enumerate(("Cu2Au2", "CuAuCuAu", "CuAu2Cu", "Au2Cu2", "AuCuAuCu")):
        atoms = bulk("Cu", a=3.8, cubic=True)
        atoms.symbols = Atoms(symbols).symbols
        atoms.set_cell([3.8, 3.9, 4.0], scale_atoms=True)
        atoms.rattle(0.03, seed=k)
        atoms.info["source"] = symbols
        found.append(atoms)
    return found


def test_relaxed_settings_of_one_ordering_have_one_energy_and_labels_of_the_same_calculator_rank_alike():
    structures = alloys()
    for atoms in structures:
        copy = atoms.copy()
        copy.calc = EMT()
        atoms.info[keys.REF_ENERGY] = copy.get_potential_energy()
    section = orderings.Orderings(structures, fmax=0.005).evaluate(EMT())
    energies = [r.value for r in section.results if r.name == "ordering_energy"]
    np.testing.assert_allclose(energies, 0, atol=0.2)  # all are layers of L1_0
    rho = next(r for r in section.results if r.name == "spearman_dft")
    assert rho.value == pytest.approx(1)
    assert rho.low < 1
    assert set(orderings.Orderings.figures(section.data)) == {"orderings", "orderings_dft"}


def test_the_order_is_that_of_relaxed_energies_in_the_file_to_start_from_too(tmp_path):
    layers, halves = (bulk("Cu", a=3.85, cubic=True).repeat((1, 1, 2)) for _ in range(2))
    layers.symbols[layers.positions[:, 2] % 3.85 < 1] = "Au"  # every other layer
    halves.symbols[halves.positions[:, 2] < 3.8] = "Au"
    layers.set_cell(layers.cell.array * 1.05, scale_atoms=True)  # the better one comes strained
    for atoms, name in ((layers, "layers"), (halves, "halves")):
        atoms.info["source"] = name
    section = orderings.Orderings([halves, layers], folder=tmp_path).evaluate(EMT())
    starts = read(str(tmp_path / "relaxed.xyz"))
    assert [atoms.info["ordering"] for atoms in starts] == ["layers", "halves"]
    assert keys.REF_ENERGY not in starts[0].info and starts[0].get_volume() < layers.get_volume()
    section = orderings.Orderings([layers, halves]).evaluate(EMT())
    assert section.data["given_meV"][0] > section.data["given_meV"][1]
    found = [r for r in section.results if r.name == "ordering_energy"]
    assert [r.conditions["ordering"] for r in found] == ["layers", "halves"]
    assert found[0].value == 0 < found[1].value


def test_intervals_of_rank_correlations_hold_the_truth():
    rng, truth, inside = (
        np.random.default_rng(0),
        6 / np.pi * np.arcsin(0.6 / 2),
        0,
    )  # of normal variables correlated by 0.6
    for _ in range(400):
        x = rng.normal(size=12)
        found = orderings.spearman("s", x, 0.6 * x + 0.8 * rng.normal(size=12), {})
        inside += found.low < truth < found.high
    assert 0.93 < inside / 400 < 0.985
    order = np.arange(6.0)
    assert orderings.spearman("s", order, order[::-1], {}).value == pytest.approx(-1)
    assert orderings.spearman("s", order, np.ones(6), {}).value is None


def test_orderings_without_labels_ask_for_them_and_other_compositions_are_refused():
    structures = alloys()[:2]
    assert "0 of 2 orderings carry a DFT energy" in orderings.Orderings(structures, steps=0).evaluate(EMT()).notes[-1]
    with pytest.raises(ValueError, match="one composition, got Au, Cu"):
        orderings.Orderings([bulk("Cu"), bulk("Au")]).evaluate(EMT())
    with pytest.raises(ValueError, match="at least two"):
        orderings.Orderings(structures[:1]).evaluate(EMT())
