"""Symmetry-distinct hops of a crystal: into vacancies, empty or interstitial sites."""

from dataclasses import dataclass

import numpy as np
from ase import Atoms

from mlip.data.graph import neighbour_vectors
from mlip.errors import InputError
from mlip.transitions.unique import Symmetry, by_symmetry, symmetry_of

OCCUPIED = 0.8  # Å; a site this near to an atom is not empty


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


def vacancy_hops(atoms: Atoms, species: str, max_length_A: float, tolerance: float = 0.05) -> list[Endpoints]:
    """Symmetry-distinct hops of an ion into a vacancy of its species, shortest first.

    atoms       a crystal (a supercell wide enough that the vacancy does not see its images: >= 10 Å)
    max_length_A  Å, of the hop; 4 finds the nearest neighbours in most conductors
    tolerance   Å, of the symmetry
    Both structures have one ion of the species less than `atoms`: ion number `ion` goes to where its neighbour was.
    """
    chosen = ions_of(atoms, species)
    pairs, vectors = near_pairs(atoms, atoms.positions[chosen], atoms.positions[chosen], max_length_A)
    pairs, vectors = pairs[pairs[:, 0] != pairs[:, 1]], vectors[pairs[:, 0] != pairs[:, 1]]  # not into its own image
    if len(pairs) == 0:
        raise InputError(no_hop_message(atoms, species, max_length_A, "another"))
    hops = []
    for first, count in distinct(atoms.positions[chosen][pairs[:, 0]], vectors, symmetry_of(atoms, tolerance)):
        hopper, missing = chosen[pairs[first]]
        start = atoms.copy()
        del start[[int(missing)]]  # after the hopper: the way back is in the class too, and comes later
        hops.append(hop_of_ion(f"{species}{hopper}-vacancy{missing}", start, int(hopper), vectors[first], count // 2))
    return sorted(hops, key=lambda hop: round(hop.length, 3))


def empty_site_hops(
    atoms: Atoms, species: str, sites: np.ndarray, max_length_A: float, tolerance: float = 0.05
) -> list[Endpoints]:
    """Symmetry-distinct hops of the ions of a structure into empty sites, shortest first.

    sites  [n_sites, 3] Å, of the species; occupied ones (nearer than OCCUPIED to an atom) are left out
    """
    chosen, empty = ions_of(atoms, species), empty_sites(atoms, sites)
    pairs, vectors = near_pairs(atoms, atoms.positions[chosen], empty, max_length_A)
    if len(pairs) == 0:
        raise InputError(no_hop_message(atoms, species, max_length_A, "an empty site"))
    hops = []
    for first, count in distinct(atoms.positions[chosen][pairs[:, 0]], vectors, symmetry_of(atoms, tolerance)):
        hopper = int(chosen[pairs[first, 0]])
        hops.append(hop_of_ion(f"{species}{hopper}-site{pairs[first, 1]}", atoms.copy(), hopper, vectors[first], count))
    return sorted(hops, key=lambda hop: round(hop.length, 3))


def interstitial_hops(
    atoms: Atoms, species: str, sites: np.ndarray, max_length_A: float, tolerance: float = 0.05
) -> list[Endpoints]:
    """Symmetry-distinct hops of an added ion, the last atom, between empty sites.

    sites  [n_sites, 3] Å; those nearer than OCCUPIED to an atom are left out
    """
    empty = empty_sites(atoms, sites)
    pairs, vectors = near_pairs(atoms, empty, empty, max_length_A)
    if len(pairs) == 0:
        raise InputError(no_hop_message(atoms, f"empty site for {species}", max_length_A, "another"))
    hops = []
    for first, count in distinct(empty[pairs[:, 0]], vectors, symmetry_of(atoms, tolerance)):
        start = atoms + Atoms(species, positions=[empty[pairs[first, 0]]])
        name = f"site{pairs[first, 0]}-site{pairs[first, 1]}"
        hops.append(hop_of_ion(name, start, len(atoms), vectors[first], count // 2))
    return sorted(hops, key=lambda hop: round(hop.length, 3))


def ions_of(atoms: Atoms, species: str) -> np.ndarray:
    """Indices of the ions of a species; ValueError if there are none."""
    chosen = np.flatnonzero(np.array(atoms.get_chemical_symbols()) == species)
    if len(chosen) == 0:
        raise InputError(f"no {species} in {atoms.symbols}: nothing can hop")
    return chosen


def empty_sites(atoms: Atoms, sites: np.ndarray) -> np.ndarray:
    """Sites farther than OCCUPIED from every atom."""
    sites = np.asarray(sites, float).reshape(-1, 3)
    pairs, _ = near_pairs(atoms, sites, atoms.positions, OCCUPIED, least=-1.0)
    return sites[np.setdiff1d(np.arange(len(sites)), pairs[:, 0])]


def near_pairs(
    atoms: Atoms, origins: np.ndarray, targets: np.ndarray, reach: float, least: float = 1e-3
) -> tuple[np.ndarray, np.ndarray]:
    """Indices (origin, target) [n, 2] and vectors [n, 3] Å of all pairs within reach and longer than `least`."""
    if not reach > 0:
        raise InputError(f"the length of a hop must be positive, got {reach} Å")
    i, j, vectors = neighbour_vectors((np.vstack([origins, targets]), atoms.cell.array, atoms.pbc), reach)
    keep = (i < len(origins)) & (j >= len(origins)) & (np.linalg.norm(vectors, axis=1) > least)
    return np.column_stack([i, j - len(origins)])[keep], vectors[keep]


def distinct(starts: np.ndarray, vectors: np.ndarray, symmetry: Symmetry) -> list[tuple[int, int]]:
    """(first, how many) of each class of hops."""
    labels = by_symmetry(starts, vectors, symmetry)
    return [
        (int(np.flatnonzero(labels == label)[0]), int((labels == label).sum())) for label in range(labels.max() + 1)
    ]


def hop_of_ion(name: str, start: Atoms, ion: int, vector: np.ndarray, multiplicity: int) -> Endpoints:
    """Endpoints of the hop of one ion of this structure by a vector."""
    end = start.copy()
    end.positions[ion] += vector
    return Endpoints(name, start, end, ion, np.asarray(vector), multiplicity)


def no_hop_message(atoms: Atoms, origin: str, max_length_A: float, target: str) -> str:
    """Error message for a crystal without a hop of this length."""
    return f"no {origin} of {atoms.symbols} is within {max_length_A} Å of {target}; give a larger max_length_A, or a larger cell"
