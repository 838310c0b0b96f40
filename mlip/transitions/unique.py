"""Equivalent hops: by the symmetry of a crystal, or by the descriptor of their environment."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from ase import Atoms
from scipy.cluster.hierarchy import fcluster, linkage

from mlip.data.graph import neighbour_vectors
from mlip.data.symmetry import symmetry_dataset
from mlip.errors import InputError


@dataclass(frozen=True)
class Symmetry:
    """Operations of a crystal on fractional coordinates:  s -> rotations s + translations.

    rotations [n_ops, 3, 3] integers, translations [n_ops, 3], cell [3, 3] Å
    """

    rotations: np.ndarray
    translations: np.ndarray
    cell: np.ndarray


def symmetry_of(atoms: Atoms, tolerance: float = 0.05) -> Symmetry:
    """All operations of the crystal, translations of a supercell too (spglib).

    tolerance  Å. 0.01-0.05 for a relaxed crystal, 0.3 for the mean positions of a trajectory
    """
    if not atoms.pbc.all():
        raise InputError(f"symmetry needs three periodic directions, got pbc {atoms.pbc.tolist()}")
    dataset = symmetry_dataset(atoms.cell.array, atoms.get_scaled_positions(), atoms.numbers, tolerance)
    if dataset is None:
        raise InputError(
            f"no symmetry found in {atoms.symbols} within {tolerance} Å: overlapping atoms, or a tolerance too large"
        )
    return Symmetry(dataset.rotations, dataset.translations, atoms.cell.array.copy())


def by_symmetry(starts: np.ndarray, vectors: np.ndarray, symmetry: Symmetry, tolerance: float = 0.1) -> np.ndarray:
    """Class of each hop [n]: 0, 1, ... in order of appearance. A hop and its way back are one.

    starts     [n, 3]  Å, anywhere;  vectors [n, 3] Å, the way of the hop, which may cross the border of the cell
    tolerance  Å, for both. 0.1 for a crystal's own sites, 0.5 for sites found in a trajectory
    """
    cell = symmetry.cell
    s, v = (
        np.linalg.solve(cell.T, np.asarray(starts, float).T).T,
        np.linalg.solve(cell.T, np.asarray(vectors, float).T).T,
    )
    s, v = s.reshape(-1, 3), v.reshape(-1, 3)
    labels, known = np.empty(len(s), int), []  # of each class: all that its first hop becomes
    for n in range(len(s)):
        labels[n] = len(known)
        for label, (images, ways) in enumerate(known):
            if matches(s[n], v[n], images, ways, cell, tolerance):
                labels[n] = label
                break
        else:
            images = np.einsum("oij,j->oi", symmetry.rotations, s[n]) + symmetry.translations
            ways = np.einsum("oij,j->oi", symmetry.rotations, v[n])
            known.append((np.concatenate([images, images + ways]), np.concatenate([ways, -ways])))
    return labels


def matches(
    s: np.ndarray, v: np.ndarray, images: np.ndarray, ways: np.ndarray, cell: np.ndarray, tolerance: float
) -> bool:
    """Whether a hop equals one of several: start up to whole cells, and vector (fractional)."""
    offset = images - s
    distance = np.linalg.norm((offset - np.round(offset)) @ cell, axis=1)
    return bool(((distance < tolerance) & (np.linalg.norm((ways - v) @ cell, axis=1) < tolerance)).any())


def hop_descriptor(
    surroundings: Atoms,
    start: np.ndarray,
    vector: np.ndarray,
    cutoff: float = 5.0,
    width: float = 0.3,
    spacing: float = 0.25,
) -> np.ndarray:
    """Descriptor of the environment of a hop.

    Invariant to rotation, permutation of like atoms, and reversal. Gaussian-smeared histograms of distances from start,
    middle and end to the other atoms, by element: three points on a line fix each neighbour up to a rotation about the
    hop. Start and end enter as sum and absolute difference.
    surroundings  all atoms but the hopping ion;  start, vector [3] Å;  cutoff, width of the Gaussians, spacing Å
    returns       [n_features]; the distance of two is about sqrt(number of neighbours that differ)
    """
    start, vector = np.asarray(start, float), np.asarray(vector, float)
    elements, n_atoms = np.unique(surroundings.numbers), len(surroundings)
    rows = []
    for point in (start, start + vector / 2, start + vector):
        i, j, vectors = neighbour_vectors(
            (np.vstack([surroundings.positions, point]), surroundings.cell.array, surroundings.pbc), cutoff
        )
        from_point = (i == n_atoms) & (j < n_atoms)
        numbers = surroundings.numbers[j[from_point]]
        soft = smeared_distances(np.linalg.norm(vectors[from_point], axis=1), cutoff, width, spacing)
        rows.append(np.array([soft[numbers == z].sum(axis=0) for z in elements]))
    first, middle, last = rows
    return np.concatenate([((first + last) / 2).ravel(), (np.abs(first - last) / 2).ravel(), middle.ravel()])


def smeared_distances(distance: np.ndarray, cutoff: float, width: float = 0.3, spacing: float = 0.25) -> np.ndarray:
    """Gaussians at distances [n] Å on the radii 1, 1 + spacing, ... [n, n_radii].

    They vanish at the cutoff.
    """
    radii = np.arange(1.0, cutoff, spacing)
    weight = 0.5 * (1 + np.cos(np.pi * distance / cutoff)) * np.sqrt(spacing / (width * np.sqrt(np.pi)))
    return weight[:, None] * np.exp(-((distance[:, None] - radii) ** 2) / (2 * width**2))


def by_environment(
    descriptors: Sequence[np.ndarray],
    lengths: Sequence[float],
    max_distance: float = 1.0,
    length_tolerance: float = 0.5,
) -> np.ndarray:
    """Class of each hop [n]: 0, 1, ... in order of appearance, by descriptor and length.

    Within a class all descriptors are nearer than max_distance.

    descriptors   [n, n_features];  lengths [n] Å, of the hops, which differ by no more than length_tolerance in a class
    max_distance  1: about one neighbour that is elsewhere. More makes fewer classes
    """
    features = np.column_stack([np.asarray(descriptors), np.asarray(lengths, float) * max_distance / length_tolerance])
    if len(features) < 2:
        return np.zeros(len(features), int)
    raw = fcluster(linkage(features, "complete"), max_distance, "distance")
    order = {label: n for n, label in enumerate(dict.fromkeys(raw.tolist()))}
    return np.array([order[label] for label in raw.tolist()])
