"""Learning curve and parity plots."""

from pathlib import Path

import matplotlib
import numpy as np
from matplotlib.figure import Figure

from mlip.files import whole_file
from mlip.training.metrics import UNITS

BLUE, ORANGE, GREEN = "#0072B2", "#E69F00", "#009E73"  # Okabe and Ito: told apart by colour-blind readers
LABELS = {
    "energy": "energy (eV/atom)", "force": "force component (eV/Å)", "stress": "stress component (GPa)",
    "charge": "charge (e)", "dipole": "dipole component (e Å)", "born_charge": "Born charge (e)",
}  # fmt: skip


def learning_curve(rows: list[dict[str, float]], path: Path) -> None:
    """Validation errors, and losses, against steps."""
    steps = [row["step"] for row in rows]
    figure = Figure(figsize=(8, 3.2), layout="constrained")
    errors, losses = figure.subplots(1, 2)
    for name, label, colour in (
        ("val_force_rmse_meV_per_A", "force, meV/Å", BLUE),
        ("val_energy_rmse_meV_per_atom", "energy, meV/atom", ORANGE),
    ):
        if any(name in row for row in rows):
            errors.plot(steps, [row.get(name, np.nan) for row in rows], color=colour, label=label)
    losses.plot(steps, [row.get("train_loss", np.nan) for row in rows], color=GREEN, label="training")
    losses.plot(steps, [row.get("val_loss", np.nan) for row in rows], color=BLUE, label="validation")
    for axis, title in ((errors, "validation RMSE"), (losses, "loss")):
        axis.set(xlabel="step", ylabel=title, yscale="log")
        if axis.lines:
            axis.legend(frameon=False)
    _save(figure, path)


def parity(pairs: dict[str, np.ndarray], path: Path) -> None:
    """Result against label, one panel per quantity.  pairs: {"force": [n, 2] label, result, ...} eV, Å, e."""
    pairs = {name: pair * (UNITS["stress"][1] if name == "stress" else 1.0) for name, pair in pairs.items()}
    if not pairs:
        return
    figure = Figure(figsize=(3.4 * len(pairs), 3.4), layout="constrained")
    for axis, (name, pair) in zip(np.atleast_1d(figure.subplots(1, len(pairs))), pairs.items(), strict=True):
        ends = [pair.min(), pair.max()]
        axis.plot(ends, ends, color="0.6", linewidth=1)
        axis.plot(pair[:, 0], pair[:, 1], ".", markersize=2, color=BLUE, rasterized=True)
        axis.set(xlabel=f"label: {LABELS[name]}", ylabel="potential")
    _save(figure, path)


def _save(figure: Figure, path: Path) -> None:
    with whole_file(path) as part, matplotlib.rc_context({"font.size": 9}):
        figure.savefig(part, format="png", dpi=150)
