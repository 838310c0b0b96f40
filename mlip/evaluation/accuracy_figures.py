"""Figures of accuracy: parity, cumulative errors of migrating ions, calibration."""

from collections.abc import Mapping

import matplotlib
import numpy as np
from matplotlib.figure import Figure

from mlip.evaluation.plots import BLUE, GREEN, ORANGE, RED, log_ticks

STYLE = {"font.size": 9, "pdf.fonttype": 42}
UNITS = {"energy": "energy (eV/atom)", "force": "force component (eV/Å)", "stress": "stress component (GPa)"}
LINES = (("-", BLUE), ("--", RED), (":", GREEN))


def plot_accuracy(data: Mapping) -> dict[str, Figure]:
    """Every figure that the data of an accuracy section can show, by name."""
    figures = {}
    with matplotlib.rc_context(STYLE):
        if data.get("parity"):
            figures["parity"] = plot_parity(data["parity"])
        if data.get("cumulative"):
            figures["force_errors"] = plot_cumulative(data["cumulative"])
        for name, curves in data.get("uncertainty", {}).items():
            figures[f"calibration_{name}"] = plot_calibration(curves, name)
    return figures


def plot_parity(pairs: dict) -> Figure:
    """Prediction against label, one panel per quantity; below it the error, which parity hides.

    Dashed, of forces: the slope through zero, sum F_p F / sum F^2. Below 1 the energy surface is too soft.
    """
    figure = Figure(figsize=(3.0 * len(pairs), 4.2), layout="constrained")
    panels = figure.subplots(2, len(pairs), squeeze=False, sharex="col", height_ratios=(2, 1))
    for (above, below), (name, pair) in zip(panels.T, pairs.items(), strict=True):
        label, predicted = np.array(pair["label"]), np.array(pair["predicted"])
        ends = [min(label.min(), predicted.min()), max(label.max(), predicted.max())]
        above.plot(ends, ends, color="0.6", linewidth=1)
        above.plot(label, predicted, ".", markersize=2, color=BLUE, rasterized=True)
        if name == "force" and label.any():
            slope = float(label @ predicted / (label @ label))
            above.plot(ends, slope * np.array(ends), "--", color=ORANGE, linewidth=1, label=f"slope {slope:.3f}")
            above.legend(frameon=False, fontsize=8, loc="upper left")
        below.axhline(0, color="0.6", linewidth=1)
        below.plot(label, predicted - label, ".", markersize=2, color=BLUE, rasterized=True)
        quantity, unit = UNITS[name].split(" (")
        above.set(ylabel=f"predicted {quantity} ({unit}")
        below.set(xlabel=f"label: {UNITS[name]}", ylabel=f"error ({unit}")
    return figure


def plot_cumulative(curves: dict) -> Figure:
    """Part of the ions with an error below x: of the magnitude and of the direction of the force, migrating ions apart."""
    figure = Figure(figsize=(7.2, 3.2), layout="constrained")
    size, direction = figure.subplots(1, 2, sharey=True)
    for (style, colour), (kind, curve) in zip(LINES, curves.items(), strict=False):
        for axis, values in ((size, curve["magnitude_meV_per_A"]), (direction, curve["angle_degree"])):
            if values:
                axis.plot(values, curve["part"], style, color=colour, linewidth=1.5, label=f"{kind} ({curve['n']})")
    for axis in (size, direction):  # the smallest hundredth would take half of a logarithmic axis
        starts = [np.interp(0.01, line.get_ydata(), line.get_xdata()) for line in axis.lines]
        axis.set(xscale="log", xlim=(max(min(starts, default=1e-3), 1e-6), None))
        log_ticks(axis.xaxis, *axis.get_xlim())
    size.set(xlabel="error of the force's magnitude (meV/Å)", ylabel="part of the ions", ylim=(0, 1))
    direction.set(xlabel="angle between the forces (degree)")
    size.legend(frameon=False, fontsize=8, loc="upper left")
    return figure


def plot_calibration(curves: dict, name: str) -> Figure:
    """Left: part of the errors within the expected interval. Right: error against spread in bins of equally many rows."""
    figure = Figure(figsize=(7.2, 3.2), layout="constrained")
    curve, bins = figure.subplots(1, 2)
    curve.plot([0, 1], [0, 1], color="0.6", linewidth=1)
    states = [(state, curves[state]) for state in ("as given", "rescaled") if state in curves]
    for (state, at), colour, marker in zip(states, (BLUE, ORANGE), "os", strict=False):
        curve.plot(at["expected"], at["observed"], "-", marker=marker, markevery=5, markersize=4, color=colour,
                   label=f"{state}: area {at['area']:.3f}")  # fmt: skip
        rank = "" if at["spearman"] is None else f": Spearman {at['spearman']:.2f}"
        bins.plot(at["sigma"], at["rmse"], marker + "-", markersize=4, color=colour, label=state + rank)
    ends = [value for _, at in states for value in (*at["sigma"], *at["rmse"]) if value > 0]
    if ends:
        bins.plot([min(ends), max(ends)], [min(ends), max(ends)], color="0.6", linewidth=1)
        bins.set(xscale="log", yscale="log")
    curve.set(xlabel="expected part within the interval", ylabel="part found")
    bins.set(xlabel=f"rms σ of the {name} ({curves['unit']})", ylabel=f"rms error ({curves['unit']})")
    for axis in (curve, bins):
        axis.legend(frameon=False, fontsize=8)
    return figure
