"""Ordered structures of a disordered crystal: partial occupancies become whole ions, charge-balanced and distinct."""

import math
from collections.abc import Iterator, Mapping, Sequence
from itertools import combinations
from pathlib import Path

import numpy as np
import torch
from ase import Atoms
from pymatgen.core import Structure

from mlip.data.sublattices import Sublattice, balanced, is_disordered, permutations, sublattices, too_near
from mlip.electrostatics.ewald import coulomb_matrix
from mlip.errors import InputError

ALL = 20000  # assignments up to which every one is looked at
TRIES = 200  # attempts to place ions that keep apart


def orderings(
    disordered: str | Path | Structure,
    charges: Mapping[str, float],
    n: int,
    repeat: Sequence[int] = (1, 1, 1),
    n_candidates: int | None = None,
    min_distance: float = 1.5,
    seed: int = 0,
) -> list[Atoms]:
    """Up to n symmetry-distinct, neutral orderings of a crystal with partial occupancies, lowest Coulomb energy first.

    disordered    CIF, or pymatgen's Structure with partial occupancies
    charges       formal charge of every element, e; nothing is guessed
    repeat        supercell; the larger it is, the nearer whole ions come to the occupancies
    n_candidates  distinct orderings among which the n of lowest Coulomb energy (formal point charges) are kept;
                  None: 20 n. n_candidates=n is a random sample, not biased towards low energies
    min_distance  Å, which two ions on partially occupied sites keep: split sites are not both full
    The same seed gives the same list. info has `coulomb_energy` (eV), `occupancy_error` (largest deviation from the
    CIF), `config_type` "ordering", `source`, and, where every assignment was looked at, `multiplicity`.
    Raises ValueError where no neutral assignment rounds the occupancies, or the ions do not fit.
    """
    n_candidates = 20 * n if n_candidates is None else n_candidates
    if n < 1 or n_candidates < n:
        raise InputError(
            f"ask for at least one ordering out of as many candidates, got n={n}, n_candidates={n_candidates}"
        )
    name = str(disordered.composition.reduced_formula if isinstance(disordered, Structure) else disordered)
    parent = Structure.from_file(disordered) if not isinstance(disordered, Structure) else disordered.copy()
    parent.make_supercell(list(repeat))
    occupancies = [{_symbol(kind): float(part) for kind, part in site.species.items()} for site in parent]
    moves = permutations(parent.lattice.matrix, parent.frac_coords, occupancies)
    lattices = balanced(sublattices(occupancies, moves), charges)
    open_sites = np.concatenate(
        [lattice.sites for lattice in lattices if is_disordered(lattice.occupancy)] or [np.array([], int)]
    )
    if len(open_sites) == 0:
        raise InputError(f"{name} has no partial occupancy: there is nothing to order")
    near = too_near(parent.lattice.matrix, parent.frac_coords, open_sites, min_distance)
    rng = np.random.default_rng(seed)
    symbols = sorted({symbol for lattice in lattices for symbol in lattice.counts})
    found = distinct(lattices, symbols, near, moves, n_candidates, rng)
    if not found:
        raise InputError(
            f"no ordering of {name} keeps ions {min_distance} Å apart; lower min_distance, or enlarge the cell"
        )
    matrix = coulomb_matrix(
        torch.tensor(parent.cart_coords), torch.tensor(parent.lattice.matrix.copy()), tolerance=1e-8
    ).numpy()
    charge = np.array([*(charges[symbol] for symbol in symbols), 0.0])  # the last one, -1, is an empty site
    energies = np.array([0.5 * charge[each] @ matrix @ charge[each] for each, _ in found])
    error = max(abs(count / len(lattice.sites) - lattice.occupancy[symbol])
                for lattice in lattices for symbol, count in lattice.counts.items())  # fmt: skip
    results = []
    for rank, i in enumerate(np.argsort(energies.round(8), kind="stable")[:n]):
        kinds = found[i][0]
        full = np.flatnonzero(kinds >= 0)
        full = full[np.argsort(kinds[full], kind="stable")]  # the same order of elements in all
        atoms = Atoms([symbols[k] for k in kinds[full]], positions=parent.cart_coords[full],
                      cell=parent.lattice.matrix, pbc=True)  # fmt: skip
        atoms.info = {"config_type": "ordering", "source": f"{name}:{rank}", "coulomb_energy": float(energies[i]),
                      "occupancy_error": float(error)}  # fmt: skip
        if found[i][1]:
            atoms.info["multiplicity"] = found[i][1]
        results.append(atoms)
    return results


def distinct(
    lattices: Sequence[Sublattice],
    symbols: Sequence[str],
    near: np.ndarray,
    moves: np.ndarray,
    n: int,
    rng: np.random.Generator,
) -> list[tuple[np.ndarray, int]]:
    """Up to n assignments [n_sites] (index into symbols, -1 empty) that no symmetry connects, with their multiplicity.

    All are looked at where there are at most ALL; the multiplicity of a random one is 0, not known.
    """
    total = math.prod(_ways(lattice) for lattice in lattices)
    if total > ALL:
        distinct: dict[bytes, np.ndarray] = {}
        for _ in range(20 * n):
            if len(distinct) == n or (assignment := place(lattices, symbols, near, rng)) is None:
                break
            distinct.setdefault(canonical(assignment, moves), assignment)
        return [(assignment, 0) for assignment in distinct.values()]
    classes: dict[bytes, list] = {}
    for assignment in every(lattices, symbols, near.shape[0]):
        full = assignment >= 0
        if not near[np.ix_(full, full)].any():
            classes.setdefault(canonical(assignment, moves), [assignment, 0])[1] += 1
    members = [(assignment, count) for assignment, count in classes.values()]
    if len(members) <= n:
        return members
    share = np.array([count for _, count in members], float)
    return [members[i] for i in rng.choice(len(members), n, replace=False, p=share / share.sum())]


def canonical(assignment: np.ndarray, moves: np.ndarray) -> bytes:
    """The same for all assignments that symmetry connects: the smallest of their images."""
    images = assignment[moves].astype(np.int8)
    return images[np.lexsort(images.T[::-1])[0]].tobytes()


def every(lattices: Sequence[Sublattice], symbols: Sequence[str], n_sites: int) -> Iterator[np.ndarray]:
    """All assignments of the counts to the sites."""

    def fill(assignment: np.ndarray, todo: list[tuple[np.ndarray, int, int]]) -> Iterator[np.ndarray]:
        if not todo:
            yield assignment.copy()
            return
        (sites, kind, count), *rest = todo
        free = sites[assignment[sites] < 0]
        for chosen in combinations(free.tolist(), count):
            assignment[list(chosen)] = kind
            yield from fill(assignment, rest)
            assignment[list(chosen)] = -1

    todo = [
        (lattice.sites, symbols.index(symbol), count)
        for lattice in lattices
        for symbol, count in lattice.counts.items()
    ]
    yield from fill(np.full(n_sites, -1), todo)


def place(
    lattices: Sequence[Sublattice], symbols: Sequence[str], near: np.ndarray, rng: np.random.Generator
) -> np.ndarray | None:
    """One random assignment, ion by ion on sites that are free and far enough; None where it did not fit TRIES times."""
    todo = [(lattice.sites, symbols.index(symbol)) for lattice in lattices for symbol, count in lattice.counts.items()
            for _ in range(count)]  # fmt: skip
    for _ in range(TRIES):
        assignment, blocked = np.full(near.shape[0], -1), np.zeros(near.shape[0], bool)
        for k in rng.permutation(len(todo)):
            sites, kind = todo[k]
            free = sites[(assignment[sites] < 0) & ~blocked[sites]]
            if len(free) == 0:
                break
            site = rng.choice(free)
            assignment[site] = kind
            blocked |= near[site]
        else:
            return assignment
    return None


def _ways(lattice: Sublattice) -> int:
    """n! / (a! b! ... empty!)"""
    n, ways = len(lattice.sites), 1
    for count in lattice.counts.values():
        ways, n = ways * math.comb(n, count), n - count
    return ways


def _symbol(kind) -> str:
    return getattr(kind, "symbol", None) or str(kind)
