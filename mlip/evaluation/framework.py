"""Framework of the mobile ions: how far it moved and vibrates within a run."""

import numpy as np
from ase.data import chemical_symbols

from mlip.evaluation.displacements import Trajectory
from mlip.evaluation.result import Result

MOVED = 0.7  # Å; sites of a crystal are 2-4 Å apart, and averages over a quarter of a run hide vibrations


def framework_shift(trajectory: Trajectory) -> dict[str, float]:
    """By element: how far its atoms' mean positions moved from the first quarter of the run to the last, rms, Å."""
    quarter = max(1, len(trajectory.positions) // 4)
    shift = trajectory.positions[-quarter:].mean(axis=0) - trajectory.positions[:quarter].mean(axis=0)
    square = (shift**2).sum(axis=1)
    elements = np.unique(trajectory.numbers[trajectory.framework])
    return {
        chemical_symbols[z]: float(np.sqrt(square[trajectory.framework & (trajectory.numbers == z)].mean()))
        for z in elements
    }


def framework_rmsd(trajectory: Trajectory) -> float:
    """Rms distance of the framework's atoms from their mean positions, Å: sqrt(3) u of vibrations in a crystal."""
    framework = trajectory.positions[:, trajectory.framework]
    return float(np.sqrt(((framework - framework.mean(axis=0)) ** 2).sum(axis=-1).mean()))


def framework_intact(trajectory: Trajectory, moved: float = MOVED, **conditions) -> Result:
    """Verdict fail if every element of the framework has moved away (molten), warn if some have (turning anions)."""
    shifts = framework_shift(trajectory)
    if not shifts:
        note = "no framework: melting cannot be seen"
        return Result("framework_shift", None, "A", verdict="warn", notes=(note,), conditions=conditions)
    gone = [symbol for symbol, shift in shifts.items() if shift > moved]
    text = ", ".join(f"{symbol} {shift:.2f} Å" for symbol, shift in shifts.items())
    if len(gone) == len(shifts):
        verdict, note = "fail", f"the framework has melted or moved as a whole: mean positions shifted by {text}"
    elif gone:
        verdict, note = "warn", f"{', '.join(gone)} left their sites (turning or exchanging anions?): {text}"
    else:
        verdict, note = "pass", f"mean positions shifted by {text}"
    return Result("framework_shift", min(shifts.values()), "A", verdict=verdict, notes=(note,), conditions=conditions)
