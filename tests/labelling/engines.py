"""Engines that behave badly, and crystals for them."""

import os
import time

import numpy as np
from ase.build import bulk
from ase.calculators.emt import EMT


def crystals(n, amplitude=0.05):
    """Rattled Cu, four atoms each."""
    made = []
    for seed in range(n):
        atoms = bulk("Cu", cubic=True)
        atoms.positions += np.random.default_rng(seed).normal(0, amplitude, atoms.positions.shape)
        made.append(atoms)
    return made


class Counting(EMT):
    """Leaves one line in a file for every structure it computes; stops the clock for a while."""

    def __init__(self, path, seconds=0.0):
        super().__init__()
        self.path, self.seconds = path, seconds

    def calculate(self, atoms=None, *arguments, **named):
        with open(self.path, "a") as file:
            file.write(f"{os.getpid()} {atoms.positions[0, 0]:.6f}\n")
        time.sleep(self.seconds)
        super().calculate(atoms, *arguments, **named)


class Failing(Counting):
    """Cannot do structures whose first atom lies at negative x."""

    def calculate(self, atoms=None, *arguments, **named):
        super().calculate(atoms, *arguments, **named)
        if atoms.positions[0, 0] < 0:
            raise RuntimeError("the grid is too coarse")


class AtomicUnits(EMT):
    """Speaks Hartree and Hartree/bohr, as a code that someone forgot to convert."""

    def calculate(self, atoms=None, *arguments, **named):
        from mlip import units

        super().calculate(atoms, *arguments, **named)
        for name in ("energy", "free_energy"):
            self.results[name] /= units.HARTREE
        self.results["forces"] = self.results["forces"] * units.BOHR / units.HARTREE
        self.results["stress"] = self.results["stress"] * units.BOHR**3 / units.HARTREE
