"""What one sees of a training: a progress bar, lines with the errors, metrics.csv."""

import csv
import time
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
from rich.console import Console
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeRemainingColumn

from mlip.files import whole_file

SHOWN = {  # columns of the line printed for each row
    "val_energy_rmse_meV_per_atom": "E {:.2f} meV/atom",
    "val_force_rmse_meV_per_A": "F {:.1f} meV/Å",
    "val_stress_rmse_GPa": "S {:.3f} GPa",
    "val_charge_rmse_e": "q {:.4f} e",
    "train_loss": "loss {:.4g}",
    "val_loss": "validation {:.4g}",
}


class History(pl.callbacks.Callback):
    """metrics.csv: one row per validation, or every so many steps where nothing validates.

    The rows are part of the checkpoint, so a resumed run repeats none.
    """

    def __init__(self, path: str | Path, every_steps: int):
        self.path, self.every_steps = Path(path), every_steps
        self.rows: list[dict[str, float]] = []

    def on_train_batch_end(
        self, trainer: pl.Trainer, module: pl.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        due = module.budget.steps % self.every_steps == 0 or module.budget.progress >= 1
        written = self.rows and self.rows[-1]["step"] == module.budget.steps  # several batches may make one step
        if due and not written and not trainer.enable_validation:
            module.row = module.training_row()
            self._add(trainer, module)

    def on_validation_end(self, trainer: pl.Trainer, module: pl.LightningModule) -> None:
        if trainer.state.fn == "fit":
            self._add(trainer, module)

    def _add(self, trainer: pl.Trainer, module: pl.LightningModule) -> None:
        self.rows.append(dict(module.row))
        if trainer.is_global_zero:
            write_rows(self.path, self.rows)

    def state_dict(self) -> dict[str, Any]:
        return {"rows": self.rows}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.rows = list(state["rows"])


class ProgressBar(pl.callbacks.Callback):
    """One bar over the whole budget, refreshed at most four times a second, and a line per row of the history."""

    def __init__(self, console: Console, history: History):
        self.console, self.history = console, history
        self._bar: Progress | None = None
        self._shown_at, self._shown_rows = 0.0, 0

    def on_train_start(self, trainer: pl.Trainer, module: pl.LightningModule) -> None:
        self._shown_rows = len(self.history.rows)
        if not trainer.is_global_zero:
            return
        self._bar = Progress(
            TextColumn("training"), BarColumn(), TaskProgressColumn(), TextColumn("step {task.fields[step]}"),
            TimeRemainingColumn(), console=self.console, auto_refresh=False, transient=True,
        )  # fmt: skip
        self._bar.add_task("training", total=1.0, completed=module.budget.progress, step=module.budget.steps)
        self._bar.start()

    def on_train_batch_end(
        self, trainer: pl.Trainer, module: pl.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        if self._bar is None:
            return
        now = time.monotonic()
        if now - self._shown_at > 0.25:
            self._shown_at = now
            self._bar.update(self._bar.task_ids[0], completed=module.budget.progress, step=module.budget.steps)
            self._bar.refresh()
        self._print_new_rows()

    def on_validation_end(self, trainer: pl.Trainer, module: pl.LightningModule) -> None:
        if self._bar is not None:
            self._print_new_rows()

    def on_train_end(self, trainer: pl.Trainer, module: pl.LightningModule) -> None:
        self._stop()

    def on_exception(self, trainer: pl.Trainer, module: pl.LightningModule, exception: BaseException) -> None:
        self._stop()

    def _print_new_rows(self) -> None:
        for row in self.history.rows[self._shown_rows :]:
            self.console.print(describe(row), highlight=False, soft_wrap=True)
        self._shown_rows = len(self.history.rows)

    def _stop(self) -> None:
        if self._bar is not None:
            self._bar.stop()
            self._bar = None


def describe(row: dict[str, float]) -> str:
    """One line of a training's log."""
    parts = [text.format(row[name]) for name, text in SHOWN.items() if name in row]
    start, end = (
        f"step {row['step']:7d}  {100 * row['progress']:3.0f} %",
        f"lr {row['lr']:.1e}  {row['cpu_s']:.0f} CPU s",
    )
    return "  ".join([start, *parts, end])


def write_rows(path: Path, rows: list[dict[str, float]]) -> None:
    """CSV with one column per name that occurs in any row."""
    with whole_file(path) as part, open(part, "w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, fieldnames=list(dict.fromkeys(name for row in rows for name in row)))
        writer.writeheader()
        writer.writerows(rows)
