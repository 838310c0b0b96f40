"""What the doctor measures on every frame of one file."""

from collections import Counter

import numpy as np
from ase import Atoms
from ase.data import covalent_radii

from mlip import keys
from mlip.data.graph import neighbour_list, neighbour_vectors
from mlip.data.processed import ORDER_NAMES, hashes
from mlip.data.structures import Source

BONDED = 1.2  # distance over the sum of covalent radii
SAMPLE = 512  # frames kept for the comparison of labels with each other


class Summary:
    """Numbers of every frame of one file, and a bounded sample of its frames."""

    def __init__(self, source: Source):
        self.source = source
        self.names, self.geometries, self.compositions, self.config_types, self.trajectories = [], [], [], [], []
        self.sample: list[Atoms] = []
        self._columns: dict[str, list[float]] = {}
        self._step = 1

    def __len__(self) -> int:
        return len(self.names)

    def add(self, atoms: Atoms) -> None:
        """Measures a frame."""
        where, info = atoms.info["source"], atoms.info
        numbers = _numbers(atoms)
        numbers["order"] = next((info[n] for n in ORDER_NAMES if isinstance(info.get(n), int | float | np.number)),
                                len(self))  # fmt: skip
        for name, value in numbers.items():
            self._columns.setdefault(name, []).append(value)
        self.compositions.append(dict(Counter(atoms.numbers.tolist())))
        self.geometries.append(hashes(atoms)[0])
        self.config_types.append(info["config_type"])
        self.trajectories.append(str(info.get("trajectory", info["config_type"])))
        if len(self) % self._step == 0 and not np.isnan(numbers["shortest"]):
            self.sample.append(atoms)
            if len(self.sample) >= 2 * SAMPLE:  # every second one stays: spread over the file, bounded in memory
                self.sample, self._step = self.sample[::2], 2 * self._step
        self.names.append(where)

    def array(self, name: str) -> np.ndarray:
        """One number per frame."""
        return np.array(self._columns[name])

    def composition_rows(self, elements: list[int]) -> np.ndarray:
        """Counts [n_frames, n_elements]."""
        return np.array([[composition.get(z, 0) for z in elements] for composition in self.compositions])


def _numbers(atoms: Atoms) -> dict[str, float]:
    info = atoms.info
    forces, stress = atoms.arrays.get(keys.REF_FORCES), atoms.info.get(keys.REF_STRESS)
    energy = atoms.info.get(keys.REF_ENERGY)
    given = [x for x in (energy, forces, stress) if x is not None]
    try:
        shortest, relative = _shortest(atoms)
    except ValueError:  # positions or cell that no neighbour search accepts
        shortest = relative = np.nan
    finite = forces is not None and np.isfinite(forces).all()
    return {
        "n_atoms": len(atoms),
        "energy": np.nan if energy is None else energy,
        "has_energy": energy is not None,
        "has_forces": forces is not None,
        "has_stress": stress is not None,
        "broken": any(not np.isfinite(x).all() for x in given),
        "largest": np.linalg.norm(forces, axis=1).max() if finite else np.nan,
        "net": np.abs(forces.sum(axis=0)).max() if finite else np.nan,
        "square": (forces**2).mean() if finite else np.nan,
        "stress": np.nan if stress is None else np.abs(stress).max(),
        "skew": np.nan if stress is None else np.abs(stress - stress.T).max(),
        "shortest": shortest,
        "relative": relative,
        "other": abs(info["other_energy"] - energy) / len(atoms) if "other_energy" in info else 0.0,
        "across": not np.isnan(shortest) and bonds_across(atoms),
    }


def _shortest(atoms: Atoms) -> tuple[float, float]:
    """Shortest distance, in Å and over the sum of covalent radii; infinite if nothing is within 10 Å."""
    for cutoff in (3.0, 10.0):
        centre, neighbour, vector = neighbour_vectors(atoms, cutoff)
        if len(centre):
            break
    else:
        return np.inf, np.inf
    distance = np.linalg.norm(vector, axis=1)
    radii = covalent_radii[atoms.numbers]
    return float(distance.min()), float((distance / (radii[centre] + radii[neighbour])).min())


def bonds_across(atoms: Atoms) -> bool:
    """Whether atoms would be bonded across faces of the cell that are not periodic: it is filled, and pbc was lost."""
    if atoms.pbc.all() or atoms.cell.rank < 3:
        return False
    full = Atoms(atoms.numbers, atoms.positions, cell=atoms.cell, pbc=True)
    pairs, shift = neighbour_list(full, 3.0)
    outside = (shift.numpy()[:, ~atoms.pbc] != 0).any(axis=1)
    vector = full.positions[pairs[1]] - full.positions[pairs[0]] + shift.numpy() @ full.cell.array
    bond = covalent_radii[full.numbers][pairs.numpy()].sum(axis=0)
    return bool((outside & (np.linalg.norm(vector, axis=1) < BONDED * bond)).any())
