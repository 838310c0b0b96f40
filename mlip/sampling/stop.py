"""When sampling has done its work: barriers sure, unchanged and right, dynamics known; or the budget is used up."""

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Limits:
    """Below all of these sampling has converged; the two budgets end it in any case.

    barrier_sigma   eV, of E_saddle - E_start, the largest of all hops
    barrier_change  eV, since the round before
    saddle_error    eV, of the model's E_saddle - E_start on its own saddles, before it was trained on their labels
    share           of the frames of dynamics whose doubt is above the window's low
    labels, rounds  budgets; None: no limit
    20, 30, 50 meV of a barrier are factors 2.2, 3.2, 6.9 in D at 300 K.
    """

    barrier_sigma: float = 0.015
    barrier_change: float = 0.010
    saddle_error: float = 0.020
    share: float = 0.02
    labels: int | None = None
    rounds: int | None = 10


@dataclass(frozen=True)
class Criterion:
    """value None: it cannot be told yet, which is not met either."""

    name: str
    value: float | None
    limit: float
    unit: str

    @property
    def is_met(self) -> bool:
        return self.value is not None and self.value <= self.limit

    def __str__(self) -> str:
        told = "not known yet" if self.value is None else f"{self.value:.3g}{self.unit}"
        return f"{self.name} {told} (limit {self.limit:g}{self.unit})"


def criteria(rounds: Sequence[dict], limits: Limits) -> list[Criterion]:
    """What the last round says. Of barriers only where paths are relaxed, of dynamics only where its doubt is looked at.

    rounds  records with paths [{hop, barrier, sigma, ...}] or None, saddle_errors {hop: eV} and counts {share}
    """
    last = rounds[-1]
    out = []
    barriers = barriers_of(last)
    if last["paths"] is not None and not barriers:
        out.append(Criterion("largest sigma of a barrier", None, limits.barrier_sigma, " eV"))  # no hop was found
    if barriers:
        sigmas = [path["sigma"] for path in last["paths"] if path["barrier"] is not None]
        if None not in sigmas:
            out.append(Criterion("largest sigma of a barrier", max(sigmas), limits.barrier_sigma, " eV"))
        out.append(Criterion("largest change of a barrier", largest_change(rounds), limits.barrier_change, " eV"))
        errors = [abs(last["saddle_errors"][hop]) for hop in barriers if hop in last["saddle_errors"]]
        out.append(Criterion("largest error at a saddle", max(errors) if len(errors) == len(barriers) else None,
                             limits.saddle_error, " eV"))  # fmt: skip
    share = (last.get("counts") or {}).get("share")
    if share is not None:
        out.append(Criterion("share of doubtful frames", share, limits.share, ""))
    return out


def barriers_of(record: dict) -> dict[str, float]:
    """eV by hop, of the paths that have a saddle."""
    return {path["hop"]: path["barrier"] for path in record["paths"] or [] if path["barrier"] is not None}


def largest_change(rounds: Sequence[dict]) -> float | None:
    """eV, between the last two rounds; None where a hop was not there before."""
    if len(rounds) < 2:
        return None
    new, old = barriers_of(rounds[-1]), barriers_of(rounds[-2])
    return max(abs(new[hop] - old[hop]) for hop in new) if set(new) <= set(old) else None


def decide(rounds: Sequence[dict], limits: Limits) -> tuple[str | None, bool]:
    """Why sampling ends after these rounds, None where it goes on; and whether it has converged."""
    last = rounds[-1]
    found = criteria(rounds, limits)
    if found and all(each.is_met for each in found):
        return "converged: " + "; ".join(map(str, found)), True
    if last.get("ended"):
        return last["ended"], False
    if limits.labels is not None and last["labels"] >= limits.labels:
        return f"the budget of {limits.labels} labels is used up", False
    if limits.rounds is not None and len(rounds) > limits.rounds:
        return f"{limits.rounds} rounds are done", False
    return None, False
