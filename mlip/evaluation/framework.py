"""Framework of the mobile ions: melting within a run, phase changes between temperatures."""

from collections.abc import Sequence
from itertools import pairwise

import numpy as np
from ase.data import chemical_symbols

from mlip.evaluation.displacements import Trajectory
from mlip.evaluation.result import Result

MOVED = 0.7  # Å; sites of a crystal are 2-4 Å apart, and averages over a quarter of a run hide vibrations
STRAIN_JUMP = 0.01  # beyond thermal expansion, between neighbouring temperatures


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


def phase_changes(
    temperatures_K: Sequence[float],
    mean_cells: np.ndarray | None = None,
    framework_rmsds: Sequence[float] | None = None,
) -> list[tuple[float, float, str]]:
    """Pairs of neighbouring temperatures between which the framework changed, and why.

    mean_cells  [n_temperatures, 3, 3] Å, of one supercell: the volume^(1/3) or an edge jumps by more than 1 % beyond
                the usual expansion (median over the other pairs). Edges see tetragonal -> cubic, which keeps the volume
    framework_rmsds  [n_temperatures] Å: u^2 / T of a crystal is constant; more than doubled from one to the next is a change
    """
    order = np.argsort(temperatures_K)
    t = np.asarray(temperatures_K, float)[order]
    reasons: list[dict[str, str]] = [{} for _ in t[1:]]
    if mean_cells is not None:
        cells = np.asarray(mean_cells, float)[order]
        columns = {"volume^(1/3)": np.abs(np.linalg.det(cells)) ** (1 / 3)}
        columns |= {edge: np.linalg.norm(cells[:, i], axis=1) for i, edge in enumerate("abc")}
        for name, length in columns.items():
            rate = np.diff(np.log(length)) / np.diff(t)
            for i, value in enumerate(rate):
                usual = np.median(np.delete(rate, i)) if len(rate) > 1 else 0.0
                jump = (value - usual) * (t[i + 1] - t[i])
                if abs(jump) > STRAIN_JUMP:
                    reasons[i][name] = f"{name} jumps by {jump:+.1%}"
    if framework_rmsds is not None:
        softness = np.asarray(framework_rmsds, float)[order] ** 2 / t
        for i, (one, other) in enumerate(pairwise(softness)):
            if min(one, other) > 0 and not 0.5 <= other / one <= 2:  # a framework held fixed says nothing
                reasons[i]["framework"] = f"framework u^2/T changes by a factor {other / one:.1f}"
    return [(float(t[i]), float(t[i + 1]), ", ".join(why.values())) for i, why in enumerate(reasons) if why]
