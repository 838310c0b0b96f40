"""Sublattices of a disordered crystal: which sites are equivalent, and how many whole ions each holds."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import product

import numpy as np
from scipy.spatial import cKDTree

from mlip.data.symmetry import symmetry_dataset
from mlip.errors import InputError

TOLERANCE = 0.01  # Å of the symmetry, and in occupancies


@dataclass(frozen=True)
class Sublattice:
    """Equivalent sites with one occupancy.  sites [n] indices; counts {symbol: ions}; occupancy {symbol: fraction}."""

    sites: np.ndarray
    occupancy: dict[str, float]
    counts: dict[str, int]


def permutations(cell: np.ndarray, fractional: np.ndarray, occupancies: Sequence[Mapping[str, float]]) -> np.ndarray:
    """Where every symmetry operation of the average crystal sends every site, [n_operations, n_sites]."""
    kinds: list = []
    for occupancy in occupancies:
        if not any(_same(occupancy, kind) for kind in kinds):
            kinds.append(occupancy)
    labels = [next(k for k, kind in enumerate(kinds) if _same(occupancy, kind)) for occupancy in occupancies]
    found = symmetry_dataset(cell, fractional, labels, TOLERANCE)
    if found is None:
        raise InputError("no symmetry found in the average structure: two sites overlap, or the CIF lists one twice")
    places = cKDTree((fractional % 1.0) % 1.0, boxsize=1.0)
    sent = [
        places.query((fractional @ r.T + t) % 1.0 % 1.0)[1]
        for r, t in zip(found.rotations, found.translations, strict=True)
    ]
    return np.unique(np.array(sent), axis=0)


def sublattices(occupancies: Sequence[Mapping[str, float]], moves: np.ndarray) -> list[Sublattice]:
    """Sites that symmetry sends onto each other, still without counts."""
    orbits: dict[int, list[int]] = {}
    for site, first in enumerate(moves.min(axis=0)):
        orbits.setdefault(int(first), []).append(site)
    return [Sublattice(np.array(sites), dict(occupancies[first]), {}) for first, sites in orbits.items()]


def balanced(lattices: Sequence[Sublattice], charges: Mapping[str, float]) -> list[Sublattice]:
    """The same with whole numbers of ions, neutral in all, and as near to the occupancies as can be (the first of equals)."""
    missing = sorted({symbol for lattice in lattices for symbol in lattice.occupancy} - set(charges))
    if missing:
        raise InputError(
            f"no formal charge was given for {', '.join(missing)}; charges are never guessed: charges.Li=1"
        )
    choices = [roundings(lattice) for lattice in lattices]
    number = math.prod(map(len, choices))
    if number > 10**6:
        raise InputError(
            f"{number} ways to round the occupancies of {len(lattices)} sublattices: use a smaller supercell or higher symmetry"
        )
    best, charge_of_best, nearest = None, math.inf, math.inf
    for chosen in product(*choices):
        charge = sum(charges[symbol] * count for counts in chosen for symbol, count in counts.items())
        away = sum(abs(count - lattice.occupancy[symbol] * len(lattice.sites))
                   for lattice, counts in zip(lattices, chosen, strict=True) for symbol, count in counts.items())  # fmt: skip
        nearest = min(nearest, abs(charge))
        if abs(charge) < 1e-6 and away < charge_of_best:
            best, charge_of_best = chosen, away
    if best is None:
        raise InputError(
            f"no whole numbers of ions near the occupancies are neutral with the charges {dict(charges)}: {nearest:g} e "
            "remain; repeat the cell, or look at charges and occupancies"
        )
    return [
        Sublattice(lattice.sites, lattice.occupancy, counts) for lattice, counts in zip(lattices, best, strict=True)
    ]


def roundings(lattice: Sublattice) -> list[dict[str, int]]:
    """Counts next to occupancy times sites, that fit; sites that are full on average stay full."""
    n = len(lattice.sites)
    exact = {symbol: part * n for symbol, part in lattice.occupancy.items()}
    ends = [sorted({math.floor(value + TOLERANCE), math.ceil(value - TOLERANCE)}) for value in exact.values()]
    full = sum(exact.values()) > n - TOLERANCE
    return [
        dict(zip(exact, counts, strict=True))
        for counts in product(*ends)
        if sum(counts) == n or (sum(counts) < n and not full)
    ]


def too_near(cell: np.ndarray, fractional: np.ndarray, sites: np.ndarray, distance: float) -> np.ndarray:
    """[n_sites, n_sites] bool: both partially occupied and nearer than `distance` Å, images included."""
    near = np.zeros((len(fractional),) * 2, bool)
    images = np.array(list(product((-1, 0, 1), repeat=3)))
    for i in sites:
        apart = fractional[sites] - fractional[i]
        apart = (apart - np.rint(apart))[:, None] + images
        near[i, sites] = np.linalg.norm(apart @ cell, axis=2).min(axis=1) < distance
    np.fill_diagonal(near, False)
    return near


def _same(one: Mapping[str, float], other: Mapping[str, float]) -> bool:
    return one.keys() == other.keys() and all(abs(one[symbol] - other[symbol]) < TOLERANCE for symbol in one)


def is_disordered(occupancy: Mapping[str, float]) -> bool:
    """Whether a site is shared, or empty at times."""
    return len(occupancy) > 1 or abs(sum(occupancy.values()) - 1) > TOLERANCE
