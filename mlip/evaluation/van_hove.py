"""Displacements of ions: van Hove self part, settled displacements, density file."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from ase import Atoms

from mlip.errors import InputError
from mlip.evaluation.displacements import Trajectory
from mlip.files import whole_file


def settled_displacements(ions: np.ndarray, interval_ps: float, distance: float, window_ps: float = 0.5) -> np.ndarray:
    """Number of times that every ion [n_ions] settles more than a distance (Å) away from its former place.

    ions       [n_frames, n_ions, 3] Å, unwrapped. Where it is settled is the median over window_ps, which vibrations
               and a hop in progress do not move
    Advice: the window longer than a vibration (0.1 ps) and shorter than the stay at a site. Motion to and fro within a
    window is not seen, that to a site and back counts twice. Hops between sites are those of hopping.py.
    """
    length = max(1, round(window_ps / interval_ps))
    n_windows = len(ions) // length
    if n_windows < 2:
        raise InputError(
            f"settled displacements need at least two windows of {window_ps} ps, got {len(ions) * interval_ps:g} ps"
        )
    settled = np.median(ions[: n_windows * length].reshape(n_windows, length, *ions.shape[1:]), axis=1)
    counts, home = np.zeros(ions.shape[1], int), settled[0].copy()
    for now in settled[1:]:
        moved = ((now - home) ** 2).sum(axis=-1) > distance**2
        counts += moved
        home[moved] = now[moved]
    return counts


def van_hove_self(
    ions: np.ndarray, interval_ps: float, lags_ps: Sequence[float], r_max: float = 8.0, n_bins: int = 160
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Probability per Å that an ion is r away from where it was a lag ago: 4 pi r^2 G_s(r, t); its integral is 1.

    ions     [n_frames, n_ions, 3] Å
    returns  r [n_bins] Å, lags [n_lags] ps (rounded to frames), density [n_lags, n_bins] Å^-1. Ions beyond r_max are
             counted in the norm and not shown. A peak at a site's distance is hopping; a peak that wanders, a liquid.
    """
    edges = np.linspace(0, r_max, n_bins + 1)
    lags, rows = [], []
    for lag in lags_ps:
        stride = round(lag / interval_ps)
        if not 1 <= stride < len(ions):
            raise InputError(
                f"a lag of {lag} ps is not between one frame ({interval_ps:g} ps) and all of them "
                f"({(len(ions) - 1) * interval_ps:g} ps)"
            )
        distance = np.linalg.norm(ions[stride:] - ions[:-stride], axis=-1)
        rows.append(np.histogram(distance, edges)[0] / distance.size / np.diff(edges))
        lags.append(stride * interval_ps)
    return 0.5 * (edges[1:] + edges[:-1]), np.array(lags), np.array(rows)


def write_density(path: str | Path, trajectory: Trajectory, density: np.ndarray) -> None:
    """Write a .cube file (VESTA, OVITO) of the density in Å^-3, with the mean positions of the framework."""
    from ase.io.cube import write_cube

    framework = trajectory.framework
    atoms = Atoms(
        trajectory.numbers[framework],
        trajectory.positions[:, framework].mean(axis=0),
        cell=trajectory.mean_cell,
        pbc=True,
    )
    with whole_file(path) as part, open(part, "w", encoding="utf-8") as file:
        write_cube(file, atoms, data=density)
