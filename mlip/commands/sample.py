"""Active learning: the config becomes the sampling loop, each round of it a training with the settings of `mlip train`."""

from collections.abc import Callable
from functools import partial
from pathlib import Path

from omegaconf import DictConfig, OmegaConf
from rich.console import Console

import mlip
from mlip.commands.train import train
from mlip.config import build, make
from mlip.data.structures import read
from mlip.sampling.ledger import Ledger
from mlip.sampling.loop import Loop
from mlip.training.export_uncertainty import export_with_uncertainty
from mlip.training.run import Run

TRAINING = ("seed", "dtype", "ema_decay", "log_every", "data", "model", "loss", "optimizer", "scheduler", "trainer")
# how long, where and how fast: a sampling may go on with others
NOT_HASHED = ("name", "folder", "overwrite", "limits", "execution", "retries", "device", "experiment")
PASSED_THROUGH = ("mobile", "framework", "per_round", "first", "validation", "warm_start", "apart", "control", "seed", "retries")


def sample(cfg: DictConfig) -> int:
    """Find the structures that are worth a label, label them, train, until the barriers of ion hops no longer change."""
    starts = read(OmegaConf.to_container(cfg)["structure"])
    result = loop_of(cfg, make, build, train).run(starts)
    Console().print(f"{cfg.folder}/history.html, {cfg.folder}/labelled.xyz, the model: {result['model']}", markup=False)
    return int(not result["converged"])


def loop_of(cfg: DictConfig, make: Callable, build: Callable, train: Callable) -> Loop:
    """The loop of a config; make, build and train are those of the verbs."""
    config = OmegaConf.to_container(cfg, resolve=True)
    if config["mobile"] is None:
        raise ValueError("mlip sample needs mobile, the symbol of the ions that hop: mobile=Li, or material=oxide, sulfide, halide")
    ledger = Ledger(cfg.folder, {key: value for key, value in config.items() if key not in NOT_HASHED})
    return Loop(
        make(cfg.sampler), make(cfg.engine), partial(train_round, config, make, build, train),
        partial(load, device=cfg.device), ledger, doubt=partial(load_doubt, device=cfg.device), limits=make(cfg.limits), execution=make(cfg.execution),
        initial=read(config["data"]["files"]) if config["data"]["files"] else (),
        hold_out=read(config["hold_out"]) if config["hold_out"] else (),
        checkpoint=Path(cfg.checkpoint) if cfg.checkpoint else None, **{name: config[name] for name in PASSED_THROUGH},
    )  # fmt: skip


def load(folder: Path, device: str):
    """The calculator of a round: a last layer's doubt is some times as dear as the forces, and dynamics needs none of it."""
    members = sorted(Path(folder).glob("member*"))
    return mlip.load_calculator((members[0] if len(members) == 1 else Path(folder)) / "model.pt", device=device)


def load_doubt(folder: Path, device: str):
    """The same with energy_sigma and force_sigma."""
    return mlip.load_calculator(Path(folder) / "model.pt", device=device)


def train_round(
    config: dict, make: Callable, build: Callable, train: Callable, training: Path, validation: Path, folder: Path, previous: Path | None
) -> None:
    """folder/model.pt with the doubt of its last layer, or of the committee of all members; finished parts are kept."""
    folder = Path(folder)
    if (folder / "model.pt").exists():
        return
    runs = [folder / f"member{m}" for m in range(config["members"])]
    validates = validation.stat().st_size > 0
    for m, run in enumerate(runs):
        if Run(run).has_ended:
            continue
        member = {name: config[name] for name in TRAINING}
        member.update(name=run.name, folder=str(run), overwrite=False, seed=config["seed"] + m, checkpoint=start_of(previous, m))
        # what is held out is held out for good: no split of its own in every round
        member["data"] = {**member["data"], "files": str(training), "validation_files": str(validation) if validates else None,
                          "test_files": None, "split": {**member["data"]["split"], "validation": 0, "test": 0}}  # fmt: skip
        train(OmegaConf.create(member))
    if not validates:  # nothing to calibrate a doubt with
        Run(runs[0]).export(folder / "model.pt")
        return
    export_with_uncertainty([Run(run) for run in runs], folder / "model.pt", config["n_draws"])


def start_of(previous: Path | None, member: int) -> str | None:
    """The training that a member goes on from: its own of the round before, or a checkpoint of the user's."""
    if previous is None:
        return None
    own = Path(previous) / f"member{member}"
    return str(own if own.is_dir() else previous)
