"""Time, memory and error against the number of atoms: a crystal repeated, whose answer is known from its cell.

    python scripts/bench_size.py start.cif short_range.pt equilibrated.pt --largest 100000

Every model answers for a perturbed cell, and for its n x n x n repeats: energy, forces, stress through the ASE
calculator. `first` is a first step, `step` the next one, which has the list and the charges of the first: CPU seconds
of one thread, so that other work on the machine does not count. Memory is the peak of the first step beyond what the
process held after the cell. A size that would not fit into --gib by what the last one took is left out, and said to be.
"""

import argparse
import time
from pathlib import Path

import ase.io
import numpy as np
import torch
from ase import Atoms
from rich.console import Console
from rich.table import Table

from mlip import load_calculator
from mlip.evaluation.cost import motion
from mlip.evaluation.peak_memory import peak_bytes, total_bytes

CPU = torch.device("cpu")
COLUMNS = ("atoms", "first s", "step s", "us/atom", "kB/atom", "exponent s", "exponent kB", "dE eV/atom", "dF eV/Å",
           "dstress eV/Å^3", "dq e")  # fmt: skip


def repeats(n_atoms: int, least: int, largest: int) -> list[int]:
    """Repeats n of a cell, n^3 n_atoms about twice as large from one to the next, from least to largest."""
    counts = [n for n in range(1, 1000) if least <= n**3 * n_atoms <= largest]
    chosen = counts[:1]
    for n in counts:
        if n**3 >= 2 * chosen[-1] ** 3:
            chosen.append(n)
    return chosen


def answer(calculator, atoms: Atoms) -> dict[str, np.ndarray]:
    """Energy per atom, forces, stress, and charges where there are any."""
    calculator.calculate(atoms)
    results = calculator.results
    return {"energy": np.array(results["energy"] / len(atoms)), "forces": results["forces"], "stress": results["stress"],
            **({"charges": results["charges"]} if "charges" in results else {})}  # fmt: skip


def measure(path: Path, kernel: str, cell: Atoms, n: int, small: dict[str, np.ndarray]) -> dict:
    """One size: seconds, peak memory, largest differences from the answer of the cell."""
    atoms, calculator, large = cell.repeat(n), load_calculator(path, kernel=kernel), {}
    calculator.calculate(cell)  # the native kernel, if it runs, is checked here
    begin = time.process_time()
    memory = peak_bytes(lambda: large.update(answer(calculator, atoms)), CPU)
    first = time.process_time() - begin
    moved = atoms.copy()
    moved.positions = next(motion(atoms, timestep_fs=1.0, temperature_K=300.0))
    begin = time.process_time()
    calculator.calculate(moved)
    row = {"atoms": len(atoms), "first s": first, "step s": time.process_time() - begin, "bytes": memory or 0}
    for name, symbol in (
        ("energy", "dE eV/atom"),
        ("forces", "dF eV/Å"),
        ("stress", "dstress eV/Å^3"),
        ("charges", "dq e"),
    ):
        if name in small:
            per_atom = name in ("forces", "charges")
            expected = np.tile(small[name], (n**3, *[1] * (small[name].ndim - 1))) if per_atom else small[name]
            row[symbol] = float(np.abs(large[name] - expected).max())
    return row


def bench(path: Path, kernel: str, cell: Atoms, least: int, largest: int, gib: float) -> list[dict]:
    """Rows of all sizes that fit."""
    small, rows = answer(load_calculator(path, kernel=kernel), cell), []
    for n in repeats(len(cell), least, largest):
        expected = rows[-1]["bytes"] / rows[-1]["atoms"] * n**3 * len(cell) / 2**30 if rows else 0.0
        if expected > gib:
            print(f"{n**3 * len(cell)} atoms would take {expected:.1f} GiB, more than --gib {gib:.1f}: left out")
            break
        row = measure(path, kernel, cell, n, small)
        row |= {"us/atom": 1e6 * row["step s"] / row["atoms"], "kB/atom": row["bytes"] / row["atoms"] / 1e3}
        if rows:
            growth = np.log(row["atoms"] / rows[-1]["atoms"])
            row["exponent s"] = float(np.log(row["step s"] / rows[-1]["step s"]) / growth)
            if row["bytes"] > 0 < rows[-1]["bytes"]:
                row["exponent kB"] = float(np.log(row["bytes"] / rows[-1]["bytes"]) / growth)
        rows.append(row)
        print(f"{row['atoms']} atoms: {row['step s']:.2f} s, {row['kB/atom']:.0f} kB/atom", flush=True)
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("structure", type=Path)
    parser.add_argument("models", type=Path, nargs="+")
    parser.add_argument("--kernel", default="auto", help="as of load_calculator: torchscript runs in blocks of atoms")
    parser.add_argument("--least", type=int, default=1000, help="atoms")
    parser.add_argument("--largest", type=int, default=100_000, help="atoms")
    parser.add_argument(
        "--gib", type=float, default=total_bytes(CPU) / 2**31, help="largest memory; half of the machine's"
    )
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    cell = ase.io.read(arguments.structure)
    cell.rattle(0.05, seed=0)
    for path in arguments.models:
        rows = bench(path, arguments.kernel, cell, arguments.least, arguments.largest, arguments.gib)
        table = Table(*COLUMNS, title=str(path))
        for row in rows:
            table.add_row(
                *(
                    f"{row[name]:.3g}" if isinstance(row.get(name), float) else str(row.get(name, ""))
                    for name in COLUMNS
                )
            )
        Console(width=160).print(table)


if __name__ == "__main__":
    main()
