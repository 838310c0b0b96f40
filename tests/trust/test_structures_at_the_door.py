"""An impossible structure or label gets the same sentence wherever it enters, with file and frame, and exit code 2."""

import ase.io
import numpy as np
import pytest
from ase import Atoms
from corpus import answer, crystal, labelled, one_line, write_model

from mlip import load_calculator
from mlip.data.structures import read, read_one
from mlip.errors import InputError
from mlip.evaluation import inputs

PARTIAL = """data_x
_cell_length_a 5
_cell_length_b 5
_cell_length_c 5
_cell_angle_alpha 90
_cell_angle_beta 90
_cell_angle_gamma 90
loop_
_atom_site_label
_atom_site_type_symbol
_atom_site_fract_x
_atom_site_fract_y
_atom_site_fract_z
_atom_site_occupancy
Cl1 Cl 0 0 0 {cl}
{br}Li1 Li .5 .5 .5 {li}
"""


def damaged(change):
    atoms = crystal()
    change(atoms)
    return atoms


def no_cell(atoms):
    atoms.cell[:] = 0.0


def far(atoms):
    atoms.positions[1, 0] += 40_000 * 5.1


def near(atoms):
    atoms.positions[1] = atoms.positions[0] + [0, 0.05, 0]


IMPOSSIBLE = {
    "nan": (lambda a: a.positions.__setitem__((2, 1), np.nan), "positions must be finite; atom 2"),
    "1e30": (lambda a: a.positions.__setitem__((2, 1), 1e30), "atom 2 (Li) is at"),
    "far": (far, "atom 1 (Cl) is at"),
    "3000 cells": (
        lambda a: a.positions.__setitem__((0, 2), -3000 * 5.1),
        "atom 0 (Li) lies 3000 cells from the origin",
    ),
    "no cell": (no_cell, "needs an independent lattice vector in each periodic direction"),
    "nan cell": (lambda a: a.cell.__setitem__((0, 0), np.nan), "lattice vectors must be finite"),
    "near": (near, "atoms 0 (Li) and 1 (Cl) overlap: 0.050 Å apart"),
    "ghost": (lambda a: a.symbols.__setitem__(3, "X"), "atom 3 is X, which is no element"),
    "charge nan": (lambda a: a.info.update(total_charge=np.nan), "total_charge must be a finite number in e, got nan"),
    "charge text": (lambda a: a.info.update(charge="plus"), "charge must be a finite number in e, got plus"),
    "charge 500": (lambda a: a.info.update(charge=500), "is 62.5 e per atom"),
    "two charges": (lambda a: a.info.update(total_charge=1, charge=-1), "total_charge 1 and charge -1 differ"),
}


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return write_model(tmp_path_factory.mktemp("model") / "model.pt")


@pytest.mark.parametrize("name", IMPOSSIBLE)
def test_an_impossible_structure_is_refused_through_every_door(name, model, tmp_path, capsys):
    change, words = IMPOSSIBLE[name]
    bad, file = damaged(change), tmp_path / "bad.traj"
    with pytest.raises(InputError) as refused:
        load_calculator(model).get_potential_energy(bad)
    assert words in str(refused.value)
    bad.info["REF_energy"] = -80.0
    ase.io.write(file, [labelled(1)[0], bad])  # .traj keeps NaN and huge numbers as they are
    for door in (lambda: read(file), lambda: read_one(file), lambda: inputs.structure(f"{file}@1")):
        with pytest.raises(InputError) as refused:
            door()
        assert words in str(refused.value) and "bad.traj" in str(refused.value)
    out = tmp_path / "out.xyz"
    for command in (
        ["predict", model, file, out],
        ["md", model, file, f"folder={tmp_path / 'md'}", "steps=1"],
        ["train", f"data.files={file}", f"folder={tmp_path / 'run'}", f"data.cache={tmp_path}"],
    ):
        code, said = answer(capsys, *command)
        assert code == 2 and words in one_line(said) and "bad.traj" in said
    assert not out.exists() and not (tmp_path / "md").exists() and not (tmp_path / "run").exists()
    code, said = answer(capsys, "data", "check", file)
    assert code == 1 and ("geometry" in said or "reading" in said)


def test_a_structure_without_atoms_is_refused(model, tmp_path, capsys):
    ase.io.write(tmp_path / "none.traj", Atoms(cell=[5, 5, 5], pbc=True))
    code, said = answer(capsys, "md", model, tmp_path / "none.traj", f"folder={tmp_path / 'md'}")
    assert code == 2 and "at least one atom, got none" in one_line(said)


@pytest.mark.parametrize(
    "occupancy",
    [{"cl": 0.6, "br": "Br1 Br 0 0 0 0.4\n", "li": 1}, {"cl": 1, "br": "", "li": 0.5}],
    ids=["shared", "empty"],
)
def test_partial_occupancies_point_to_the_sampling_of_orderings(occupancy, model, tmp_path, capsys):
    file = tmp_path / "p.cif"
    file.write_text(PARTIAL.format(**occupancy))
    for command in (["md", model, file], ["evaluate", model, file, "only=[eos]", f"folder={tmp_path / 'e'}"],
                    ["sample", file, "mobile=Li", "engine=emt", f"folder={tmp_path / 's'}"],
                    ["label", file, tmp_path / "o.xyz", "engine=emt"]):  # fmt: skip
        code, said = answer(capsys, *command)
        assert code == 2 and "partial occupancies" in one_line(said) and "disordered.cif" in said, command


def test_full_occupancies_are_no_complaint(tmp_path):
    (tmp_path / "f.cif").write_text(PARTIAL.format(cl=1, br="", li=1))
    assert len(read_one(tmp_path / "f.cif")) == 2


def test_unwrapped_atoms_of_a_long_walk_are_no_complaint(tmp_path):
    ase.io.write(tmp_path / "far.traj", damaged(lambda a: a.positions.__setitem__((0, 0), 200 * 5.1)))
    assert len(read_one(tmp_path / "far.traj")) == 8


def set_label(name, value, place=None):
    def change(atoms):
        home = atoms.arrays if name in atoms.arrays else atoms.info
        if place is None:
            home[name] = value
        else:
            home[name][place] = value

    return change


BAD_LABELS = {
    "weight 0": (set_label("weight", 0.0), "weight must be a positive number, got 0.0"),
    "weight -5": (set_label("weight", -5.0), "weight must be a positive number, got -5.0"),
    "weight nan": (set_label("weight", np.nan), "weight must be a positive number, got nan"),
    "energy 1e300": (set_label("REF_energy", 1e300), "energy of 1.25e+299 eV per atom is more than matter has"),
    "energy inf": (set_label("REF_energy", np.inf), "energy is infinite"),
    "energy text": (set_label("REF_energy", "low"), "must be numbers, got 'low'"),
    "one nan force": (
        set_label("REF_forces", np.nan, (3, 1)),
        "forces has 1 NaN among 24 numbers, the first at atom 3",
    ),
    "force 1e300": (set_label("REF_forces", 1e300, (3, 1)), "forces of 1e+300 eV/Å is more than matter has"),
    "force inf": (set_label("REF_forces", np.inf, (3, 1)), "forces is infinite"),
    "one nan stress": (set_label("REF_stress", np.nan, 2), "stress has 1 NaN among 9 numbers"),
    "stress 1e30": (set_label("REF_stress", 1e30, 2), "stress of 1e+30 eV/Å^3 is more than matter has"),
}


@pytest.mark.parametrize("name", BAD_LABELS)
def test_a_bad_label_names_file_and_frame_in_train_check_and_predict(name, model, tmp_path, capsys):
    change, words = BAD_LABELS[name]
    frames, file = labelled(), tmp_path / "l.xyz"
    change(frames[2])
    ase.io.write(file, frames)
    for command in (["predict", model, file, tmp_path / "out.xyz"],
                    ["train", f"data.files={file}", f"folder={tmp_path / 'run'}", f"data.cache={tmp_path}"]):  # fmt: skip
        code, said = answer(capsys, *command)
        assert code == 2 and words in one_line(said) and "l.xyz:2" in said
    assert answer(capsys, "data", "check", file)[0] == 1


def test_a_label_that_is_nan_as_a_whole_is_missing(tmp_path):
    frames = labelled(1)
    frames[0].arrays["REF_forces"][:] = np.nan
    frames[0].info["REF_stress"][:] = np.nan
    ase.io.write(tmp_path / "m.xyz", frames)
    (atoms,) = read(tmp_path / "m.xyz")
    assert "ref_forces" not in atoms.arrays and "ref_stress" not in atoms.info and atoms.info["ref_energy"] == -80.0


def test_charge_counts_as_total_charge_in_every_door(model, tmp_path):
    atoms = crystal()
    atoms.info["charge"] = -1
    ase.io.write(tmp_path / "c.xyz", atoms)
    assert read(tmp_path / "c.xyz")[0].info["total_charge"] == -1
    assert inputs.structure(tmp_path / "c.xyz", (2, 1, 1)).info["total_charge"] == -2
    calculator = load_calculator(model)
    assert float(calculator.graph(atoms, calculator.verlet)["total_charge"]) == -1
