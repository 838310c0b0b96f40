"""The labels of one round: the chosen structures, and a few old ones again, to catch an engine that has changed."""

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
from ase import Atoms

from mlip import keys
from mlip.data.diagnosis import ERROR
from mlip.data.doctor import has_errors
from mlip.errors import LabellingError
from mlip.labelling.engine import Awaited
from mlip.labelling.execution import in_process
from mlip.labelling.run import run
from mlip.sampling.candidate import bare

ENERGY_DRIFT, FORCE_DRIFT = 0.001, 0.02  # eV/atom, eV/Å; a grid of DFT moves energies by less when a crystal is shifted
MOST_FAILED = 0.5  # part of a round that may have no label


def label_round(
    chosen: Sequence[Atoms],
    old: Sequence[Atoms],
    engine,
    folder: str | Path,
    n_control: int = 2,
    seed: int = 0,
    execution: Callable = in_process,
    retries: int = 1,
) -> tuple[list[Atoms], dict]:
    """Labelled copies of the chosen structures, those without a label left out, and what came of it, plain.

    old        labelled before: n_control of them are labelled again, shifted as a whole, which changes no energy and
               makes them new to the folder of labels
    Raises Awaited where labels come back later, LabellingError where too many failed, where labels have a wrong unit,
    and where the old structures have other labels now; finished labels are kept in all cases.
    """
    again = control_frames(old, n_control, seed)
    asked = [*chosen, *(shifted(atoms, seed + n) for n, atoms in enumerate(again))]
    report = run(asked, engine, folder, execution, retries)
    if report.awaited:
        raise Awaited(f"{len(report.awaited)} of {len(asked)} labels are awaited: {next(iter(report.awaited.values()))}")
    failed = {n: cause for n, cause in report.failed.items() if n < len(chosen)}
    if len(failed) > MOST_FAILED * len(chosen):
        raise LabellingError(f"{len(failed)} of {len(chosen)} structures have no label, the first because: {next(iter(failed.values()))}. "
                             f"Finished labels are kept in {folder}; repeat the command to try the others again")  # fmt: skip
    if has_errors(report.findings):
        wrong = "; ".join(f"{f.check}: {f.message}" for f in report.findings if f.severity == ERROR)
        raise LabellingError(f"the labels in {folder} cannot be right: {wrong}")
    drift = largest_drift(again, report.labelled[len(chosen) :])
    if drift["energy_eV_per_atom"] > ENERGY_DRIFT or drift["force_eV_per_A"] > FORCE_DRIFT:
        raise LabellingError(
            f"the engine no longer gives the labels that it gave: {len(again)} old structures differ by up to "
            f"{1e3 * drift['energy_eV_per_atom']:.2g} meV/atom and {drift['force_eV_per_A']:.2g} eV/Å. Its settings, version or "
            "pseudopotentials have changed: go back to the old ones, or sample into another folder. Where data.files came from "
            "elsewhere, label them with this engine first, or leave out this check with control=0"
        )
    labelled = [atoms for atoms in report.labelled[: len(chosen)] if atoms is not None]
    return labelled, {"asked": len(chosen), "failed": len(failed), "causes": sorted(set(failed.values())),
                      "seconds": float(np.sum(report.seconds)), "notes": report.notes, "control": drift}  # fmt: skip


def control_frames(old: Sequence[Atoms], n: int, seed: int) -> list[Atoms]:
    """A few labelled structures, others in every round."""
    chosen = np.random.default_rng([seed, 1]).permutation(len(old))[:n]
    return [old[k] for k in sorted(chosen.tolist())]


def shifted(atoms: Atoms, seed: int) -> Atoms:
    """The same crystal, all atoms moved by one random vector."""
    copy = bare(atoms)
    copy.positions += np.random.default_rng([seed, 2]).random(3) @ copy.cell.complete()
    return copy


def largest_drift(old: Sequence[Atoms], new: Sequence[Atoms | None]) -> dict[str, float]:
    """Largest differences between two labels of the same structures; zero where none came back."""
    pairs = [(a, b) for a, b in zip(old, new, strict=True) if b is not None]
    energy = [abs(a.info[keys.REF_ENERGY] - b.info[keys.REF_ENERGY]) / len(a) for a, b in pairs]
    force = [np.linalg.norm(a.arrays[keys.REF_FORCES] - b.arrays[keys.REF_FORCES], axis=1).max() for a, b in pairs]
    return {"frames": len(pairs), "energy_eV_per_atom": float(max(energy, default=0)), "force_eV_per_A": float(max(force, default=0))}


def held_out(labelled: Sequence[Atoms], share: float) -> list[int]:
    """Numbers of the structures of a round that validate and are never trained on: check frames first, then evenly spread.

    At least one where there are two, so that every round adds to both parts.
    """
    wanted = min(max(round(share * len(labelled)), 1), len(labelled) - 1) if share > 0 else 0
    checks = [n for n, atoms in enumerate(labelled) if atoms.info.get("kind") == "check"]
    others = [n for n in range(len(labelled)) if n not in set(checks)]
    more = wanted - len(checks)
    spread = [others[round(k)] for k in np.linspace(0, len(others) - 1, more + 2)[1:-1]] if more > 0 else []
    return sorted({*checks[:wanted], *spread})
