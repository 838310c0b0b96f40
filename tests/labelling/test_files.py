"""Structures go out and labels come back: only the right ones are taken."""

import sys
from pathlib import Path

import numpy as np
import pytest
from ase.calculators.emt import EMT

from mlip import cli, keys, units
from mlip.data import structures
from mlip.labelling.calculator import CalculatorEngine
from mlip.labelling.engine import structure_id
from mlip.labelling.files import FilesEngine
from mlip.labelling.run import run

sys.path.insert(0, str(Path(__file__).parent))
from engines import crystals


def engine(folder):
    return FilesEngine("pbe", f"{folder}/to_label.xyz", f"{folder}/labelled.xyz")


def elsewhere(folder, change=lambda atoms: None, forget_ids=False):
    """What the other machine does: reads the file, labels it, writes it."""
    made = []
    for atoms in structures.read(f"{folder}/to_label.xyz"):
        labelled = CalculatorEngine(EMT).label(atoms)
        labelled.info["structure_id"] = atoms.info["structure_id"]
        change(labelled)
        if forget_ids:
            del labelled.info["structure_id"], labelled.info["number"]
        made.append(labelled)
    structures.write(f"{folder}/labelled.xyz", made[::-1])
    return made


@pytest.mark.parametrize("forget_ids", [False, True], ids=["by id", "by geometry"])
def test_structures_go_out_numbered_and_their_labels_come_back_in_order(tmp_path, forget_ids):
    made = crystals(4)
    made[0].info["energy"] = 5.0  # a model's prediction is not sent along
    first = run(made, engine(tmp_path), tmp_path)
    assert first.labelled == [None] * 4 and len(first.pending) == 4 and not first.failed
    assert "to_label.xyz" in first.pending[0] and not (tmp_path / "failures.jsonl").exists()
    sent = structures.read(tmp_path / "to_label.xyz")
    assert [atoms.info["number"] for atoms in sent] == [0, 1, 2, 3] and keys.REF_ENERGY not in sent[0].info
    assert [atoms.info["structure_id"] for atoms in sent] == [structure_id(atoms) for atoms in made]
    elsewhere(tmp_path, forget_ids=forget_ids)
    second = run(made, engine(tmp_path), tmp_path)
    for atoms, labelled in zip(made, second.labelled, strict=True):
        exact = CalculatorEngine(EMT).label(atoms)
        np.testing.assert_allclose(labelled.arrays[keys.REF_FORCES], exact.arrays[keys.REF_FORCES], atol=1e-7)
        np.testing.assert_allclose(labelled.info[keys.REF_STRESS], exact.info[keys.REF_STRESS], atol=1e-7)
        np.testing.assert_array_equal(labelled.positions, atoms.positions)
    assert not (tmp_path / "to_label.xyz").exists(), "nothing is left to do"


def test_only_what_is_missing_goes_out_the_second_time(tmp_path):
    made = crystals(3)
    run(made, engine(tmp_path), tmp_path)
    labelled = elsewhere(tmp_path)
    structures.write(tmp_path / "labelled.xyz", labelled[:2])
    report = run(made, engine(tmp_path), tmp_path)
    assert set(report.pending) == {2} and len(structures.read(tmp_path / "to_label.xyz")) == 1


@pytest.mark.parametrize(("change", "told"), [
    (lambda a: a.positions.__iadd__(np.eye(4, 3) * 0.02), "atoms lie up to 0.02 Å elsewhere"),
    (lambda a: a.set_cell(a.cell * 1.01), "its cell differs"),
    (lambda a: a.numbers.__setitem__(0, 47), "instead of Cu4"),
], ids=["moved", "strained", "substituted"])  # fmt: skip
def test_a_label_of_another_geometry_is_refused_whatever_its_id_says(tmp_path, change, told):
    made = crystals(2)
    run(made, engine(tmp_path), tmp_path)
    elsewhere(tmp_path, change)
    report = run(made, engine(tmp_path), tmp_path)
    assert report.labelled == [None, None] and told in report.failed[0] and "labelled.xyz:1" in report.failed[0]


def test_atoms_wrapped_into_the_cell_are_the_same_structure(tmp_path):
    made = crystals(2)
    run(made, engine(tmp_path), tmp_path)
    elsewhere(tmp_path, lambda atoms: atoms.wrap())
    assert not run(made, engine(tmp_path), tmp_path).failed


def in_atomic_units(atoms):
    atoms.info[keys.REF_ENERGY] /= units.HARTREE
    atoms.arrays[keys.REF_FORCES] *= units.BOHR / units.HARTREE
    atoms.info[keys.REF_STRESS] *= units.BOHR**3 / units.HARTREE


def flipped(atoms):
    atoms.arrays[keys.REF_FORCES] *= -1


@pytest.mark.parametrize(("change", "told"), [(in_atomic_units, "looks like Hartree or Ry, and the same per bohr"),
                                              (flipped, "sign")])  # fmt: skip
def test_labels_in_another_unit_are_not_taken_and_can_be_mended(tmp_path, change, told):
    made = crystals(8)
    run(made, engine(tmp_path), tmp_path)
    elsewhere(tmp_path, change)
    with pytest.raises(ValueError, match=f"labelled.xyz are not taken.*{told}"):
        run(made, engine(tmp_path), tmp_path)
    assert not list((tmp_path / "labels").iterdir())
    elsewhere(tmp_path)
    assert all(run(made, engine(tmp_path), tmp_path).labelled)


def test_the_command_says_what_to_do_and_exits_with_1_until_all_is_back(tmp_path, monkeypatch, capsys):
    structures.write(tmp_path / "in.xyz", crystals(2))
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "300")
    words = ["label", "in.xyz", "out.xyz", "engine=files", "engine.level_of_theory=pbe_520"]
    assert cli.main(words) == 1 and "label the structures of out.xyz.labels/to_label.xyz" in capsys.readouterr().out
    elsewhere("out.xyz.labels")
    assert cli.main(words) == 0 and len(structures.read("out.xyz")) == 2
