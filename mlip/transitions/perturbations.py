"""Perturbed copies of a structure: displaced along modes, rattled, strained, compressed.

Around a saddle their labels teach the forces that lead back to the path. Each is a copy without a calculator;
info["perturbation"] names what was done.
"""

from collections.abc import Sequence

import numpy as np
from ase import Atoms
from ase.data import covalent_radii

from mlip import units
from mlip.data.graph import neighbour_vectors
from mlip.errors import InputError
from mlip.transitions.modes import Modes


def along_modes(atoms: Atoms, modes: Modes, temperature_K: float = 600.0, max_displacement: float = 0.6) -> list[Atoms]:
    """Displacements along each mode, both signs, to the thermal amplitude  c q^2 / 2 = k_B T.

    max_displacement  Å, of any atom: soft modes would go farther. Give the few lowest modes, the unstable one included
    """
    if not temperature_K > 0:
        raise InputError(f"temperature must be positive, got {temperature_K} K")
    out = []
    for number, (curvature, mode) in enumerate(zip(modes.curvatures, modes.vectors, strict=True)):
        amplitude = np.sqrt(2 * units.BOLTZMANN * temperature_K / max(abs(curvature), 1e-6))
        amplitude = min(amplitude, max_displacement / np.linalg.norm(mode, axis=1).max())
        out += [
            displaced(atoms, sign * amplitude * mode, f"mode {number}: {sign * amplitude:+.2f} Å") for sign in (1, -1)
        ]
    return out


def rattled(
    atoms: Atoms, n: int, rng: np.random.Generator, width: float = 0.1, among: Sequence[int] | None = None
) -> list[Atoms]:
    """n copies with Gaussian displacements (width in Å, per axis) of all atoms, or of `among`."""
    chosen = np.arange(len(atoms)) if among is None else np.asarray(among)
    out = []
    for _ in range(n):
        vectors = np.zeros((len(atoms), 3))
        vectors[chosen] = width * rng.normal(size=(len(chosen), 3))
        out.append(displaced(atoms, vectors, f"rattle {width:.2f} Å"))
    return out


def strained(atoms: Atoms, n: int, rng: np.random.Generator, width: float = 0.02) -> list[Atoms]:
    """n copies under random symmetric strains; width of a component; atoms move along."""
    out = []
    for _ in range(n):
        strain = width * rng.normal(size=(3, 3))
        strain = 0.5 * (strain + strain.T)  # an antisymmetric one is a rotation
        out.append(deformed(atoms, np.eye(3) + strain, f"strain {width:.3f}"))
    return out


def compressed(atoms: Atoms, volumes: Sequence[float] = (0.92, 0.96, 1.04, 1.08)) -> list[Atoms]:
    """Copies scaled isotropically to these ratios of the volume."""
    if not min(volumes) > 0:
        raise InputError(f"ratios of volumes must be positive, got {list(volumes)}")
    return [deformed(atoms, np.eye(3) * volume ** (1 / 3), f"volume x {volume:g}") for volume in volumes]


def without_overlaps(structures: Sequence[Atoms], min_ratio: float = 0.7) -> list[Atoms]:
    """Structures with all distances above min_ratio times the sum of covalent radii."""
    kept = []
    for atoms in structures:
        radii = covalent_radii[atoms.numbers]
        i, j, vector = neighbour_vectors(atoms, 2 * min_ratio * radii.max())
        if (np.linalg.norm(vector, axis=1) >= min_ratio * (radii[i] + radii[j])).all():
            kept.append(atoms)
    return kept


def displaced(atoms: Atoms, vectors: np.ndarray, description: str) -> Atoms:
    """A copy with its atoms moved."""
    copy = atoms.copy()
    copy.positions += vectors
    copy.info["perturbation"] = description
    return copy


def deformed(atoms: Atoms, matrix: np.ndarray, description: str) -> Atoms:
    """A copy with its cell and atoms deformed."""
    copy = atoms.copy()
    copy.set_cell(atoms.cell.array @ matrix, scale_atoms=True)
    copy.info["perturbation"] = description
    return copy
