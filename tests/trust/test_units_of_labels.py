"""Labels in another code's units are found, or said not to be checked: never passed over."""

from pathlib import Path

import ase.io
import pytest
from ase import units
from ase.calculators.singlepoint import SinglePointCalculator

from mlip.data.doctor import check

DATA = Path(__file__).resolve().parents[2] / "datasets" / "li3incl6" / "li3incl6_gpaw.xyz"
HARTREE, BOHR = units.Hartree, units.Bohr

CASES = {  # factors of energy, forces, stress, positions; severity and check of the row that must be there
    "forces_hartree_bohr": (1, BOHR / HARTREE, 1, 1, "error", "energy and force units"),
    "forces_rydberg_bohr": (1, 2 * BOHR / HARTREE, 1, 1, "error", "energy and force units"),
    "energies_hartree": (1 / HARTREE, 1, 1, 1, "error", "energy and force units"),
    "energies_rydberg": (2 / HARTREE, 1, 1, 1, "error", "energy and force units"),
    "energies_kcal": (23.0605, 1, 1, 1, "error", "energy and force units"),
    "energies_and_forces_atomic": (1 / HARTREE, BOHR / HARTREE, 1, 1, "error", "energy and force units"),
    "all_atomic": (1 / HARTREE, BOHR / HARTREE, BOHR**3 / HARTREE, 1 / BOHR, "error", "distances"),
    "positions_bohr": (1, 1, 1, 1 / BOHR, "error", "distances"),
    "energies_and_forces_kcal": (23.0605, 23.0605, 1, 1, "warn", "forces"),
    "forces_reversed": (1, -1, 1, 1, "error", "force sign"),
    "stress_gpa": (1, 1, 160.2177, 1, "error", "stress unit"),
    "stress_kbar": (1, 1, 1602.177, 1, "error", "stress unit"),
    "stress_reversed": (1, 1, -1, 1, "error", "stress sign"),
    "forces_of_zero": (1, 0, 1, 1, "not checked", "energy and force units"),
}  # fmt: skip


def frames(n: int, energy=1.0, forces=1.0, stress=1.0, positions=1.0):
    """DFT frames with their labels and positions multiplied."""
    changed = []
    for atoms in ase.io.read(DATA, f":{n}"):
        copy, results = atoms.copy(), atoms.calc.results
        copy.set_cell(copy.cell.array * positions, scale_atoms=True)
        copy.calc = SinglePointCalculator(copy, energy=results["energy"] * energy, forces=results["forces"] * forces,
                                          stress=results["stress"] * stress)  # fmt: skip
        changed.append(copy)
    return changed


def rows(path, images) -> dict[str, str]:
    """Check: severity."""
    ase.io.write(path, images)
    return {finding.check: finding.severity for finding in check(str(path))}


@pytest.mark.parametrize("name", CASES)
def test_another_unit_is_found(name, tmp_path):
    *factors, severity, asked = CASES[name]
    assert rows(tmp_path / "a.xyz", frames(24, *factors))[asked] == severity


def test_good_labels_have_a_row_for_every_question(tmp_path):
    assert rows(tmp_path / "a.xyz", frames(24)) == {
        "labels": "ok", "distances": "ok", "forces": "ok", "energy": "ok", "energy and force units": "ok",
        "stress sign and unit": "ok", "convergence": "not checked", "duplicates": "ok", "elements": "ok",
    }  # fmt: skip


def test_too_few_frames_are_said_to_be_too_few(tmp_path):
    found = rows(tmp_path / "a.xyz", frames(3))
    assert {found[name] for name in ("energy", "energy and force units", "stress sign")} == {"not checked"}
