"""Toy trainings that are killed and resumed, in children of one process: imports are paid once.

resume_run.py FOLDER: FOLDER/whole is never killed; FOLDER/<where>_<step> is killed there, then resumed.
"""

import os
import signal
import sys
from pathlib import Path

import pytorch_lightning as pl
import torch
import toy

from mlip.training.checkpoint import WholeFiles, read_checkpoint
from mlip.training.fit import train
from mlip.training.module import TrainingModule
from mlip.training.schedule import Plateau

KILLS = [
    ("step", 1),  # before any checkpoint
    ("step", 11),  # inside an epoch, between checkpoints
    ("step", 14),  # as the second epoch starts
    ("validation", 24),
    ("writing", 16),  # best checkpoint half written
    ("writing", 21),  # last checkpoint half written
    ("written", 24),  # best checkpoint complete, but not yet under its name
    ("last", 40),  # best checkpoint in place, last.ckpt not
    ("test", 0),
]


def kill(*_) -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def die_at(where: str, step: int) -> None:
    """Makes this process kill itself there."""
    training_step, validation_step, save = (
        TrainingModule.training_step,
        TrainingModule.validation_step,
        WholeFiles.save_checkpoint,
    )

    def at_training_step(self, batch, batch_idx):
        return kill() if self.budget.steps == step else training_step(self, batch, batch_idx)

    def at_validation_step(self, batch, batch_idx):
        return kill() if self.budget.steps == step else validation_step(self, batch, batch_idx)

    def at_save(self, state, path, storage_options=None):
        path = Path(path)
        if state["mlip"]["budget"]["steps"] >= step and (where != "last" or path.name.startswith("last")):
            part = path.with_name(path.name + ".part")
            torch.save(state, part)
            if where == "writing":
                os.truncate(part, part.stat().st_size // 2)
            kill()
        save(self, state, path, storage_options)

    if where == "step":
        TrainingModule.training_step = at_training_step
    elif where == "validation":
        TrainingModule.validation_step = at_validation_step
    elif where == "test":
        TrainingModule.test_step = kill
    else:
        WholeFiles.save_checkpoint = at_save


def run(folder: Path, where: str = "", step: int = 0) -> int:
    """One training in a child; returns its exit status, -9 when it was killed."""
    child = os.fork()
    if child == 0:
        code = 1
        try:
            if where:
                die_at(where, step)
            pl.seed_everything(0, verbose=False)
            train(
                toy.module(noise=0.05, schedule=Plateau(0.1, decay=0.5, patience=0, threshold=0.5, final=0.01)),
                toy.Data(toy.structures(11)), folder, max_steps=40, validate_every=8, checkpoint_every=3,
                gradient_clip=10.0, keep_best=4, resume=True,
            )  # fmt: skip
            code = 0
        finally:
            os._exit(code)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def best_are_there(folder: Path) -> bool:
    """Whether the best checkpoints that last.ckpt tells of exist."""
    callbacks = read_checkpoint(folder / "checkpoints" / "last.ckpt")["callbacks"]
    best = [name for state in callbacks.values() for _, name in state.get("best", [])]
    return all((folder / "checkpoints" / name).is_file() for name in best)


def main(folder: Path) -> None:
    torch.set_num_threads(1)
    assert run(folder / "whole") == 0
    for where, step in KILLS:
        assert run(folder / f"{where}_{step}", where, step) == -signal.SIGKILL, (where, step)
        if step > 3:
            assert best_are_there(folder / f"{where}_{step}"), (where, step)
        assert run(folder / f"{where}_{step}") == 0, (where, step)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
