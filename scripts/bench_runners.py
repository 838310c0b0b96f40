"""CPU time per atom and step of potentials through their ASE calculators, in one run: ours, NEP4, MACE, Symmetrix-XL.

    python scripts/bench_runners.py FOLDER --peer-python VENV/bin/python [--names small large-aoti nep4] [--rounds 4]

416 atoms of Li6PS5Cl, energy, forces and stress while the atoms move as fast as at 600 K, random weights, one thread. Each
code has a process, and they take turns, so that a busy machine slows all of them; the least of all rounds counts. FOLDER
keeps the models; the compiled form of ours (AOTI) takes minutes, once. VENV has `pip install mace-torch calorine
symmetrix-xl`; a code that is not there is left out, and said to be. The last columns are those of bench_native.py.
"""

import argparse
import os
import subprocess
import sys
from pathlib import Path

import torch
from ase.io import write
from bench_native import EDGE, multiply_adds, potential, rate_of_a_product
from peers.client import HERE, Worker
from peers.structures import argyrodite
from rich.console import Console
from rich.table import Table

from mlip.data.graph import to_graph
from mlip.export import export

PRESETS = ("small", "medium", "large")
PEERS = {  # worker and model
    "nep4": ("nep_worker.py", "nep4.txt"),
    "mace64": ("mace_worker.py", "mace64.model"),
    "symmetrix": ("symmetrix_worker.py", "mace64.model"),
}
NAMES = (*PRESETS, *(f"{preset}-aoti" for preset in PRESETS), *PEERS)


def make(name: str, folder: Path, peer_python: Path) -> Path:
    """The model of a name, written if it is not there."""
    if name in PEERS:
        path = folder / PEERS[name][1]
        if not path.exists():
            subprocess.run([peer_python, HERE / "random_models.py", folder], check=True)
        return path
    preset, _, compiled = name.partition("-")
    path = folder / f"{preset}.pt{'2' if compiled else ''}"
    if not path.exists():
        live = potential(preset)
        graph = to_graph(argyrodite(EDGE), live.cutoff)
        export(live, path, {}, [graph], **({"format": "aoti"} if compiled else {}))
    return path


def started(name: str, folder: Path, peer_python: Path) -> Worker | None:
    """The process of a code; None, with a line, if it does not run here."""
    python, script = (peer_python, PEERS[name][0]) if name in PEERS else (Path(sys.executable), "mlip_worker.py")
    try:
        return Worker(python, script, make(name, folder, peer_python))
    except (OSError, RuntimeError, subprocess.CalledProcessError) as error:
        print(f"{name} does not run here: {str(error).strip().splitlines()[-1]}")
        return None


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--peer-python", type=Path, default=Path(sys.executable))
    parser.add_argument("--names", nargs="+", default=NAMES, choices=NAMES)
    parser.add_argument("--rounds", type=int, default=4)
    parser.add_argument("--seconds", type=float, default=1.0, help="of a code in each round")
    asked = parser.parse_args()
    torch.set_num_threads(1)
    asked.folder.mkdir(parents=True, exist_ok=True)
    cell = asked.folder / "li6ps5cl_416.xyz"
    write(cell, argyrodite(EDGE).repeat(2), format="extxyz")
    workers = {name: started(name, asked.folder, asked.peer_python) for name in asked.names}
    workers = {name: worker for name, worker in workers.items() if worker is not None}
    blocks: dict[str, list[dict]] = {name: [] for name in workers}
    limit = 0.0
    for turn in range(asked.rounds):
        limit = max(limit, rate_of_a_product())
        for name, worker in workers.items():
            block = worker.ask(
                "time", structure=cell, seconds=asked.seconds, warm_up=1 if turn else 3, first_step=1000 * turn
            )
            blocks[name].append(block)
    print(f"a product of matrices: {1e-9 * limit:.1f} G multiply-adds/s; load {os.getloadavg()[0]:.1f}")
    table = Table("code", "CPU us/atom/step", "of all rounds", "kMAC/atom", "of a product's rate", "versions")
    for name, worker in workers.items():
        times, versions = [block["cpu_us"] for block in blocks[name]], worker.versions
        count = multiply_adds(name) if name in PRESETS else None
        share = ("", "") if count is None else (f"{1e-3 * count:.0f}", f"{1e6 * count / min(times) / limit:.0%}")
        table.add_row(name, f"{min(times):.1f}", " ".join(f"{x:.1f}" for x in times), *share,
                      ", ".join(f"{key} {value}" for key, value in versions.items()))  # fmt: skip
        worker.close()
    Console(width=150).print(table)


if __name__ == "__main__":
    main()
