"""The data sets that ship: labels that are right, hops that test kept apart from what trains."""

import hashlib

import numpy as np
import pytest

from mlip import cli, keys, load_calculator
from mlip.data.doctor import check, has_errors
from mlip.data.structures import read
from mlip.labelling.engine import structure_id
from mlip.sampling.errors import labelled_barriers, last_similar

FOLDER = cli.CONFIGS.parent / "datasets" / "li3ycl6"


@pytest.fixture(scope="module")
def sets():
    return read(str(FOLDER / "li3ycl6_gpaw.xyz")), read(str(FOLDER / "li3ycl6_hops_gpaw.xyz"))


def test_the_labels_of_li3ycl6_are_right(sets):
    for file, frames in zip(("li3ycl6_gpaw.xyz", "li3ycl6_hops_gpaw.xyz"), sets, strict=True):
        assert not has_errors(check(files=str(FOLDER / file)))
        assert {str(atoms.symbols) for atoms in frames} == {"Y3Cl18Li9"}


def test_labels_at_constant_pressure_are_of_larger_cells_and_five_are_kept_apart(sets):
    train, test = (read(str(FOLDER / f"li3ycl6_npt{name}_gpaw.xyz")) for name in ("", "_test"))
    assert (len(train), len(test)) == (20, 5) and not has_errors(check(files=str(FOLDER / "li3ycl6_npt_gpaw.xyz")))
    assert min(atoms.get_volume() for atoms in train) >= max(atoms.get_volume() for atoms in sets[0]) - 1
    assert all(last_similar(atoms, [*train, *sets[0]], 0.05) is None for atoms in test)


def test_hops_that_test_are_six_and_none_of_their_structures_trains(sets):
    train, hops = sets
    barriers = labelled_barriers(hops)
    assert len(barriers) == 6 and all(0.1 < value < 0.6 for value in barriers.values())
    assert not {structure_id(atoms) for atoms in train} & {structure_id(atoms) for atoms in hops}
    assert len({structure_id(atoms) for atoms in train}) == len(train) > 200
    assert all(last_similar(hop, train, 0.05) is None for hop in hops), "nor do near copies"


def test_the_labels_of_li3ybr6_are_right_and_its_saddles_train_nothing():
    folder = FOLDER.parent / "li3ybr6"
    train, saddles = (read(str(folder / name)) for name in ("li3ybr6_gpaw.xyz", "li3ybr6_saddles_gpaw.xyz"))
    assert not has_errors(check(files=str(folder / "li3ybr6_gpaw.xyz"))) and len(train) == 24
    assert {str(atoms.symbols) for atoms in [*train, *saddles]} == {"Y2Br12Li6"}
    assert all(0.1 < value < 1.0 for value in labelled_barriers(saddles).values())
    assert all(last_similar(atoms, train, 0.05) is None for atoms in saddles)


@pytest.mark.parametrize("name", ["li3ycl6", "li3incl6"])
def test_a_ready_potential_is_the_one_of_its_page(name):
    file = FOLDER.parent / name / "model.pt"
    assert hashlib.sha256(file.read_bytes()).hexdigest() in (file.parent / "README.md").read_text(encoding="utf-8")
    metadata = load_calculator(file).metadata
    assert all(fall["fall_eV"] <= 0.1 for fall in metadata["holes"].values())
    assert metadata["metrics"]["test"]["total"]["force_rmse_meV_per_A"] < 25


def test_the_errors_in_a_ready_potential_are_those_on_the_hops(sets):
    calculator = load_calculator(FOLDER / "model.pt")
    errors = np.concatenate([calculator.get_forces(atoms) - atoms.arrays[keys.REF_FORCES] for atoms in sets[1]])
    quoted = calculator.metadata["metrics"]["test"]["total"]["force_rmse_meV_per_A"]
    assert 1000 * np.sqrt((errors**2).mean()) == pytest.approx(quoted, rel=1e-3)


def test_the_first_minute_of_a_newcomer(tmp_path, monkeypatch):
    monkeypatch.chdir(cli.CONFIGS.parent)
    words = ["md", "datasets/li3ycl6/model.pt", "datasets/li3ycl6/start.xyz@0", "temperature_K=600", "steps=20"]
    assert cli.main([*words, f"folder={tmp_path / 'md'}"]) == 0
    assert (tmp_path / "md" / "summary.json").is_file()
