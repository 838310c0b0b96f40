"""Two processes train what one trains on the same batches, and go on when one of them was killed."""

import csv
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
import toy

from mlip.data.graph import collate, to_graph
from mlip.training.checkpoint import averaged_weights, read_checkpoint

HERE = Path(__file__).parent
CLOCKS = {"cpu_s", "wall_s"}


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    folder = tmp_path_factory.mktemp("runs")
    environment = os.environ | {"PYTHONPATH": f"{HERE.parents[1]}:{HERE}", "OMP_NUM_THREADS": "1"}
    done = subprocess.run([sys.executable, HERE / "two_processes.py", folder], env=environment, capture_output=True, text=True,
                          timeout=300, check=False)  # fmt: skip
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-4000:]
    return folder


def rows(folder: Path) -> list[dict[str, float]]:
    with open(folder / "metrics.csv", encoding="utf-8") as file:
        return [{k: float(v) for k, v in row.items() if k not in CLOCKS} for row in csv.DictReader(file)]


def weights(folder: Path) -> dict[str, torch.Tensor]:
    return averaged_weights(read_checkpoint(folder / "checkpoints" / "last.ckpt"))


@pytest.mark.slow
def test_weights_are_those_of_one_process_on_the_same_batches(runs):
    """So are all gradients: twenty steps of Adam would not forget another one."""
    single, whole = weights(runs / "single"), weights(runs / "whole")
    for name, value in single.items():
        torch.testing.assert_close(whole[name], value, rtol=1e-10, atol=1e-12)


@pytest.mark.slow
def test_metrics_are_those_of_one_process(runs):
    single, whole = rows(runs / "single"), rows(runs / "whole")
    assert len(single) == len(whole) == 4
    for one, two in zip(single, whole, strict=True):
        assert one.keys() == two.keys() and "train_loss" in one and "val_force_rmse_meV_per_A" in one
        assert two == pytest.approx(one, rel=1e-9)


@pytest.mark.slow
def test_a_killed_process_ends_the_other_and_the_run_goes_on_bit_for_bit(runs):
    whole, killed = weights(runs / "whole"), weights(runs / "killed")
    assert all(torch.equal(killed[name], value) for name, value in whole.items())
    assert rows(runs / "killed") == rows(runs / "whole")


def gradient(module, graphs) -> torch.Tensor:
    module.potential.zero_grad()
    module.loss(module.potential.train()(collate(graphs)), collate(graphs), 0.0)[0].backward()
    return torch.cat([p.grad.flatten() for p in module.potential.parameters()])


def test_batches_of_one_step_are_one_large_batch_if_their_structures_are_alike():
    graphs = [to_graph(atoms, toy.CUTOFF) for atoms in toy.structures(8)[1::2]]
    module = toy.module()
    parts = torch.stack([gradient(module, graphs[:2]), gradient(module, graphs[2:])])
    torch.testing.assert_close(parts.mean(0), gradient(module, graphs), rtol=1e-10, atol=1e-12)
