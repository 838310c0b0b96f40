"""Selection of candidates: quotas by kind and hop, within them structures that differ.

A rule of choice is `choose(features [n, d], known [m, d], n_wanted, min_distance, rng) -> indices`, in the order of choice: at
most n_wanted, none nearer than `min_distance` to a known or chosen one. Ties go to the first; only at_random draws.

Descriptors use no model: its own features would serve as well after training, and fail before, when sampling starts.
"""

import math
from collections.abc import Callable, Mapping, Sequence

import numpy as np
from ase import Atoms
from ase.data import atomic_numbers

from mlip.data.graph import neighbour_vectors
from mlip.errors import InputError
from mlip.sampling.candidate import Candidate
from mlip.transitions.unique import smeared_distances

RIDGE = 1e-2  # of the mean variance: prior information of the D-optimal choice in every direction
CUTOFF = 5.0  # Å, of descriptors


def environments(atoms: Atoms, elements: Sequence[int], cutoff: float = CUTOFF) -> np.ndarray:
    """Smeared histograms of neighbour distances, by element [n_atoms, n_elements * n_radii].

    The distance of two rows is about sqrt(number of neighbours that are elsewhere), as in transitions.unique.hop_descriptor.
    elements  atomic numbers, the same for all structures that are compared
    """
    i, j, vector = neighbour_vectors(atoms, cutoff)
    soft = smeared_distances(np.linalg.norm(vector, axis=1), cutoff)
    rows = np.zeros((len(atoms), len(elements), soft.shape[1]))
    np.add.at(rows, (i, np.searchsorted(elements, atoms.numbers[j])), soft)
    return rows.reshape(len(atoms), -1)


def descriptor(atoms: Atoms, elements: Sequence[int], mobile: str | None = None, ion: int = -1) -> np.ndarray:
    """Descriptor of a structure: mean environment by element, and that of the hopping ion.

    ion  -1 takes the mobile ion whose environment deviates most from the mean of the others; without a mobile species,
         the same among all atoms
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


def descriptors(
    structures: Sequence[Atoms], ions: Sequence[int], mobile: str | None, elements: Sequence[int]
) -> np.ndarray:
    """Descriptors of many structures [n, n_features]; elements: of all that are compared."""
    if not len(structures):
        return np.zeros((0, 1))
    return np.array([descriptor(atoms, elements, mobile, ion) for atoms, ion in zip(structures, ions, strict=True)])


def elements_of(*sets: Sequence[Atoms]) -> list[int]:
    """Atomic numbers that occur, ascending."""
    return sorted({int(z) for structures in sets for atoms in structures for z in atoms.numbers})


def farthest(features: np.ndarray, known: np.ndarray, n_wanted: int, min_distance: float, rng=None) -> list[int]:
    """Farthest-point sampling: next is the candidate farthest from all known or chosen.

    Without known ones, the first is that farthest from the mean.
    """
    nearest = distance_to(features, known)
    if len(known) == 0 and len(features):
        nearest = np.full(len(features), np.inf)
        order = np.linalg.norm(features - features.mean(axis=0), axis=1)
    chosen: list[int] = []
    while len(chosen) < min(n_wanted, len(features)):
        best = int(order.argmax()) if not chosen and len(known) == 0 else int(nearest.argmax())
        if nearest[best] < min_distance or nearest[best] <= 0:
            break
        chosen.append(best)
        nearest = np.minimum(nearest, np.linalg.norm(features - features[best], axis=1))
    return chosen


def d_optimal(features: np.ndarray, known: np.ndarray, n_wanted: int, min_distance: float, rng=None) -> list[int]:
    """D-optimal choice: next is the candidate x of the largest leverage.

    Leverage  x^T (ridge + sum over known and chosen of x x^T)^-1 x.

    Each step multiplies the determinant of that matrix by 1 + leverage: a greedy D-optimal design of a linear model.
    """
    if len(features) == 0:
        return []
    every = np.concatenate([features, known]) if len(known) else features
    centred = every - every.mean(axis=0)
    candidates, old = centred[: len(features)], centred[len(features) :]
    ridge = max(RIDGE * (centred**2).mean(), 1e-12)
    # in the space that the candidates span, which is no larger than their number
    basis = np.linalg.svd(centred, full_matrices=False)[2]
    candidates, old = candidates @ basis.T, old @ basis.T
    inverse = np.linalg.inv(ridge * np.eye(len(basis)) + old.T @ old)
    nearest, chosen = distance_to(features, known), []
    while len(chosen) < n_wanted:
        open_rows = nearest >= max(min_distance, 1e-12)
        if not open_rows.any():
            break
        leverage = np.where(open_rows, np.einsum("nd,de,ne->n", candidates, inverse, candidates), -np.inf)
        best = int(leverage.argmax())
        chosen.append(best)
        update = inverse @ candidates[best]
        inverse -= np.outer(update, update) / (1 + candidates[best] @ update)
        nearest = np.minimum(nearest, np.linalg.norm(features - features[best], axis=1))
    return chosen


def at_random(features: np.ndarray, known: np.ndarray, n_wanted: int, min_distance: float, rng) -> list[int]:
    """Random choice without near-duplicates: the baseline."""
    nearest, chosen = distance_to(features, known), []
    for number in rng.permutation(len(features)).tolist():
        if len(chosen) == n_wanted:
            break
        if nearest[number] >= max(min_distance, 1e-12):
            chosen.append(number)
            nearest = np.minimum(nearest, np.linalg.norm(features - features[number], axis=1))
    return chosen


def distance_to(features: np.ndarray, known: np.ndarray) -> np.ndarray:
    """Distance from each row to the nearest known one [n]; infinite if none is known."""
    nearest = np.full(len(features), np.inf)
    for row in known:
        nearest = np.minimum(nearest, np.linalg.norm(features - row, axis=1))
    return nearest


def shares(n: int, weights: Mapping[str, float], available: Mapping[str, int]) -> dict[str, int]:
    """Places of each group in proportion to its weight, at most what it holds.

    Places that a group cannot fill go to the others. Largest remainders, earlier groups first; no weight, no place.
    """
    open_groups = [name for name in weights if weights[name] > 0 and available.get(name, 0) > 0]
    out = dict.fromkeys(weights, 0)
    while open_groups:
        total = sum(weights[name] for name in open_groups)
        exact = {name: n * weights[name] / total for name in open_groups}
        full = [name for name in open_groups if exact[name] >= available[name]]
        for name in full:
            out[name] = available[name]
            n -= out[name]
        open_groups = [name for name in open_groups if name not in full]
        if not full:
            out.update({name: int(exact[name]) for name in open_groups})
            rest = n - sum(out[name] for name in open_groups)
            for name in sorted(open_groups, key=lambda name: out[name] - exact[name])[:rest]:
                out[name] += 1
            break
    return out


def select(
    candidates: Sequence[Candidate],
    features: np.ndarray,
    known: np.ndarray,
    n: int,
    quotas: Mapping[str, float],
    choose: Callable = farthest,
    min_distance: float = 0.2,
    seed: int = 0,
    required: Sequence[int] = (),
) -> list[int]:
    """Indices of the candidates to be labelled, at most n.

    features  [n_candidates, d], known [m, d]: descriptors, of the training set and of what is held out
    quotas    share of each kind; a kind that is not named is not labelled. Within a kind all hops get equal shares
    min_distance  below this distance a candidate is a near-duplicate: 1 is about one neighbour elsewhere, 0.2 displacements of
              0.03 Å
    required  indices that are chosen in any case, and come first
    If a group has too few distinct candidates, its places go to all others of the named kinds; never to check frames
    beyond their quota, which are drawn at random.
    """
    if n < 1:
        raise InputError(f"a round needs at least one structure, got n={n}")
    rng = np.random.default_rng(seed)
    known, chosen, n_open = known if len(known) else features[:0], list(required), n - len(required)
    groups: dict[str, dict[str, list[int]]] = {kind: {} for kind in quotas}
    for number, candidate in enumerate(candidates):
        if quotas.get(candidate.kind, 0) > 0 and number not in chosen:
            groups[candidate.kind].setdefault(candidate.hop, []).append(number)
    available = {kind: sum(map(len, hops.values())) for kind, hops in groups.items()}
    available["check"] = min(
        available.get("check", 0), math.ceil(n_open * quotas.get("check", 0) / sum(quotas.values()))
    )
    by_kind = shares(n_open, quotas, available)
    for kind, hops in groups.items():
        for hop, count in shares(by_kind[kind], dict.fromkeys(hops, 1.0), {h: len(m) for h, m in hops.items()}).items():
            chosen += choose_among(hops[hop], features, known, chosen, count, choose, min_distance, rng)
    rest = [
        number for kind, hops in groups.items() if kind != "check" for members in hops.values() for number in members
    ]
    return chosen + choose_among(
        sorted(set(rest) - set(chosen)), features, known, chosen, n - len(chosen), choose, min_distance, rng
    )


def choose_among(
    members: list[int], features, known, chosen: list[int], n_wanted: int, choose, min_distance: float, rng
) -> list[int]:
    """Choice among some candidates, with those chosen before among the known ones."""
    all_known = np.concatenate([known, features[chosen]])
    return (
        [members[k] for k in choose(features[members], all_known, n_wanted, min_distance, rng)]
        if n_wanted > 0 and members
        else []
    )
