"""Barriers against those of DFT: mean errors over hops, the parity plot, several models along one hop."""

from collections.abc import Mapping

import numpy as np
from matplotlib.figure import Figure

from mlip.evaluation.plots import BLUE, GREEN, MARKERS, ORANGE, RED, canvas, title
from mlip.evaluation.result import Result

KINDS = {  # entry of a hop: the structures whose energies they are
    "fixed": "DFT images",
    "own": "own path",
    "labelled": "own saddles",  # asked of DFT: the same structures on both sides
}
COLOURS = (BLUE, ORANGE, GREEN, RED)


def pairs(hops: Mapping[str, Mapping], kind: str = "own") -> np.ndarray:
    """Barriers of DFT and of the calculator [n_hops, 2] eV.  hops: curves by hop, of a section's data"""
    if kind == "labelled":
        curves = [(of["labelled"]["energies_eV"], of["own"]["energies_eV"]) for of in hops.values() if kind in of]
    else:
        curves = [
            (of["fixed"]["dft_eV"], of[kind]["energies_eV"]) for of in hops.values() if {"fixed", kind} <= set(of)
        ]
    return np.array([(max(dft), max(ours)) for dft, ours in curves]).reshape(-1, 2)


def barrier_errors(hops: Mapping[str, Mapping]) -> list[Result]:
    """MAE and largest error of the barriers over the hops that have one of DFT, meV; nothing for fewer than two."""
    errors = []
    for kind, text in KINDS.items():
        both = pairs(hops, kind)
        if len(both) < 2:
            continue
        difference = 1e3 * np.abs(both[:, 1] - both[:, 0])
        where = {"path": text, "hops": float(len(both))}
        errors += [Result("barrier_mae", difference.mean(), "meV", conditions=where),
                   Result("barrier_largest_error", difference.max(), "meV", conditions=where)]  # fmt: skip
    return errors


def plot_parity(sets: Mapping[str, np.ndarray]) -> Figure:
    """Barriers of ours against DFT's.  sets: by legend, [n_hops, 2] eV; grey: within 20 meV."""
    figure, axes = canvas("barrier, DFT (eV)", "barrier, potential (eV)", (4.4, 4.2))
    every = np.concatenate(list(sets.values()))
    low, high = every.min() - 0.05, every.max() + 0.05
    axes.fill_between([low, high], [low - 0.02, high - 0.02], [low + 0.02, high + 0.02], color="0.85", linewidth=0)
    axes.plot([low, high], [low, high], color="0.5", linewidth=0.8)
    for i, (name, points) in enumerate(sets.items()):
        mae = 1e3 * np.abs(points[:, 1] - points[:, 0]).mean()
        axes.plot(
            *points.T,
            MARKERS[i % len(MARKERS)],
            color=COLOURS[i % 4],
            label=f"{name}: MAE {mae:.0f} meV, {len(points)} hops",
        )
    axes.set(xlim=(low, high), ylim=(low, high), aspect="equal")
    title(axes, "grey: within 20 meV")
    axes.legend(frameon=False, fontsize=8, loc="upper left")
    return figure


def plot_along(hop: str, curves: Mapping[str, Mapping]) -> Figure:
    """Energies on the DFT images of one hop: those of DFT, and of every model by its name.  curves: of the hop, by model"""
    figure, axes = canvas("path (Å)", "energy above the start (eV)")
    fixed = {name: of["fixed"] for name, of in curves.items()}
    one = next(iter(fixed.values()))
    axes.plot(one["coordinate_A"], one["dft_eV"], "D:", color="black", label="DFT")
    for i, (name, of) in enumerate(fixed.items()):
        axes.plot(
            of["coordinate_A"], of["energies_eV"], MARKERS[i % len(MARKERS)] + "-", color=COLOURS[i % 4], label=name
        )
    axes.axhline(0, color="0.7", linewidth=0.6)
    title(axes, f"hop {hop}, on the images of DFT")
    axes.legend(frameon=False, fontsize=8)
    return figure
