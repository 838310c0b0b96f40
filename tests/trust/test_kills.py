"""kill -9 before every os.replace, and at random moments: the repeated command ends as if nothing had happened.

Each trial runs in a fork, which has everything imported. MLIP_KILLS=50 tries so many random moments of every verb, and
every os.replace; without it one moment, and every fourth os.replace.
"""

import os
import random
import signal
import sys
import time
import traceback
from pathlib import Path

import ase.io
import numpy as np
import pytest
from ase.build import bulk
from corpus import TINY, crystal, labelled, train_words, write_model

import mlip
from mlip import cli

N_RANDOM = int(os.environ.get("MLIP_KILLS", "1"))
STRIDE = 1 if "MLIP_KILLS" in os.environ else 4
EMT = "calculator={_target_: ase.calculators.emt.EMT}"


def rows(file: Path) -> list:
    """Frames of a labelled file, times of the labelling left out."""
    return [
        (a.positions.tolist(), a.info.get("REF_energy"), a.arrays.get("REF_forces", np.zeros(0)).tolist())
        for a in ase.io.read(file, ":")
    ]  # fmt: skip


def moved(file: Path) -> list:
    """Positions, momenta, energy and cell of every frame."""
    return [
        (a.positions.tolist(), a.get_momenta().tolist(), a.get_potential_energy(), a.cell.array.tolist())
        for a in ase.io.read(file, ":")
    ]  # fmt: skip


def energies(model: Path) -> list:
    return [a.get_potential_energy() for a in mlip.load_calculator(model).calculate_many(ase.io.read("ok.xyz", ":"))]


def sampled(folder: Path) -> tuple:
    (*_, model) = sorted(folder.glob("rounds/*/model/model.pt"))
    copper = ase.io.read("cu.xyz")
    copper.calc = mlip.load_calculator(model)
    return rows(folder / "labelled.xyz"), copper.get_potential_energy()


NO_SPLIT = [word for word in TINY if not word.startswith("data.split")]
VERBS = {  # verb: words without the folder, and what must be the same to the last bit
    "train": (lambda: train_words(Path("ok.xyz"), Path("out"))[:-1], lambda out: energies(out / "model.pt")),
    "md": (
        lambda: ["md", "m.pt", "start.xyz", "steps=60", "temperature_K=200", "frame_every=10", "state_every=20"],
        lambda out: (moved(out / "trajectory.traj"), (out / "thermo.csv").read_bytes()),
    ),
    "label": (lambda: ["label", "many.xyz", "labels.xyz", "engine=emt"], lambda out: rows(Path("labels.xyz"))),
    "evaluate": (
        lambda: ["evaluate", EMT, "structure=cu.xyz", "only=[lattice,eos,elastic]", "evaluation=standard"],
        lambda out: (out / "results.json").read_text(),
    ),
    "sample": (
        lambda: ["sample", "cu.xyz", "engine=emt", "mobile=Cu", "framework=[]", "sampler=random_md", "model=small", *NO_SPLIT,
                 "data.cache=cache", "limits.rounds=1", "n_initial=4", "per_round=2", "n_relabelled=1", "n_draws=2",
                 "dynamics.steps=20", "dynamics.frame_every=4", "dynamics.temperatures_K=[300]", "dynamics.skip_ps=0",
                 "min_descriptor_distance=0.001"],
        sampled,
    ),
}  # fmt: skip


@pytest.fixture
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write_model(tmp_path / "m.pt")
    ase.io.write("start.xyz", crystal(3))
    ase.io.write("ok.xyz", labelled(10))
    ase.io.write("cu.xyz", bulk("Cu", a=3.6, cubic=True))
    many = [bulk("Cu", a=3.6, cubic=True) for _ in range(6)]
    for seed, atoms in enumerate(many):
        atoms.rattle(0.05, seed=seed)
    ase.io.write("many.xyz", many)
    return tmp_path


def in_fork(words: list[str], replace=None) -> int:
    """Process number of a fork that runs the command, silent; `replace` stands for os.replace there."""
    process = os.fork()
    if process:
        return process
    try:
        sys.stdout = sys.stderr = open("said.log", "a", encoding="utf-8")  # noqa: SIM115  closed by the end of the process
        if replace is not None:
            os.replace = replace
        code = cli.main(words)
    except BaseException:  # noqa: BLE001  the fork ends here in any case
        traceback.print_exc()
        code = 99
    sys.stdout.flush()
    os._exit(code)


def exit_code(process: int) -> int:
    return os.waitstatus_to_exitcode(os.waitpid(process, 0)[1])


def killed_before(number: int):
    """An os.replace that kills its process the number-th time."""
    real, count = os.replace, 0

    def replace(*args, **how):
        nonlocal count
        count += 1
        if count == number:
            os.kill(os.getpid(), signal.SIGKILL)
        return real(*args, **how)

    return replace


def words_of(verb: str, out: str) -> list[str]:
    return [*VERBS[verb][0](), f"folder={out}"]


def left_over(out: Path) -> list[str]:
    return [str(path) for path in out.rglob("*") if ".part" in path.name or path.name.endswith((".tmp", ".corrupt"))]


def finish(verb: str, out: str) -> object:
    """Repeat the command to its end; what it gives."""
    code = exit_code(in_fork(words_of(verb, out)))
    said = Path("said.log").read_text(encoding="utf-8")[-3000:]
    # a training that had ended before the kill is not trained again
    assert code == (1 if verb == "sample" else 0) or (code == 2 and f"{out} holds a finished run" in said), said
    assert not left_over(Path(out)), left_over(Path(out))
    return VERBS[verb][1](Path(out))


def start_anew() -> None:
    """What a trial before has written outside its folder is gone."""
    Path("labels.xyz").unlink(missing_ok=True)


@pytest.mark.slow
@pytest.mark.parametrize("verb", VERBS)
def test_a_killed_command_ends_as_one_that_was_not(verb, here):
    began = time.monotonic()
    expected = finish(verb, "whole")
    took = time.monotonic() - began
    number, again = 1 - STRIDE, True
    while again:  # until there is no os.replace left
        number += STRIDE
        start_anew()
        again = exit_code(in_fork(words_of(verb, f"cut{number}"), killed_before(number))) == -signal.SIGKILL
        if again:
            assert finish(verb, f"cut{number}") == expected, f"killed before os.replace {number}"
    assert number > 1, "the command wrote nothing"
    chance = random.Random(0)
    for trial in range(N_RANDOM):
        start_anew()
        process = in_fork(words_of(verb, f"random{trial}"))
        time.sleep(chance.uniform(0.02, 1.0) * took)
        os.kill(process, signal.SIGKILL)
        exit_code(process)
        assert finish(verb, f"random{trial}") == expected, f"killed at random moment {trial}"
    print(f"{verb}: killed before {(number - 1) // STRIDE} os.replace and at {N_RANDOM} random moments")
