#!/usr/bin/env python
"""Two molecules of charge +1, 0 or -1 pulled apart: errors beyond the distances of training, with atomic charges and without any.

python scripts/bench_dimers.py [--seconds 40] [--pairs=-1/0] [--heads none atomic_charges] [--words KEY=VALUE ...]
Rigid molecules: point charges on their atoms, which polarise the other's, A exp(-r/rho) between them, and springs inside that are not at
rest, so that forces inside are 0.9 eV/Å as in DFT; trained on 9 distances of the centres of mass from 5.5 to 9.5 Å, tested on 10.5, 12,
14, 17 and 20 Å. One seed; nothing says which atoms belong together.
"""

import argparse
import time
from itertools import product
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import torch
from ase import Atoms
from ase.calculators.singlepoint import SinglePointCalculator
from ase.data import covalent_radii
from rich.console import Console
from rich.table import Table

from mlip import config, keys
from mlip.commands.train import run_config, untrained
from mlip.data.graph import collate, to_graph
from mlip.data.structures import canonical, write
from mlip.training.energy_shifts import EnergyShifts
from mlip.units import COULOMB

NEAR, FAR = np.linspace(5.5, 9.5, 9), [10.5, 12.0, 14.0, 17.0, 20.0]  # Å
REPULSION = {"C": 900.0, "N": 900.0, "O": 800.0, "H": 80.0}  # A of like atoms, eV; geometric means between others
RANGE = 0.28  # Å
POLARIZABILITY = {"C": 1.3, "N": 1.0, "O": 0.8, "H": 0.4}  # Å^3
STIFFNESS, BOND = 20.0, 1.25  # eV/Å^2, of bonds up to BOND times the sum of covalent radii, where springs are at rest


def hydrogens(x: float, radius: float, start: float, n: int = 3) -> list[list[float]]:
    """A ring of n of three places about the x axis, Å."""
    angles = start + 2 * np.pi / 3 * np.arange(n)
    return [[x, radius * np.cos(t), radius * np.sin(t)] for t in angles]


MOLECULES = {  # symbols, positions Å, charges e: methylammonium, acetate, methylamine
    "+1": ("CNH6", [[0, 0, 0], [1.51, 0, 0], *hydrogens(-0.36, 1.03, 0.0), *hydrogens(1.85, 0.97, 1.05)],
           [-0.10, -0.30, 0.11, 0.11, 0.11, 0.357, 0.357, 0.356]),
    "-1": ("CCO2H3", [[0, 0, 0], [1.54, 0, 0], [2.14, 1.10, 0], [2.14, -1.10, 0], *hydrogens(-0.36, 1.03, 0.5)],
           [-0.20, 0.72, -0.80, -0.80, 0.03, 0.03, 0.02]),
    "0": ("CNH5", [[0, 0, 0], [1.47, 0, 0], *hydrogens(-0.36, 1.03, 0.0), *hydrogens(1.8, 0.95, 1.05, 2)],
          [0.04, -0.88, 0.06, 0.06, 0.06, 0.33, 0.33]),
}  # fmt: skip


def dimer(one: str, two: str, distance: float) -> Atoms:
    """Two molecules at a distance of their centres of mass, labelled."""
    parts = []
    for name in (one, two):
        symbols, positions, charges = MOLECULES[name]
        parts.append(Atoms(symbols, positions, charges=charges))
        parts[-1].positions -= parts[-1].get_center_of_mass()
    parts[0].rotate(180, "z")
    parts[1].positions += [distance, 0, 0]
    atoms, n = parts[0] + parts[1], len(parts[0])
    positions = torch.tensor(atoms.positions, requires_grad=True)
    energy = between(atoms, n, positions) + inside(atoms, n, positions)
    forces = -torch.autograd.grad(energy, positions)[0].numpy()
    total = float(round(atoms.get_initial_charges().sum()))
    bare = Atoms(atoms.get_chemical_symbols(), atoms.positions, info={keys.TOTAL_CHARGE: total})
    bare.calc = SinglePointCalculator(bare, energy=energy.item(), forces=forces)
    return canonical(bare, f"{one} {two} {distance}")


def between(atoms: Atoms, n: int, positions: torch.Tensor) -> torch.Tensor:
    """Energy of the first n atoms with the others, eV: charges, repulsion, and -alpha E^2 / 2 of each atom in the other's field."""
    symbols, charges = atoms.get_chemical_symbols(), torch.tensor(atoms.get_initial_charges())
    strength, polar = (torch.tensor([table[s] for s in symbols]).double() for table in (REPULSION, POLARIZABILITY))
    vector = positions[:n, None] - positions[None, n:]
    r = vector.norm(dim=2)
    pairs = (strength[:n, None] * strength[n:]).sqrt() * torch.exp(-r / RANGE) + COULOMB * charges[:n, None] * charges[
        n:
    ] / r
    rays = vector / r[:, :, None] ** 3
    fields = [torch.einsum("j,ija->ia", charges[n:], rays), torch.einsum("i,ija->ja", charges[:n], rays)]  # e/Å^2
    induced = (polar * torch.cat(fields).square().sum(1)).sum()
    return pairs.sum() - 0.5 * COULOMB * induced


def inside(atoms: Atoms, n: int, positions: torch.Tensor) -> torch.Tensor:
    """Energy of the springs inside either molecule, eV."""
    radii = torch.tensor(covalent_radii[atoms.numbers])
    rest = radii[:, None] + radii
    i, j = torch.triu_indices(len(atoms), len(atoms), 1)
    r = (positions[i] - positions[j]).norm(dim=1)
    bonded = ((i < n) == (j < n)) & (r < BOND * rest[i, j])
    return 0.5 * STIFFNESS * (r - rest[i, j])[bonded].square().sum()


def fitted(words: list[str], frames: list[Atoms], seconds: float):
    """A potential trained on frames for so many CPU seconds, as `mlip train` would without validation and average."""
    with TemporaryDirectory() as folder:
        write(Path(folder) / "train.xyz", frames)
        words = [*words, f"data.files={folder}/train.xyz", f"data.cache={folder}", "data.batch_size=3", "data.split.test=0",
                 "data.split.validation=0"]  # fmt: skip
        cfg = config.compose("train", words, [config.CONFIGS])
        torch.manual_seed(cfg.seed)
        data = config.make(cfg.data, cutoff=cfg.model.network.cutoff)
        data.setup("fit")
        potential, _ = untrained(cfg, run_config(cfg), data)
        potential = potential.float().train()
        loss, optimizer, schedule = (
            config.make(cfg.loss),
            config.make(cfg.optimizer)(potential),
            config.make(cfg.scheduler),
        )
        shifts = EnergyShifts(potential, cfg.ema_decay)
        peaks, start, progress = [group["lr"] for group in optimizer.param_groups], time.process_time(), 0.0
        while progress < 1:
            for batch in data.train_dataloader():
                progress = (time.process_time() - start) / seconds
                for group, peak in zip(optimizer.param_groups, peaks, strict=True):
                    group["lr"] = peak * schedule.factor(min(progress, 1.0))
                optimizer.zero_grad()
                results = potential(batch)
                loss(results, batch, progress)[0].backward()
                shifts.observe(potential, results, batch)
                torch.nn.utils.clip_grad_norm_(potential.parameters(), 10.0)
                optimizer.step()
                shifts.follow([potential])
    return potential.eval()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=40.0)
    parser.add_argument("--pairs", nargs="+", default=["+1/-1", "+1/0", "-1/0"])
    parser.add_argument("--heads", nargs="+", default=["none", "atomic_charges"])
    parser.add_argument("--words", nargs="*", default=["model/network=small"], help="keys of mlip train for all heads")
    asked = parser.parse_args()
    torch.set_num_threads(1)
    table = Table("pair", "head", "near: E meV", "F meV/Å", "far: E meV", "F meV/Å", "charges of the molecules, e",
                  title="RMSE, energies of the dimer")  # fmt: skip
    for pair, head in product(asked.pairs, asked.heads):
        one, two = pair.split("/")
        near, far = ([dimer(one, two, d) for d in distances] for distances in (NEAR, FAR))
        potential, row, molecules = fitted([*asked.words, f"model/head={head}"], near, asked.seconds), [], ""
        for frames in (near, far):
            results = potential(collate([to_graph(atoms, potential.cutoff) for atoms in frames]))
            energy = results["energy"].numpy() - [atoms.info[keys.REF_ENERGY] for atoms in frames]
            force = results["forces"].numpy() - np.concatenate([atoms.arrays[keys.REF_FORCES] for atoms in frames])
            row += [f"{1e3 * np.sqrt(np.mean(x**2)):.1f}" for x in (energy, force)]
        if "charges" in results:
            first, charges = len(MOLECULES[one][2]), results["charges"][: len(far[0])]
            molecules = f"{float(charges[:first].sum()):+.3f} {float(charges[first:].sum()):+.3f}"
        table.add_row(pair, head, *row, molecules)
        print(pair, head, *row, molecules, flush=True)
    Console(width=120).print(table)


if __name__ == "__main__":
    main()
