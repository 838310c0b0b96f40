#!/usr/bin/env python3
"""Calibration of exported uncertainties on held-out frames, before (scales of 1) and after, by config_type.

    for k in 0 1 2 3; do mlip train experiment=li3incl6 model=small trainer.max_steps=null trainer.max_seconds=40 seed=$k \
        'data.split={method: block, validation: 0.2, test: [md_1100K, rattle_strain]}' folder=runs/uncertainty/$k; done
    mlip export 'run=[runs/uncertainty/0,runs/uncertainty/1,runs/uncertainty/2,runs/uncertainty/3]'
    mlip export runs/uncertainty/0 uncertainty=last_layer
    scripts/bench_uncertainty.py datasets/li3incl6/li3incl6_gpaw.xyz runs/uncertainty/0 runs/uncertainty/committee.pt runs/uncertainty/0/last_layer.pt

alpha: rms of |error| / sigma (1 is calibrated); area: miscalibration (0); rho: Spearman's correlation of sigma and |error|.
"""

import argparse
import json
from pathlib import Path

import numpy as np
from ase.data import chemical_symbols
from rich.console import Console
from rich.table import Table

import mlip
from mlip.data.structures import read
from mlip.evaluation.calibration import summary
from mlip.evaluation.predictions import compared, of_whole_structures, predicted


def shown(sigma: np.ndarray, error: np.ndarray) -> str:
    found = summary(sigma, error)
    return f"{found['alpha']:.2f} / {found['area']:.3f} / {found['spearman'] or np.nan:.2f}"


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", help="the file that the runs were split from")
    parser.add_argument("run", type=Path, help="the run whose test part counts")
    parser.add_argument("models", nargs="+", help="files of mlip export with an uncertainty")
    args = parser.parse_args()
    test = json.loads((args.run / "split.json").read_text())["frames"]["test"]
    every = read(args.data)
    frames = [every[number] for number in sorted(int(source.rsplit(":", 1)[1]) for source in test)]
    config_types = np.array([atoms.info["config_type"] for atoms in frames])
    table = Table("model", "frames", "force RMSE, meV/Å", "force: before", "after", "energy: before", "after",
                  title="alpha / area / rho on held-out frames")  # fmt: skip
    for model in args.models:
        calculator = mlip.load_calculator(model)
        scales = calculator.metadata["uncertainty"]
        energy, force, _ = compared(frames, predicted(calculator, frames, 1000))
        energy = of_whole_structures(energy, frames)
        raw = force.sigma / np.array([scales["force_scale"][chemical_symbols[z]] for z in force.number])
        for name in ["all", *np.unique(config_types)]:
            of_e, of_f = ((name == "all") | (config_types[rows.frame] == name) for rows in (energy, force))
            rmse = 1e3 * np.sqrt((force.error[of_f] ** 2).mean())
            table.add_row(
                model, f"{name} ({of_e.sum()})", f"{rmse:.0f}", shown(raw[of_f], force.error[of_f]),
                shown(force.sigma[of_f], force.error[of_f]),
                shown(energy.sigma[of_e] / scales["energy_scale"], energy.error[of_e]), shown(energy.sigma[of_e], energy.error[of_e]),
            )  # fmt: skip
    Console().print(table)


if __name__ == "__main__":
    main()
