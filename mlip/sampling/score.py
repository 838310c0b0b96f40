"""How much the model doubts each candidate, and which doubts are worth a label."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from ase import Atoms
from ase.data import atomic_numbers

from mlip import keys
from mlip.calculator import calculate_many
from mlip.sampling.candidate import Candidate
from mlip.transitions.saddle import around

AT_ONCE = 32  # structures in one call of the model
UNBIASED = ("check", "md")  # kinds whose share of candidates says how much of the dynamics the model doubts
ANY_DOUBT = ("check", "saddle", "end")  # labelled to test the model: its errors and its barriers


@dataclass(frozen=True)
class Window:
    """Doubts worth a label: from  low = max(least, times x typical error)  to  high = spread x low, eV/Å.

    Below low the model knows the structure; above high the structure is broken, or the model too poor to tell: it is
    counted and not labelled. DP-GEN: Comput. Phys. Commun. 253, 107206 (2020).
    fill  candidates for each label of a round: where the window holds fewer, those of most doubt below it are taken too, since
          labels at saddles decide when to stop and not sigma; 0 keeps to the window
    """

    least: float = 0.05
    times: float = 1.5
    spread: float = 4.0
    fill: float = 3.0

    def __post_init__(self):
        if not (self.least > 0 and self.times >= 0 and self.spread > 1):
            raise ValueError(f"a window needs least > 0 eV/Å, times >= 0 and spread > 1, got {self.least}, {self.times}, {self.spread}")

    def bounds(self, typical: float) -> tuple[float, float]:
        """low, high in eV/Å.  typical eV/Å, the median_force_vector_rmse of checks.validation_errors."""
        low = max(self.least, self.times * typical)
        return low, self.spread * low

    def floor(self, candidates: Sequence[Candidate], low: float, high: float, n_labels: int) -> float:
        """low, or the doubt down to which `fill` times n_labels candidates are in the window."""
        doubts = sorted((c.scores["sigma"] for c in candidates if c.kind not in ANY_DOUBT and c.scores["sigma"] <= high), reverse=True)
        wanted = min(int(self.fill * n_labels), len(doubts))
        return min(low, doubts[wanted - 1]) if wanted else low


def score(candidates: Sequence[Candidate], calculator, mobile: str | None, reach: float = 3.0) -> list[Candidate]:
    """The candidates with scores sigma (eV/Å) and energy_sigma (eV); those without an answer of the model are left out.

    sigma   largest force_sigma of the hopping ion and the atoms within reach (Å) of it; of all mobile ions where none hops
    Raises ValueError where the calculator tells no force_sigma.
    """
    scored = []
    for first in range(0, len(candidates), AT_ONCE):
        part = list(candidates[first : first + AT_ONCE])
        for candidate, answer in zip(part, answers(calculator, [c.atoms for c in part]), strict=True):
            if answer is None:
                continue
            results = answer.calc.results
            if keys.FORCE_SIGMA not in results:
                raise ValueError("the calculator tells no force_sigma, so nothing can be scored: export the model with "
                                 "uncertainty=last_layer or as a committee, or take sampler=random_md or neb_only")  # fmt: skip
            near = looked_at(candidate, mobile, reach)
            scores = {"sigma": float(np.max(results[keys.FORCE_SIGMA][near])), "energy_sigma": float(results[keys.ENERGY_SIGMA])}
            scored.append(Candidate(candidate.atoms, candidate.kind, candidate.hop, candidate.ion, candidate.parent, scores))
    return scored


def answers(calculator, structures: list[Atoms]) -> list[Atoms | None]:
    """What the calculator says to each; None where it refuses one (overlapping atoms)."""
    try:
        return calculate_many(calculator, structures)
    except ValueError:
        if len(structures) == 1:
            return [None]
        half = len(structures) // 2
        return answers(calculator, structures[:half]) + answers(calculator, structures[half:])


def looked_at(candidate: Candidate, mobile: str | None, reach: float) -> np.ndarray:
    """Numbers of the atoms whose doubt counts."""
    if candidate.ion >= 0:
        return around(candidate.atoms, candidate.ion, reach)
    ions = np.flatnonzero(candidate.atoms.numbers == atomic_numbers.get(mobile, -1))
    return ions if len(ions) else np.arange(len(candidate.atoms))


def inside(candidates: Sequence[Candidate], low: float, high: float) -> list[Candidate]:
    """Those whose doubt is in the window; those of the kinds ANY_DOUBT from zero on, since what is known is asked too."""
    return [c for c in candidates if (0.0 if c.kind in ANY_DOUBT else low) <= c.scores["sigma"] <= high]


def count(candidates: Sequence[Candidate], low: float, high: float) -> dict:
    """How many are known, in the window and above it, by kind; share: above low, of the frames of dynamics.

    None as share where no frame of dynamics is among them.
    """
    out: dict = {"known": {}, "window": {}, "above": {}}
    for candidate in candidates:
        sigma = candidate.scores["sigma"]
        where = out["known" if sigma < low else "window" if sigma <= high else "above"]
        where[candidate.kind] = where.get(candidate.kind, 0) + 1
    unbiased = [c.scores["sigma"] >= low for c in candidates if c.kind in UNBIASED]
    return {**out, "share": float(np.mean(unbiased)) if unbiased else None}
