"""Check of a first-order saddle: vanishing forces and exactly one negative curvature."""

from dataclasses import dataclass

import numpy as np
from ase import Atoms

from mlip.calculator import calculate_many
from mlip.data.graph import neighbour_list
from mlip.errors import InputError
from mlip.transitions.modes import Modes, hessian_modes, lowest_modes

NEGATIVE = -0.02  # eV/Å^2; what is nearer to zero is noise of a float32 model


@dataclass(frozen=True)
class Saddle:
    """Check of a saddle.

    n_negative  curvatures below NEGATIVE;  force  the largest, eV/Å;  modes;  overlap  |cosine| of the lowest with the path
    """

    n_negative: int
    force: float
    modes: Modes
    overlap: float

    @property
    def is_first_order(self) -> bool:
        """One negative curvature. None: a minimum. More: a lower path is near."""
        return self.n_negative == 1


def around(atoms: Atoms, ion: int, reach: float = 4.0) -> np.ndarray:
    """Indices of an ion and of all atoms within reach (Å) of it."""
    if not 0 <= ion < len(atoms):
        raise InputError(f"there is no atom {ion} among {len(atoms)}")
    pairs = neighbour_list(atoms, reach)[0].numpy()
    return np.union1d([ion], pairs[1][pairs[0] == ion])


def check_saddle(
    atoms: Atoms, calculator, tangent: np.ndarray | None = None, ion: int | None = None, reach: float = 4.0
) -> Saddle:
    """Curvatures at the top of a path.

    tangent  [n_atoms, 3] along the path (Path.tangent): the first guess, and the reference of `overlap`
    ion      None: the three lowest modes of all atoms, by Lanczos; else all modes of that ion and its neighbours within
             reach (Å), the others held: less noise, but a second negative curvature that needs more atoms is missed
    """
    (answer,) = calculate_many(calculator, [atoms])
    force = float(np.linalg.norm(answer.get_forces(), axis=1).max())
    if ion is not None:
        modes = hessian_modes(atoms, calculator, around(atoms, ion, reach))
    else:
        modes = lowest_modes(atoms, calculator, start=None if tangent is None else np.asarray(tangent)[None])
    overlap = np.nan
    if tangent is not None:
        overlap = float(abs((modes.vectors[0] * tangent).sum()) / np.linalg.norm(tangent))
    return Saddle(int((modes.curvatures < NEGATIVE).sum()), force, modes, overlap)
