#!/usr/bin/env python
"""Largest jump of energy and stress while a cell of Li2O strains in small steps: waves and mesh, charges and dipoles.

python scripts/bench_strain.py [--steps 2000]
A step of height J shows in the third difference of a smooth curve as J, -2 J, J: the table gives its maximum over 2.
"""

import argparse

import torch
from ase.spacegroup import crystal
from rich.console import Console
from rich.progress import track
from rich.table import Table

from mlip import keys
from mlip.electrostatics import EquilibratedCharges, FormalCharges

STATISTICS = {"elements": [3, 8], "n_features": 4}
TERMS = {
    "formal charges": lambda **path: FormalCharges(STATISTICS, **path),
    "formal charges, dipoles": lambda **path: FormalCharges(STATISTICS, dipoles=True, **path),
    "equilibrated": lambda **path: EquilibratedCharges(STATISTICS, **path),
    "equilibrated, dipoles": lambda **path: EquilibratedCharges(STATISTICS, dipoles=True, **path),
}


def scan(term, steps: int, title: str) -> tuple[float, float, int]:
    """Jumps of energy (eV/atom) and pressure (eV/Å^3) from 0 to 2 % of strain with some shear; number of atoms."""
    atoms = crystal(["O", "Li"], [(0, 0, 0), (0.25, 0.25, 0.25)], spacegroup=225, cellpar=[4.62] * 3 + [90] * 3).repeat(
        2
    )
    torch.manual_seed(0)
    n = len(atoms)
    start, cell = torch.tensor(atoms.positions) + 0.1 * torch.randn(n, 3).double(), torch.tensor(atoms.cell.array)
    features, vectors = 0.1 * torch.randn(n, 4), 0.1 * torch.randn(n, 3, 4)
    shape = torch.tensor([[1.0, 0.2, 0.0], [0.2, 1.0, 0.0], [0.0, 0.0, 1.0]], dtype=torch.float64)
    energy, pressure = [], []
    for k in track(range(steps + 1), title, transient=True):
        strain = torch.tensor(0.02 * k / steps, dtype=torch.float64, requires_grad=True)
        deformation = torch.eye(3, dtype=torch.float64) + strain * shape
        graph = {
            keys.POSITIONS: start @ deformation, keys.CELL: (cell @ deformation)[None],
            keys.PBC: torch.ones(1, 3, dtype=torch.bool), keys.BATCH: torch.zeros(n, dtype=torch.long),
            keys.ATOMIC_NUMBERS: torch.tensor(atoms.numbers), keys.NODE_SCALARS: features, keys.NODE_VECTORS: vectors,
        }  # fmt: skip
        total = term(graph).sum()
        energy.append(total.detach() / n)
        pressure.append(torch.autograd.grad(total, strain)[0] / atoms.get_volume())
    jumps = [float(torch.stack(curve).diff(n=3).abs().max()) / 2 for curve in (energy, pressure)]
    return *jumps, n


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=2000)
    asked = parser.parse_args()
    torch.set_num_threads(1)
    table = Table("term", "path", "energy jump meV/atom", "stress jump GPa", title=f"{asked.steps} steps to 2 % strain")
    for name, make in TERMS.items():
        for path, above in (("waves", 10**9), ("mesh", 0)):
            torch.manual_seed(1)
            by_energy, by_stress, n = scan(make(mesh_above=above).eval(), asked.steps, f"{name}, {path}")
            table.add_row(name, f"{path}, {n} atoms", f"{1e3 * by_energy:.1e}", f"{160.2 * by_stress:.1e}")
    Console().print(table)


if __name__ == "__main__":
    main()
