#!/usr/bin/env python
"""What charges cost in dynamics: CPU time per atom and step of twins, in one run, at several sizes.

python scripts/bench_head.py START WITHOUT WITH... [--repeats 1,1,1 2,1,1 2,2,1 2,2,2] [--steps 12]
Each step of NVE (1 fs, 600 K) is timed by CPU seconds of one thread; the models take turns; the median of the second half counts.
"""

import argparse
import statistics
import time
from pathlib import Path

import numpy as np
import torch
from ase import units
from ase.io import read
from ase.md.verlet import VelocityVerlet
from rich.console import Console
from rich.table import Table

from mlip import load_calculator
from mlip.md.ensemble import maxwell


def step_times(start, files: list[Path], n_steps: int) -> list[list[float]]:
    """Seconds of every step of each model."""
    runs = []
    for file in files:
        atoms = start.copy()
        atoms.calc = load_calculator(file)
        atoms.set_momenta(maxwell(atoms, 600.0, 3, np.random.default_rng(0)))
        runs.append(VelocityVerlet(atoms, 1 * units.fs))
    times = [[] for _ in files]
    for _ in range(n_steps):
        for run, taken in zip(runs, times, strict=True):
            begin = time.process_time()
            run.run(1)
            taken.append(time.process_time() - begin)
    return times


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("start")
    parser.add_argument("runs", nargs="+", type=Path)
    parser.add_argument("--repeats", nargs="+", default=["1,1,1", "2,1,1", "2,2,1", "2,2,2"])
    parser.add_argument("--steps", type=int, default=12)
    asked = parser.parse_args()
    torch.set_num_threads(1)
    start = read(asked.start)
    start.calc = None
    table = Table(
        "atoms", *(run.name for run in asked.runs), title="µs per atom and step, and the head's part of the twin's step"
    )
    for repeat in asked.repeats:
        atoms = start.repeat(tuple(map(int, repeat.split(","))))
        times = step_times(atoms, [run / "model.pt" for run in asked.runs], asked.steps)
        micro = [statistics.median(taken[len(taken) // 2 :]) / len(atoms) * 1e6 for taken in times]
        table.add_row(str(len(atoms)), *(f"{each:.0f}  {100 * (each / micro[0] - 1):+.0f} %" for each in micro))
    Console(width=150).print(table)


if __name__ == "__main__":
    main()
