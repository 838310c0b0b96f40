"""Dynamics stops where the model is not sure of its ion, gets the label, and goes on from its last good frame."""

import itertools
import json
import sys
from pathlib import Path

import ase.io
import numpy as np
import pytest

sys.path.insert(0, str(Path(__file__).parent))
from oracle import labels_in, load, loop, start

from mlip import keys
from mlip.data.structures import read
from mlip.errors import GuardStop, InputError
from mlip.md.ensemble import Langevin
from mlip.sampling.asking_dynamics import AskingMD, window_above
from mlip.sampling.context import HopCatalogue, Sampler, SamplingContext
from mlip.sampling.convergence import Limits
from mlip.sampling.molecular_dynamics import Dynamics
from mlip.sampling.select import at_random

LIMIT, STEPS = 0.06, 300  # eV/Å: 0.3 Å from the nearest labelled ion


def sampler(limit=LIMIT):
    dynamics = Dynamics([700.0], steps=STEPS, timestep_fs=5.0, frame_every=6, ensemble=Langevin)
    return Sampler({"md": AskingMD(dynamics, limit)}, {"md": 0.5, "check": 0.5}, at_random, window_above(limit))


@pytest.fixture(scope="module")
def done(tmp_path_factory):
    folder = tmp_path_factory.mktemp("asking")
    return folder, loop(folder, folder / "log", sampler(), Limits(rounds=40)).run([start()])


def parts(folder):
    """Folders of the run's parts, in order."""
    return sorted(folder.glob("run/rounds/*/md/700K_start0"))


def test_what_stopped_the_run_is_labelled_and_the_sampling_ends_when_all_steps_are_done(done):
    folder, result = done
    assert result.converged and result.reason == "converged: fraction of uncertain frames 0 (limit 0.02)"
    asked = [atoms for atoms in read(folder / "run" / "labelled.xyz") if atoms.info["kind"] == "md"]
    assert len(asked) == result.record.round - 1 >= 2, "every round but the last asked for one label"
    trained = read(folder / "run" / "rounds" / f"{len(asked):02d}" / "train.xyz")
    assert sum(atoms.info["kind"] == "md" for atoms in trained) == len(asked), "what is asked for is trained on"
    held = read(folder / "run" / "rounds" / f"{len(asked):02d}" / "validation.xyz")
    assert "check" in {atoms.info["kind"] for atoms in held}
    for number, atoms in enumerate(asked):
        model = load(folder / "run" / "rounds" / f"{number:02d}" / "model")
        model.calculate(atoms)
        assert LIMIT < model.results[keys.FORCE_SIGMA][0] < 1.5 * LIMIT, "at the step that crossed the limit"
    assert labels_in(folder / "log")[1] == 0


def test_each_part_begins_with_the_last_good_frame_of_the_one_before_and_its_velocities(done):
    folder, _ = done
    runs, steps = parts(folder), 0
    for before, after in itertools.pairwise(runs):
        good, first = ase.io.read(before / "guard.xyz"), ase.io.read(after / "trajectory.traj", 0)
        np.testing.assert_allclose(first.positions, good.positions, atol=1e-7)
        np.testing.assert_allclose(first.get_momenta(), good.get_momenta() - good.get_masses()[:, None] *
                                   good.get_momenta().sum(axis=0) / good.get_masses().sum(), atol=1e-6)  # fmt: skip
        steps += good.info["step"]
    assert json.loads((runs[-1] / "summary.json").read_text())["steps"] == STEPS - steps


def test_a_finished_run_is_not_repeated_and_its_last_frame_is_judged_by_the_new_model(done, tmp_path):
    folder, result = done
    calculator = load(result.model)
    later = folder / "run" / "rounds" / f"{result.record.round + 1:02d}"
    context = SamplingContext(calculator, calculator, [start()], "Li", None, HopCatalogue(), later, 0)
    proposal = sampler().proposers["md"].propose(context)
    assert [c.kind for c in proposal.candidates] == ["md"] and not later.exists()
    assert proposal.notes == [f"700K_start0: {STEPS} of {STEPS} steps"]


def test_a_frame_that_the_new_model_still_doubts_is_asked_for_again_and_a_wreck_is_not(tmp_path):
    doubting = load_of([[9.0, 9.0, 9.0]])
    context = SamplingContext(doubting, doubting, [start()], "Li", None, HopCatalogue(), tmp_path / "rounds" / "01", 0)
    (candidate,) = sampler().proposers["md"].propose(context).candidates
    assert candidate.kind == "md" and candidate.parent == "700K_start0, step 0"
    np.testing.assert_allclose(candidate.atoms.positions, start().positions)
    sure = load_of([[0.0, 0.0, 0.0]])
    context = SamplingContext(sure, sure, [start()], "Li", None, HopCatalogue(), tmp_path / "sure" / "01", 0)
    explosive = Dynamics([700.0], steps=STEPS, timestep_fs=200.0, frame_every=6, ensemble=Langevin)
    with pytest.raises(GuardStop, match="smaller timestep_fs"):
        AskingMD(explosive, 1e9).propose(context)
    torn = start()
    torn.positions[1] = torn.positions[2] + [0.3, 0.0, 0.0]
    context = SamplingContext(sure, sure, [torn], "Li", None, HopCatalogue(), tmp_path / "torn" / "01", 0)
    with pytest.raises(GuardStop, match="less than min_distance_A"):
        sampler().proposers["md"].propose(context)
    with pytest.raises(InputError, match="must be positive, got 0"):
        AskingMD(explosive, 0)


def load_of(seen):
    """A model that has seen some ions."""
    from oracle import Model

    return Model(seen)
