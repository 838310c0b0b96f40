"""The structures that every code sees: Li6PS5Cl cells for timing, and the 120 / 20 split of Li6.75P3S11."""

from pathlib import Path

import numpy as np
from ase import Atoms
from ase.io import read, write
from ase.spacegroup import crystal

SPLIT_SEED = 20240
N_TEST = 20


def argyrodite(edge: float) -> Atoms:
    """Ordered conventional cell of Li6PS5Cl, F-43m, 52 atoms: Li on 24g, S on 4c and 16e; edge in Å."""
    return crystal(
        ["Cl", "P", "S", "S", "Li"],
        [(0, 0, 0), (0, 0, 0.5), (0.25, 0.25, 0.25), (0.118, 0.118, 0.618), (0.25, 0.019, 0.25)],
        spacegroup=216,
        cellpar=[edge, edge, edge, 90, 90, 90],
    )


def write_timing_cells(data: Path, folder: Path) -> dict[int, Path]:
    """52 and 208 atoms: ideal cells; 416: the first AIMD frame; 1404: 3x3x3 of the ideal cell. {n_atoms: file}."""
    frame = read(data / "li6ps5cl_pbe.xyz", 0)
    cell = argyrodite(frame.cell[0, 0] / 2)
    cells = [cell, cell.repeat((2, 2, 1)), Atoms(frame.symbols, frame.positions, cell=frame.cell, pbc=True)]
    cells.append(cell.repeat((3, 3, 3)))
    folder.mkdir(parents=True, exist_ok=True)
    files = {len(atoms): folder / f"li6ps5cl_{len(atoms)}.xyz" for atoms in cells}
    for atoms in cells:
        write(files[len(atoms)], atoms, format="extxyz")
    return files


def write_split(data: Path, folder: Path) -> tuple[Path, Path]:
    """Li6.75P3S11: 120 frames to train on and 20 held out, drawn once with a fixed seed; (train, test) files."""
    frames = read(data / "lips_li675p3s11.xyz", ":")
    order = np.random.default_rng(SPLIT_SEED).permutation(len(frames))
    held_out = set(order[:N_TEST].tolist())
    folder.mkdir(parents=True, exist_ok=True)
    train, test = folder / "lips_train.xyz", folder / "lips_test.xyz"
    write(train, [atoms for i, atoms in enumerate(frames) if i not in held_out], format="extxyz")
    write(test, [frames[i] for i in sorted(held_out)], format="extxyz")
    return train, test
