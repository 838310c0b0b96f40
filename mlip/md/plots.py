"""Plots of a run: temperature and energies against time."""

from pathlib import Path

import numpy as np
from matplotlib.figure import Figure

from mlip.md.summary import read_thermo


def plot(folder) -> list[Path]:
    """temperature.png and energy.png from thermo.csv of a run's folder; returns their paths."""
    folder = Path(folder)
    table = read_thermo(folder)
    lines = {"potential": "potential_energy_eV", "total": "total_energy_eV", "conserved": "conserved_eV"}
    ps = table["time_fs"] * 1e-3

    heat, axes = canvas("temperature (K)")
    axes.plot(ps, table["temperature_K"], linewidth=0.8)
    axes.axhline(
        table["temperature_K"][len(ps) // 2 :].mean(), color="black", linestyle=":", label="mean of second half"
    )
    axes.legend()

    energy, axes = canvas("energy - first value (eV)")
    for label, column in lines.items():
        if np.isfinite(table[column]).all():
            axes.plot(ps, table[column] - table[column][0], linewidth=0.8, label=label)
    axes.legend()

    paths = [folder / "temperature.png", folder / "energy.png"]
    for figure, path in zip((heat, energy), paths, strict=True):
        figure.savefig(path, dpi=150)
    return paths


def canvas(label: str):
    """An empty plot against time."""
    figure = Figure(figsize=(6, 3.5), layout="constrained")
    axes = figure.subplots()
    axes.set_xlabel("time (ps)")
    axes.set_ylabel(label)
    return figure, axes
