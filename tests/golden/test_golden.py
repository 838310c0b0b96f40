"""Numbers of tiny runs of every verb, kept in numbers/*.json: a restructuring must not move them.

Everything goes through the command line, `mlip.load_calculator` and the files that a user reads. Only the tables below
name config keys, only the functions `read_*` name keys of result files. regenerate.py writes the numbers anew.
"""

import importlib
import json
import math
import os
import platform
import time
import tomllib
from pathlib import Path

import ase.io
import numpy as np
import pytest
import torch
from ase.build import bulk

import mlip

HERE = Path(__file__).resolve().parent
CHECKOUT = HERE.parents[1]
NUMBERS = HERE / "numbers"

MACHINE = HERE / "machine.json"


def machine() -> dict:
    """What decides the last digits: processor, instruction set and torch."""
    lines = Path("/proc/cpuinfo").read_text().splitlines() if Path("/proc/cpuinfo").exists() else []
    names = [line.split(":")[1].strip() for line in lines if line.startswith("model name")] or [platform.processor()]
    return {"processor": names[0], "capability": torch.backends.cpu.get_cpu_capability(), "torch": torch.__version__}


SAME = not MACHINE.exists() or json.loads(MACHINE.read_text()) == machine()
# times max(1, size of the number)
FLOAT64 = float(os.environ.get("MLIP_GOLDEN_TOLERANCE", 1e-10 if SAME else 1e-5))
FLOAT32 = max(1e-6, FLOAT64)
PRINTED = max(3e-8, FLOAT64)  # extxyz has 8 decimals; a last digit may round the other way

# ---------------------------------------------------------------- each case and its command words

TINY = ["model.network.n_channels=4", "model.network.l_max=1"]
TRAIN = [
    "train", "data.files=train.xyz", "trainer.validate_every=3", "trainer.accelerator=cpu",
    "trainer.logger=null", "data.cache=cache", "seed=1",
]  # fmt: skip
TRAININGS = {  # case: words after TRAIN; the exported model predicts two frames that it was not trained on
    "none": ["model=short_range", "dtype=float64", *TINY],
    "formal_charges": ["model=formal_charges", "dtype=float64", *TINY],
    "formal_dipoles": ["model=formal_dipoles", "dtype=float64", *TINY],
    "qeq": ["model=qeq", "dtype=float64", *TINY],
    "qeq_dipoles": ["model=qeq_dipoles", "dtype=float64", *TINY],
    "split_charges": ["model=split_charges", "dtype=float64", *TINY],
    "small": ["model=small", "dtype=float64"],
    "medium": ["model=medium", "dtype=float64", "trainer.max_steps=2"],
    "large": ["model=large", "dtype=float64", "trainer.max_steps=2"],
    "buckingham": ["model=buckingham", "dtype=float64"],
    "core_shell": ["model=core_shell", "dtype=float64"],
    "float32": ["model=small", "dtype=float32", "trainer.max_steps=2"],
}
EXPORTS = {"double": ["export", "float32", "dtype=float64", "path=double.pt"]}
PREDICTIONS = {"predict": ["predict", "none/model.pt", "frames.xyz", "predicted.xyz"]}
MD = [
    "md", "none/model.pt", "structure=train.xyz@0", "repeat=[2,1,1]", "steps=20", "temperature_K=300", "frame_every=10",
    "thermo_every=10", "seed=3",
]  # fmt: skip
DYNAMICS = {"nve": ["ensemble=nve"], "nvt": ["ensemble=bussi"]}
EMT = "calculator={_target_: ase.calculators.emt.EMT}"
EVALUATIONS = {
    "accuracy": ["evaluate", "none/model.pt", "data.files=train.xyz", "only=[accuracy]", "mobile=Li"],
    "lattice": ["evaluate", EMT, "structure=cu.xyz", "only=[lattice]"],
    "barrier": [
        "evaluate",
        EMT,
        "structure=start.xyz",
        "mobile=Cu",
        "only=[barriers]",
        "properties.barriers.n_hops=0",
        "properties.barriers.n_images=5",
        "properties.barriers.hops=[{name: a, start: start.xyz, end: end.xyz}]",
    ],
}
SAMPLINGS = {
    "sample": [
        "sample",
        "cu.xyz",
        "engine=emt",
        "mobile=Cu",
        "framework=[]",
        "limits.rounds=2",
        "sampler=random_md",
        "model=small",
        *TINY,
        "dtype=float64",
        "trainer.max_steps=4",
        "trainer.validate_every=2",
        "trainer.accelerator=cpu",
        "trainer.logger=null",
        "data.cache=cache",
        "dynamics.steps=20",
        "dynamics.frame_every=4",
        "dynamics.temperatures_K=[300]",
        "dynamics.skip_ps=0",
        "n_initial=5",
        "per_round=3",
        "min_descriptor_distance=0.001",
        "n_relabelled=1",
        "n_draws=2",
    ],
}


def command(words: list[str]) -> None:
    """Runs `mlip WORDS` in this process, from the entry point that the package declares."""
    module, name = tomllib.loads((CHECKOUT / "pyproject.toml").read_text())["project"]["scripts"]["mlip"].split(":")
    code = getattr(importlib.import_module(module), name)(words)
    if code not in (0, 1):  # 1: a sampling that ended before it converged
        raise RuntimeError(f"mlip {' '.join(words)} ended with {code}")


# ---------------------------------------------------------------- what is read from the results


def read_model(path) -> dict:
    """Energy, forces, stress, charges and dipoles of the two frames, every digit."""
    frames = mlip.load_calculator(path).calculate_many(ase.io.read("frames.xyz", ":"))
    return {f"frame {i}": read_results(atoms) for i, atoms in enumerate(frames)}


def read_predictions(path) -> dict:
    """The same from a labelled file; arrays of atoms have 8 decimals there."""
    return {f"frame {i}": read_results(atoms) for i, atoms in enumerate(ase.io.read(path, ":"))}


def read_results(atoms) -> dict:
    names = ("energy", "forces", "stress", "charges", "dipoles")
    return {name: np.asarray(atoms.calc.results[name]).tolist() for name in names if name in atoms.calc.results}


def read_dynamics(folder) -> dict:
    """Potential and kinetic energy of every kept frame, positions and velocities of the last."""
    frames = ase.io.read(Path(folder) / "trajectory.traj", ":")
    energies = [[atoms.get_potential_energy(), atoms.get_kinetic_energy()] for atoms in frames]
    last = frames[-1]
    return {"energies": energies, "positions": last.positions.tolist(), "velocities": last.get_velocities().tolist()}


def read_evaluation(folder) -> list:
    """Value and interval of every row, in the order of the report, with its name so that a renaming is seen as one."""
    rows = json.loads((Path(folder) / "results.json").read_text())
    return [{key: row[key] for key in ("name", "value", "low", "high", "unit")} for row in rows]


def read_sampling(folder) -> dict:
    """The labelled structures in their order, and the sampled model's energies of them."""
    frames = ase.io.read(Path(folder) / "labelled.xyz", ":")
    labels = [
        {"kind": atoms.info["config_type"], "positions": atoms.positions.tolist(), "energy": atoms.info["REF_energy"]}
        for atoms in frames
    ]
    (*_, model) = sorted(Path(folder).glob("rounds/*/model/model.pt"))
    calculator = mlip.load_calculator(model)
    return {"labels": labels, "energies": [a.get_potential_energy() for a in calculator.calculate_many(frames)]}


# ---------------------------------------------------------------- the runs


def write_inputs() -> None:
    frames = ase.io.read(CHECKOUT / "datasets" / "li3incl6" / "li3incl6_gpaw.xyz", ":100")
    ase.io.write("train.xyz", frames[:8])
    ase.io.write("frames.xyz", frames[98:100])
    copper = bulk("Cu", a=3.55, cubic=True)
    ase.io.write("cu.xyz", copper)
    vacancy = copper.repeat(2)
    empty = vacancy.positions[0].copy()
    del vacancy[0]
    ase.io.write("start.xyz", vacancy)
    vacancy.positions[0] = empty  # a nearest neighbour hops
    ase.io.write("end.xyz", vacancy)


def cases() -> dict:
    """Case: (words of the command, reader of its results, tolerance), in order of use."""
    table = {}
    for case, words in TRAININGS.items():
        tolerance = FLOAT32 if "dtype=float32" in words else FLOAT64
        steps = [] if any(word.startswith("trainer.max_steps") for word in words) else ["trainer.max_steps=3"]
        table[case] = [*TRAIN, *steps, *words, f"folder={case}"], (read_model, f"{case}/model.pt"), tolerance
    for case, words in EXPORTS.items():
        table[case] = words, (read_model, words[-1].removeprefix("path=")), FLOAT32  # weights of a float32 training
    for case, words in PREDICTIONS.items():
        table[case] = words, (read_predictions, words[-1]), PRINTED
    for case, words in DYNAMICS.items():
        table[case] = [*MD, *words, f"folder={case}"], (read_dynamics, case), FLOAT64
    for case, words in EVALUATIONS.items():
        table[case] = [*words, f"folder={case}"], (read_evaluation, case), FLOAT64
    for case, words in SAMPLINGS.items():
        table[case] = [*words, f"folder={case}"], (read_sampling, case), PRINTED
    return table


def compute(folder) -> dict:
    """{case: numbers} of all runs, made in an empty folder."""
    before, threads = Path.cwd(), torch.get_num_threads()
    os.chdir(folder)
    torch.set_num_threads(int(os.environ.get("MLIP_GOLDEN_THREADS", 1)))
    try:
        write_inputs()
        numbers = {}
        for case, (words, (read, path), _) in cases().items():
            begin = time.process_time()
            command(words)
            numbers[case] = json.loads(json.dumps(read(path)))
            print(f"golden {case}: {time.process_time() - begin:.1f} CPU s")
        return numbers
    finally:
        os.chdir(before)
        torch.set_num_threads(threads)


def kept(case: str):
    return json.loads((NUMBERS / f"{case}.json").read_text())


def keep(numbers: dict) -> None:
    """numbers/CASE.json for every case, and the machine that made them; files of cases that are gone are removed."""
    MACHINE.write_text(json.dumps(machine(), indent=1) + "\n")
    NUMBERS.mkdir(exist_ok=True)
    for path in NUMBERS.glob("*.json"):
        path.unlink()
    for case, values in numbers.items():
        (NUMBERS / f"{case}.json").write_text(json.dumps(values, ensure_ascii=False) + "\n", encoding="utf-8")


# ---------------------------------------------------------------- the comparison


def leaves(values, name: str = "") -> dict:
    """Every number and word by its place: frame 0.forces.3.1"""
    if not isinstance(values, dict | list):
        return {name: values}
    pairs = values.items() if isinstance(values, dict) else enumerate(values)
    branches = [leaves(value, f"{name}.{key}" if name else str(key)) for key, value in pairs]
    return {place: leaf for branch in branches for place, leaf in branch.items()}


def differences(case: str, now, before, tolerance: float) -> list[str]:
    """A line for each quantity that moved by more than tolerance x max(1, its size), the largest first."""
    now, before = leaves(now), leaves(before)
    lines = [(math.inf, f"{case}: {name} is in one of the two only") for name in sorted(now.keys() ^ before.keys())]
    for name in sorted(now.keys() & before.keys()):
        a, b = now[name], before[name]
        if isinstance(a, float) and isinstance(b, float):
            if not abs(a - b) <= tolerance * max(1.0, abs(b)):
                moved = f"{case}: {name} is {a!r}, was {b!r}, differs by {a - b:.3e} (tolerance {tolerance:g})"
                lines.append((abs(a - b), moved))
        elif a != b:
            lines.append((math.inf, f"{case}: {name} is {a!r}, was {b!r}"))
    return [line for _, line in sorted(lines, key=lambda pair: -pair[0])]


@pytest.fixture(scope="module")
def numbers(tmp_path_factory):
    return compute(tmp_path_factory.mktemp("golden"))


@pytest.mark.slow
@pytest.mark.parametrize("case", cases())
def test_no_number_moved(case, numbers):
    lines = differences(case, numbers[case], kept(case), cases()[case][2])
    assert not lines, f"{len(lines)} quantities moved\n" + "\n".join(lines[:12])


def test_every_case_has_numbers_and_a_moved_one_is_named():
    assert {path.stem for path in NUMBERS.glob("*.json")} == set(cases())
    assert all(any(isinstance(leaf, float) for leaf in leaves(kept(case)).values()) for case in cases())
    before = kept("qeq")
    moved = json.loads(json.dumps(before))
    moved["frame 1"]["forces"][3][1] += 3e-10
    assert not differences("qeq", before, before, 1e-10) and not differences("qeq", moved, before, 1e-9)
    (line,) = differences("qeq", moved, before, 1e-10)
    assert "frame 1.forces.3.1" in line and repr(before["frame 1"]["forces"][3][1]) in line and "3.000e-10" in line
    del moved["frame 0"]["charges"]
    assert "charges" in differences("qeq", moved, before, 1e-10)[0]
