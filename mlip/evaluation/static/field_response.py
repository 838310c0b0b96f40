"""Born charges, polarisation and dielectric tensor of any calculator that takes a uniform field: differences of forces and energies."""

import numpy as np
from ase import Atoms

from mlip import keys, units
from mlip.errors import InputError
from mlip.evaluation.static.relaxation import calculate

AXES = np.array([[1, 0, 0], [0, 1, 0], [0, 0, 1], [0, 1, 1], [1, 0, 1], [1, 1, 0]], dtype=float)  # Voigt's order
STEP = 0.02  # V/Å of the central differences


def field_response(calculator, atoms: Atoms, step: float = STEP) -> tuple[np.ndarray, np.ndarray]:
    """Born charges Z*[n, a, b] = dF_b / dE_a, e, and eps_inf [3, 3] = 1 - (4 pi k_e / V) d2E / dE_a dE_b of a bulk.

    calculator  takes atoms.info["field"], V/Å, the field inside: model.pt of an insulating head
    The mean excess of Z* is taken off, so that they add up to the charge of the cell over its atoms (acoustic sum rule).
    Raises InputError for a structure that is no bulk, and for a calculator that a field does not move.
    """
    forces, energies = in_fields(calculator, atoms, AXES, step)
    curvature = (energies[1::2] + energies[2::2] - 2 * energies[0]) / step**2
    tensor = np.diag(curvature[:3])
    for place, (a, b) in enumerate(((1, 2), (0, 2), (0, 1)), start=3):
        tensor[a, b] = tensor[b, a] = 0.5 * (curvature[place] - curvature[a] - curvature[b])
    return born_of(atoms, forces, step), np.eye(3) - 4 * np.pi * units.COULOMB / atoms.get_volume() * tensor


def polarisation_response(calculator, atoms: Atoms, step: float = STEP) -> tuple[np.ndarray, np.ndarray]:
    """Born charges [n, 3, 3] e, as `field_response`, and the dipole of the cell, P_a = -dE / dE_a, [3] e Å.

    P of a crystal has an arbitrary constant and is that of the positions as they are: it follows ions without a jump if these
    are unwrapped, and changes by sum_i Z*_i dr_i.
    """
    forces, energies = in_fields(calculator, atoms, AXES[:3], step)
    return born_of(atoms, forces, step), -(energies[1::2] - energies[2::2]) / (2 * step)


def in_fields(calculator, atoms: Atoms, axes: np.ndarray, step: float) -> tuple[list[np.ndarray], np.ndarray]:
    """Forces [n, 3] and energies without a field, and in a field of +step and -step along each axis."""
    if not atoms.pbc.all():
        raise InputError(
            f"Born charges by a field inside need a bulk (pbc in three directions), got pbc={atoms.pbc.tolist()}"
        )
    still = atoms.copy()
    still.info.pop(keys.FIELD, None)
    cells = [still]
    for axis in axes:
        for sign in (1, -1):
            cells.append(still.copy())
            cells[-1].info[keys.FIELD] = (sign * step * axis).tolist()
    answers = calculate(calculator, cells)
    return [a.get_forces() for a in answers], np.array([a.get_potential_energy() for a in answers])


def born_of(atoms: Atoms, forces: list[np.ndarray], step: float) -> np.ndarray:
    """Z* [n, 3, 3] e of the forces that `in_fields` gives, with the acoustic sum rule."""
    born = np.stack([(forces[2 * a + 1] - forces[2 * a + 2]) / (2 * step) for a in range(3)], axis=1)
    if not born.any():
        raise InputError(
            "a field moves nothing in this calculator: it has no Born charges. Take a model with model/head=bond_charges, "
            "formal_dipoles or formal_charges"
        )
    total = float(atoms.info.get(keys.TOTAL_CHARGE, 0.0)) * np.eye(3)
    return born - (born.sum(axis=0) - total) / len(atoms)
