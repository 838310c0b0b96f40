"""Training of a potential, and the ranking of a sweep on held-out hops."""

from functools import partial
from pathlib import Path

import pytorch_lightning as pl
import torch
from omegaconf import DictConfig, OmegaConf
from pytorch_lightning.utilities.rank_zero import rank_zero_only
from rich.console import Console
from torch import nn

import mlip
from mlip.calculator import check_device
from mlip.config import build, make
from mlip.data.datamodule import DataModule
from mlip.files import lock
from mlip.sampling import ranking
from mlip.training.born_start import with_born_start
from mlip.training.density_start import with_density_start
from mlip.training.dielectric_start import with_dielectric_start
from mlip.training.finetune import fine_tune, with_fitted_atomic_energies
from mlip.training.fragment_start import with_fragment_start
from mlip.training.module import TrainingModule
from mlip.training.pair_start import with_pair_start
from mlip.training.run import Run
from mlip.training.run_folder import check_run_folder, check_same_data, move_aside, write_run_inputs
from mlip.training.total_charges import check_total_charges
from mlip.training.transfer_start import with_transfer_start

TRAINING_KEYS = (  # of a config that trains several potentials
    "seed",
    "dtype",
    "ema_decay",
    "l2_sp",
    "log_every",
    "max_fall_eV",
    "data",
    "model",
    "loss",
    "optimizer",
    "scheduler",
    "trainer",
)


def train(cfg: DictConfig) -> None:
    """Train a potential on labelled structures."""
    if cfg.trainer.accelerator in ("gpu", "cuda"):
        check_device("cuda")
    config, overwrite, folder = run_config(cfg), cfg.overwrite, Path(cfg.folder)
    if cfg.get("hold_out"):
        ranking.read_hold_out(cfg.hold_out)  # a sweep must not end with a file that cannot rank it
    if is_first_process():
        check_run_folder(folder, config, overwrite)
    pl.seed_everything(cfg.seed, verbose=False)
    previous = Run(cfg.checkpoint).statistics if cfg.checkpoint else None
    data = make(cfg.data, cutoff=cfg.model.network.cutoff, statistics=previous)
    data.setup("fit")
    potential, statistics = untrained(cfg, config, data)
    if not is_first_process():
        fit(cfg, config, folder, data, potential, statistics)
        return
    # all has been read and built: only now may an earlier run make room
    if overwrite:
        aside = move_aside(folder)
        if aside:
            print(f"the earlier run is kept in {aside}")
    with lock(folder / "lock", f"another process trains in {folder}: wait for it, or choose another name=..."):
        check_same_data(folder, data.training_hash)
        write_run_inputs(folder, config, data)
        fit(cfg, config, folder, data, potential, statistics)


def untrained(cfg: DictConfig, config: dict, data: DataModule) -> tuple[nn.Module, dict]:
    """The potential before the first step, new or from a checkpoint, and the statistics that belong to it."""
    make_potential, statistics, batches = partial(build, config), data.statistics, data.train_dataloader()
    if cfg.checkpoint:
        potential, statistics = fine_tune(cfg.checkpoint, make_potential, statistics, batches)
    else:
        statistics = with_density_start(statistics, batches, cfg.model.network.cutoff)
        statistics = with_dielectric_start(make_potential, statistics, batches)
        statistics = with_born_start(make_potential, statistics, batches)
        statistics = with_transfer_start(make_potential, statistics, batches)
        statistics = with_fragment_start(make_potential, statistics, batches)
        statistics = with_pair_start(make_potential, statistics, batches)
        potential, statistics = with_fitted_atomic_energies(make_potential, statistics, batches)
    check_total_charges(potential, data.sets.values())
    return potential, statistics


def fit(cfg: DictConfig, config: dict, folder: Path, data: DataModule, potential: nn.Module, statistics: dict) -> None:
    """Train a potential, and export it."""
    module = TrainingModule(
        potential.to(getattr(torch, cfg.dtype)), make(cfg.loss), make(cfg.optimizer), make(cfg.scheduler),
        ema_decay=cfg.ema_decay, statistics=statistics, config=config, config_types=data.config_types, log_every=cfg.log_every,
        l2_sp=cfg.l2_sp if cfg.checkpoint else 0.0,
    )  # fmt: skip
    make(cfg.trainer)(module, data, folder, resume=True)
    if is_first_process():
        for level in statistics["levels"]:
            name = "model.pt" if len(statistics["levels"]) == 1 else f"model_{level}.pt"
            Run(folder).export(folder / name, level, max_fall_eV=cfg.max_fall_eV)


def is_first_process() -> bool:
    """True in the process that writes: with several devices, Lightning starts this command once for each."""
    return getattr(rank_zero_only, "rank", 0) == 0


def run_config(cfg: DictConfig) -> dict:
    """All that decides a run, plain; what a material decides stands resolved in the other keys."""
    config = OmegaConf.to_container(cfg, resolve=True)
    return {
        name: value
        for name, value in config.items()
        if name not in ("material", "hold_out", "overwrite", "max_fall_eV")
    }


def is_done(cfg: DictConfig) -> bool:
    """Whether the run of this config is finished, so that a sweep that was cut off goes on behind it."""
    return not cfg.overwrite and Run(cfg.folder).is_finished(run_config(cfg))


def rank(configs: list[DictConfig]) -> None:
    """After a sweep: its runs by their errors on the hops of hold_out, as a table and as ranking.csv beside their folders."""
    folders = [Path(cfg.folder) for cfg in configs]
    rows = ranking.rank(
        {folder.name: folder for folder in folders}, ranking.read_hold_out(configs[0].hold_out), mlip.load_calculator
    )
    Console().print(ranking.ranking_table(rows))
    ranking.write_ranking(folders[0].parent / "ranking.csv", rows)
    print(folders[0].parent / "ranking.csv")
