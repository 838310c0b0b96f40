"""Labelled crystals without DFT: Lennard-Jones argon-like atoms, exact energy, forces and stress (eV, Å)."""

import numpy as np
from ase import Atoms
from ase.build import bulk
from ase.calculators.lj import LennardJones

from mlip import keys


def crystal(seed: int = 0, rattle: float = 0.15, strain: float = 0.03, repeat: int = 2) -> Atoms:
    """A rattled, strained fcc crystal of 4 repeat^3 atoms with canonical labels."""
    rng = np.random.default_rng(seed)
    atoms = bulk("Ar", "fcc", a=4.4, cubic=True).repeat(repeat)
    deformation = np.eye(3) + strain * rng.uniform(-1, 1, (3, 3))
    atoms.set_cell(atoms.cell.array @ deformation, scale_atoms=True)
    atoms.positions += rattle * rng.normal(size=(len(atoms), 3))
    calculator = LennardJones(sigma=2.9, epsilon=0.2, rc=6.0, smooth=True)
    calculator.calculate(atoms, properties=["energy", "forces", "stress"])
    atoms.info[keys.REF_ENERGY] = float(calculator.results["energy"])
    atoms.arrays[keys.REF_FORCES] = calculator.results["forces"].copy()
    s = calculator.results["stress"]
    atoms.info[keys.REF_STRESS] = np.array([[s[0], s[5], s[4]], [s[5], s[1], s[3]], [s[4], s[3], s[2]]])
    return atoms


def crystals(n: int, **settings) -> list[Atoms]:
    """Several of them, in one trajectory."""
    return [crystal(seed, **settings) for seed in range(n)]
