"""Plausibility of labels: each by itself, and all together."""

from collections.abc import Sequence

import numpy as np
from ase import Atoms
from ase.geometry import find_mic

from mlip import keys
from mlip.data import diagnosis
from mlip.data.consistency import ENERGY_FACTORS, work_between
from mlip.data.diagnosis import ERROR, OK, Finding
from mlip.data.structures import Source
from mlip.data.summary import Summary
from mlip.errors import LabellingError

MAX_RMS_DISPLACEMENT = 0.3  # Å, up to which the trapezoidal rule gives the work of the forces
MAX_DISPLACEMENT = (
    0.5  # Å, of any one atom: the rise from a site to a saddle is not the mean of two forces times the path
)
MAX_STRAIN = 0.06  # up to which it holds, too


def check_label(atoms: Atoms) -> None:
    """Raises LabellingError if a label is missing, not finite, or its forces are too large."""
    energy, forces = atoms.info.get(keys.REF_ENERGY), atoms.arrays.get(keys.REF_FORCES)
    for name, value in (("energy", energy), ("forces", forces), ("stress", atoms.info.get(keys.REF_STRESS, 0.0))):
        if value is None:
            raise LabellingError(f"the engine gave no {name}")
        if not np.isfinite(value).all():
            raise LabellingError(f"the engine's {name} holds NaN or infinite numbers")
    largest = np.linalg.norm(forces, axis=1).max()
    if largest > diagnosis.HUGE_FORCE:
        raise LabellingError(f"a force of {largest:.3g} eV/Å (more than {diagnosis.HUGE_FORCE:g}): atoms that overlap, "
                             "or another unit than eV/Å")  # fmt: skip


def check_together(structures: Sequence[Atoms], where: str) -> list[Finding]:
    """Findings of `mlip data check` on all labels of an engine, and of the work of the forces.

    The work also detects that energies and forces both have atomic units.
    """
    if not structures:
        return []
    summary = Summary(Source(where))
    for n, atoms in enumerate(structures):
        info = {"source": f"{where}:{n}", "config_type": "default", **atoms.info}
        measured = atoms.copy()
        measured.info = info
        summary.add(measured)
    return [*diagnosis.examine(summary), *_work(structures, where)]


def work_of_forces(structures: Sequence[Atoms], neighbours: int = 40) -> tuple[np.ndarray, np.ndarray]:
    """Energy differences and works of forces and stress, eV, between similar structures.

    dE = -(F1 + F2) / 2 . dr + V (s1 + s2) / 2 : strain, the trapezoidal rule. Pairs have the same atoms in the same order,
    displacements below MAX_RMS_DISPLACEMENT and MAX_DISPLACEMENT, and equal cells if there is no stress.
    """
    energies, works = [], []
    for i, first in enumerate(structures):
        for second in structures[i + 1 : i + 1 + neighbours]:
            if len(first) != len(second) or (first.numbers != second.numbers).any():
                continue
            strain = (
                np.linalg.solve(first.cell.array, second.cell.array) - np.eye(3)
                if first.cell.rank == 3
                else np.zeros((3, 3))
            )
            stressed = all(keys.REF_STRESS in atoms.info for atoms in (first, second))
            if np.abs(strain).max() > (MAX_STRAIN if stressed else 1e-6):
                continue
            carried = first.positions @ (np.eye(3) + strain)
            moved = find_mic(second.positions - carried, second.cell, second.pbc)[0]
            moved -= moved.mean(axis=0)
            far = np.linalg.norm(moved, axis=1)
            if np.sqrt((far**2).mean()) > MAX_RMS_DISPLACEMENT or far.max() > MAX_DISPLACEMENT:
                continue
            energy, of_forces, of_stress = work_between(first, second, moved, strain)
            energies.append(energy)
            works.append(of_forces + of_stress)
    return np.array(energies), np.array(works)


def _work(structures: Sequence[Atoms], where: str) -> list[Finding]:
    energies, works = work_of_forces(structures)
    if len(works) < 3 or not works.any() or not energies.any():
        return []
    correlation = energies @ works / np.sqrt((energies @ energies) * (works @ works))
    if abs(correlation) < 0.8:
        return []
    ratio = float(np.sign(correlation) * np.sqrt(energies @ energies / (works @ works)))
    message = f"energy differences are {ratio:.3g} times the work of the forces (correlation {correlation:.2f}, n {len(works)})"
    if ratio < 0:
        return [Finding(ERROR, "work of forces", where, message, "forces have the wrong sign")]
    unit = min(ENERGY_FACTORS, key=lambda name: abs(np.log(ratio / ENERGY_FACTORS[name])))
    if ENERGY_FACTORS[unit] != 1.0:
        return [Finding(ERROR, "work of forces", where, f"{message}: looks like {unit}", "convert to eV and eV/Å")]
    return [Finding(OK, "work of forces", where, message)]
