"""Structures around a saddle, for labels that teach the forces back to the path: modes, rattles, strains, compressions.

Each is a copy without a calculator; info["offpath"] says what was done to it.
"""

from collections.abc import Sequence

import numpy as np
from ase import Atoms
from ase.data import covalent_radii

from mlip import units
from mlip.data.graph import neighbour_list
from mlip.transitions.modes import Modes


def along_modes(atoms: Atoms, modes: Modes, temperature_K: float = 600.0, largest: float = 0.6) -> list[Atoms]:
    """Both ways along each mode, as far as heat goes:  c q^2 / 2 = k_B T.

    largest  Å, of any atom: soft modes would go farther. Give the few lowest modes, the unstable one included
    """
    if not temperature_K > 0:
        raise ValueError(f"temperature must be positive, got {temperature_K} K")
    out = []
    for number, (curvature, mode) in enumerate(zip(modes.curvatures, modes.vectors, strict=True)):
        far = np.sqrt(2 * units.BOLTZMANN * temperature_K / max(abs(curvature), 1e-6))
        far = min(far, largest / np.linalg.norm(mode, axis=1).max())
        out += [displaced(atoms, sign * far * mode, f"mode {number}: {sign * far:+.2f} Å") for sign in (1, -1)]
    return out


def rattled(
    atoms: Atoms, n: int, rng: np.random.Generator, width: float = 0.1, among: Sequence[int] | None = None
) -> list[Atoms]:
    """n copies with Gaussian displacements of this width (Å, per axis) of all atoms, or of those `among`."""
    chosen = np.arange(len(atoms)) if among is None else np.asarray(among)
    out = []
    for _ in range(n):
        vectors = np.zeros((len(atoms), 3))
        vectors[chosen] = width * rng.normal(size=(len(chosen), 3))
        out.append(displaced(atoms, vectors, f"rattle {width:.2f} Å"))
    return out


def strained(atoms: Atoms, n: int, rng: np.random.Generator, width: float = 0.02) -> list[Atoms]:
    """n copies under random symmetric strains with components of this width; fractional coordinates stay."""
    out = []
    for _ in range(n):
        strain = width * rng.normal(size=(3, 3))
        strain = 0.5 * (strain + strain.T)  # an antisymmetric one is a rotation
        out.append(deformed(atoms, np.eye(3) + strain, f"strain {width:.3f}"))
    return out


def compressed(atoms: Atoms, volumes: Sequence[float] = (0.92, 0.96, 1.04, 1.08)) -> list[Atoms]:
    """Copies at these parts of the volume."""
    if not min(volumes) > 0:
        raise ValueError(f"parts of the volume must be positive, got {list(volumes)}")
    return [deformed(atoms, np.eye(3) * volume ** (1 / 3), f"volume x {volume:g}") for volume in volumes]


def far_enough(structures: Sequence[Atoms], least: float = 0.7) -> list[Atoms]:
    """Those whose nearest atoms are no nearer than `least` of the sum of covalent radii: the rest is no matter."""
    kept = []
    for atoms in structures:
        radii = covalent_radii[atoms.numbers]
        pairs, shift = neighbour_list(atoms, 2 * least * radii.max())
        i, j = pairs.numpy()
        distance = np.linalg.norm(atoms.positions[j] + shift.numpy() @ atoms.cell.array - atoms.positions[i], axis=1)
        if (distance >= least * (radii[i] + radii[j])).all():
            kept.append(atoms)
    return kept


def displaced(atoms: Atoms, vectors: np.ndarray, what: str) -> Atoms:
    """A copy with its atoms moved."""
    copy = atoms.copy()
    copy.positions += vectors
    copy.info["offpath"] = what
    return copy


def deformed(atoms: Atoms, matrix: np.ndarray, what: str) -> Atoms:
    """A copy with its cell and atoms deformed."""
    copy = atoms.copy()
    copy.set_cell(atoms.cell.array @ matrix, scale_atoms=True)
    copy.info["offpath"] = what
    return copy
