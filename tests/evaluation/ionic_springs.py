"""Ions on springs, a harmonic crystal whose modes at Gamma are known; and ions whose Born charges depend on where they are."""

import numpy as np
from ase.calculators.calculator import Calculator
from ase.spacegroup import crystal

from mlip.data.graph import neighbour_vectors


def fluorite(a=4.62):
    return crystal(["O", "Li"], [(0, 0, 0), (0.25, 0.25, 0.25)], spacegroup=225, cellpar=[a, a, a, 90, 90, 90])


class InField(Calculator):
    """E(u) - F.P(r) of a field F in atoms.info["field"]."""

    implemented_properties = ("energy", "forces")

    def calculate(self, atoms=None, properties=None, system_changes=None):
        field = np.array(atoms.info.get("field", [0.0, 0.0, 0.0]))
        energy, forces = self.without_field(atoms)
        dipole, born = self.response(atoms)
        self.results = {"energy": energy - field @ dipole, "forces": forces + np.einsum("a,iab->ib", field, born)}


class Springs(InField):
    """Fixed charges; a spring along and two across every bond of a crystal, eV/Å^2."""

    def __init__(self, atoms, charges, bond=2.2, along=3.0, across=0.6):
        super().__init__()
        self.sites, self.charges, n = atoms.positions.copy(), np.asarray(charges, float), len(atoms)
        i, j, vector = neighbour_vectors(atoms, bond)
        unit = vector / np.linalg.norm(vector, axis=1)[:, None]
        outer = unit[:, :, None] * unit[:, None, :]
        stiffness = along * outer + across * (np.eye(3) - outer)
        matrix = np.zeros((n, n, 3, 3))
        np.add.at(matrix, (i, i), stiffness)
        np.add.at(matrix, (i, j), -stiffness)
        self.matrix = matrix.transpose(0, 2, 1, 3).reshape(3 * n, 3 * n)

    def without_field(self, atoms):
        moved = (atoms.positions - self.sites).ravel()
        forces = -self.matrix @ moved
        return -0.5 * moved @ forces, forces.reshape(-1, 3)

    def response(self, atoms):
        return self.charges @ atoms.positions, self.charges[:, None, None] * np.eye(3)


class Breathing(InField):
    """Ions on a lattice of edge a whose charge along each axis is z + depth cos(2 pi x / a), in a framework that makes up for it.

    P = sum_i z x + depth a / (2 pi) sin(2 pi x / a): beside formal charges a bounded function of the structure.
    """

    def __init__(self, mobile, z=1.0, depth=0.5, a=2.0):
        super().__init__()
        self.mobile, self.z, self.depth, self.a = mobile, z, depth, a

    def without_field(self, atoms):
        return 0.0, np.zeros((len(atoms), 3))

    def response(self, atoms):
        ions = atoms.numbers == self.mobile
        phase = 2 * np.pi / self.a * atoms.positions[ions]
        born = np.zeros((len(atoms), 3, 3))
        born[ions] = (self.z + self.depth * np.cos(phase))[:, :, None] * np.eye(3)
        born[~ions] = -born[ions].sum(axis=0) / (~ions).sum()
        bounded = self.depth * self.a / (2 * np.pi) * np.sin(phase)
        mean = atoms.positions[~ions].mean(axis=0)
        return (self.z * (atoms.positions[ions] - mean) + bounded).sum(axis=0), born
