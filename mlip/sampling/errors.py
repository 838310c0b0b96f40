"""Errors that decide conductivity: forces on hopping ions, barriers of hops.

Forces are compared as vectors (mlip/error_metrics.py): sqrt(3) times the RMSE per component of mlip.evaluation.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType

import numpy as np
from ase import Atoms

from mlip import keys
from mlip.calculator import calculate_many
from mlip.error_metrics import vector_mae, vector_rmse
from mlip.sampling.candidate import Candidate, bare
from mlip.transitions.paths import displacements

BATCH = 32  # structures in one call of the model
SAME_MINIMUM, SAME_STRUCTURE = 0.3, 0.05  # Å, largest displacement of any atom
AT_REST = ("end", "start")  # kinds that may be the minimum a hop starts from
EMPTY: Mapping[str, Atoms] = MappingProxyType({})


@dataclass(frozen=True)
class ValidationErrors:
    """Errors of the force vector, eV/Å: over all atoms, and of the median frame.

    A few broken frames move the first and not the second.
    """

    force_vector_rmse: float
    median_force_vector_rmse: float


@dataclass(frozen=True)
class HoldOutErrors:
    """Errors on labelled frames that are never trained on; eV/Å, eV.

    ion_force_vector_mae  of the hopping ions; None if no frame names one
    barrier_mae           of E_saddle - E_start; None without pairs of start and saddle
    """

    frames: int
    force_vector_rmse: float
    ion_force_vector_mae: float | None
    barrier_mae: float | None
    hops: int


def force_errors(calculator, labelled: Sequence[Atoms]) -> list[np.ndarray]:
    """Error of the force on every atom [n_atoms, 3] eV/Å, for each structure."""
    errors = []
    for first in range(0, len(labelled), BATCH):
        batch = labelled[first : first + BATCH]
        for atoms, result in zip(batch, calculate_many(calculator, [bare(a) for a in batch]), strict=True):
            errors.append(result.get_forces() - atoms.arrays[keys.REF_FORCES])
    return errors


def validation_errors(calculator, labelled: Sequence[Atoms]) -> ValidationErrors:
    """Errors on validation frames; zero without frames.

    The median is that of frames of dynamics, if there are some: strained starts have larger forces, and larger errors.
    """
    errors = force_errors(calculator, labelled)
    if not errors:
        return ValidationErrors(0.0, 0.0)
    visited = [each for each, atoms in zip(errors, labelled, strict=True) if not is_distorted(atoms)] or errors
    return ValidationErrors(
        vector_rmse(np.concatenate(errors)), float(np.median([vector_rmse(each) for each in visited]))
    )


def is_distorted(atoms: Atoms) -> bool:
    """Whether a label is a rattled or strained start, which no dynamics visited."""
    return atoms.info.get("kind") == "start"


def hold_out_errors(calculator, frames: Sequence[Atoms]) -> HoldOutErrors | None:
    """Errors on held-out frames; None without frames."""
    if not frames:
        return None
    errors = force_errors(calculator, frames)
    ions = [e[int(a.info["ion"])] for e, a in zip(errors, frames, strict=True) if int(a.info.get("ion", -1)) >= 0]
    barriers = list(saddle_errors(calculator, frames).values())
    return HoldOutErrors(
        len(frames), vector_rmse(np.concatenate(errors)), vector_mae(np.array(ions)) if ions else None,
        float(np.abs(barriers).mean()) if barriers else None, len(barriers),
    )  # fmt: skip


def saddle_errors(calculator, labelled: Sequence[Atoms], starts: Mapping[str, Atoms] = EMPTY) -> dict[str, float]:
    """Error of E_saddle - E_start in eV by hop, on the saddle labelled last and its start."""
    pairs = start_saddle_pairs(labelled, starts)
    structures = [bare(atoms) for pair in pairs.values() for atoms in pair]
    energies = (
        [result.get_potential_energy() for result in calculate_many(calculator, structures)] if structures else []
    )
    barriers = np.diff(np.reshape(energies, (-1, 2)), axis=1)[:, 0]
    return {
        hop: float(barrier - label)
        for (hop, label), barrier in zip(labelled_barriers(labelled, starts).items(), barriers, strict=True)
    }


def labelled_barriers(labelled: Sequence[Atoms], starts: Mapping[str, Atoms] = EMPTY) -> dict[str, float]:
    """E_saddle - E_start in eV by hop, from the labels alone."""
    return {hop: float(saddle.info[keys.REF_ENERGY] - end.info[keys.REF_ENERGY])
            for hop, (end, saddle) in start_saddle_pairs(labelled, starts).items()}  # fmt: skip


def start_saddle_pairs(
    labelled: Sequence[Atoms], starts: Mapping[str, Atoms] = EMPTY
) -> dict[str, tuple[Atoms, Atoms]]:
    """Start and saddle of every hop that has both, each the one labelled last.

    starts  relaxed start by hop: hops from one minimum share its label, since near-duplicates are not labelled
    """
    saddles, ends = (
        {str(a.info["hop"]): a for a in labelled if a.info.get("kind") == kind} for kind in ("saddle", "end")
    )
    at_rest = [atoms for atoms in labelled if atoms.info.get("kind") in AT_REST]
    pairs = {}
    for hop, saddle in saddles.items():
        end = ends.get(hop) or (last_similar(starts[hop], at_rest) if hop in starts else None)
        if end is not None:
            pairs[hop] = (end, saddle)
    return pairs


def last_similar(start: Atoms, structures: Sequence[Atoms], max_displacement: float = SAME_MINIMUM) -> Atoms | None:
    """The last structure with all displacements from `start` below max_displacement (Å)."""
    for atoms in reversed(structures):
        comparable = np.array_equal(atoms.numbers, start.numbers) and np.allclose(
            atoms.cell.array, start.cell.array, atol=1e-6
        )
        if comparable and np.linalg.norm(displacements(start, atoms), axis=1).max() < max_displacement:
            return atoms
    return None


def unlabelled_pairs(candidates: Sequence[Candidate], labelled: Sequence[Atoms], max_structures: int) -> list[int]:
    """Indices of the starts and saddles of hops that are labelled first, to check the barriers.

    Both of a hop, unless a labelled structure at rest (a saddle, for a saddle) is the same within SAME_STRUCTURE; at most
    max_structures in all, hops in the order of the candidates.
    """
    known = {kind: [atoms for atoms in labelled if atoms.info.get("kind") in kinds]
             for kind, kinds in (("saddle", ("saddle",)), ("end", AT_REST))}  # fmt: skip
    by_hop: dict[str, list[int]] = {}
    for number, candidate in enumerate(candidates):
        if candidate.kind in known and last_similar(candidate.atoms, known[candidate.kind], SAME_STRUCTURE) is None:
            by_hop.setdefault(candidate.hop, []).append(number)
            known[candidate.kind].append(candidate.atoms)  # two hops from one minimum need its label once
    pairs: list[int] = []
    for numbers in by_hop.values():
        pairs += numbers if len(pairs) + len(numbers) <= max_structures else []
    return pairs
