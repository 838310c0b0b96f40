"""Which hops are the same: by the symmetry of a crystal, or by what surrounds them where there is none."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from ase import Atoms
from scipy.cluster.hierarchy import fcluster, linkage

from mlip.data.graph import neighbour_list
from mlip.data.symmetry import symmetry_dataset


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
        raise ValueError(f"symmetry needs three periodic directions, got pbc {atoms.pbc.tolist()}")
    found = symmetry_dataset(atoms.cell.array, atoms.get_scaled_positions(), atoms.numbers, tolerance)
    if found is None:
        raise ValueError(f"no symmetry found in {atoms.symbols} within {tolerance} Å: overlapping atoms, or a tolerance too large")
    return Symmetry(found.rotations, found.translations, atoms.cell.array.copy())


def by_symmetry(starts: np.ndarray, vectors: np.ndarray, symmetry: Symmetry, tolerance: float = 0.1) -> np.ndarray:
    """Class of each hop [n]: 0, 1, ... in order of appearance. A hop and its way back are one.

    starts     [n, 3]  Å, anywhere;  vectors [n, 3] Å, the way of the hop, which may cross the border of the cell
    tolerance  Å, for both. 0.1 for a crystal's own sites, 0.5 for sites found in a trajectory
    """
    cell = symmetry.cell
    s, v = np.linalg.solve(cell.T, np.asarray(starts, float).T).T, np.linalg.solve(cell.T, np.asarray(vectors, float).T).T
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


def matches(s: np.ndarray, v: np.ndarray, images: np.ndarray, ways: np.ndarray, cell: np.ndarray, tolerance: float) -> bool:
    """Whether a hop is one of those, fractional: the same start up to whole cells, and the same vector."""
    offset = images - s
    apart = np.linalg.norm((offset - np.round(offset)) @ cell, axis=1)
    return bool(((apart < tolerance) & (np.linalg.norm((ways - v) @ cell, axis=1) < tolerance)).any())


def fingerprint(
    host: Atoms, start: np.ndarray, vector: np.ndarray, reach: float = 5.0, width: float = 0.3, spacing: float = 0.25
) -> np.ndarray:
    """What surrounds a hop, the same after rotation, permutation of like atoms, and for the way back.

    Soft histograms of distances from start, middle and end to the host's atoms, by element: three points on a line fix
    each neighbour up to a rotation about the hop. Start and end enter as sum and absolute difference.
    host    atoms without the hopping ion;  start, vector [3] Å;  reach, width of the histograms' Gaussians, spacing Å
    returns [n_features]; the distance of two is about sqrt(number of neighbours that differ)
    """
    start, vector = np.asarray(start, float), np.asarray(vector, float)
    radii = np.arange(1.0, reach, spacing)
    elements = np.unique(host.numbers)
    rows = []
    for point in (start, start + vector / 2, start + vector):
        pairs, shift = neighbour_list((np.vstack([host.positions, point]), host.cell.array, host.pbc), reach)
        near = pairs[:, pairs[0] == len(host)][1].numpy()
        shift = shift[pairs[0] == len(host)].numpy()
        shift, near = shift[near < len(host)], near[near < len(host)]
        distance = np.linalg.norm(host.positions[near] + shift @ host.cell.array - point, axis=1)
        weight = 0.5 * (1 + np.cos(np.pi * distance / reach)) * np.sqrt(spacing / (width * np.sqrt(np.pi)))
        soft = weight[:, None] * np.exp(-((distance[:, None] - radii) ** 2) / (2 * width**2))
        rows.append(np.array([soft[host.numbers[near] == z].sum(axis=0) for z in elements]))
    first, middle, last = rows
    return np.concatenate([((first + last) / 2).ravel(), (np.abs(first - last) / 2).ravel(), middle.ravel()])


def by_environment(
    fingerprints: Sequence[np.ndarray], lengths: Sequence[float], apart: float = 1.0, length_tolerance: float = 0.5
) -> np.ndarray:
    """Class of each hop [n]: 0, 1, ... in order of appearance; members of one are all nearer than `apart` to each other.

    fingerprints  [n, n_features];  lengths [n] Å, of the hops, which differ by no more than length_tolerance in a class
    apart         1: about one neighbour that is elsewhere. More makes fewer classes
    """
    features = np.column_stack([np.asarray(fingerprints), np.asarray(lengths, float) * apart / length_tolerance])
    if len(features) < 2:
        return np.zeros(len(features), int)
    raw = fcluster(linkage(features, "complete"), apart, "distance")
    order = {label: n for n, label in enumerate(dict.fromkeys(raw.tolist()))}
    return np.array([order[label] for label in raw.tolist()])
