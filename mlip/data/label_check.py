"""Whether labels can be labels: finite, whole and of a size that matter has. NaN means "missing" only for a whole label."""

import numpy as np
from ase import Atoms

from mlip import keys
from mlip.errors import InputError

LARGEST = {  # what no calculation of atoms gives, in the unit of the label
    keys.REF_ENERGY: (2e6, "eV per atom"),  # all electrons of the heaviest atom: 1.5e6 eV
    keys.REF_FORCES: (1e6, "eV/Å"),
    keys.REF_STRESS: (1e5, "eV/Å^3"),
    keys.REF_CHARGES: (200.0, "e"),
    keys.REF_DIPOLES: (1e4, "e Å"),
    keys.REF_BORN_CHARGES: (1e4, "e"),
}


def check_labels(atoms: Atoms, where: str) -> None:
    """Raise InputError, beginning with `where` ("file:index"), for a label or weight that cannot be one."""
    if problem := label_complaint(atoms):
        raise InputError(f"{where}: {problem}")


def label_complaint(atoms: Atoms) -> str | None:
    """What is wrong with the labels (keys.REF_*) and the weight, and the remedy, in words; None if nothing is."""
    for key, (largest, unit) in LARGEST.items():
        value = atoms.info.get(key, atoms.arrays.get(key))
        if value is not None and (problem := value_complaint(key, np.asarray(value), largest, unit, len(atoms))):
            return problem
    return weight_complaint(atoms.info.get(keys.WEIGHT, 1.0))


def value_complaint(key: str, value: np.ndarray, largest: float, unit: str, n_atoms: int) -> str | None:
    """What is wrong with one label."""
    name = key.removeprefix("ref_")
    missing = np.isnan(value)
    if missing.any() and not missing.all():
        place = np.argwhere(missing)[0].tolist()
        at = f"atom {place[0]}" if len(value) == n_atoms and key != keys.REF_STRESS else f"component {place}"
        return (
            f"{name} has {missing.sum()} NaN among {value.size} numbers, the first at {at}: NaN means a missing label only "
            "for all of them; leave out the frame, or this label of it"
        )
    if np.isinf(value).any():
        return f"{name} is infinite; leave out the frame, or this label of it"
    size = np.abs(value).max(initial=0) / (n_atoms if key == keys.REF_ENERGY else 1)
    if size > largest:
        return f"{name} of {size:.3g} {unit} is more than matter has ({largest:g} {unit}); correct it, or leave out the frame"
    return None


def weight_complaint(weight) -> str | None:
    """A weight in the loss that is no positive number."""
    try:
        number = float(weight)
    except (TypeError, ValueError):
        number = np.nan
    if not 0 < number < np.inf:
        return f"weight must be a positive number, got {weight}; correct it, or leave out the frame"
    return None
