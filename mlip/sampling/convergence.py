"""Convergence criteria of sampling, on barriers and on dynamics, and its budgets."""

from collections.abc import Sequence
from dataclasses import dataclass

from mlip.sampling.store import RoundRecord


@dataclass(frozen=True)
class Limits:
    """Thresholds that must all be met, and two budgets that end sampling in any case.

    barrier_sigma_eV       eV, of E_saddle - E_start, the largest of all hops
    barrier_change_eV      eV, since the round before
    saddle_error_eV        eV, of the model's E_saddle - E_start on its own saddles, before it was trained on their labels
    uncertain_fraction  of the frames of dynamics, those with an uncertainty above the lower end of the window
    labels, rounds      budgets; None: no limit
    20, 30, 50 meV of a barrier are factors 2.2, 3.2, 6.9 in D at 300 K.
    """

    barrier_sigma_eV: float = 0.015
    barrier_change_eV: float = 0.010
    saddle_error_eV: float = 0.020
    uncertain_fraction: float = 0.02
    labels: int | None = None
    rounds: int | None = 10


@dataclass(frozen=True)
class Criterion:
    """Value and limit of one convergence criterion; None, not known yet, does not meet it."""

    name: str
    value: float | None
    limit: float
    unit: str

    @property
    def is_met(self) -> bool:
        return self.value is not None and self.value <= self.limit

    def __str__(self) -> str:
        value = "not known yet" if self.value is None else f"{self.value:.3g}{self.unit}"
        return f"{self.name} {value} (limit {self.limit:g}{self.unit})"


def criteria(rounds: Sequence[RoundRecord], limits: Limits) -> list[Criterion]:
    """Criteria after the last round.

    Of barriers only if paths are relaxed, of dynamics only if its uncertainty is computed.
    """
    last = rounds[-1]
    out = []
    if last.paths is not None and not last.barriers:
        out.append(Criterion("largest sigma of a barrier", None, limits.barrier_sigma_eV, " eV"))  # no hop is known
    if last.barriers:
        sigmas = [path.sigma for path in last.paths if path.barrier is not None]
        known = [sigma for sigma in sigmas if sigma is not None]
        if len(known) == len(sigmas):
            out.append(Criterion("largest sigma of a barrier", max(known), limits.barrier_sigma_eV, " eV"))
        out.append(Criterion("largest change of a barrier", largest_change(rounds), limits.barrier_change_eV, " eV"))
        errors = [abs(last.saddle_errors[hop]) for hop in last.barriers if hop in last.saddle_errors]
        largest = max(errors) if len(errors) == len(last.barriers) else None
        out.append(Criterion("largest error at a saddle", largest, limits.saddle_error_eV, " eV"))
    if last.uncertainty is not None and last.uncertainty.uncertain_fraction is not None:
        out.append(
            Criterion(
                "fraction of uncertain frames", last.uncertainty.uncertain_fraction, limits.uncertain_fraction, ""
            )
        )
    return out


def largest_change(rounds: Sequence[RoundRecord]) -> float | None:
    """Largest change of a barrier between the last two rounds, eV; None if a hop is new."""
    if len(rounds) < 2:
        return None
    new, old = rounds[-1].barriers, rounds[-2].barriers
    return max(abs(new[hop] - old[hop]) for hop in new) if set(new) <= set(old) else None


def decide(rounds: Sequence[RoundRecord], limits: Limits) -> tuple[str | None, bool]:
    """Reason to end sampling after these rounds, None to continue; and whether it has converged."""
    last = rounds[-1]
    all_criteria = criteria(rounds, limits)
    if all_criteria and all(each.is_met for each in all_criteria):
        return "converged: " + "; ".join(map(str, all_criteria)), True
    if last.ended:
        return last.ended, False
    if limits.labels is not None and last.labels >= limits.labels:
        return f"the budget of {limits.labels} labels is used up", False
    if limits.rounds is not None and len(rounds) > limits.rounds:
        return f"{limits.rounds} rounds are done", False
    return None, False
