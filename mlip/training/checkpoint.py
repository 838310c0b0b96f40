"""Checkpoints: `last.ckpt` to go on from, and the best few."""

import io
import time
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import torch
from pytorch_lightning.plugins.io import CheckpointIO

from mlip.archive import check_archive, first_line
from mlip.errors import InputError, MissingFileError
from mlip.files import whole_file

ANOTHER = "give another checkpoint of the run (checkpoints/step_*.ckpt), or train it again with overwrite=true"


class WholeFiles(CheckpointIO):
    """Checkpoints appear under their names only when complete, and are read as plain data."""

    def save_checkpoint(self, checkpoint: dict[str, Any], path: str | Path, storage_options: Any = None) -> None:
        whole = io.BytesIO()  # a disk that fills up under torch's own writer would abort the process
        torch.save(checkpoint, whole)
        with whole_file(path) as part:
            part.write_bytes(whole.getbuffer())

    def load_checkpoint(self, path: str | Path, map_location: Any = "cpu", **kwargs: Any) -> dict[str, Any]:
        return read_checkpoint(path)

    def remove_checkpoint(self, path: str | Path) -> None:
        Path(path).unlink(missing_ok=True)


def read_checkpoint(path: str | Path) -> dict[str, Any]:
    """Checkpoint on the CPU; only plain data is unpickled, never code. Raises InputError for a damaged or foreign file."""
    check_archive(path, "checkpoint of mlip train", ANOTHER)
    try:
        checkpoint = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # an exported model, a pickle of something else
        raise InputError(f"{path} is no checkpoint of mlip train ({first_line(error)}): {ANOTHER}") from error
    if not isinstance(checkpoint, dict) or "mlip" not in checkpoint:
        held = sorted(map(str, checkpoint))[:8] if isinstance(checkpoint, dict) else type(checkpoint).__name__
        raise InputError(f"{path} is no checkpoint of `mlip train`: it holds {held}")
    return checkpoint


class Checkpoints(pl.callbacks.Checkpoint):
    """Writes folder/last.ckpt (all that a run needs to go on) and folder/step_*.ckpt (weights of the best validations).

    keep_best      how many of the best are kept
    every_steps    steps between writings of last.ckpt; each validation writes it too
    every_minutes  the same by the clock (with one process)

    A kill at any moment leaves a last.ckpt whose best files exist: they are written before it and deleted after it.
    """

    def __init__(self, folder: str | Path, keep_best: int, every_steps: int, every_minutes: float):
        if keep_best < 1 or every_steps < 1 or every_minutes <= 0:
            raise InputError(
                f"keep_best, every_steps, every_minutes must be positive, got {keep_best, every_steps, every_minutes}"
            )
        self.folder = Path(folder)
        self.keep_best, self.every_steps, self.every_minutes = keep_best, every_steps, every_minutes
        self.best: list[list[Any]] = []  # [validation loss, file name], best first
        self._saved_at = time.monotonic()

    @property
    def last(self) -> Path:
        return self.folder / "last.ckpt"

    def on_train_batch_end(
        self, trainer: pl.Trainer, module: pl.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        n_batches = trainer.fit_loop.total_batch_idx + 1
        if n_batches % trainer.accumulate_grad_batches:
            return  # gradients in the making are not stored
        finished = module.budget.progress >= 1
        if trainer.enable_validation and (finished or n_batches % trainer.val_check_interval == 0):
            return  # the validation that follows at once will write: Lightning would take it for done
        minutes = (time.monotonic() - self._saved_at) / 60 if trainer.world_size == 1 else 0.0
        if finished or module.budget.steps % self.every_steps == 0 or minutes >= self.every_minutes:
            self._save(trainer)

    def on_validation_end(self, trainer: pl.Trainer, module: pl.LightningModule) -> None:
        if trainer.state.fn != "fit":
            return
        name = f"step_{module.budget.steps:08d}.ckpt"
        entries = [entry for entry in self.best if entry[1] != name] + [[module.row["val_loss"], name]]
        self.best = sorted(entries, key=lambda entry: (entry[0] != entry[0], entry[0]))[: self.keep_best]  # NaN last
        if name in self.best_names():
            trainer.save_checkpoint(self.folder / name, weights_only=True)
        self._save(trainer)

    def best_names(self) -> list[str]:
        return [name for _, name in self.best]

    def state_dict(self) -> dict[str, Any]:
        return {"best": self.best}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.best = [list(entry) for entry in state["best"]]

    def _save(self, trainer: pl.Trainer) -> None:
        trainer.save_checkpoint(self.last)
        self._saved_at = time.monotonic()
        if trainer.is_global_zero:
            for path in self.folder.glob("step_*.ckpt"):
                if path.name not in self.best_names():
                    path.unlink()


def read_run(path: str | Path) -> dict[str, Any]:
    """The checkpoint in a file, or the best one of a run's folder.

    Its "mlip" holds statistics and config, its "state_dict" the weights: average.potential.* are those to use.
    """
    path = Path(path)
    return read_checkpoint(best_checkpoint(path) if path.is_dir() else path)


def averaged_weights(checkpoint: dict[str, Any]) -> dict[str, torch.Tensor]:
    """state_dict of the averaged potential."""
    prefix = "average.potential."
    return {name.removeprefix(prefix): v for name, v in checkpoint["state_dict"].items() if name.startswith(prefix)}


def best_checkpoint(folder: str | Path) -> Path:
    """The checkpoint with the lowest validation loss in a run's folder, `last.ckpt` where none was validated.

    Raises FileNotFoundError when there is none.
    """
    last = Path(folder) / "checkpoints" / "last.ckpt"
    if not last.is_file():
        raise MissingFileError(
            f"no checkpoint in {folder}: {last} is missing; give the folder of a run of `mlip train`"
        )
    for state in read_checkpoint(last)["callbacks"].values():
        if state.get("best"):
            return last.with_name(state["best"][0][1])
    return last
