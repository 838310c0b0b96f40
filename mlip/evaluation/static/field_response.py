"""Born charges and dielectric tensor of any calculator that takes a uniform field: differences of its forces and energies."""

import numpy as np
from ase import Atoms

from mlip import keys, units
from mlip.errors import InputError
from mlip.evaluation.static.relaxation import calculate

AXES = np.array([[1, 0, 0], [0, 1, 0], [0, 0, 1], [0, 1, 1], [1, 0, 1], [1, 1, 0]], dtype=float)  # Voigt's order


def field_response(calculator, atoms: Atoms, step: float = 0.02) -> tuple[np.ndarray, np.ndarray]:
    """Born charges Z*[n, a, b] = dF_b / dE_a, e, and eps_inf [3, 3] = 1 - (4 pi k_e / V) d2E / dE_a dE_b of a bulk.

    calculator  takes atoms.info["field"], V/Å, the field inside: model.pt of an insulating head
    step        V/Å of the central differences
    The mean excess of Z* is taken off, so that they add up to the charge of the cell over its atoms (acoustic sum rule).
    Raises InputError for a structure that is no bulk.
    """
    if not atoms.pbc.all():
        raise InputError(
            f"Born charges by a field inside need a bulk (pbc in three directions), got pbc={atoms.pbc.tolist()}"
        )
    still = atoms.copy()
    still.info.pop(keys.FIELD, None)
    cells = [still]
    for axis in AXES:
        for sign in (1, -1):
            cells.append(still.copy())
            cells[-1].info[keys.FIELD] = (sign * step * axis).tolist()
    answers = calculate(calculator, cells)
    forces, energies = [a.get_forces() for a in answers], np.array([a.get_potential_energy() for a in answers])
    born = np.stack([(forces[2 * a + 1] - forces[2 * a + 2]) / (2 * step) for a in range(3)], axis=1)
    total = float(atoms.info.get(keys.TOTAL_CHARGE, 0.0)) * np.eye(3)
    born -= (born.sum(axis=0) - total) / len(atoms)
    curvature = (energies[1::2] + energies[2::2] - 2 * energies[0]) / step**2
    tensor = np.diag(curvature[:3])
    for place, (a, b) in enumerate(((1, 2), (0, 2), (0, 1)), start=3):
        tensor[a, b] = tensor[b, a] = 0.5 * (curvature[place] - curvature[a] - curvature[b])
    return born, np.eye(3) - 4 * np.pi * units.COULOMB / atoms.get_volume() * tensor
