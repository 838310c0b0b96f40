"""The loop finds the barrier of a landscape that is known, ends for the right reason, and loses nothing that was done."""

import errno
import filecmp
import json
import subprocess
import sys
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from ase.calculators.lj import LennardJones

sys.path.insert(0, str(Path(__file__).parent))
from oracle import BARRIER, ERROR, Labelling, labels_in, load, loop, start

from mlip import keys
from mlip.data.structures import read
from mlip.errors import LabellingError
from mlip.labelling.calculator import CalculatorEngine
from mlip.labelling.engine import LabelPending
from mlip.labelling.files import FilesEngine
from mlip.sampling import store
from mlip.sampling.candidate import Candidate
from mlip.sampling.context import Proposal, Sampler
from mlip.sampling.convergence import Limits
from mlip.sampling.labels import validation_indices
from mlip.sampling.molecular_dynamics import Dynamics, RandomMD
from mlip.sampling.select import at_random
from mlip.sampling.store import RoundRecord, SamplingStore
from mlip.sampling.uncertainty import UncertaintyWindow


@pytest.fixture(scope="module")
def done(tmp_path_factory):
    """A sampling from nothing to its end."""
    folder = tmp_path_factory.mktemp("whole")
    return folder, loop(folder, folder / "log").run([start()])


def record(folder, number):
    return json.loads((folder / "run" / "rounds" / f"{number:02d}" / "record.json").read_text())


def test_the_barrier_is_found_and_the_loop_says_that_it_has_converged(done):
    folder, result = done
    assert result.converged and result.reason.startswith("converged: largest sigma of a barrier")
    first, last = record(folder, 1), record(folder, result.record.round)
    assert first["paths"][0]["barrier"] == pytest.approx(BARRIER - ERROR, abs=0.01), "before its saddle was labelled"
    assert last["paths"][0]["barrier"] == pytest.approx(BARRIER, abs=1e-3)
    assert first["saddle_errors"]["h0"] == pytest.approx(-ERROR, abs=0.01), (
        "from the label of the saddle, before training"
    )
    assert abs(last["saddle_errors"]["h0"]) < 1e-3 and last["labelled_barriers"]["h0"] == pytest.approx(
        BARRIER, abs=1e-3
    )
    assert [path["hop"] for path in last["paths"]] == ["h0"], "all hops of the cube are one"


def test_at_the_same_number_of_labels_random_frames_have_not_seen_the_saddle(done, tmp_path):
    total = done[1].record.labels
    dynamics = loop(tmp_path / "settings").sampler.proposers["check"].dynamics
    sampler = Sampler({"md": RandomMD(dynamics, 50)}, {"md": 1.0}, at_random)
    result = loop(tmp_path, sampler=sampler, limits=Limits(labels=total)).run([start()])
    errors = [abs(load(each.model).barrier - BARRIER) for each in (result, done[1])]
    assert result.record.labels == total and errors[1] < 1e-3 and errors[0] > 0.05


def test_every_label_is_computed_once_and_all_are_handed_over(done):
    folder, result = done
    handed = read(folder / "run" / "labelled.xyz")
    computed, twice = labels_in(folder / "log")
    # two old structures again, shifted as a whole, in each round
    assert len(handed) == result.record.labels and computed == len(handed) + 2 * result.record.round and twice == 0
    assert sum(result.record.by_kind.values()) == result.record.labels and result.record.by_kind["saddle"] == 1
    for atoms in handed:
        truth = Labelling()
        truth.calculate(atoms)
        assert atoms.info[keys.REF_ENERGY] == pytest.approx(truth.results["energy"], abs=1e-6)


def test_validation_frames_are_never_trained_on(done):
    folder, result = done
    for number in range(1, result.record.round + 1):
        parts = [{a.positions.tobytes() for a in read(folder / "run" / "rounds" / f"{number:02d}" / f"{part}.xyz")} for part in
                 ("train", "validation")]  # fmt: skip
        assert parts[1] and not parts[0] & parts[1]
        earlier = {
            a.positions.tobytes() for a in read(folder / "run" / "rounds" / f"{number - 1:02d}" / "validation.xyz")
        }
        assert earlier <= parts[1]
    kinds = [a.info["kind"] for a in read(folder / "run" / "rounds" / "01" / "labelled.xyz")]
    assert {kinds[n] for n in validation_indices(read(folder / "run" / "rounds" / "01" / "labelled.xyz"), 0.1)} == {
        "check"
    }


def test_the_page_shows_rounds_hops_and_figures(done):
    page = (done[0] / "run" / "history.html").read_text()
    assert "converged: largest sigma" in page and page.count("<img") == 4
    for name in ("Candidates", "Barriers", "Errors at saddles", "Labels by kind"):
        assert name in page


def test_a_finished_sampling_computes_nothing_and_goes_on_where_it_may(done):
    folder, result = done
    before = labels_in(folder / "log")
    again = loop(folder, folder / "log").run([start()])
    assert again == result and labels_in(folder / "log") == before
    with pytest.raises(ValueError, match="begun with another sampler"):
        loop(folder, settings={"sampler": "other"})


def test_the_budget_ends_it_to_the_label(tmp_path):
    result = loop(tmp_path, tmp_path / "log", limits=Limits(labels=9, uncertain_fraction=0.0)).run([start()])
    assert not result.converged and result.record.labels == 9 and "budget of 9 labels" in result.reason


def test_dynamics_is_not_called_certain_against_the_error_on_strained_starts_alone(tmp_path):
    dynamics = Dynamics([700.0], steps=240, timestep_fs=5.0, frame_every=6, skip_ps=0.1)
    sampler = Sampler(
        {"check": RandomMD(dynamics, frames=6, kind="check")},
        {"check": 1.0},
        window=UncertaintyWindow(0.05, 1.5, 20.0),
        choose=at_random,
    )
    result = loop(tmp_path, sampler=sampler, limits=Limits(rounds=4, uncertain_fraction=1.0)).run([start()])
    store = SamplingStore(tmp_path / "run", {})
    first, second = (RoundRecord.from_json(store.read_content(number, "record")) for number in (1, 2))
    assert first.uncertainty.uncertain_fraction is None and 0 <= second.uncertainty.uncertain_fraction <= 1
    assert result.converged and result.record.round == 2


KILLED = """
import os, signal, sys
sys.path.insert(0, {here!r})
from oracle import loop, start
from mlip.sampling.convergence import Limits
from pathlib import Path

replace, written = os.replace, []

def once(source, target, **more):
    # every third file is killed while it is written, a label just after it was
    target = str(target)
    if "/rounds/" in target:
        written.append(target)
        if len(written) == 3:
            os.kill(os.getpid(), signal.SIGKILL)
    replace(source, target, **more)
    if "/labels/labels/" in target:
        with open({log!r} + ".saved", "a") as file:
            file.write(target + "\\n")
        os.kill(os.getpid(), signal.SIGKILL)

def run():
    return loop({folder!r}, {log!r}, limits=Limits(rounds=1, uncertain_fraction=0.0)).run([start()])

killed = 0
while True:
    child = os.fork()
    if child == 0:
        os.replace = once
        run()
        os._exit(0)
    if os.waitpid(child, 0)[1] == 0:
        break
    killed += 1
print(killed, run().record.labels)
"""


def test_killed_at_every_file_it_repeats_no_label_and_ends_where_an_unkilled_one_does(tmp_path):
    script = KILLED.format(here=str(Path(__file__).parent), folder=str(tmp_path / "killed"), log=str(tmp_path / "log"))
    said = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False, timeout=300)
    assert said.returncode == 0, said.stderr[-2000:]
    killed, total = map(int, said.stdout.split()[-2:])
    saved = (tmp_path / "log.saved").read_text().splitlines()
    assert killed > 25 and len(saved) == len(set(saved)) == total + 2, (
        "a label in the making may be lost, a finished one never"
    )
    loop(tmp_path / "whole", limits=Limits(rounds=1, uncertain_fraction=0.0)).run([start()])
    one, other = (tmp_path / name / "run" / "rounds" for name in ("killed", "whole"))
    for stage in ("selected.xyz", "labelled.xyz", "hops.xyz"):
        a, b = (read(each / "01" / stage) for each in (one, other))
        assert len(a) == len(b) and all((x.positions == y.positions).all() for x, y in zip(a, b, strict=True))
    assert not filecmp.dircmp(one / "01", other / "01").right_only


# ---------------------------------------------------------------- what goes wrong


class Failing(Labelling):
    """No label where the ion is far from its site, or at all."""

    def __init__(self, log=None, reach=0.0):
        super().__init__(log)
        self.reach = reach

    def calculate(self, atoms=None, *arguments, **named):
        super().calculate(atoms, *arguments, **named)
        away = self.atoms.positions[0] - self.atoms.positions[1:].mean(axis=0) + 3.0
        if np.abs(away - 3 * np.round(away / 3)).max() > self.reach:
            raise RuntimeError("the grid is too coarse")


def test_an_engine_that_fails_altogether_ends_it_with_the_cause_and_keeps_what_is_there(tmp_path):
    engine = CalculatorEngine(partial(Failing, str(tmp_path / "log"), -1.0))
    with pytest.raises(
        LabellingError, match=r"4 of 4 structures have no label.*the grid is too coarse.*repeat the command"
    ):
        loop(tmp_path, engine=engine, numbers={"retries": 0}).run([start()])
    assert not (tmp_path / "run" / "rounds" / "00" / "labelled.xyz").exists()
    result = loop(tmp_path, limits=Limits(rounds=0)).run([start()])
    assert result.record.labels == 4, "with an engine that works it goes on"


def test_single_failures_are_recorded_and_the_round_goes_on(tmp_path):
    engine = CalculatorEngine(partial(Failing, str(tmp_path / "log"), 1.45))
    result = loop(tmp_path, engine=engine, numbers={"retries": 0}, limits=Limits(rounds=1)).run([start()])
    summary = json.loads((tmp_path / "run" / "rounds" / "01" / "labels.json").read_text())
    assert 0 < summary["failed"] < summary["requested"] and "too coarse" in summary["causes"][0]
    assert result.record.new == summary["requested"] - summary["failed"]


def test_an_engine_that_has_changed_is_caught_by_old_structures(tmp_path):
    loop(tmp_path, limits=Limits(rounds=0)).run([start()])
    changed = CalculatorEngine(partial(Labelling, None, 1.5))
    with pytest.raises(LabellingError, match=r"no longer gives the labels .* 2 old structures differ .* meV/atom"):
        loop(tmp_path, engine=changed).run([start()])
    assert not (tmp_path / "run" / "rounds" / "01" / "labelled.xyz").exists()


def test_a_start_and_a_saddle_that_are_required_together_keep_to_the_budget(tmp_path):
    saddle, known = start(), start()
    saddle.positions[0, 0] += 1.5
    known.positions[0, 1] += 0.7
    known.info.update(kind="md", ion=0)
    pair = [Candidate(start(), "end", "h0", 0), Candidate(saddle, "saddle", "h0", 0)]
    for labels, count in ((2, 1), (3, 2)):
        sampling = loop(tmp_path, limits=Limits(labels=labels))
        assert len(sampling.select(1, pair, [known])) == count


def test_labels_that_come_back_later_pause_it(tmp_path):
    engine = FilesEngine("pbe", tmp_path / "to_label.xyz", tmp_path / "labelled_elsewhere.xyz")
    with pytest.raises(LabelPending, match=r"4 of 4 labels are pending"):
        loop(tmp_path, engine=engine).run([start()])
    assert len(read(tmp_path / "to_label.xyz")) == 4


class Nothing:
    """Proposes nothing."""

    def propose(self, context):
        return Proposal(notes=["nobody moved"])


def test_without_a_candidate_it_ends_and_says_why(tmp_path):
    result = loop(tmp_path, sampler=Sampler({"none": Nothing()}, {"md": 1.0}, at_random, UncertaintyWindow())).run(
        [start()]
    )
    assert not result.converged and "nothing to label: no proposer has a candidate" in result.reason
    assert result.record.labels == 4 and "nobody moved" in (tmp_path / "run" / "history.html").read_text()
    known = Sampler({"md": RandomMD(loop(tmp_path).sampler.proposers["check"].dynamics, 5)}, {"md": 1.0}, at_random)
    far = loop(tmp_path / "far", sampler=known, limits=Limits(rounds=2))
    far.settings = replace(far.settings, min_descriptor_distance=1e6)
    assert "all 5 candidates resemble labelled structures" in far.run([start()]).reason


def test_a_model_without_uncertainty_cannot_score_and_one_too_poor_says_so(tmp_path):
    plain = loop(tmp_path / "plain")
    plain.models = replace(plain.models, load=lambda folder: LennardJones(sigma=1.5, epsilon=0.01, rc=3.0))
    with pytest.raises(ValueError, match="has no force_sigma"):
        plain.run([start()])
    poor = loop(tmp_path / "poor")
    poor.sampler = Sampler(
        poor.sampler.proposers, poor.sampler.quotas, poor.sampler.choose, UncertaintyWindow(1e-4, 0.0, 1.01)
    )
    result = poor.run([start()])
    assert "too uncertain to be sound" in result.reason and not result.converged


def test_on_a_full_disk_it_stops_with_a_sentence_and_goes_on_later(tmp_path, monkeypatch):
    write = store.write

    def full(path, frames):
        if "01" in str(path) and "selected" in str(path):
            raise OSError(errno.ENOSPC, "No space left on device")
        write(path, frames)

    with monkeypatch.context() as patched:
        patched.setattr(store, "write", full)
        with pytest.raises(
            OSError, match=r"no space left .*every finished stage and label is safe.*repeat the command"
        ):
            loop(tmp_path, tmp_path / "log", limits=Limits(rounds=1)).run([start()])
    computed = labels_in(tmp_path / "log")[0]
    result = loop(tmp_path, tmp_path / "log", limits=Limits(rounds=1)).run([start()])
    assert labels_in(tmp_path / "log") == (computed + result.record.new + 2, 0)


def test_one_folder_is_sampled_by_one_process_and_only_by_a_sampling(tmp_path):
    held = loop(tmp_path)
    with held.store.lock(), pytest.raises(OSError, match="another mlip samples"):
        loop(tmp_path).run([start()])
    (tmp_path / "thesis").mkdir()
    (tmp_path / "thesis" / "chapter.tex").write_text("years of work")
    with pytest.raises(ValueError, match="holds something else"):
        SamplingStore(tmp_path / "thesis", {})
    (tmp_path / "former").mkdir()
    (tmp_path / "former" / "settings.json").write_text(json.dumps({"apart": 0.2, "first": 20}))
    with pytest.raises(ValueError, match=r"earlier version of mlip.*data.files=\[.*former/rounds/\*/labelled.xyz\]"):
        SamplingStore(tmp_path / "former", {"min_descriptor_distance": 0.2})
    with pytest.raises(ValueError, match="needs a structure"):
        loop(tmp_path).run([])
    none = loop(tmp_path)
    none.settings = replace(none.settings, n_initial=0)
    with pytest.raises(ValueError, match="n_initial >= 1"):
        none.run([start()])
