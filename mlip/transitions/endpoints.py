"""Hops that a crystal offers, by symmetry: into a vacancy, into an empty site, from one interstitial site to the next."""

from dataclasses import dataclass

import numpy as np
from ase import Atoms

from mlip.data.graph import neighbour_list
from mlip.transitions.unique import Symmetry, by_symmetry, symmetry_of

TOO_NEAR = 0.8  # Å, of an empty site to an atom


@dataclass(frozen=True)
class Endpoints:
    """Two structures that differ by one hop, not relaxed.

    start, end    atoms in the same order; the hopping one is number `ion`
    vector        [3] Å, of the hop
    multiplicity  how many hops of the crystal are this one, there and back counted once
    """

    name: str
    start: Atoms
    end: Atoms
    ion: int
    vector: np.ndarray
    multiplicity: int

    @property
    def length(self) -> float:
        return float(np.linalg.norm(self.vector))


def vacancy_hops(atoms: Atoms, species: str, max_length: float, tolerance: float = 0.05) -> list[Endpoints]:
    """Symmetry-distinct hops of an ion into a vacancy that one missing neighbour of its kind leaves, shortest first.

    atoms       a crystal (a supercell wide enough that the vacancy does not see its images: >= 10 Å)
    max_length  Å, of the hop; 4 finds the nearest neighbours in most conductors
    tolerance   Å, of the symmetry
    Both structures have one ion of the species less than `atoms`: ion number `ion` goes to where its neighbour was.
    """
    chosen = ions_of(atoms, species)
    pairs, vectors = near_pairs(atoms, atoms.positions[chosen], atoms.positions[chosen], max_length)
    pairs, vectors = pairs[pairs[:, 0] != pairs[:, 1]], vectors[pairs[:, 0] != pairs[:, 1]]  # not into its own image
    if len(pairs) == 0:
        raise ValueError(nothing(atoms, species, max_length, "another"))
    found = []
    for first, count in distinct(atoms.positions[chosen][pairs[:, 0]], vectors, symmetry_of(atoms, tolerance)):
        hopper, missing = chosen[pairs[first]]
        start = atoms.copy()
        del start[[int(missing)]]  # after the hopper: the way back is in the class too, and comes later
        found.append(moved(f"{species}{hopper}-vacancy{missing}", start, int(hopper), vectors[first], count // 2))
    return sorted(found, key=lambda hop: round(hop.length, 3))


def empty_site_hops(
    atoms: Atoms, species: str, sites: np.ndarray, max_length: float, tolerance: float = 0.05
) -> list[Endpoints]:
    """Symmetry-distinct hops of the ions that are there into sites that are empty, shortest first.

    sites  [n_sites, 3] Å, of the species, occupied ones too: those nearer than TOO_NEAR to an atom are left out
    """
    chosen, empty = ions_of(atoms, species), empty_sites(atoms, sites)
    pairs, vectors = near_pairs(atoms, atoms.positions[chosen], empty, max_length)
    if len(pairs) == 0:
        raise ValueError(nothing(atoms, species, max_length, "an empty site"))
    found = []
    for first, count in distinct(atoms.positions[chosen][pairs[:, 0]], vectors, symmetry_of(atoms, tolerance)):
        hopper = int(chosen[pairs[first, 0]])
        found.append(moved(f"{species}{hopper}-site{pairs[first, 1]}", atoms.copy(), hopper, vectors[first], count))
    return sorted(found, key=lambda hop: round(hop.length, 3))


def interstitial_hops(
    atoms: Atoms, species: str, sites: np.ndarray, max_length: float, tolerance: float = 0.05
) -> list[Endpoints]:
    """Symmetry-distinct hops of one more ion, the last atom, from an empty site to the next, shortest first.

    sites  [n_sites, 3] Å; those nearer than TOO_NEAR to an atom are left out
    """
    empty = empty_sites(atoms, sites)
    pairs, vectors = near_pairs(atoms, empty, empty, max_length)
    if len(pairs) == 0:
        raise ValueError(nothing(atoms, f"empty site for {species}", max_length, "another"))
    found = []
    for first, count in distinct(empty[pairs[:, 0]], vectors, symmetry_of(atoms, tolerance)):
        start = atoms + Atoms(species, positions=[empty[pairs[first, 0]]])
        name = f"site{pairs[first, 0]}-site{pairs[first, 1]}"
        found.append(moved(name, start, len(atoms), vectors[first], count // 2))
    return sorted(found, key=lambda hop: round(hop.length, 3))


def ions_of(atoms: Atoms, species: str) -> np.ndarray:
    """Their numbers; ValueError where there are none."""
    chosen = np.flatnonzero(np.array(atoms.get_chemical_symbols()) == species)
    if len(chosen) == 0:
        raise ValueError(f"no {species} in {atoms.symbols}: nothing can hop")
    return chosen


def empty_sites(atoms: Atoms, sites: np.ndarray) -> np.ndarray:
    """Sites farther than TOO_NEAR from every atom."""
    sites = np.asarray(sites, float).reshape(-1, 3)
    pairs, _ = near_pairs(atoms, sites, atoms.positions, TOO_NEAR)
    return sites[np.setdiff1d(np.arange(len(sites)), pairs[:, 0])]


def near_pairs(atoms: Atoms, origins: np.ndarray, targets: np.ndarray, reach: float) -> tuple[np.ndarray, np.ndarray]:
    """Numbers (origin, target) [n, 2] and vectors [n, 3] Å of all pairs within reach, images included, without zero."""
    if not reach > 0:
        raise ValueError(f"the length of a hop must be positive, got {reach} Å")
    points = np.vstack([origins, targets])
    pairs, shift = neighbour_list((points, atoms.cell.array, atoms.pbc), reach)
    pairs, shift = pairs.numpy().T, shift.numpy()
    vectors = points[pairs[:, 1]] + shift @ atoms.cell.array - points[pairs[:, 0]]
    keep = (pairs[:, 0] < len(origins)) & (pairs[:, 1] >= len(origins)) & (np.linalg.norm(vectors, axis=1) > 1e-3)
    return pairs[keep] - [0, len(origins)], vectors[keep]


def distinct(starts: np.ndarray, vectors: np.ndarray, symmetry: Symmetry) -> list[tuple[int, int]]:
    """(first, how many) of each class of hops."""
    labels = by_symmetry(starts, vectors, symmetry)
    return [(int(np.flatnonzero(labels == label)[0]), int((labels == label).sum())) for label in range(labels.max() + 1)]


def moved(name: str, start: Atoms, ion: int, vector: np.ndarray, multiplicity: int) -> Endpoints:
    """The hop of one ion of this structure."""
    end = start.copy()
    end.positions[ion] += vector
    return Endpoints(name, start, end, ion, np.asarray(vector), multiplicity)


def nothing(atoms: Atoms, what: str, max_length: float, other: str) -> str:
    """Says that there is no hop, and what to do."""
    return f"no {what} of {atoms.symbols} is within {max_length} Å of {other}; give a larger max_length, or a larger cell"
