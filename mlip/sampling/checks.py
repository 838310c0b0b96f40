"""What the model says against the labels: on held-out frames, and of the energy from the start of a hop to its saddle."""

from collections.abc import Mapping, Sequence
from types import MappingProxyType

import numpy as np
from ase import Atoms

from mlip import keys
from mlip.calculator import calculate_many
from mlip.error_metrics import vector_mae, vector_rmse
from mlip.sampling.candidate import Candidate, bare
from mlip.transitions.paths import displacements

AT_ONCE = 32
SAME, MOVED = 0.3, 0.05  # Å
AT_REST = ("end", "start")  # kinds that may be the minimum a hop starts from
FORMER_NAMES = {  # in the records of older samplings
    "force_rmse": "force_vector_rmse", "force_typical": "median_force_vector_rmse", "ion_force_mae": "ion_force_vector_mae",
}  # fmt: skip
EMPTY: Mapping[str, Atoms] = MappingProxyType({})


def force_errors(calculator, labelled: Sequence[Atoms]) -> list[np.ndarray]:
    """Error of the force of every atom [n_atoms, 3] eV/Å, for each structure."""
    out = []
    for first in range(0, len(labelled), AT_ONCE):
        part = labelled[first : first + AT_ONCE]
        for atoms, answer in zip(part, calculate_many(calculator, [bare(a) for a in part]), strict=True):
            out.append(answer.get_forces() - atoms.arrays[keys.REF_FORCES])
    return out


def validation_errors(calculator, labelled: Sequence[Atoms]) -> dict[str, float]:
    """Vector RMSE of the forces, eV/Å: over all atoms, and of the median frame; zero if there is no frame.

    A few broken structures among those that validate move the first and not the second.
    """
    errors = force_errors(calculator, labelled)
    if not errors:
        return {"force_vector_rmse": 0.0, "median_force_vector_rmse": 0.0}
    return {"force_vector_rmse": vector_rmse(np.concatenate(errors)),
            "median_force_vector_rmse": float(np.median([vector_rmse(each) for each in errors]))}  # fmt: skip


def with_current_names(record: Mapping) -> dict:
    """Rename the errors of a record that an older sampling wrote."""
    renamed = {FORMER_NAMES.get(name, name): value for name, value in record.items()}
    return {**renamed, "hold_out": with_current_names(record["hold_out"])} if "hold_out" in record else renamed


def saddle_errors(calculator, labelled: Sequence[Atoms], starts: Mapping[str, Atoms] = EMPTY) -> dict[str, float]:
    """Error of E_saddle - E_start in eV by hop, on the structures that were labelled last as saddle and start of it."""
    pairs = pairs_of(labelled, starts)
    asked = [atoms for pair in pairs.values() for atoms in pair]
    ours = [answer.get_potential_energy() for answer in calculate_many(calculator, [bare(a) for a in asked])] if asked else []
    rises = np.diff(np.reshape(ours, (-1, 2)), axis=1)[:, 0]
    return {hop: float(rise - label) for (hop, label), rise in zip(labelled_barriers(labelled, starts).items(), rises, strict=True)}


def labelled_barriers(labelled: Sequence[Atoms], starts: Mapping[str, Atoms] = EMPTY) -> dict[str, float]:
    """E_saddle - E_start in eV by hop, of the labels themselves."""
    return {hop: float(saddle.info[keys.REF_ENERGY] - end.info[keys.REF_ENERGY])
            for hop, (end, saddle) in pairs_of(labelled, starts).items()}  # fmt: skip


def pairs_of(labelled: Sequence[Atoms], starts: Mapping[str, Atoms] = EMPTY) -> dict[str, tuple[Atoms, Atoms]]:
    """The start and the saddle of every hop that has both, each as it was labelled last.

    starts  by hop, as they are known: hops from one minimum share its label, since near-duplicates are not labelled
    """
    saddles, ends = ({str(a.info["hop"]): a for a in labelled if a.info.get("kind") == kind} for kind in ("saddle", "end"))
    at_rest = [atoms for atoms in labelled if atoms.info.get("kind") in AT_REST]
    out = {}
    for hop, saddle in saddles.items():
        end = ends.get(hop) or (like(starts[hop], at_rest) if hop in starts else None)
        if end is not None:
            out[hop] = (end, saddle)
    return out


def like(start: Atoms, structures: Sequence[Atoms], most: float = SAME) -> Atoms | None:
    """The last of the structures in which no atom lies farther than `most` (Å) from where it is in `start`."""
    for atoms in reversed(structures):
        alike = np.array_equal(atoms.numbers, start.numbers) and np.allclose(atoms.cell.array, start.cell.array, atol=1e-6)
        if alike and np.linalg.norm(displacements(start, atoms), axis=1).max() < most:
            return atoms
    return None


def unlabelled_pairs(candidates: Sequence[Candidate], labelled: Sequence[Atoms], most: int) -> list[int]:
    """Numbers of the starts and saddles of hops that are labelled before all others, for the check of the barriers.

    Both of a hop, unless a labelled structure at rest (a saddle, for a saddle) is the same within MOVED (Å); at most
    `most` in all, hops in the order of the candidates.
    """
    known = {"saddle": [a for a in labelled if a.info.get("kind") == "saddle"], "end": [a for a in labelled if a.info.get("kind") in AT_REST]}
    by_hop: dict[str, list[int]] = {}
    for number, candidate in enumerate(candidates):
        if candidate.kind in known and like(candidate.atoms, known[candidate.kind], MOVED) is None:
            by_hop.setdefault(candidate.hop, []).append(number)
            known[candidate.kind].append(candidate.atoms)  # two hops from one minimum need its label once
    out: list[int] = []
    for numbers in by_hop.values():
        out += numbers if len(out) + len(numbers) <= most else []
    return out


def on_hold_out(calculator, frames: Sequence[Atoms]) -> dict:
    """Errors on labelled frames that are never trained on: forces of all atoms and of the ions on their way, barriers."""
    if not frames:
        return {}
    errors = force_errors(calculator, frames)
    ions = [e[int(a.info["ion"])] for e, a in zip(errors, frames, strict=True) if int(a.info.get("ion", -1)) >= 0]
    barriers = list(saddle_errors(calculator, frames).values())
    return {
        "frames": len(frames), "force_vector_rmse": vector_rmse(np.concatenate(errors)),
        "ion_force_vector_mae": vector_mae(np.array(ions)) if ions else None,
        "barrier_mae": float(np.abs(barriers).mean()) if barriers else None, "hops": len(barriers),
    }  # fmt: skip
