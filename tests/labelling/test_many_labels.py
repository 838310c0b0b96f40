"""Labels are computed once, kept at once, and nothing that fails takes others with it."""

import errno
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from ase.calculators.emt import EMT
from ase.calculators.lj import LennardJones

from mlip import cli, keys
from mlip.data import structures
from mlip.data.diagnosis import ERROR
from mlip.errors import LabellingError
from mlip.labelling import store
from mlip.labelling.calculator import CalculatorEngine
from mlip.labelling.engine import label_id, settings_hash, structure_id
from mlip.labelling.execution import parsl_pool
from mlip.labelling.run import run

sys.path.insert(0, str(Path(__file__).parent))
from engines import AtomicUnits, Counting, Failing, crystals

EMT_ENGINE = CalculatorEngine(EMT)


@pytest.mark.parametrize("calculator", [EMT, partial(LennardJones, epsilon=0.1, sigma=2.3, rc=4.0)], ids=["emt", "lj"])
def test_a_label_is_what_the_calculator_says_and_replaces_what_the_structure_came_with(calculator):
    (atoms,) = crystals(1)
    atoms.info.update(energy=99.0, ref_energy=98.0, config_type="rattled")  # as `read` gives an old label
    atoms.arrays["forces"], atoms.arrays["ref_forces"] = np.full((4, 3), 7.0), np.full((4, 3), 6.0)
    before = atoms.copy()
    labelled = CalculatorEngine(calculator).label(atoms)
    assert atoms == before and set(atoms.info) == set(before.info) and atoms.calc is None
    exact = atoms.copy()
    exact.calc = calculator()
    assert labelled.info[keys.REF_ENERGY] == exact.get_potential_energy()
    np.testing.assert_array_equal(labelled.arrays[keys.REF_FORCES], exact.get_forces())
    np.testing.assert_allclose(labelled.info[keys.REF_STRESS], exact.get_stress(voigt=False), atol=1e-12)
    assert (
        labelled.info["config_type"] == "rattled" and "energy" not in labelled.info and "forces" not in labelled.arrays
    )


def test_a_structure_keeps_its_name_through_a_file_and_another_setting_makes_another_label(tmp_path):
    made = crystals(3)
    structures.write(tmp_path / "a.xyz", made)
    assert [structure_id(a) for a in structures.read(tmp_path / "a.xyz")] == [structure_id(a) for a in made]
    moved = made[0].copy()
    moved.positions[0, 0] += 1e-4
    assert structure_id(moved) != structure_id(made[0])
    soft, hard, same = (CalculatorEngine(partial(LennardJones, epsilon=e)) for e in (1, 2.0, 1.0))
    assert label_id(made[0], soft) != label_id(made[0], hard)
    assert settings_hash(soft) == settings_hash(same), "1 and 1.0 are the same setting"
    model = tmp_path / "model.pt"
    model.write_text("one")
    first = settings_hash(CalculatorEngine(partial(EMT, path=str(model))))
    model.write_text("two")
    assert settings_hash(CalculatorEngine(partial(EMT, path=str(model)))) != first, "another model under the same name"


def test_what_is_labelled_is_not_labelled_again_and_duplicates_are_labelled_once(tmp_path):
    made = crystals(4)
    engine = CalculatorEngine(partial(Counting, str(tmp_path / "log")))
    first = run([*made[:2], made[0]], engine, tmp_path / "labels")
    assert len(first.seconds) == 2 and all(atoms is not None for atoms in first.labelled)
    second = run(made, engine, tmp_path / "labels")
    assert (second.kept, len(second.seconds)) == (2, 2)
    assert len((tmp_path / "log").read_text().splitlines()) == 4
    energies = [EMT_ENGINE.label(atoms).info[keys.REF_ENERGY] for atoms in made]
    np.testing.assert_allclose([atoms.info[keys.REF_ENERGY] for atoms in second.labelled], energies, atol=1e-7)


def test_one_label_serves_two_structures_and_each_keeps_what_it_is_said_to_be(tmp_path):
    one, other = crystals(1) * 2
    one, other = one.copy(), other.copy()
    one.info.update(hop="h0", ref_energy=9.0)
    other.info.update(hop="h1", ref_energy=8.0)
    for _ in range(2):  # computed, then read
        labelled = run([one, other], EMT_ENGINE, tmp_path).labelled
        assert [atoms.info["hop"] for atoms in labelled] == ["h0", "h1"]
        assert labelled[0].info[keys.REF_ENERGY] == labelled[1].info[keys.REF_ENERGY] < 5.0


def test_a_structure_that_was_labelled_before_gets_the_name_and_the_time_of_the_new_label(tmp_path):
    (atoms,) = crystals(1)
    atoms.info.update(label_id="old", label_seconds=1e4, hop="h0")
    (labelled,) = run([atoms], EMT_ENGINE, tmp_path).labelled
    assert labelled.info["label_id"] == label_id(atoms, EMT_ENGINE) and labelled.info["label_seconds"] < 1e3
    assert labelled.info["hop"] == "h0"


KILLED = """
import sys
sys.path.insert(0, {here!r})
from functools import partial
from engines import Counting, crystals
from mlip.labelling.calculator import CalculatorEngine
from mlip.labelling.run import run
run(crystals(6), CalculatorEngine(partial(Counting, {log!r}, float(sys.argv[1]))), {folder!r})
"""


def test_after_kill_9_no_finished_label_is_repeated_and_none_is_broken(tmp_path):
    log, folder = tmp_path / "log", tmp_path / "run"
    script = KILLED.format(here=str(Path(__file__).parent), log=str(log), folder=str(folder))
    first = subprocess.Popen([sys.executable, "-c", script, "0.3"])
    deadline = time.monotonic() + 60
    while len(list((folder / "labels").glob("[!.]*.xyz"))) < 2 and time.monotonic() < deadline:
        time.sleep(0.02)
    first.send_signal(signal.SIGKILL)
    first.wait()
    finished = {path: path.read_bytes() for path in (folder / "labels").glob("[!.]*.xyz")}
    assert 2 <= len(finished) < 6
    begun = len(log.read_text().splitlines())
    engine = CalculatorEngine(partial(Counting, str(log), 0.3))
    report = run(crystals(6), engine, folder)
    assert all(atoms is not None for atoms in report.labelled) and report.kept == len(finished)
    assert len(log.read_text().splitlines()) - begun == 6 - len(finished)
    assert all(path.read_bytes() == content for path, content in finished.items())


def test_a_failing_structure_is_recorded_with_its_cause_and_the_others_go_on(tmp_path, monkeypatch, capsys):
    made = crystals(6)
    bad = [n for n, atoms in enumerate(made) if atoms.positions[0, 0] < 0]
    assert 0 < len(bad) < 6
    structures.write(tmp_path / "in.xyz", made)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "300")
    words = [
        "label",
        "in.xyz",
        "out.xyz",
        "engine.calculator._target_=engines.Failing",
        f"+engine.calculator.path={tmp_path}/log",
    ]
    assert cli.main(words) == 1
    said = capsys.readouterr().out
    assert f"{6 - len(bad)} of 6 structures labelled" in said and "RuntimeError: the grid is too coarse" in said
    assert f"in.xyz:{bad[0]}" in said
    assert len(structures.read("out.xyz")) == 6 - len(bad)
    failures = [json.loads(line) for line in Path("out.xyz.labels/failures.jsonl").read_text().splitlines()]
    assert [f["attempt"] for f in failures].count(1) == len(bad) == [f["attempt"] for f in failures].count(2)
    assert all("grid is too coarse" in failure["cause"] for failure in failures)
    assert cli.main(["label", "in.xyz", "out.xyz", "engine=emt"]) == 0
    assert "labels of other settings" in capsys.readouterr().out


class Unconverged:
    """An engine that is sure of its cause."""

    tries = 0

    def settings(self):
        return {"engine": "unconverged"}

    def label(self, atoms):
        self.tries += 1
        raise LabellingError("the self-consistent cycle did not converge in 120 iterations")


def test_an_unconverged_cycle_is_named_and_not_tried_again(tmp_path):
    engine = Unconverged()
    report = run(crystals(2), engine, tmp_path)
    assert engine.tries == 2 and set(report.failed) == {0, 1} and report.labelled == [None, None]
    assert "did not converge in 120 iterations" in report.failed[0]


def test_labels_in_atomic_units_are_caught_and_not_handed_on(tmp_path, monkeypatch, capsys):
    structures.write(tmp_path / "in.xyz", crystals(8))
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "300")
    assert cli.main(["label", "in.xyz", "out.xyz", "engine.calculator._target_=engines.AtomicUnits"]) == 1
    said = capsys.readouterr().out
    assert "looks like Hartree or Ry, and the same per bohr" in said and "out.xyz is not written" in said
    assert not Path("out.xyz").exists() and len(list(Path("out.xyz.labels/labels").glob("*.xyz"))) == 8
    good = run(crystals(8), EMT_ENGINE, tmp_path / "good")
    assert not [finding for finding in good.findings if finding.severity == ERROR]
    assert AtomicUnits is not EMT


def test_a_label_that_is_not_a_number_is_a_failure(tmp_path):
    class NaN(EMT):
        def calculate(self, *arguments, **named):
            super().calculate(*arguments, **named)
            self.results["forces"] = self.results["forces"] * np.nan

    report = run(crystals(1), CalculatorEngine(NaN), tmp_path)
    assert "the engine gave no forces" in report.failed[0] and not list((tmp_path / "labels").iterdir())


def test_on_a_full_disk_the_label_in_hand_is_kept_and_the_run_goes_on_later(tmp_path, monkeypatch):
    """The disk takes two labels; then it is full until the reserve is given back."""
    whole = store.write

    def full(path, frames):
        if len(list(Path(path).parent.glob("*.xyz"))) >= 2 and (tmp_path / "reserve").exists():
            raise OSError(errno.ENOSPC, "No space left on device")
        whole(path, frames)

    engine = CalculatorEngine(partial(Counting, str(tmp_path / "log")))
    with monkeypatch.context() as patched:
        patched.setattr(store, "write", full)
        with pytest.raises(
            OSError, match=r"no space left .*: 3 labels are safe .*this last one is kept.*repeat the command"
        ) as told:
            run(crystals(6), engine, tmp_path)
    assert told.value.errno == errno.ENOSPC and not (tmp_path / "reserve").exists()
    begun = len((tmp_path / "log").read_text().splitlines())
    report = run(crystals(6), engine, tmp_path)
    assert all(atoms is not None for atoms in report.labelled) and report.kept >= 3
    assert len((tmp_path / "log").read_text().splitlines()) - begun == 6 - report.kept


def test_two_runs_never_compute_the_same_folder_at_once(tmp_path):
    with store.LabelFolder(tmp_path).reserve(), pytest.raises(OSError, match="another mlip works on"):
        run(crystals(2), EMT_ENGINE, tmp_path)
    assert all(run(crystals(2), EMT_ENGINE, tmp_path).labelled)


def test_parsl_workers_give_the_same_labels_as_this_process(tmp_path, monkeypatch):
    pytest.importorskip("parsl")
    from parsl.providers import LocalProvider

    monkeypatch.setenv("PYTHONPATH", f"{Path(__file__).parent}:{Path(__file__).parents[2]}")
    provider = LocalProvider(init_blocks=1, max_blocks=1, worker_init="export OMP_NUM_THREADS=1")
    execution = partial(parsl_pool, provider, str(tmp_path / "parsl"), workers_per_node=2, address="127.0.0.1")
    engine = CalculatorEngine(partial(Failing, str(tmp_path / "log"), 0.2))
    made = crystals(6)
    there = run(made, engine, tmp_path / "there", execution, retries=0)
    here = run(made, engine, tmp_path / "here", retries=0)
    assert len({line.split()[0] for line in (tmp_path / "log").read_text().splitlines()} - {str(os.getpid())}) == 2
    assert there.failed == here.failed and len(there.failed) > 0
    for one, other in zip(there.labelled, here.labelled, strict=True):
        assert (one is None) == (other is None)
        if one is not None:
            np.testing.assert_allclose(one.info[keys.REF_ENERGY], other.info[keys.REF_ENERGY], atol=1e-9)


ABANDONED = """
import sys
sys.path.insert(0, {here!r})
from functools import partial
from parsl.providers import LocalProvider
from engines import Counting, crystals
from mlip.labelling.calculator import CalculatorEngine
from mlip.labelling.execution import parsl_pool
from mlip.labelling.run import run
execution = partial(parsl_pool, LocalProvider(init_blocks=1, max_blocks=1), {folder!r} + "/parsl", workers_per_node=1, address="127.0.0.1")
run(crystals(60), CalculatorEngine(partial(Counting, {log!r}, 0.5)), {folder!r}, execution)
"""


@pytest.mark.skipif(shutil.which("setpriv") is None, reason="needs setpriv of Linux")
def test_workers_of_a_killed_run_get_no_more_structures(tmp_path, monkeypatch):
    pytest.importorskip("parsl")
    monkeypatch.setenv("PYTHONPATH", f"{Path(__file__).parent}:{Path(__file__).parents[2]}")
    log = tmp_path / "log"
    script = ABANDONED.format(here=str(Path(__file__).parent), log=str(log), folder=str(tmp_path / "labels"))
    process = subprocess.Popen([sys.executable, "-c", script], start_new_session=True)
    deadline = time.monotonic() + 60
    while not log.exists() and time.monotonic() < deadline:
        time.sleep(0.1)
    process.kill()
    process.wait()
    time.sleep(1.5)
    before = len(log.read_text().splitlines())
    time.sleep(2.5)
    after = len(log.read_text().splitlines())
    assert 0 < before == after < 60
