"""Figures of cost: time against size, and accuracy against time for several models."""

from collections.abc import Mapping

import matplotlib
import numpy as np
from matplotlib.figure import Figure

from mlip.evaluation.accuracy_figures import STYLE
from mlip.evaluation.plots import BLUE, GREEN, MARKERS, ORANGE, RED
from mlip.evaluation.section import Section


def plot_cost(data: Mapping) -> dict[str, Figure]:
    """Time per step against the number of atoms, with the fit, and ns per day on the other side."""
    rows = data["rows"]
    n_atoms, seconds, error = (np.array([row[key] for row in rows]) for key in ("n_atoms", "seconds", "error"))
    grid = np.geomspace(n_atoms[0], n_atoms[-1], 100) if len(rows) > 1 else n_atoms
    per_day = 0.0864 * data["timestep_fs"]
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(5.2, 3.8), layout="constrained")
        axis = figure.subplots()
        axis.errorbar(n_atoms, seconds, 2 * error, fmt="o", color=BLUE, capsize=2, markersize=5, label="measured")
        fitted = f"{1e3 * data['t0_s']:.2g} ms + {1e6 * data['c_s']:.3g} µs N$^{{{data['p']:.2f}}}$"
        axis.plot(grid, data["t0_s"] + data["c_s"] * grid ** data["p"], color=ORANGE, label=fitted)
        axis.set(xlabel="atoms", ylabel="time per step (s)", xscale="log", yscale="log")
        axis.set_xticks(n_atoms, [str(n) for n in n_atoms])
        axis.tick_params(axis="x", which="minor", bottom=False, labelbottom=False)
        other = axis.secondary_yaxis(
            "right", functions=(lambda t: per_day / _positive(t), lambda v: per_day / _positive(v))
        )
        other.set_ylabel(f"ns per day, steps of {data['timestep_fs']:g} fs")
        axis.legend(frameon=False, fontsize=8)
        shown = {key: value for key, value in data["conditions"].items() if key != "cutoff_A"}
        axis.set_title(
            "\n".join(f"{key.replace('_', ' ')} {value}" for key, value in shown.items()), fontsize=7, loc="left"
        )
    return {"cost_scaling": figure}


def _positive(values):
    return np.maximum(np.asarray(values, dtype=float), 1e-300)


def plot_accuracy_cost(models: Mapping[str, tuple[Section, Section]]) -> Figure:
    """Force RMSE against time per atom of the largest size, one point with intervals for each model.

    models  name -> (section of accuracy, section of cost); the material and machine should be the same
    """
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(5.2, 3.8), layout="constrained")
        axis = figure.subplots()
        for i, (name, (accuracy, cost)) in enumerate(models.items()):
            error = next(r for r in accuracy.results if r.name == "force_rmse" and not r.conditions)
            times = [r for r in cost.results if r.name == "time_per_atom_step"]
            at = max(times, key=lambda r: r.conditions["n_atoms"])
            bars = [
                [[value - (r.low or value)], [(r.high or value) - value]]
                for r, value in ((at, at.value), (error, error.value))
            ]
            label = f"{name} ({at.conditions['n_atoms']} atoms)"
            axis.errorbar(at.value, error.value, xerr=bars[0], yerr=bars[1], fmt=MARKERS[i % len(MARKERS)], capsize=2,
                          color=(BLUE, ORANGE, GREEN, RED)[i % 4], label=label)  # fmt: skip
        axis.set(xlabel="time per atom and step (µs)", ylabel="force RMSE (meV/Å)", xscale="log", yscale="log")
        axis.legend(frameon=False, fontsize=8)
    return figure
