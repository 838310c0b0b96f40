#!/usr/bin/env python
"""CPU time per atom and step of the forms of one model: TorchScript, AOTI, native.

OMP_NUM_THREADS=1 python scripts/bench_native.py [small medium large] [--repeat 2] [--rounds 10] [--no-aoti]

Random weights, Li6PS5Cl (52 atoms, repeated in three directions), energy, forces and stress through the ASE calculator
while the atoms move. The forms take turns, so that a busy machine slows all of them; the least of all rounds counts.
The last columns: multiply-adds of the kernel for an atom, counted from its loops, and their rate in the whole step beside
that of a matrix product of torch on the same core.
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
from mlip import keys
from mlip.config import CONFIGS, compose, make
from mlip.data.graph import to_graph
from mlip.errors import InputError
from mlip.export import Deployed, export
from mlip.native.weights import weights_of

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


def multiply_adds(preset: str) -> float:
    """Multiply-adds of the native kernel per atom, by the loops of its sources; what it does once per edge is left out."""
    live, cell = potential(preset), argyrodite(EDGE)
    n_edges = to_graph(cell, live.cutoff)[keys.EDGE_INDEX].shape[1] / len(cell)
    weights = weights_of(Deployed(live, 0))
    k, degree, layers, basis, species, hidden = (
        weights.sizes[name] for name in ("CHANNELS", "DEGREE", "LAYERS", "BASIS", "SPECIES", "HIDDEN")
    )
    harmonics, points = (degree + 1) ** 2, weights.n_points
    paths = sum((2 * l + 1) * (2 if l in (0, degree) else 3) for l in range(degree + 1))
    embed, maps, mix = harmonics * species * basis * k, harmonics * 2 * k * k, paths * k * k
    sample, coupling = points * harmonics * 3 * k, len(weights.arrays[11]) * k
    density, total = n_edges * basis * harmonics, layers * 2 * k * hidden
    for layer in range(layers):
        is_last = layer == layers - 1
        outputs = 1 if is_last else 4
        messages = n_edges * (2 * basis * k + 4 * k * (harmonics + 1)) + coupling + mix if layer else 0
        times = 1 if is_last else 2  # layers before the last are computed again on the way back
        total += (
            times * (density + embed + maps + messages) + sample + points * k * (2 * outputs + 6) + 3 * k * k * outputs
        )
        total += 3 * k * k * outputs + 2 * sample + points * k * 20 + maps + embed
        if layer:
            total += mix + coupling + n_edges * (4 * basis * k + 4 * k * (2 * harmonics + 3))
    return total + 2 * density


def rate_of_a_product() -> float:
    """Multiply-adds per second of a float32 matrix product of torch on one core: nearly all that it can do."""
    a, best = torch.randn(1024, 1024), np.inf
    for _ in range(10):
        start = time.process_time()
        a @ a
        best = min(best, time.process_time() - start)
    return 1024**3 / best


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("presets", nargs="*", default=["small", "medium"])
    parser.add_argument("--repeat", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=10)
    parser.add_argument("--no-aoti", action="store_true", help="its compiler takes a minute")
    asked = parser.parse_args()
    torch.set_num_threads(1)
    limit = rate_of_a_product()
    print(f"a product of matrices: {1e-9 * limit:.1f} G multiply-adds/s")
    table = Table("model", "atoms", "TorchScript us", "AOTI us", "native us", "TorchScript / native", "AOTI / native",
                  "kMAC/atom", "of a product's rate")  # fmt: skip
    for preset in asked.presets:
        with tempfile.TemporaryDirectory() as folder:
            best = least(calculators(preset, Path(folder), not asked.no_aoti), asked.repeat, asked.rounds)
        count = multiply_adds(preset)
        scripted, native, aoti = best["torchscript"], best["native"], best.get("aoti", np.nan)
        table.add_row(preset, str(52 * asked.repeat**3), *(f"{x:.1f}" for x in (scripted, aoti, native)),
                      f"{scripted / native:.1f}", f"{aoti / native:.1f}",
                      f"{1e-3 * count:.0f}", f"{1e6 * count / native / limit:.0%}")  # fmt: skip
    Console(width=120).print(table)


if __name__ == "__main__":
    main()
