"""Structures as vectors whose distance says how different their surroundings are; no model is asked.

A model's own features would do as well where it has been trained, and fail where it has not: where sampling starts.
"""

from collections.abc import Sequence

import numpy as np
from ase import Atoms
from ase.data import atomic_numbers

from mlip.data.graph import neighbour_list

REACH, WIDTH, SPACING = 5.0, 0.3, 0.25  # Å


def environments(atoms: Atoms, elements: Sequence[int], reach: float = REACH, width: float = WIDTH) -> np.ndarray:
    """Soft histograms of the distances from every atom to its neighbours, by element [n_atoms, n_elements * n_radii].

    The distance of two rows is about sqrt(number of neighbours that are elsewhere), as in transitions.unique.fingerprint.
    elements  atomic numbers, the same for all structures that are compared
    """
    radii = np.arange(1.0, reach, SPACING)
    (centre, neighbour), shift = (part.numpy() for part in neighbour_list(atoms, reach))
    vector = atoms.positions[neighbour] + shift @ atoms.cell.array - atoms.positions[centre]
    distance = np.linalg.norm(vector, axis=1)
    weight = 0.5 * (1 + np.cos(np.pi * distance / reach)) * np.sqrt(SPACING / (width * np.sqrt(np.pi)))
    soft = weight[:, None] * np.exp(-((distance[:, None] - radii) ** 2) / (2 * width**2))
    rows = np.zeros((len(atoms), len(elements), len(radii)))
    columns = np.searchsorted(elements, atoms.numbers[neighbour])
    np.add.at(rows, (centre, columns), soft)
    return rows.reshape(len(atoms), -1)


def descriptor(atoms: Atoms, elements: Sequence[int], mobile: str | None = None, ion: int = -1) -> np.ndarray:
    """One vector of a structure: mean surroundings of each element, and those of the ion that hops.

    ion  where none is known (-1): the mobile ion whose surroundings are the least like those of the others; without a
         mobile species, the same among all atoms
    returns  [(n_elements + 1) * n_elements * n_radii]
    """
    rows = environments(atoms, elements)
    means = np.array([rows[atoms.numbers == z].mean(axis=0) if (atoms.numbers == z).any() else np.zeros(rows.shape[1])
                      for z in elements])  # fmt: skip
    if ion < 0:
        among = np.flatnonzero(atoms.numbers == atomic_numbers.get(mobile, -1))
        among = among if len(among) else np.arange(len(atoms))
        ion = int(among[np.linalg.norm(rows[among] - rows[among].mean(axis=0), axis=1).argmax()])
    return np.concatenate([means.ravel(), rows[ion]])


def descriptors(structures: Sequence[Atoms], ions: Sequence[int], mobile: str | None, elements: Sequence[int]) -> np.ndarray:
    """The vectors of many structures [n, n_features]; elements: of everything they will be compared with."""
    if not len(structures):
        return np.zeros((0, 1))
    return np.array([descriptor(atoms, elements, mobile, ion) for atoms, ion in zip(structures, ions, strict=True)])


def elements_of(*sets: Sequence[Atoms]) -> list[int]:
    """Atomic numbers that occur, ascending."""
    return sorted({int(z) for structures in sets for atoms in structures for z in atoms.numbers})
