"""Relaxation to the nearest minima, many structures at once: one call of the model per step."""

from collections.abc import Sequence

import numpy as np
from ase import Atoms
from ase.optimize import FIRE

from mlip.calculator import calculate_many
from mlip.errors import InputError
from mlip.transitions.paths import check_endpoints


def quench(structures: Sequence[Atoms], calculator, fmax: float = 0.02, steps: int = 500) -> list[Atoms]:
    """Copies at their minima, cell fixed, results attached.

    info["converged"]: whether fmax (eV/Å) was reached. Each relaxes on its own by FIRE, which never climbs at negative
    curvature, as quasi-Newton steps do; it leaves the batch when it has converged. A perfectly symmetric point keeps
    its symmetry, and may be no minimum: rattle ideal structures first (0.05-0.1 Å).
    """
    if not fmax > 0:
        raise InputError(f"fmax must be positive, got {fmax} eV/Å")
    relaxed = [atoms.copy() for atoms in structures]
    optimizers = [FIRE(atoms, logfile=None, maxstep=0.1) for atoms in relaxed]
    moving = list(range(len(relaxed)))
    for step in range(steps + 1):
        for k, answer in zip(moving, calculate_many(calculator, [relaxed[k] for k in moving]), strict=True):
            relaxed[k].calc = answer.calc
        moving = [k for k in moving if not np.linalg.norm(relaxed[k].get_forces(), axis=1).max(initial=0.0) <= fmax]
        if not moving or step == steps:
            break
        for k in moving:
            optimizers[k].step()
    for k, atoms in enumerate(relaxed):
        atoms.info["converged"] = k not in moving
    return relaxed


def quench_ends(start: Atoms, end: Atoms, calculator, fmax: float = 0.02, steps: int = 500) -> tuple[Atoms, Atoms]:
    """Both ends of a path at their minima. ValueError if they are no ends, before or after."""
    check_endpoints(start, end)
    start, end = quench([start, end], calculator, fmax, steps)
    try:
        check_endpoints(start, end)
    except ValueError as error:
        raise InputError(f"after relaxation: {error}") from error
    return start, end
