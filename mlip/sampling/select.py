"""Which candidates are labelled: quotas by kind and hop, inside them structures far from each other and from what is known.

A way to choose is `choose(features [n, d], known [m, d], n_wanted, apart, rng) -> numbers`, in the order of choice: at
most n_wanted, none nearer than `apart` to a known or chosen one. Ties go to the first; nothing else is random.
"""

import math
from collections.abc import Callable, Mapping, Sequence

import numpy as np

from mlip.sampling.candidate import Candidate

RIDGE = 1e-2  # of the mean variance, what D-optimal choice takes for known in every direction


def farthest(features: np.ndarray, known: np.ndarray, n_wanted: int, apart: float, rng=None) -> list[int]:
    """Farthest-point choice: again and again the one whose nearest known or chosen neighbour is farthest.

    Without known ones, the first is that farthest from the mean.
    """
    nearest = distance_to(features, known)
    if len(known) == 0 and len(features):
        nearest = np.full(len(features), np.inf)
        order = np.linalg.norm(features - features.mean(axis=0), axis=1)
    chosen: list[int] = []
    while len(chosen) < min(n_wanted, len(features)):
        best = int(order.argmax()) if not chosen and len(known) == 0 else int(nearest.argmax())
        if nearest[best] < apart or nearest[best] <= 0:
            break
        chosen.append(best)
        nearest = np.minimum(nearest, np.linalg.norm(features - features[best], axis=1))
    return chosen


def d_optimal(features: np.ndarray, known: np.ndarray, n_wanted: int, apart: float, rng=None) -> list[int]:
    """The one with the largest leverage  x^T (ridge + sum over known and chosen of x x^T)^-1 x,  again and again.

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
        open_ones = nearest >= max(apart, 1e-12)
        if not open_ones.any():
            break
        leverage = np.where(open_ones, np.einsum("nd,de,ne->n", candidates, inverse, candidates), -np.inf)
        best = int(leverage.argmax())
        chosen.append(best)
        seen = inverse @ candidates[best]
        inverse -= np.outer(seen, seen) / (1 + candidates[best] @ seen)
        nearest = np.minimum(nearest, np.linalg.norm(features - features[best], axis=1))
    return chosen


def at_random(features: np.ndarray, known: np.ndarray, n_wanted: int, apart: float, rng) -> list[int]:
    """A random draw without near-duplicates: the baseline."""
    nearest, chosen = distance_to(features, known), []
    for number in rng.permutation(len(features)).tolist():
        if len(chosen) == n_wanted:
            break
        if nearest[number] >= max(apart, 1e-12):
            chosen.append(number)
            nearest = np.minimum(nearest, np.linalg.norm(features - features[number], axis=1))
    return chosen


def distance_to(features: np.ndarray, known: np.ndarray) -> np.ndarray:
    """From each row to the nearest known one [n]; infinite where nothing is known."""
    nearest = np.full(len(features), np.inf)
    for row in known:
        nearest = np.minimum(nearest, np.linalg.norm(features - row, axis=1))
    return nearest


def shares(n: int, weights: Mapping[str, float], available: Mapping[str, int]) -> dict[str, int]:
    """n places among groups in proportion to their weights, none more than it has; what one cannot take, others get.

    Largest remainders, earlier groups first. A group without weight gets nothing.
    """
    open_ones = [name for name in weights if weights[name] > 0 and available.get(name, 0) > 0]
    out = dict.fromkeys(weights, 0)
    while open_ones:
        total = sum(weights[name] for name in open_ones)
        exact = {name: n * weights[name] / total for name in open_ones}
        full = [name for name in open_ones if exact[name] >= available[name]]
        for name in full:
            out[name] = available[name]
            n -= out[name]
        open_ones = [name for name in open_ones if name not in full]
        if not full:
            out.update({name: int(exact[name]) for name in open_ones})
            rest = n - sum(out[name] for name in open_ones)
            for name in sorted(open_ones, key=lambda name: out[name] - exact[name])[:rest]:
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
    apart: float = 0.2,
    seed: int = 0,
    first: Sequence[int] = (),
) -> list[int]:
    """Numbers of the candidates to be labelled, at most n.

    features  [n_candidates, d], known [m, d]: descriptors, of the training set and of what is held out
    quotas    share of each kind; a kind that is not named is not labelled. Inside a kind every hop gets as much
    apart     near-duplicate below this distance: 1 is about one neighbour elsewhere, 0.2 displacements of 0.03 Å
    first     numbers that are taken in any case, and come first
    Where a group has too few that differ, its places go to the best of all others of the named kinds; never to check
    frames beyond their quota, which are labelled whether the model knows them or not.
    """
    if n < 1:
        raise ValueError(f"at least one structure must be asked for per round, got {n}")
    rng = np.random.default_rng(seed)
    known, chosen, n = known if len(known) else features[:0], list(first), n - len(first)
    groups: dict[str, dict[str, list[int]]] = {kind: {} for kind in quotas}
    for number, candidate in enumerate(candidates):
        if quotas.get(candidate.kind, 0) > 0 and number not in chosen:
            groups[candidate.kind].setdefault(candidate.hop, []).append(number)
    available = {kind: sum(map(len, hops.values())) for kind, hops in groups.items()}
    available["check"] = min(available.get("check", 0), math.ceil(n * quotas.get("check", 0) / sum(quotas.values())))
    by_kind = shares(n, quotas, available)
    for kind, hops in groups.items():
        for hop, count in shares(by_kind[kind], dict.fromkeys(hops, 1.0), {h: len(m) for h, m in hops.items()}).items():
            chosen += picked(hops[hop], features, known, chosen, count, choose, apart, rng)
    rest = [number for kind, hops in groups.items() if kind != "check" for members in hops.values() for number in members]
    return chosen + picked(sorted(set(rest) - set(chosen)), features, known, chosen, n + len(first) - len(chosen), choose, apart, rng)


def picked(members: list[int], features, known, chosen: list[int], n_wanted: int, choose, apart: float, rng) -> list[int]:
    """The choice among some candidates, those chosen before known too."""
    seen = np.concatenate([known, features[chosen]])
    return [members[k] for k in choose(features[members], seen, n_wanted, apart, rng)] if n_wanted > 0 and members else []
