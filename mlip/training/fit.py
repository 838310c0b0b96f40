"""One function that trains, tests and leaves a folder: `train`. And the way back: `load_potential`."""

import logging
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import torch
from pytorch_lightning.callbacks import EarlyStopping
from rich.console import Console
from torch import nn

from mlip.errors import FolderInUseError, InputError
from mlip.files import write_json
from mlip.training.callbacks import History, ProgressBar
from mlip.training.checkpoint import Checkpoints, WholeFiles, averaged_weights, read_checkpoint, read_run
from mlip.training.module import TrainingModule
from mlip.training.plots import learning_curve, parity
from mlip.training.schedule import Budget
from mlip.training.stream import StreamedData
from mlip.training.table import error_table


def train(
    module: TrainingModule,
    datamodule: pl.LightningDataModule,
    folder: str | Path,
    *,
    max_steps: int | None = 10000,
    max_epochs: int | None = None,
    max_seconds: float | None = None,
    validate_every: int = 200,
    checkpoint_every: int = 500,
    checkpoint_minutes: float = 5.0,
    keep_best: int = 1,
    patience: int | None = None,
    gradient_clip: float | None = 10.0,
    accumulate: int = 1,
    accelerator: str = "auto",
    devices: int | str = 1,
    strategy: str = "auto",
    logger: Callable | None = None,
    resume: bool = False,
) -> dict[str, Any]:
    """Trains, tests the best weight average, and returns what it writes to folder/metrics.json.

    max_steps, max_epochs, max_seconds  the budget; whichever ends first. Seconds are CPU seconds of the process
    validate_every, checkpoint_every    steps
    patience        validations without a better loss before the training stops; null: never
    accumulate      batches per step, as devices are: the gradient is the mean over the batches, each of which counts alike
    logger          called with save_dir=folder, gives a Lightning logger
    resume          go on from folder/checkpoints/last.ckpt, bit for bit on a CPU; without one the run starts anew
    """
    folder = Path(folder)
    console = Console()
    checkpoints = Checkpoints(folder / "checkpoints", keep_best, checkpoint_every, checkpoint_minutes)
    if checkpoints.last.exists() and not resume:
        raise FolderInUseError(f"{folder} holds a training: go on with resume=true, or choose another folder")
    module.budget = Budget(max_steps, max_epochs, max_seconds)
    datamodule.prepare_data()
    datamodule.setup("fit")
    validates, tests = len(datamodule.val_dataloader()) > 0, len(datamodule.test_dataloader()) > 0
    history = History(folder / "metrics.csv", validate_every)
    callbacks = [history, ProgressBar(console, history), checkpoints]
    if patience is not None and not validates:
        raise InputError(
            f"patience={patience} stops on the validation loss, but nothing validates: set data.split.validation"
        )
    if patience is not None:
        callbacks.append(
            EarlyStopping("val_loss", patience=patience, check_on_train_epoch_end=False, check_finite=False)
        )
    _quiet()
    trainer = pl.Trainer(
        max_epochs=-1, val_check_interval=validate_every * accumulate, check_val_every_n_epoch=None,
        accumulate_grad_batches=accumulate, gradient_clip_val=gradient_clip, accelerator=accelerator, devices=devices,
        strategy=strategy, callbacks=callbacks, logger=logger(save_dir=str(folder)) if logger else False,
        plugins=[WholeFiles()], default_root_dir=str(folder), enable_progress_bar=False, enable_model_summary=False,
        num_sanity_val_steps=0, limit_val_batches=1.0 if validates else 0, inference_mode=False, use_distributed_sampler=False,
    )  # fmt: skip
    if max_seconds is not None and trainer.world_size > 1:
        raise InputError(
            "max_seconds counts the CPU time of one process; with several devices give max_steps or max_epochs"
        )
    data = StreamedData(datamodule)
    last = checkpoints.last if checkpoints.last.exists() else None
    if last is None or not _finished(last, module.budget, callbacks):
        trainer.fit(module, datamodule=data, ckpt_path=None if last is None else str(last))
    return _tested(trainer, module, data, history, folder, tests)


def _tested(
    trainer, module: TrainingModule, data: StreamedData, history: History, folder: Path, tests: bool
) -> dict[str, Any]:
    """Tests the best weight average; writes metrics.json, the plots and the table."""
    best = read_run(folder)
    module.average.potential.load_state_dict(averaged_weights(best))
    result = {
        "best_step": best["mlip"]["budget"]["steps"],
        **module.budget.state_dict(),
        "n_parameters": sum(p.numel() for p in module.potential.parameters()),
        "threads": torch.get_num_threads(),
        "device": str(trainer.strategy.root_device),
    }
    result["validation"] = next((row for row in history.rows if row["step"] == result["best_step"]), {})
    if tests:
        trainer.test(module, datamodule=data, verbose=False)
        result["test"] = module.errors.compute()
    if trainer.is_global_zero:
        write_json(folder / "metrics.json", result)
        learning_curve(history.rows, folder / "plots" / "learning_curve.png")
        if tests:
            parity(module.pairs.arrays(), folder / "plots" / "parity.png")
            Console().print(error_table(result["test"], "held-out structures"))
    return result


def load_potential(path: str | Path, build: Callable[[dict, dict], nn.Module]) -> nn.Module:
    """The trained potential (weight average, eval mode) of a run's folder (its best) or of one checkpoint file.

    build: build(config, statistics) -> untrained potential; config and statistics come from the checkpoint
    """
    checkpoint = read_run(path)
    potential = build(checkpoint["mlip"]["config"], checkpoint["mlip"]["statistics"])
    weights = averaged_weights(checkpoint)
    if all(tensor.dtype == torch.float64 for tensor in weights.values() if tensor.is_floating_point()):
        potential = potential.double()
    potential.load_state_dict(weights)
    return potential.eval()


def _finished(last: Path, budget: Budget, callbacks: list) -> bool:
    """Whether a checkpoint is from the end of a training with this budget (killed in the test, say)."""
    checkpoint = read_checkpoint(last)
    budget.load_state_dict(checkpoint["mlip"]["budget"])
    for callback in callbacks:
        if callback.state_key in checkpoint["callbacks"]:
            callback.load_state_dict(checkpoint["callbacks"][callback.state_key])
    stopped = any(isinstance(c, EarlyStopping) and c.wait_count >= c.patience for c in callbacks)
    return budget.progress >= 1 or stopped


def _quiet() -> None:
    """Lightning's advice for data loaders of images does not apply here."""
    logging.getLogger("pytorch_lightning").setLevel(logging.WARNING)
    for message in (".*does not have many workers.*", ".*LeafSpec.*", ".*Checkpoint directory.*", ".*in eval mode.*"):
        warnings.filterwarnings("ignore", message=message)
