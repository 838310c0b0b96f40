"""Labels and predictions side by side: one row per energy, force and stress."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from ase import Atoms
from ase.data import chemical_symbols

from mlip import keys
from mlip.calculator import calculate_many
from mlip.errors import InputError


@dataclass
class Rows:
    """Labels and predictions of one quantity, one row each: energies per atom [n, 1], forces [n, 3], stresses [n, 9]."""

    label: np.ndarray
    predicted: np.ndarray
    frame: np.ndarray
    number: np.ndarray | None = None  # atomic number, for forces
    sigma: np.ndarray | None = None

    @property
    def error(self) -> np.ndarray:
        return self.predicted - self.label

    def __getitem__(self, mask) -> "Rows":
        return Rows(
            *(None if v is None else v[mask] for v in (self.label, self.predicted, self.frame, self.number, self.sigma))
        )

    def __len__(self) -> int:
        return len(self.frame)


def predicted(calculator, structures: Sequence[Atoms], atoms_per_call: int) -> list[Atoms]:
    """The structures with results attached, in calls of at most so many atoms."""
    results, batch, n_atoms = [], [], 0
    for atoms in structures:
        if batch and n_atoms + len(atoms) > atoms_per_call:
            results += calculate_many(calculator, batch)
            batch, n_atoms = [], 0
        batch.append(atoms)
        n_atoms += len(atoms)
    return results + (calculate_many(calculator, batch) if batch else [])


def labelled_atoms(atoms: Atoms) -> np.ndarray:
    """Atoms with a force label, [n_atoms] bool."""
    label = atoms.arrays.get(keys.REF_FORCES)
    return np.zeros(len(atoms), dtype=bool) if label is None else np.isfinite(label).all(axis=1)


def compared(structures: Sequence[Atoms], predictions: Sequence[Atoms]) -> tuple[Rows, Rows, Rows]:
    """Energies per atom, forces, stresses of every structure that has the label, in eV and Å."""
    energy, force, stress = ([], [], [], [], []), ([], [], [], [], []), ([], [], [], [], [])

    def keep(rows, *values):
        for column, value in zip(rows, values, strict=True):
            column.append(value)

    for frame, (atoms, prediction) in enumerate(zip(structures, predictions, strict=True)):
        results, n = prediction.calc.results, len(atoms)
        if not (np.isfinite(results[keys.ENERGY]) and np.isfinite(results[keys.FORCES]).all()):
            raise InputError(f"the calculator's energy or forces of structure {frame} ({atoms.info.get('source', 'no source')}) "
                             "are not finite: no error can be given")  # fmt: skip
        if np.isfinite(label := atoms.info.get(keys.REF_ENERGY, np.nan)):
            sigma = results.get(keys.ENERGY_SIGMA)
            keep(
                energy,
                [[label / n]],
                [[results[keys.ENERGY] / n]],
                [frame],
                [0],
                None if sigma is None else [float(sigma) / n],
            )
        if (chosen := labelled_atoms(atoms)).any():
            sigma = results.get(keys.FORCE_SIGMA)
            keep(force, atoms.arrays[keys.REF_FORCES][chosen], results[keys.FORCES][chosen], np.full(chosen.sum(), frame),
                 atoms.numbers[chosen], None if sigma is None else sigma[chosen])  # fmt: skip
        label = np.asarray(atoms.info.get(keys.REF_STRESS, np.nan), dtype=float)
        if np.isfinite(label).all() and keys.STRESS in results:
            keep(stress, label.reshape(1, 9), prediction.get_stress(voigt=False).reshape(1, 9), [frame], [0], None)
    return tuple(joined(rows, width) for rows, width in ((energy, 1), (force, 3), (stress, 9)))


def joined(columns, width: int) -> Rows:
    """Columns of frames as rows of one quantity; sigma only if every frame has one."""
    if not columns[0]:
        return Rows(np.empty((0, width)), np.empty((0, width)), np.empty(0, dtype=int), np.empty(0, dtype=int))
    label, predicted, frame, number = (np.concatenate(column) for column in columns[:4])
    whole = all(sigma is not None for sigma in columns[4])
    return Rows(label, predicted, frame, number, np.concatenate(columns[4]) if whole else None)


def without_atomic_energies(energy: Rows, structures: Sequence[Atoms]) -> tuple[Rows, str]:
    """Energies after a least-squares constant per element was taken from the errors, and the constants in words."""
    elements = sorted({z for frame in energy.frame for z in structures[frame].numbers.tolist()})
    part_of = np.array([[np.mean(structures[frame].numbers == z) for z in elements] for frame in energy.frame])
    constants = np.linalg.lstsq(part_of, energy.error[:, 0], rcond=None)[0]
    words = ", ".join(f"{chemical_symbols[z]} {c:.4f} eV" for z, c in zip(elements, constants, strict=True))
    fitted = energy.predicted - (part_of @ constants)[:, None]
    return Rows(energy.label, fitted, energy.frame, energy.number, energy.sigma), words


def of_whole_structures(energy: Rows, structures: Sequence[Atoms]) -> Rows:
    """Energies and their uncertainties of whole structures, not per atom."""
    n = np.array([len(structures[frame]) for frame in energy.frame], dtype=float)
    sigma = None if energy.sigma is None else energy.sigma * n
    return Rows(energy.label * n[:, None], energy.predicted * n[:, None], energy.frame, energy.number, sigma)
