"""Temperatures in processes of their own: the same results, and no process outlives the command."""

import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from ase.build import bulk
from ase.calculators.emt import EMT

from mlip.evaluation.dynamics import Diffusion, Dynamics
from mlip.evaluation.evaluate import evaluate_one
from mlip.evaluation.transport import TransportAnalysis


def emt(device: str) -> EMT:
    return EMT()


def diffusion(folder, devices=None, production_ps=1.2) -> Diffusion:
    atoms = bulk("Cu", cubic=True).repeat(2)
    atoms.symbols[0] = "Au"
    dynamics = Dynamics(timestep_fs=4, equilibration_ps=0, production_ps=production_ps, frame_interval_fs=8)
    return Diffusion(atoms, TransportAnalysis("Au", 1), [300, 400], folder, dynamics, devices, emt)


def test_results_in_processes_are_those_of_one(tmp_path):
    one = diffusion(tmp_path / "one").evaluate(EMT())
    assert diffusion(tmp_path / "two", ["cpu", "cpu"]).evaluate(EMT()).results == one.results


def test_a_refusal_in_a_process_comes_in_its_own_words(tmp_path):
    diffusion(tmp_path).evaluate(EMT())
    moved = diffusion(tmp_path, ["cpu", "cpu"])
    moved.atoms.positions[0] += 0.1
    (note,) = evaluate_one("diffusion", moved, EMT(), tmp_path).notes
    assert "another start" in note and "Traceback" not in note


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_no_process_outlives_a_command_that_is_stopped(tmp_path, number):
    code = ("import sys; sys.path.insert(0, sys.argv[1])\n"
            "from test_dynamics_processes import EMT, diffusion\n"
            "from mlip.signals import stoppable\n"
            "if __name__ == '__main__':\n"
            "    with stoppable():\n"
            "        diffusion(sys.argv[2], ['cpu', 'cpu'], 1e5).evaluate(EMT())\n")  # fmt: skip
    script = tmp_path / "script.py"
    script.write_text(code)
    running = subprocess.Popen([sys.executable, str(script), str(Path(__file__).parent), str(tmp_path / "md")])
    files = [tmp_path / "md" / t / "nvt" / "thermo.csv" for t in ("300K", "400K")]
    until = time.monotonic() + 120
    while not all(file.exists() and file.stat().st_size > 200 for file in files):
        assert running.poll() is None and time.monotonic() < until
        time.sleep(0.1)
    running.send_signal(number)
    assert running.wait(60) != 0
    time.sleep(1)
    sizes = [file.stat().st_size for file in files]
    time.sleep(2)
    assert [file.stat().st_size for file in files] == sizes
