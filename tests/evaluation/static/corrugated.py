"""A crystal whose barrier is known: one lithium on a corrugated line between ions on springs."""

import numpy as np
from ase import Atoms
from ase.calculators.calculator import Calculator

PERIOD = 3.0  # Å, between neighbouring sites of the lithium


def crystal():
    """Lithium at a site, with the next one PERIOD away along x."""
    return Atoms("LiCl2", positions=[[0, 0, 0], [1.5, 4, 4], [4.5, 4, 4]], cell=[6, 8, 8], pbc=True)


class Corrugated(Calculator):
    """E = A/2 (1 - cos(2 pi x / PERIOD)) + k/2 (y^2 + z^2) of the lithium + k/2 d^2 of the others: the barrier is A."""

    implemented_properties = ("energy", "forces")

    def __init__(self, barrier, k=5.0):
        super().__init__()
        self.barrier, self.k = barrier, k

    def calculate(self, atoms=None, properties=("energy",), system_changes=()):
        super().calculate(atoms, properties, system_changes)
        away = atoms.positions - crystal().positions
        forces = -self.k * away
        energy = 0.5 * self.k * (away**2).sum() - 0.5 * self.k * away[0, 0] ** 2
        angle = 2 * np.pi * away[0, 0] / PERIOD
        energy += 0.5 * self.barrier * (1 - np.cos(angle))
        forces[0, 0] = -np.pi * self.barrier / PERIOD * np.sin(angle)
        self.results = {"energy": energy, "forces": forces}
