"""Distillation: a slow calculator drives and labels dynamics, a potential of ours is trained on that, and reported on."""

import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from ase import Atoms
from omegaconf import DictConfig, OmegaConf
from rich.console import Console
from rich.table import Table

import mlip
from mlip.commands.evaluate import evaluate
from mlip.commands.train import TRAINING_KEYS, train
from mlip.config import CONFIGS, compose, make
from mlip.data.structures import read, write
from mlip.errors import InputError
from mlip.evaluation.result import read_json
from mlip.sampling.distillation import Distillation
from mlip.sampling.store import SamplingStore
from mlip.training.run import Run

OF_HOPS = ("hops", "saddles")  # proposers that need a mobile ion
# where and how fast: a distillation may be continued with others
NOT_HASHED = ("name", "folder", "overwrite", "execution", "retries", "device", "experiment", "max_fall_eV", "reference")
SHOWN = {"force_rmse": "force RMSE per component", "force_mae": "force MAE per component", "energy_mae": "energy MAE",
         "softening_slope": "slope of forces"}  # fmt: skip


def distill(cfg: DictConfig) -> int:
    """Train a student on what a teacher drives and labels, and compare both."""
    starts = read(OmegaConf.to_container(cfg)["structure"])
    check_symbols(cfg, starts)
    folder = Path(cfg.folder)
    config = OmegaConf.to_container(cfg, resolve=True)
    run = student(cfg, folder, starts, {key: value for key, value in config.items() if key not in NOT_HASHED})
    judged = {
        ("student", "the teacher's own, held out"): assess(
            cfg, run.folder, run.folder / "evaluation", str(run.folder), False
        )
    }
    if cfg.reference:
        for name, subject in (("teacher", None), ("student", run.folder)):
            place = folder / f"{name}_on_reference"
            judged[name, "reference"] = assess(cfg, subject, place, OmegaConf.to_container(cfg)["reference"], True)
    Console().print(table(judged))
    seconds = seconds_per_structure(read(folder / "teacher.xyz"), run.folder / "model.pt", cfg.device)
    print("seconds per structure: teacher {:.3g}, student {:.3g}".format(*seconds))
    print(f"{run.folder}/evaluation/report.html, the model: {run.folder}/model.pt")
    return 0


def student(cfg: DictConfig, folder: Path, starts: Sequence[Atoms], settings: dict) -> Run:
    """The run of the student in folder/student, finished; what was done before is not repeated.

    settings  plain: a folder that was begun with others is refused
    """
    store = SamplingStore(folder, settings)
    run = Run(folder / "student")
    with store.lock():
        if not (folder / "teacher.xyz").exists():
            labelled = distillation(cfg).labelled(store, make(cfg.teacher), starts, make(cfg.execution))
            with store.disk_full_message():
                write(folder / "teacher.xyz", labelled)
        if not run.has_ended:
            train(OmegaConf.create(student_config(cfg, folder)))
    return run


def student_config(cfg: DictConfig, folder: Path) -> dict:
    """Config of the student's training."""
    config: Any = OmegaConf.to_container(cfg, resolve=True)
    data = {**config["data"], "files": str(folder / "teacher.xyz"), "validation_files": None, "test_files": None}
    return {**{name: config[name] for name in TRAINING_KEYS}, "name": "student", "folder": str(folder / "student"), "overwrite": False,
            "checkpoint": config["checkpoint"], "data": data}  # fmt: skip


def distillation(cfg: DictConfig) -> Distillation:
    """What the teacher does; without a mobile ion it looks for no hops."""
    sampler = make(cfg.distillation.sampler)
    if cfg.mobile is None:
        sampler.proposers.update(dict.fromkeys(OF_HOPS))
    return Distillation(sampler, cfg.distillation.frames, list(cfg.distillation.volumes), cfg.mobile,
                        cfg.framework and list(cfg.framework), cfg.seed, cfg.retries)  # fmt: skip


def check_symbols(cfg: DictConfig, starts: Sequence[Atoms]) -> None:
    """Raise InputError for a mobile ion or framework that the structures to start from do not have."""
    present = sorted({symbol for atoms in starts for symbol in atoms.symbols})
    others = ",".join(symbol for symbol in present if symbol != cfg.mobile)
    for name, symbols, remedy in (
        ("mobile", [cfg.mobile] if cfg.mobile else [], "name one of them"),
        ("framework", cfg.framework or [], f"a material presumes the usual anion; framework=[{others}] takes all but the mobile ion"),
    ):  # fmt: skip
        for symbol in symbols:
            if symbol not in present:
                raise InputError(
                    f"{name}={symbol}: no {symbol} in the structures to start from; they have {', '.join(present)}: {remedy}"
                )


# ---------------------------------------------------------------- report


def assess(cfg: DictConfig, model: Path | None, folder: Path, files, other_level: bool) -> dict[str, str]:
    """Errors of the student, or of the teacher (model None), on labelled files, as shown; the report is in the folder.

    other_level  the labels are not the teacher's: energies are compared up to a constant per element
    """
    asked = compose("evaluate", ["only=[accuracy]"], [CONFIGS])
    OmegaConf.set_struct(asked, False)
    asked.folder, asked.mobile, asked.device, asked.data.files = str(folder), cfg.mobile, cfg.device, files
    asked.properties.accuracy.structures.max_frames = None
    if other_level:
        asked.properties.accuracy.fit_atomic_energies = True
    if model is None:
        asked.calculator = {key: value for key, value in cfg.teacher.calculator.items() if key != "_partial_"}
    else:
        asked.model = str(model)
    evaluate(asked)
    results = {
        result.name: result for result in read_json(folder / "results.json") if result.conditions.keys() <= {"section"}
    }
    return {name: f"{results[name].value:.3g} {results[name].unit}" if name in results else "" for name in SHOWN}


def table(judged: dict[tuple[str, str], dict[str, str]]) -> Table:
    """Errors of teacher and student, a row for each."""
    shown = Table(title="errors of forces; a slope below 1: energy surfaces too soft, barriers too low")
    for head in ("", "labels", *SHOWN.values()):
        shown.add_column(head, overflow="fold")
    for names, values in judged.items():
        shown.add_row(*names, *values.values())
    return shown


def seconds_per_structure(labelled: Sequence[Atoms], model: Path, device: str, n: int = 5) -> tuple[float, float]:
    """Seconds of the teacher (mean of its labels) and of the student (energy and forces, after a first call)."""
    calculator = mlip.load_calculator(model, device=device)
    calculator.calculate(labelled[0])
    begin = time.perf_counter()
    for atoms in labelled[:n]:
        calculator.calculate(atoms)
    spent = (time.perf_counter() - begin) / len(labelled[:n])
    return float(np.mean([atoms.info["label_seconds"] for atoms in labelled])), spent
