"""Figure of phonon bands and density of states."""

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.figure import Figure

from mlip.evaluation.plots import BLUE, ORANGE


def plot_phonons(data: Mapping) -> dict[str, Figure]:
    """phonons: bands along the standard path and density of states, the reference's in orange."""
    figure = Figure(figsize=(6.2, 3.8), layout="constrained")
    left, right = figure.subplots(1, 2, sharey=True, width_ratios=(3, 1))
    for name, colour, style, label in (("", BLUE, "-", "this calculator"), ("_reference", ORANGE, "--", "reference")):
        if f"bands{name}_THz" in data:
            lines = left.plot(data["path"], np.array(data[f"bands{name}_THz"]), style, color=colour, linewidth=0.8)
            lines[0].set_label(label)
    right.fill_betweenx(data["dos_THz"], data["dos"], color=BLUE, alpha=0.3, linewidth=0)
    right.plot(data["dos"], data["dos_THz"], color=BLUE, linewidth=0.8)
    if "dos_reference" in data:
        right.plot(data["dos_reference"], data["dos_reference_THz"], "--", color=ORANGE, linewidth=0.8)
    for tick in data["ticks"]:
        left.axvline(tick, color="0.7", linewidth=0.6)
    for axes in (left, right):
        axes.axhline(0, color="0.4", linewidth=0.6)
    left.set_xticks(*joined(data["ticks"], data["labels"]))
    lowest = min(0.0, np.min(data["bands_THz"]), np.min(data.get("bands_reference_THz", 0.0)))
    left.set(xlabel="wave vector", ylabel="frequency (THz), imaginary below zero", xlim=(data["path"][0], data["path"][-1]),
             ylim=(1.05 * lowest, None))  # fmt: skip
    right.set(xlabel="DOS (1/THz)", xlim=(0, None))
    left.legend(frameon=False, fontsize=8, loc="upper right")
    return {"phonons": figure}


def joined(ticks: Sequence[float], labels: Sequence[str]) -> tuple[list[float], list[str]]:
    """Places and names of the special points; where the path jumps, two share a place: "U|K"."""
    places: dict[float, str] = {}
    for tick, label in zip(ticks, labels, strict=True):
        name = "Γ" if label == "G" else label
        places[tick] = f"{places[tick]}|{name}" if tick in places else name
    return list(places), list(places.values())
