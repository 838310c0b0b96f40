"""Script and data file of LAMMPS for a model and a structure; needs no LAMMPS."""

from functools import partial

import numpy as np
import pytest
from ase import Atoms
from ase.io.lammpsdata import read_lammps_data
from small import crystal, potential_of

from mlip.data.graph import to_graph
from mlip.electrostatics import EquilibratedCharges, FormalCharges, SplitCharges
from mlip.errors import InputError
from mlip.export import export
from mlip.lammps.inputs import write_input

HEADS = {"short": None, "formal": partial(FormalCharges, width=1.25), "qeq": EquilibratedCharges, "split": SplitCharges}


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    folder = tmp_path_factory.mktemp("models")
    for head, term in HEADS.items():
        potential = potential_of(term)
        export(
            potential, folder / f"{head}.pt", {}, [to_graph(crystal(), potential.cutoff, potential.levels)], level="pbe"
        )
    return folder


def written(model, atoms, script) -> str:
    write_input(model, atoms, script, 300.0, 1.0, 10, 0.5, 0)
    return script.read_text()


def test_the_data_file_is_the_crystal(models, tmp_path):
    atoms = crystal()
    assert "kspace" not in written(models / "short.pt", atoms, tmp_path / "in.mlip")
    read = read_lammps_data(tmp_path / "in.data", atom_style="atomic")
    assert list(read.symbols) == list(atoms.symbols)
    assert read.get_all_distances(mic=True) == pytest.approx(atoms.get_all_distances(mic=True), abs=1e-6)


def test_fixed_charges_go_to_kspace_in_a_bulk_and_are_solved_in_a_slab(models, tmp_path):
    atoms = crystal()
    text = written(models / "formal.pt", atoms, tmp_path / "in.mlip")
    assert "pair_style    mlip kspace" in text and "gewald 0.4 order 7" in text
    charges = read_lammps_data(tmp_path / "in.data", atom_style="charge").get_initial_charges()
    assert charges == pytest.approx(np.select([atoms.numbers == 3, atoms.numbers == 8], [1.0, -2.0], -1.0))
    atoms.pbc = [True, True, False]
    slab = written(models / "formal.pt", atoms, tmp_path / "in.mlip")
    assert "kspace" not in slab and "boundary      p p s" in slab


def test_a_total_charge_is_passed_on_to_charges_that_flow(models, tmp_path):
    atoms = crystal()
    atoms.info["total_charge"] = 1.0
    assert "pair_style    mlip charge 1\n" in written(models / "qeq.pt", atoms, tmp_path / "in.mlip")
    assert "charge 1" not in written(models / "short.pt", atoms, tmp_path / "in.mlip")


def test_what_does_not_fit_is_refused(models, tmp_path):
    for model, atoms, said in (
        ("split", crystal(), r"electrostatics \(SplitCharges\)"),
        ("short", Atoms("Na", cell=[9, 9, 9], pbc=True), "no parameters for Na"),
        ("short", Atoms("Li"), "needs a box"),
    ):
        with pytest.raises(InputError, match=said):
            written(models / f"{model}.pt", atoms, tmp_path / "in.mlip")
