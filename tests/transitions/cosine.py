"""An ion whose sites, barriers and rates are known: a cosine landscape that hangs on a framework of springs.

U = sum over ions of  U0/2 sum_axes (1 - cos(2 pi x / a))  +  k/2 sum over framework |u_i - <u>|^2,
x measured from the framework (its mean displacement <u>). Sites are at x = 0 mod a; the barrier between neighbours is U0
along one axis, the curvature there -2 pi^2 U0 / a^2 along the hop and + the same across.
`bend` couples framework atom 0 to the ion:  + c u_y sum_ions (1 - cos(2 pi x / a)) / 2, which bends the path and lowers
the barrier by c^2 / (2 k').
"""

import numpy as np
from ase import Atoms
from ase.calculators.calculator import Calculator, all_changes

SITE = 3.0  # Å, between sites
BARRIER = 0.3  # eV


class Cosine(Calculator):
    """Number of calls in `calls`; `many` of them were for many structures."""

    implemented_properties = ("energy", "forces")

    def __init__(self, reference: Atoms, barrier=BARRIER, spacing=SITE, spring=5.0, bend=0.0, axes=(1.0, 1.0, 1.0)):
        super().__init__()
        self.reference, self.barrier, self.spacing, self.spring, self.bend = (
            reference.copy(),
            barrier,
            spacing,
            spring,
            bend,
        )
        self.axes = np.array(axes)  # of the barrier, relative
        self.calls = 0

    def calculate(self, atoms=None, properties=("energy",), system_changes=all_changes):
        super().calculate(atoms, properties, system_changes)
        self.calls += 1
        atoms, reference = self.atoms, self.reference
        ions = atoms.numbers == 3
        host = np.flatnonzero(~ions)
        held = reference.positions[reference.numbers != 3]
        u = atoms.positions[host] - held
        edges = np.diag(atoms.cell.array)
        first = u[0].copy()
        u = u - first
        u -= edges * np.round(u / edges)
        u += first
        mean = u.mean(axis=0)
        x = atoms.positions[ions] - mean
        k = 2 * np.pi / self.spacing
        height = 0.5 * self.barrier * self.axes
        rise = 0.5 * (1 - np.cos(k * x[:, 0]))  # of the coupled axis
        off = u - mean
        energy = (height * (1 - np.cos(k * x))).sum() + 0.5 * self.spring * (off**2).sum()
        energy += self.bend * off[0, 1] * rise.sum()
        slope = height * k * np.sin(k * x)
        slope[:, 0] += self.bend * off[0, 1] * 0.5 * k * np.sin(k * x[:, 0])
        forces = np.zeros_like(atoms.positions)
        forces[ions] = -slope
        pull = -self.spring * off
        pull[0, 1] -= self.bend * rise.sum()
        pull[:, 1] += self.bend * rise.sum() / len(host)
        forces[host] = pull + slope.sum(axis=0) / len(host)
        self.results = {"energy": float(energy), "free_energy": float(energy), "forces": forces}


def crystal(n=(3, 3, 3), ions=((0, 0, 0),), spacing=SITE) -> Atoms:
    """Framework O at the cube centres of a lattice of n sites, Li at the given ones."""
    grid = np.stack(np.meshgrid(*[np.arange(m) for m in n], indexing="ij"), -1).reshape(-1, 3)
    positions = np.vstack([np.asarray(ions, float).reshape(-1, 3), grid + 0.5]) * spacing
    return Atoms(["Li"] * len(ions) + ["O"] * len(grid), positions=positions, cell=np.array(n) * spacing, pbc=True)
