"""The Python API: the same verbs, configs and defaults as the command."""

import pickle
import subprocess
import sys
from pathlib import Path

import ase.io
import numpy as np
import pytest

import mlip
from mlip import api, cli
from mlip.config import CONFIGS, OmegaConf, compose
from mlip.errors import InputError, MissingFileError

DATA = Path(__file__).resolve().parents[1] / "datasets" / "li3incl6" / "li3incl6_gpaw.xyz"
TINY = {
    "experiment": "li3incl6", "model": {"network": {"n_channels": 4, "l_max": 1}},
    "trainer": {"max_steps": 4, "validate_every": 2, "accelerator": "cpu"},
}  # fmt: skip


@pytest.fixture(autouse=True)
def own_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    return mlip.train(folder=tmp_path_factory.mktemp("runs") / "tiny", **TINY)


def test_import_is_light_and_every_public_name_exists():
    script = "import sys, mlip; assert not {'torch', 'ase', 'hydra'} & set(sys.modules); print(*mlip.__all__)"
    done = subprocess.run([sys.executable, "-c", script], text=True, capture_output=True, check=True)
    assert done.stdout.split() == sorted(mlip.__all__) == sorted(api.__all__)
    assert all(callable(getattr(mlip, name)) and name in dir(mlip) for name in mlip.__all__)
    assert (Path(mlip.__file__).parent / "py.typed").is_file()
    with pytest.raises(AttributeError, match="no attribute 'tarin'"):
        mlip.tarin


def test_settings_compose_the_config_of_the_command():
    python = api.config("train", {"data.files": "a.xyz"}, {
        "model": {"network": "small", "head": "qeq", "terms": {"electrostatics": {"formal_charges": {"Fe": 2}, "hardness": 7.0}}},
        "trainer": {"max_steps": 5}, "material": "halide", "optimizer.lr": 0.02,
    })  # fmt: skip
    words = [
        "data.files=a.xyz", "model/network=small", "model/head=qeq", "model.terms.electrostatics.formal_charges={Fe: 2}",
        "model.terms.electrostatics.hardness=7.0", "trainer.max_steps=5", "material=halide", "optimizer.lr=0.02",
    ]  # fmt: skip
    assert python == compose("train", words, [CONFIGS])
    for verb, keys in (("train", {"data.files": "a.xyz"}), ("evaluate", {"model": "m.pt", "structure": "a.cif"})):
        plain = OmegaConf.to_container(api.config(verb, keys, {}))
        command = compose(verb, [], [CONFIGS])
        for key, value in keys.items():
            OmegaConf.update(command, key, value)
        assert plain == OmegaConf.to_container(command)


@pytest.mark.parametrize(
    "settings, nearest",
    [
        ({"trainer": {"max_stesp": 3}}, "trainer.max_steps"), ({"model": {"head": "qec"}}, "qeq"), ({"model": "smal"}, "small"),
        ({"lr": 0.1}, "optimizer.lr"), ({}, "data.files"),
    ],
)  # fmt: skip
def test_a_wrong_setting_is_answered_by_the_nearest_that_exists(settings, nearest):
    with pytest.raises(InputError, match=nearest):
        mlip.train(**settings)


def test_a_run_has_config_split_history_metrics_statistics_and_potential(run):
    assert isinstance(run, mlip.Run) and run.has_ended and run.is_finished(run.config)
    assert run.config["trainer"]["max_steps"] == 4 and run.difference({**run.config, "seed": 5}) == "seed"
    assert [row["step"] for row in run.history] == [2, 4] and run.history[-1]["val_loss"] > 0
    assert "force_rmse_meV_per_A" in run.metrics["test"]["total"] and len(run.split["frames"]["train"]) > 10
    assert run.statistics["elements"] == [3, 17, 49] and run.potential().elements == [3, 17, 49]
    with pytest.raises(MissingFileError, match="give the folder of a run"):
        mlip.Run("nowhere").config


def test_a_run_is_exported_and_evaluated_like_its_file(run, tmp_path):
    atoms = mlip.read(DATA)[0]
    run.export(tmp_path / "again.pt")
    energies = [mlip.load_calculator(model).get_potential_energy(atoms) for model in (run, tmp_path / "again.pt")]
    assert energies[0] == energies[1]
    results = mlip.evaluate(run, only=["accuracy"], folder=tmp_path / "evaluation")
    assert (tmp_path / "evaluation" / "report.html").is_file()
    error = next(result for result in results if result.name == "energy_mae")
    assert error.value > 0 and error.unit == "meV/atom" and error.verdict


def test_a_calculator_is_pickled_as_its_file_and_settings(run):
    atoms = ase.io.read(DATA, "0")
    calculator = mlip.load_calculator(run, dtype="float64", skin=0.3, total_charge=0.0)
    copy = pickle.loads(pickle.dumps(calculator))
    assert copy.get_potential_energy(atoms) == calculator.get_potential_energy(atoms)
    np.testing.assert_array_equal(copy.get_forces(atoms), calculator.get_forces(atoms))
    assert copy.metadata["dtype"] == "float64" and copy.skin == 0.3 and copy.todict() == calculator.todict()


def test_trajectories_name_the_calculator_and_its_model(run):
    atoms = ase.io.read(DATA, "0")
    atoms.calc = mlip.load_calculator(run)
    atoms.get_potential_energy()
    ase.io.write("one.traj", atoms)
    kept = ase.io.read("one.traj").calc
    assert kept.name == "mlip" and atoms.calc.name == "mlip"
    about = atoms.calc.todict()
    assert (
        about["model"] == str((run.folder / "model.pt").resolve())
        and about["dtype"] == "float32"
        and about["training_hash"]
    )


def test_the_command_and_python_leave_the_same_run(run, tmp_path):
    words = ["experiment=li3incl6", "model.network.n_channels=4", "model.network.l_max=1", "trainer.max_steps=4",
             "trainer.validate_every=2", "trainer.accelerator=cpu", f"folder={tmp_path / 'command'}"]  # fmt: skip
    assert cli.main(["train", *words]) == 0
    assert mlip.Run(tmp_path / "command").history[-1]["val_loss"] == run.history[-1]["val_loss"]
    assert run.difference(mlip.Run(tmp_path / "command").config) == "folder"
