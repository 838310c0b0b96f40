"""Active learning; each round is a training with the settings of `mlip train`."""

from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

from ase import Atoms
from omegaconf import DictConfig, OmegaConf
from rich.console import Console

import mlip
from mlip.commands.distill import check_symbols, student
from mlip.commands.train import TRAINING_KEYS, train
from mlip.config import make
from mlip.data.structures import read
from mlip.errors import InputError
from mlip.sampling.loop import LoopSettings, Models, SamplingLoop
from mlip.sampling.store import SamplingStore
from mlip.training.export_uncertainty import export_with_uncertainty
from mlip.training.run import Run

# how long, where and how fast: a sampling may be continued with others
NOT_HASHED = ("name", "folder", "overwrite", "limits", "execution", "retries", "device", "experiment", "max_fall_eV")
OF_TEACHERS = ("teacher", "distillation")  # without a teacher they decide nothing
OF_CHECKPOINTS = ("fine_tuning",)  # nor this without a checkpoint or student


def sample(cfg: DictConfig) -> int:
    """Select, label and learn structures until the barriers of ion hops have converged."""
    starts = read(OmegaConf.to_container(cfg)["structure"])
    check_symbols(cfg, starts)  # before the first label, and before anything is written
    result = (sampling_loop(cfg) if cfg.get("teacher") is None else taught_loop(cfg, starts)).run(starts)
    Console().print(f"{cfg.folder}/history.html, {cfg.folder}/labelled.xyz, the model: {result.model}", markup=False)
    return int(not result.converged)


def sampling_loop(cfg: DictConfig) -> SamplingLoop:
    """The loop of a config."""
    config = OmegaConf.to_container(cfg, resolve=True)
    if config["mobile"] is None:
        raise InputError(
            "mlip sample needs mobile, the symbol of the ions that hop: mobile=Li, or material=oxide, sulfide, halide"
        )
    check_fine_tuning(config["fine_tuning"])
    not_hashed = NOT_HASHED if config.get("teacher") else (*NOT_HASHED, *OF_TEACHERS)
    not_hashed += () if config["checkpoint"] else OF_CHECKPOINTS
    return SamplingLoop(
        LoopSettings(**{name: config[name] for name in LoopSettings.__dataclass_fields__}),
        make(cfg.sampler), make(cfg.engine),
        Models(partial(train_round, config), partial(load, device=cfg.device), partial(load_with_uncertainty, device=cfg.device),
               partial(adopt, config)),
        SamplingStore(cfg.folder, {key: value for key, value in config.items() if key not in not_hashed}),
        limits=make(cfg.limits), execution=make(cfg.execution),
        initial=read(config["data"]["files"]) if config["data"]["files"] else (),
        hold_out=read(config["hold_out"]) if config["hold_out"] else (),
        checkpoint=Path(cfg.checkpoint) if cfg.checkpoint else None,
    )  # fmt: skip


def taught_loop(cfg: DictConfig, starts: Sequence[Atoms]) -> SamplingLoop:
    """The loop of a config whose rounds start from the student of a teacher, in FOLDER/teacher; the student is made first."""
    if cfg.checkpoint:
        raise InputError(
            f"checkpoint={cfg.checkpoint} and a teacher: rounds start either from a checkpoint or from the student of a teacher: "
            "give one of both"
        )
    folder = Path(cfg.folder) / "teacher"
    rounds = cfg.copy()
    rounds.checkpoint = str(folder / "student")
    loop = sampling_loop(rounds)  # what is wrong with the settings is said before the teacher works
    config = OmegaConf.to_container(cfg, resolve=True)
    with loop.store.lock():
        student(
            cfg,
            folder,
            starts,
            {key: config[key] for key in (*TRAINING_KEYS, "teacher", "distillation", "mobile", "framework")},
        )
    return loop


def load(folder: Path, device: str):
    """The calculator of a round without uncertainties.

    Force uncertainties cost several force calls, and dynamics needs none.
    """
    members = sorted(Path(folder).glob("member*"))
    return mlip.load_calculator((members[0] if len(members) == 1 else Path(folder)) / "model.pt", device=device)


def load_with_uncertainty(folder: Path, device: str):
    """The calculator of a round with energy_sigma and force_sigma."""
    return mlip.load_calculator(Path(folder) / "model.pt", device=device)


def train_round(config: dict, training: Path, validation: Path, folder: Path, previous: Path | None) -> None:
    """Trains folder/model.pt, with the uncertainty of its last layer or of a committee.

    Finished parts are kept.
    """
    folder = Path(folder)
    if (folder / "model.pt").exists():
        return
    runs = [folder / f"member{m}" for m in range(config["members"])]
    validates = validation.stat().st_size > 0
    for m, run in enumerate(runs):
        if Run(run).has_ended:
            continue
        member: Any = {name: config[name] for name in TRAINING_KEYS}
        if config["checkpoint"]:
            member = OmegaConf.to_container(OmegaConf.merge(member, config["fine_tuning"]))
        member.update(
            name=run.name,
            folder=str(run),
            overwrite=False,
            seed=config["seed"] + m,
            checkpoint=checkpoint_of(previous, m),
        )
        # what is held out is held out for good: no split of its own in every round
        member["data"] = {**member["data"], "files": str(training), "validation_files": str(validation) if validates else None,
                          "test_files": None, "split": {**member["data"]["split"], "validation": 0, "test": 0}}  # fmt: skip
        train(OmegaConf.create(member))
    if not validates:  # nothing to calibrate an uncertainty with
        Run(runs[0]).export(folder / "model.pt", max_fall_eV=config["max_fall_eV"])
        return
    export_with_uncertainty(
        [Run(run) for run in runs], folder / "model.pt", config["n_draws"], max_fall_eV=config["max_fall_eV"]
    )


def check_fine_tuning(changed: dict) -> None:
    """Raise InputError for a key that no training of a round has."""
    if wrong := sorted(set(changed) - set(TRAINING_KEYS)):
        raise InputError(
            f"fine_tuning has {', '.join(wrong)}: it holds settings of the training of a round, which are {', '.join(TRAINING_KEYS)}"
        )


def adopt(config: dict, checkpoint: Path, folder: Path) -> None:
    """Writes folder/model.pt, a trained run with the uncertainty of its last layer, and folder/member0/model.pt without."""
    run = Run(checkpoint) if checkpoint.is_dir() else Run(checkpoint.parent.parent, checkpoint)
    for path, export in ((folder / "member0" / "model.pt", run.export),
                         (folder / "model.pt", partial(export_with_uncertainty, [run], n_draws=config["n_draws"]))):  # fmt: skip
        if not path.exists():
            export(path=path, max_fall_eV=config["max_fall_eV"])


def checkpoint_of(previous: Path | None, member: int) -> str | None:
    """The run that a member starts from: its own of the round before, or the user's."""
    if previous is None:
        return None
    own = Path(previous) / f"member{member}"
    return str(own if own.is_dir() else previous)
