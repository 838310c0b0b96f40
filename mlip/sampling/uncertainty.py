"""Uncertainty of each candidate, and the window of uncertainties worth a label."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from ase import Atoms
from ase.data import atomic_numbers

from mlip import keys
from mlip.calculator import calculate_many
from mlip.errors import InputError
from mlip.sampling.candidate import Candidate
from mlip.transitions.saddle import around

BATCH = 32  # structures in one call of the model
UNBIASED = ("check", "md")  # kinds whose frames are drawn at random from dynamics
ALWAYS_ELIGIBLE = ("check", "saddle", "end")  # labelled to test the model: its errors and its barriers


@dataclass(frozen=True)
class UncertaintyWindow:
    """Uncertainties worth a label, low to high, eV/Å.

    low = max(min_uncertainty, rmse_factor x RMSE),  high = upper_factor x low
    Below low the model is reliable; above high the structure is broken, or the model too poor to judge it: it is counted
    and not labelled. DP-GEN: Comput. Phys. Commun. 253, 107206 (2020).
    min_candidates_per_label  if the window holds fewer, the most uncertain ones below it are eligible too, since convergence
                              is decided by labels at saddles and not by sigma; 0 keeps to the window
    """

    min_uncertainty: float = 0.05
    rmse_factor: float = 1.5
    upper_factor: float = 4.0
    min_candidates_per_label: float = 3.0

    def __post_init__(self):
        if not (self.min_uncertainty > 0 and self.rmse_factor >= 0 and self.upper_factor > 1):
            raise InputError("a window needs min_uncertainty > 0 eV/Å, rmse_factor >= 0 and upper_factor > 1, got "
                             f"{self.min_uncertainty}, {self.rmse_factor}, {self.upper_factor}")  # fmt: skip

    def bounds(self, force_vector_rmse: float) -> tuple[float, float]:
        """low, high in eV/Å.  force_vector_rmse eV/Å, of the median validation frame."""
        low = max(self.min_uncertainty, self.rmse_factor * force_vector_rmse)
        return low, self.upper_factor * low

    def eligible_from(self, candidates: Sequence[Candidate], low: float, high: float, n_labels: int) -> float:
        """low, or less, so that min_candidates_per_label x n_labels candidates lie above."""
        sigmas = sorted(
            (c.scores["sigma"] for c in candidates if c.kind not in ALWAYS_ELIGIBLE and c.scores["sigma"] <= high),
            reverse=True,
        )
        n_wanted = min(int(self.min_candidates_per_label * n_labels), len(sigmas))
        return min(low, sigmas[n_wanted - 1]) if n_wanted else low


@dataclass(frozen=True)
class UncertaintyCounts:
    """Candidates below, inside and above the window low to high (eV/Å), by kind.

    uncertain_fraction  of the frames of dynamics, the part above low; None without such frames, or if low is of distorted starts alone
    n_refused           candidates that the calculator refuses
    """

    below: dict[str, int]
    inside: dict[str, int]
    above: dict[str, int]
    uncertain_fraction: float | None
    low: float
    high: float
    n_refused: int = 0


def score(candidates: Sequence[Candidate], calculator, mobile: str | None, reach: float = 3.0) -> list[Candidate]:
    """The candidates with scores sigma (eV/Å) and energy_sigma (eV), without refused ones.

    sigma   largest force_sigma of the hopping ion and the atoms within reach (Å) of it; of all mobile ions if none hops
    Raises ValueError if the calculator has no force_sigma.
    """
    scored = []
    for first in range(0, len(candidates), BATCH):
        batch = list(candidates[first : first + BATCH])
        for candidate, result in zip(batch, calculate_accepted(calculator, [c.atoms for c in batch]), strict=True):
            if result is None:
                continue
            results = result.calc.results
            if keys.FORCE_SIGMA not in results:
                raise InputError("the calculator has no force_sigma, so nothing can be scored: export the model with "
                                 "uncertainty=last_layer or as a committee, or take sampler=random_md or neb_only")  # fmt: skip
            near = scored_atoms(candidate, mobile, reach)
            scores = {
                "sigma": float(np.max(results[keys.FORCE_SIGMA][near])),
                "energy_sigma": float(results[keys.ENERGY_SIGMA]),
            }
            scored.append(
                Candidate(candidate.atoms, candidate.kind, candidate.hop, candidate.ion, candidate.parent, scores)
            )
    return scored


def calculate_accepted(calculator, structures: list[Atoms]) -> list[Atoms | None]:
    """Results for each structure; None for one that the calculator refuses (overlapping atoms)."""
    try:
        return calculate_many(calculator, structures)
    except ValueError:
        if len(structures) == 1:
            return [None]
        half = len(structures) // 2
        return calculate_accepted(calculator, structures[:half]) + calculate_accepted(calculator, structures[half:])


def scored_atoms(candidate: Candidate, mobile: str | None, reach: float) -> np.ndarray:
    """Indices of the atoms whose uncertainty counts."""
    if candidate.ion >= 0:
        return around(candidate.atoms, candidate.ion, reach)
    ions = np.flatnonzero(candidate.atoms.numbers == atomic_numbers.get(mobile, -1))
    return ions if len(ions) else np.arange(len(candidate.atoms))


def in_window(candidates: Sequence[Candidate], low: float, high: float) -> list[Candidate]:
    """Candidates from low to high; those of the kinds ALWAYS_ELIGIBLE from zero on."""
    return [c for c in candidates if (0.0 if c.kind in ALWAYS_ELIGIBLE else low) <= c.scores["sigma"] <= high]


def count_uncertain(candidates: Sequence[Candidate], low: float, high: float, n_refused: int = 0) -> UncertaintyCounts:
    """Counts of candidates by kind below, inside and above the window."""
    below: dict[str, int] = {}
    inside: dict[str, int] = {}
    above: dict[str, int] = {}
    for candidate in candidates:
        sigma = candidate.scores["sigma"]
        counts = below if sigma < low else inside if sigma <= high else above
        counts[candidate.kind] = counts.get(candidate.kind, 0) + 1
    unbiased = [c.scores["sigma"] >= low for c in candidates if c.kind in UNBIASED]
    return UncertaintyCounts(below, inside, above, float(np.mean(unbiased)) if unbiased else None, low, high, n_refused)
