"""A run that was killed and resumed is the run that was not."""

import csv
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from resume_run import KILLS

from mlip.training.checkpoint import read_checkpoint

HERE = Path(__file__).parent
CLOCKS = ("cpu_s", "wall_s")


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    folder = tmp_path_factory.mktemp("runs")
    environment = os.environ | {"PYTHONPATH": os.pathsep.join([str(HERE.parents[1]), os.environ.get("PYTHONPATH", "")])}
    command = [sys.executable, HERE / "resume_run.py", folder]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return folder


def differences(a, b, where=""):
    """Paths at which two checkpoints differ in any bit; clocks do not count."""
    if isinstance(a, torch.Tensor):
        return [] if torch.equal(a, b) and a.dtype == b.dtype else [where]
    if isinstance(a, dict):
        assert a.keys() == b.keys(), where
        return [path for key in a if key not in CLOCKS for path in differences(a[key], b[key], f"{where}/{key}")]
    if isinstance(a, (list, tuple)):
        assert len(a) == len(b), where
        return [path for i, (x, y) in enumerate(zip(a, b, strict=True)) for path in differences(x, y, f"{where}/{i}")]
    return [] if a == b else [where]


@pytest.mark.parametrize("kill", [f"{where}_{step}" for where, step in KILLS])
def test_weights_average_optimizer_generators_position_and_best_do_not_know_of_the_kill(runs, kill):
    whole, resumed = runs / "whole" / "checkpoints", runs / kill / "checkpoints"
    names = sorted(path.name for path in whole.iterdir())
    assert len(names) == 5  # last and the best four of five
    assert sorted(path.name for path in resumed.iterdir()) == names
    for name in names:
        assert differences(read_checkpoint(whole / name), read_checkpoint(resumed / name)) == []


@pytest.mark.parametrize("kill", [f"{where}_{step}" for where, step in KILLS])
def test_history_has_each_validation_once(runs, kill):
    def rows(folder):
        table = csv.DictReader((folder / "metrics.csv").read_text().splitlines())
        return [{k: v for k, v in row.items() if k not in CLOCKS} for row in table]

    assert rows(runs / kill) == rows(runs / "whole")
    assert [row["step"] for row in rows(runs / kill)] == ["8", "16", "24", "32", "40"]
