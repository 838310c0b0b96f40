"""A command that is told to stop says how to go on, and leaves 143 for SIGTERM, 130 for SIGINT."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import ase.io
import pytest
from corpus import answer, crystal, labelled, train_words, write_model

from mlip import commands
from mlip.labelling.run import run as label_all
from mlip.signals import Stopped, stoppable

SIGNALS = [(signal.SIGTERM, 143), (signal.SIGINT, 130)]
WORDS = {
    "train": ["data.files=a.xyz"], "sample": ["a.xyz", "mobile=Li"], "md": ["m.pt", "a.xyz"], "label": ["a.xyz", "b.xyz"],
    "evaluate": ["m.pt"], "predict": ["m.pt", "a.xyz", "b.xyz"],
}  # fmt: skip


@pytest.fixture(autouse=True)
def as_in_a_terminal():
    """A background job of a shell ignores SIGINT, and so does what it starts; these tests want it as in a terminal."""
    former = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, former)


def kill(number):
    os.kill(os.getpid(), number)
    time.sleep(5)  # the handler runs before this


@pytest.mark.parametrize("number, code", SIGNALS)
@pytest.mark.parametrize("verb", WORDS)
def test_a_signal_gives_its_code_and_one_sentence(verb, number, code, monkeypatch, capsys):
    monkeypatch.setattr(commands, "run", lambda *_: kill(number))
    before = signal.getsignal(number)
    found, said = answer(capsys, verb, *WORDS[verb], *(["engine=emt"] if verb in ("sample", "label") else []))
    end = "" if verb == "predict" else "; repeat the command to go on"
    assert (found, said) == (code, f"mlip: stopped by {number.name}{end}\n")
    assert signal.getsignal(number) == before


@pytest.mark.parametrize("number, code", SIGNALS)
def test_a_training_is_stopped_and_goes_on(number, code, tmp_path, monkeypatch, capsys):
    ase.io.write(tmp_path / "ok.xyz", labelled(10))
    words = train_words(tmp_path / "ok.xyz", tmp_path / "run")
    with monkeypatch.context() as patched:
        patched.setattr("mlip.training.module.TrainingModule.training_step", lambda *_: kill(number))
        found, said = answer(capsys, *words)
    assert found == code and f"mlip: stopped by {number.name}; repeat the command to go on" in said
    assert answer(capsys, *words)[0] == 0


class StopsWhileLabelling:
    def label(self, atoms):
        kill(signal.SIGTERM)

    def settings(self):
        return {}


def test_an_engine_that_is_stopped_is_no_failed_label(tmp_path):
    with pytest.raises(Stopped), stoppable():
        label_all([crystal()], StopsWhileLabelling(), tmp_path)


class Leaves(StopsWhileLabelling):
    def label(self, atoms):
        sys.exit(3)


def test_an_engine_that_calls_exit_is_a_failed_label(tmp_path):
    report = label_all([crystal()], Leaves(), tmp_path, retries=0)
    assert report.failed == {0: "SystemExit: 3"}


def test_dynamics_in_a_process_of_its_own_ends_with_143_and_goes_on(tmp_path, capsys):
    ase.io.write(tmp_path / "start.xyz", crystal())
    words = [
        "md",
        str(write_model(tmp_path / "m.pt")),
        str(tmp_path / "start.xyz"),
        f"folder={tmp_path / 'md'}",
        "state_every=10",
    ]
    code = "import sys; from mlip.cli import main; sys.exit(main(sys.argv[1:]))"
    process = subprocess.Popen([sys.executable, "-c", code, *words, "steps=10000000"], stderr=subprocess.PIPE, text=True,
                               stdout=subprocess.DEVNULL, cwd=Path(__file__).parents[2])  # fmt: skip
    while not (tmp_path / "md" / "state.npz").exists() and process.poll() is None:
        time.sleep(0.05)
    process.send_signal(signal.SIGTERM)
    assert "mlip: stopped by SIGTERM; repeat the command to go on" in process.communicate(timeout=60)[1]
    assert process.returncode == 143


SLOW = """
import time
from ase.calculators.emt import EMT
class Slow(EMT):
    def calculate(self, *args, **how):
        open({now!r}, "w").close()
        time.sleep(600)
"""


def test_a_label_in_hand_is_not_waited_for(tmp_path):
    (tmp_path / "slow_engine.py").write_text(SLOW.format(now=str(tmp_path / "now")))
    ase.io.write(tmp_path / "a.xyz", crystal())
    words = ["label", str(tmp_path / "a.xyz"), str(tmp_path / "b.xyz"), "engine.calculator._target_=slow_engine.Slow",
             "retries=0"]  # fmt: skip
    code = f"import sys; sys.path.insert(0, {str(tmp_path)!r}); from mlip.cli import main; sys.exit(main(sys.argv[1:]))"
    process = subprocess.Popen([sys.executable, "-c", code, *words], stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True,
                               cwd=Path(__file__).parents[2])  # fmt: skip
    while not (tmp_path / "now").exists() and process.poll() is None:
        time.sleep(0.05)
    process.send_signal(signal.SIGTERM)
    said = process.communicate(timeout=60)[1]
    assert process.returncode == 143 and "stopped by SIGTERM; repeat the command to go on" in said
