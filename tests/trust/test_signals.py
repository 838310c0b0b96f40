"""A command that is stopped says so, with the exit code of the signal, and resumes when it is repeated."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import ase.io
import numpy as np
import pytest
from corpus import labelled, write_model

from mlip import cli

CHECKOUT = Path(__file__).resolve().parents[2]


def command(words):
    run = "import sys; from mlip.cli import main; sys.exit(main(sys.argv[1:]))"
    return [sys.executable, "-c", run, *map(str, words)]


def stopped(words, folder, mark, number):
    """Exit code and stderr of a command that gets a signal once `mark` is there."""
    process = subprocess.Popen(command(words), cwd=folder, stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True,
                               env={**os.environ, "PYTHONPATH": str(CHECKOUT)})  # fmt: skip
    for _ in range(1200):
        if (folder / mark).exists() or process.poll() is not None:
            break
        time.sleep(0.05)
    process.send_signal(number)
    said = process.communicate(timeout=60)[1]
    return process.returncode, said


@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_dynamics_that_is_stopped_resumes(tmp_path, monkeypatch, number, code):
    monkeypatch.chdir(tmp_path)
    model = write_model(tmp_path / "model.pt")
    ase.io.write(tmp_path / "start.xyz", labelled(1))
    words = ["md", model, "start.xyz", "folder=md", "steps=100000", "state_every=10"]
    found, said = stopped(words, tmp_path, "md/state.npz", number)
    assert found == code and f"stopped by {number.name}; repeat the command to resume it" in said
    assert "Traceback" not in said
    with np.load(tmp_path / "md" / "state.npz") as state:
        step = int(state["step"])
    assert cli.main([str(word) for word in [*words[:4], f"steps={step + 10}", words[5]]]) == 0


def test_a_training_that_is_stopped_says_so(tmp_path):
    ase.io.write(tmp_path / "a.xyz", labelled(6))
    words = ["train", "data.files=a.xyz", "folder=run", "model/network=small", "trainer.max_steps=100000",
             "trainer.checkpoint_every=5", "trainer.accelerator=cpu", "trainer.logger=null", "data.cache=cache"]  # fmt: skip
    found, said = stopped(words, tmp_path, "run/checkpoints/last.ckpt", signal.SIGTERM)
    assert found == 143 and "stopped by SIGTERM; repeat the command to resume it" in said and "Traceback" not in said
