"""What one sees of a training: a progress bar, one line per validation, metrics.csv."""

import csv
import time
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
from rich.console import Console
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeRemainingColumn

from mlip.training.files import whole_file

SHOWN = {  # columns of the line printed after each validation
    "val_energy_rmse_meV_per_atom": "E {:.2f} meV/atom",
    "val_force_rmse_meV_per_A": "F {:.1f} meV/Å",
    "val_stress_rmse_GPa": "S {:.3f} GPa",
    "val_charge_rmse_e": "q {:.4f} e",
}


class ProgressBar(pl.callbacks.Callback):
    """One bar over the whole budget, refreshed at most four times a second, and a line per validation."""

    def __init__(self, console: Console):
        self.console = console
        self._shown_at = 0.0

    def on_train_start(self, trainer: pl.Trainer, module: pl.LightningModule) -> None:
        self.bar = Progress(
            TextColumn("training"), BarColumn(), TaskProgressColumn(), TextColumn("step {task.fields[step]}"),
            TimeRemainingColumn(), console=self.console, auto_refresh=False, transient=True,
        )  # fmt: skip
        self.task = self.bar.add_task("training", total=1.0, completed=module.budget.progress, step=module.budget.steps)
        if trainer.is_global_zero:
            self.bar.start()

    def on_train_batch_end(
        self, trainer: pl.Trainer, module: pl.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        now = time.monotonic()
        if now - self._shown_at > 0.25 and self.console.is_terminal and trainer.is_global_zero:
            self.bar.update(self.task, completed=module.budget.progress, step=module.budget.steps, refresh=True)
            self._shown_at = now

    def on_validation_end(self, trainer: pl.Trainer, module: pl.LightningModule) -> None:
        if trainer.state.fn == "fit" and trainer.is_global_zero:
            row = module.row
            errors = [text.format(row[name]) for name, text in SHOWN.items() if name in row]
            parts = [f"step {row['step']:7d}", f"{100 * row['progress']:3.0f} %", *errors, f"loss {row['val_loss']:.4g}"]
            self.console.print("  ".join([*parts, f"lr {row['lr']:.1e}", f"{row['cpu_s']:.0f} CPU s"]), highlight=False, soft_wrap=True)

    def on_train_end(self, trainer: pl.Trainer, module: pl.LightningModule) -> None:
        self.bar.stop()

    def on_exception(self, trainer: pl.Trainer, module: pl.LightningModule, exception: BaseException) -> None:
        if hasattr(self, "bar"):
            self.bar.stop()


class History(pl.callbacks.Callback):
    """metrics.csv: one row per validation. The rows are part of the checkpoint, so a resumed run repeats none."""

    def __init__(self, path: str | Path):
        self.path = Path(path)
        self.rows: list[dict[str, float]] = []

    def on_validation_end(self, trainer: pl.Trainer, module: pl.LightningModule) -> None:
        if trainer.state.fn != "fit":
            return
        self.rows.append(dict(module.row))
        if trainer.is_global_zero:
            write_rows(self.path, self.rows)

    def state_dict(self) -> dict[str, Any]:
        return {"rows": self.rows}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.rows = list(state["rows"])


def write_rows(path: Path, rows: list[dict[str, float]]) -> None:
    """CSV with one column per name that occurs in any row."""
    with whole_file(path) as part, open(part, "w", newline="") as file:
        writer = csv.DictWriter(file, fieldnames=list(dict.fromkeys(name for row in rows for name in row)))
        writer.writeheader()
        writer.writerows(rows)
