"""Labels of one round, and of old structures again, to detect an engine that has changed."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from ase import Atoms

from mlip import keys
from mlip.data.diagnosis import ERROR
from mlip.data.doctor import has_errors
from mlip.errors import LabellingError
from mlip.labelling.engine import LabelPending
from mlip.labelling.execution import in_process
from mlip.labelling.run import run
from mlip.sampling.candidate import bare

ENERGY_DRIFT, FORCE_DRIFT = 0.001, 0.02  # eV/atom, eV/Å; a grid of DFT moves energies by less when a crystal is shifted
MAX_FAILED = 0.5  # fraction of a round that may stay without a label


@dataclass(frozen=True)
class LabelDrift:
    """Largest differences between two labels of the same structures; zero if there are none."""

    frames: int
    energy_eV_per_atom: float
    force_eV_per_A: float


@dataclass(frozen=True)
class LabelSummary:
    """Requested and failed labels, causes, seconds of the engine, remarks, drift."""

    requested: int
    failed: int
    causes: list[str]
    seconds: float
    notes: list[str]
    drift: LabelDrift


def label_round(
    chosen: Sequence[Atoms],
    old: Sequence[Atoms],
    engine,
    folder: str | Path,
    n_relabelled: int = 2,
    seed: int = 0,
    execution: Callable = in_process,
    retries: int = 1,
) -> tuple[list[Atoms], LabelSummary]:
    """Labelled copies of the chosen structures, without those that failed, and a summary.

    old        labelled before: n_relabelled of them are labelled again, shifted as a whole, which changes no energy and
               makes them new to the folder of labels
    Raises LabelPending if labels come back later, LabellingError if too many failed, if labels have a wrong unit, and if the
    old structures have other labels now; finished labels are kept in all cases.
    """
    repeated = random_subset(old, n_relabelled, seed)
    structures = [*chosen, *(shifted(atoms, seed + n) for n, atoms in enumerate(repeated))]
    report = run(structures, engine, folder, execution, retries)
    if report.pending:
        raise LabelPending(
            f"{len(report.pending)} of {len(structures)} labels are pending: {next(iter(report.pending.values()))}"
        )
    failed = {n: cause for n, cause in report.failed.items() if n < len(chosen)}
    if len(failed) > MAX_FAILED * len(chosen):
        raise LabellingError(f"{len(failed)} of {len(chosen)} structures have no label, the first because: {next(iter(failed.values()))}. "
                             f"Finished labels are kept in {folder}; repeat the command to try the others again")  # fmt: skip
    if has_errors(report.findings):
        wrong = "; ".join(f"{f.check}: {f.message}" for f in report.findings if f.severity == ERROR)
        raise LabellingError(f"the labels in {folder} cannot be right: {wrong}")
    drift = largest_drift(repeated, report.labelled[len(chosen) :])
    if drift.energy_eV_per_atom > ENERGY_DRIFT or drift.force_eV_per_A > FORCE_DRIFT:
        raise LabellingError(
            f"the engine no longer gives the labels that it gave: {len(repeated)} old structures differ by up to "
            f"{1e3 * drift.energy_eV_per_atom:.2g} meV/atom and {drift.force_eV_per_A:.2g} eV/Å. Its settings, version or "
            "pseudopotentials have changed: go back to the old ones, or sample into another folder. If data.files came from "
            "elsewhere, label them with this engine first, or leave out this check with n_relabelled=0"
        )
    labelled = [atoms for atoms in report.labelled[: len(chosen)] if atoms is not None]
    causes = sorted(set(failed.values()))
    return labelled, LabelSummary(
        len(chosen), len(failed), causes, float(np.sum(report.seconds)), list(report.notes), drift
    )


def random_subset(old: Sequence[Atoms], n: int, seed: int) -> list[Atoms]:
    """n labelled structures at random, others in every round."""
    chosen = np.random.default_rng([seed, 1]).permutation(len(old))[:n]
    return [old[k] for k in sorted(chosen.tolist())]


def shifted(atoms: Atoms, seed: int) -> Atoms:
    """The same crystal, all atoms displaced by one random vector."""
    copy = bare(atoms)
    copy.positions += np.random.default_rng([seed, 2]).random(3) @ copy.cell.complete()
    return copy


def largest_drift(old: Sequence[Atoms], new: Sequence[Atoms | None]) -> LabelDrift:
    """Largest differences between two labels of the same structures."""
    pairs = [(a, b) for a, b in zip(old, new, strict=True) if b is not None]
    energy = [abs(a.info[keys.REF_ENERGY] - b.info[keys.REF_ENERGY]) / len(a) for a, b in pairs]
    force = [np.linalg.norm(a.arrays[keys.REF_FORCES] - b.arrays[keys.REF_FORCES], axis=1).max() for a, b in pairs]
    return LabelDrift(len(pairs), float(max(energy, default=0)), float(max(force, default=0)))


def validation_indices(labelled: Sequence[Atoms], share: float) -> list[int]:
    """Indices of the structures of a round that validate and are never trained on.

    Check frames first, then evenly spread. At least one of two or more, so that every round adds to both sets.
    """
    wanted = min(max(round(share * len(labelled)), 1), len(labelled) - 1) if share > 0 else 0
    checks = [n for n, atoms in enumerate(labelled) if atoms.info.get("kind") == "check"]
    others = [n for n in range(len(labelled)) if n not in set(checks)]
    more = wanted - len(checks)
    spread = [others[round(k)] for k in np.linspace(0, len(others) - 1, more + 2)[1:-1]] if more > 0 else []
    return sorted({*checks[:wanted], *spread})
