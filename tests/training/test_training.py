"""The whole training on a potential of 76 numbers."""

import json
import math
import os
import subprocess
import sys
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
import toy
from ase.build import bulk
from pytorch_lightning.loggers import TensorBoardLogger

from mlip import keys
from mlip.data.graph import collate, to_graph
from mlip.data.statistics import statistics as make_statistics
from mlip.training.finetune import fine_tune
from mlip.training.fit import load_potential, train
from mlip.training.module import TrainingModule
from mlip.training.schedule import Plateau


def build(config, statistics):
    return toy.Morse(statistics, config["noise"])


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    folder = tmp_path_factory.mktemp("run") / "toy"
    logger = partial(TensorBoardLogger, name="tensorboard", version="")
    data = toy.Data(toy.structures(16))
    result = train(
        toy.module(), data, folder, max_epochs=40, validate_every=60, gradient_clip=10.0, keep_best=2, logger=logger
    )
    return folder, result, data


def test_training_learns_the_forces(run):
    _, result, _ = run
    assert result["steps"] == 240
    assert result["epochs"] == 40
    assert result["test"]["total"]["force_rmse_meV_per_A"] < 5  # the labels have hundreds
    assert set(result["test"]["by_element"]) == {"Li", "F"}
    assert set(result["test"]["by_config_type"]) == {"cubic", "primitive"}


def test_a_run_leaves_metrics_curves_and_logs(run):
    folder, result, _ = run
    assert json.loads((folder / "metrics.json").read_text()) == result
    assert (folder / "metrics.csv").read_text().startswith("step,epoch,progress,cpu_s,wall_s,lr,train_loss")
    assert (folder / "plots" / "parity.png").stat().st_size > 1000
    assert (folder / "plots" / "learning_curve.png").stat().st_size > 1000
    assert list((folder / "tensorboard").glob("events*"))
    assert len(list((folder / "checkpoints").iterdir())) == 3


def test_a_run_loads_as_the_potential_that_was_tested(run):
    folder, result, data = run
    potential = load_potential(folder, build)
    assert not potential.training
    graph = collate(data.test)
    error = potential(graph)["forces"].detach() - graph[keys.REF_FORCES]
    rmse = 1e3 * error.square().mean().sqrt().item()
    assert rmse == pytest.approx(result["test"]["total"]["force_rmse_meV_per_A"], rel=1e-9)


def test_the_best_weights_are_tested_not_the_last(tmp_path, monkeypatch):
    end = TrainingModule.on_validation_epoch_end

    def worse_and_worse(self):
        end(self)
        self.row["val_loss"] = float(self.budget.steps)

    monkeypatch.setattr(TrainingModule, "on_validation_epoch_end", worse_and_worse)
    data = toy.Data(toy.structures(8))
    result = train(toy.module(), data, tmp_path, max_steps=40, validate_every=10)
    assert result["best_step"] == result["validation"]["step"] == 10
    graph = collate(data.test)
    error = load_potential(tmp_path, build)(graph)["forces"].detach() - graph[keys.REF_FORCES]
    assert result["test"]["total"]["force_rmse_meV_per_A"] == pytest.approx(
        1e3 * error.square().mean().sqrt().item(), rel=1e-9
    )


def test_an_occupied_folder_is_not_overwritten(run):
    folder, _, data = run
    with pytest.raises(FileExistsError, match="resume"):
        train(toy.module(), data, folder, max_steps=1)


def test_a_finished_run_can_be_extended(run, tmp_path):
    first = train(toy.module(), toy.Data(toy.structures(8)), tmp_path / "r", max_steps=9, validate_every=4)
    again = train(toy.module(), toy.Data(toy.structures(8)), tmp_path / "r", max_steps=9, validate_every=4, resume=True)
    longer = train(
        toy.module(), toy.Data(toy.structures(8)), tmp_path / "r", max_steps=14, validate_every=4, resume=True
    )
    assert (first["steps"], again["steps"], longer["steps"]) == (9, 9, 14)
    assert again["test"] == first["test"]


def test_training_works_without_validation_and_test(tmp_path):
    data = toy.Data(toy.structures(6), n_val=0, n_test=0)
    data.val_dataloader = data.test_dataloader = list
    result = train(toy.module(), data, tmp_path, max_steps=10, validate_every=4)
    assert result["steps"] == result["best_step"] == 10
    assert "test" not in result
    rows = (tmp_path / "metrics.csv").read_text().splitlines()
    assert [row.split(",")[0] for row in rows] == ["step", "4", "8", "10"]


def test_training_ends_when_its_cpu_seconds_are_used(tmp_path):
    result = train(toy.module(), toy.Data(toy.structures(6)), tmp_path, max_seconds=0.5, validate_every=10_000)
    assert 0.5 <= result["cpu_s"] < 2
    assert result["steps"] > 5
    assert result["validation"]["lr"] < 0.02 * 0.1  # annealed within the budget


def test_training_stops_early_when_validation_does_not_improve(tmp_path):
    still = toy.module(schedule=Plateau(warmup=0, decay=0.5, patience=1, threshold=0.01, final=0), lr=0.0)
    result = train(still, toy.Data(toy.structures(6)), tmp_path, max_steps=100, validate_every=2, patience=3)
    assert result["steps"] == 8
    again = train(
        still, toy.Data(toy.structures(6)), tmp_path, max_steps=100, validate_every=2, patience=3, resume=True
    )
    assert again["steps"] == 8


def test_gradients_of_several_batches_make_one_step(tmp_path):
    result = train(toy.module(), toy.Data(toy.structures(12)), tmp_path, max_steps=6, validate_every=2, accumulate=2)
    assert result["steps"] == 6
    assert result["epochs"] == pytest.approx(3.0)  # 12 batches of 4 per epoch


def test_a_gradient_that_is_not_finite_stops_and_names_the_structures(tmp_path):
    data = toy.Data(toy.structures(8))
    data.train[2][keys.REF_FORCES][0, 0] = math.inf
    with pytest.raises(FloatingPointError, match="frame 2"):
        train(toy.module(), data, tmp_path, max_steps=50)


def new_level(frames, offset):
    for atoms in frames:
        atoms.info["level"] = "other"
        atoms.info[keys.REF_ENERGY] += float(offset @ np.bincount(atoms.numbers, minlength=20))
    return frames


def test_fine_tuning_copies_known_elements_and_fits_the_shifts_of_a_new_level(run):
    folder, _, _ = run
    offset = np.zeros(20)
    offset[3], offset[9] = 5.0, -7.0
    frames = new_level(toy.structures(8, seed=1), offset)
    lithium = bulk("Li", "bcc", a=3.2)  # with it, the shifts of both elements are determined
    before = load_potential(folder, build)
    lithium.info[keys.REF_ENERGY] = before(to_graph(lithium, toy.CUTOFF))["energy"].item()
    frames += new_level([lithium], offset)
    statistics = toy.STATISTICS | {
        "elements": [3, 9, 17], "levels": ["default", "other"], "atomic_energies": [[-1.0, -2.0, 0.0], [40.0, 50.0, 60.0]],
    }  # fmt: skip
    graphs = [to_graph(atoms, toy.CUTOFF, levels=statistics["levels"]) for atoms in frames]
    potential, statistics = fine_tune(folder, partial(build, {"noise": 0.0}), statistics, [collate(graphs)])
    old, new = before.species.weight, potential.species.weight
    assert torch.equal(new[:2], old)
    assert new[2].abs().sum() > 0
    assert torch.equal(potential.mix.weight, before.mix.weight)
    assert statistics["atomic_energies"][0] == [-1.0, -2.0, 0.0]
    assert statistics["atomic_energies"][1][:2] == pytest.approx([4.0, -9.0], abs=0.01)
    errors = potential.eval()(collate(graphs))["energy"] - collate(graphs)[keys.REF_ENERGY]
    assert errors.abs().max() < 0.02


def test_fine_tuning_a_known_level_starts_where_the_old_run_ended(run):
    folder, _, data = run
    graph = collate(data.test)
    potential, statistics = fine_tune(folder, partial(build, {"noise": 0.0}), toy.STATISTICS, [graph])
    assert statistics == toy.STATISTICS
    assert torch.equal(potential.eval()(graph)["energy"], load_potential(folder, build)(graph)["energy"])


def test_fine_tuning_to_another_zero_of_energy_begins_with_its_shifts(run):
    folder, _, data = run
    graph = dict(collate(data.test))
    graph[keys.REF_ENERGY] = graph[keys.REF_ENERGY] + 3.0 * torch.bincount(
        graph[keys.BATCH]
    )  # another code, 3 eV/atom beside
    potential, statistics = fine_tune(folder, partial(build, {"noise": 0.0}), toy.STATISTICS, [graph])
    errors = (potential.eval()(graph)["energy"] - graph[keys.REF_ENERGY]) / torch.bincount(graph[keys.BATCH])
    assert errors.abs().max() < 0.01
    assert np.mean(statistics["atomic_energies"]) == pytest.approx(
        np.mean(toy.STATISTICS["atomic_energies"]) + 3.0, abs=0.01
    )
    assert torch.equal(potential(graph)["forces"], load_potential(folder, build)(graph)["forces"])


def test_weights_stay_nearer_to_their_start_the_more_they_are_drawn_there(tmp_path):
    moved = []
    for l2_sp in (0.0, 10.0, 1e6):
        module = toy.module(l2_sp=l2_sp)
        start = [parameter.detach().clone() for parameter in module.potential.parameters()]
        train(module, toy.Data(toy.structures(8)), tmp_path / f"{l2_sp:g}", max_steps=20, validate_every=20)
        moved.append(
            sum((a - b).square().sum() for a, b in zip(module.potential.parameters(), start, strict=True)).item()
        )
    assert moved[0] > 2 * moved[1] > 0 and moved[2] == 0


def test_fine_tuning_refuses_lost_elements_and_other_networks(run):
    folder, _, _ = run
    with pytest.raises(ValueError, match="9"):
        fine_tune(folder, partial(build, {"noise": 0.0}), toy.STATISTICS | {"elements": [3]}, [])

    def wider(statistics):
        potential = build({"noise": 0.0}, statistics)
        potential.mix = torch.nn.Linear(8, 7).double()
        return potential

    with pytest.raises(ValueError, match="mix.weight"):
        fine_tune(folder, wider, toy.STATISTICS, [])


def test_statistics_of_the_data_module_add_elements_to_those_of_a_run():
    merged = make_statistics(
        [3, 17], ["other"], np.array([[1, 1], [2, 1]]), np.array([-3.0, -4.0]), np.zeros(2, int), np.zeros(2, bool), 5.0, 1.0,
        previous=toy.STATISTICS,
    )  # fmt: skip
    assert merged["elements"] == [3, 9, 17]
    assert merged["levels"] == ["default", "other"]


@pytest.mark.slow
def test_two_processes_train_one_potential(tmp_path):
    here = Path(__file__).parent
    script = tmp_path / "two.py"
    script.write_text(
        "import sys; sys.path.insert(0, sys.argv[1])\n"
        "import toy; from mlip.training.fit import train\n"
        "train(toy.module(), toy.Data(toy.structures(16), batch_size=1, n_test=4), sys.argv[2], max_steps=20, validate_every=10,\n"
        "      accelerator='cpu', devices=2, strategy='ddp')\n"
    )
    environment = os.environ | {"PYTHONPATH": str(here.parents[1]), "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [sys.executable, script, here, tmp_path / "run"],
        env=environment,
        capture_output=True,
        text=True,
        timeout=200,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    result = json.loads((tmp_path / "run" / "metrics.json").read_text())
    assert result["epochs"] == pytest.approx(20 / 5)  # ten frames, one on each of two processes per step
    graph = collate(toy.Data(toy.structures(16), n_test=4).test)
    error = load_potential(tmp_path / "run", build)(graph)["forces"].detach() - graph[keys.REF_FORCES]
    rmse = 1e3 * error.square().mean().sqrt().item()
    assert result["test"]["total"]["force_rmse_meV_per_A"] == pytest.approx(rmse, rel=1e-9)
