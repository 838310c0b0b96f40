#!/usr/bin/env python
"""CPU time per atom and step of the forms of one model: TorchScript, AOTI, native.

OMP_NUM_THREADS=1 python scripts/bench_native.py [small medium large] [--repeat 2] [--rounds 10] [--no-aoti]

Random weights, Li6PS5Cl (52 atoms, repeated in three directions), energy, forces and stress through the ASE calculator
while the atoms move. The forms take turns, so that a busy machine slows all of them; the least of all rounds counts.
"""

import argparse
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import torch
from rich.console import Console
from rich.table import Table

CHECKOUT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(CHECKOUT), str(CHECKOUT / "scripts")]

from peers.structures import argyrodite

import mlip
from mlip.config import CONFIGS, compose, make
from mlip.data.graph import to_graph
from mlip.errors import InputError
from mlip.export import export

EDGE = 9.85  # Å, of the cubic cell
STEP = 1e-3  # Å, standard deviation of a move


def potential(preset: str):
    """A preset with random weights and the statistics of no data in particular."""
    torch.manual_seed(0)
    statistics = {"elements": [3, 15, 16, 17], "levels": ["default"], "atomic_energies": [[0.0] * 4], "mean_neighbours": 26.0,
                  "force_rms": 0.5, "shortest_distances": [[1.8] * 4] * 4, "largest_crowding": [9.0] * 4}  # fmt: skip
    return make(compose("train", [f"model={preset}", "data.files=none.xyz"], [CONFIGS]).model)(
        statistics=statistics
    ).eval()


def calculators(preset: str, folder: Path, with_aoti: bool) -> dict:
    """{form: calculator}; without AOTI where it does not compile."""
    live, cell = potential(preset), argyrodite(EDGE)
    graph = to_graph(cell, live.cutoff)
    export(live, folder / "model.pt", {}, [graph])
    forms = {kernel: mlip.load_calculator(folder / "model.pt", kernel=kernel) for kernel in ("torchscript", "native")}
    if with_aoti:
        try:
            export(live, folder / "model.pt2", {}, [graph], format="aoti")
            forms["aoti"] = mlip.load_calculator(folder / "model.pt2", kernel="torchscript")
        except InputError as error:
            print(error)
    return forms


def seconds_of_a_step(atoms, rng) -> float:
    """CPU seconds of one step after a move."""
    atoms.positions += rng.normal(scale=STEP, size=atoms.positions.shape)
    start = time.process_time()
    atoms.get_forces()
    atoms.get_stress()
    return time.process_time() - start


def least(forms: dict, repeat: int, rounds: int) -> dict[str, float]:
    """{form: us per atom and step}: the least of all rounds, in which the forms take turns."""
    rng, best = np.random.default_rng(0), {}
    atoms = {form: argyrodite(EDGE).repeat(repeat) for form in forms}
    for form, calculator in forms.items():
        atoms[form].calc = calculator
    for _ in range(rounds):
        for form, one in atoms.items():
            for _ in range(3):
                best[form] = min(best.get(form, np.inf), 1e6 * seconds_of_a_step(one, rng) / len(one))
    return best


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("presets", nargs="*", default=["small", "medium"])
    parser.add_argument("--repeat", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=10)
    parser.add_argument("--no-aoti", action="store_true", help="its compiler takes a minute")
    asked = parser.parse_args()
    torch.set_num_threads(1)
    table = Table("model", "atoms", "TorchScript us", "AOTI us", "native us", "TorchScript / native", "AOTI / native")
    for preset in asked.presets:
        with tempfile.TemporaryDirectory() as folder:
            best = least(calculators(preset, Path(folder), not asked.no_aoti), asked.repeat, asked.rounds)
        scripted, native, aoti = best["torchscript"], best["native"], best.get("aoti", np.nan)
        table.add_row(preset, str(52 * asked.repeat**3), *(f"{x:.1f}" for x in (scripted, aoti, native)),
                      f"{scripted / native:.1f}", f"{aoti / native:.1f}")  # fmt: skip
    Console(width=120).print(table)


if __name__ == "__main__":
    main()
