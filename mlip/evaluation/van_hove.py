"""Where ions are and how far they get: van Hove self part, density on a grid, hops without a lattice of sites."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from ase import Atoms

from mlip.evaluation.displacements import Trajectory
from mlip.files import whole_file


def hop_counts(ions: np.ndarray, interval_ps: float, hop_length: float, window_ps: float = 0.5) -> np.ndarray:
    """Hops of every ion [n_ions]: it has hopped when it settles more than half a hop away from where it was settled.

    ions       [n_frames, n_ions, 3] Å, unwrapped. Where it is settled is the median over window_ps, which vibrations
               and a hop in progress do not move
    Advice: the window longer than a vibration (0.1 ps) and shorter than the stay at a site. Hops to and fro within
    a window are not seen, those to a site and back count twice.
    """
    length = max(1, round(window_ps / interval_ps))
    n_windows = len(ions) // length
    if n_windows < 2:
        raise ValueError(f"counting hops needs at least two windows of {window_ps} ps, got {len(ions) * interval_ps:g} ps")
    settled = np.median(ions[: n_windows * length].reshape(n_windows, length, *ions.shape[1:]), axis=1)
    counts, home = np.zeros(ions.shape[1], int), settled[0].copy()
    for now in settled[1:]:
        hopped = ((now - home) ** 2).sum(axis=-1) > (hop_length / 2) ** 2
        counts += hopped
        home[hopped] = now[hopped]
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
            raise ValueError(f"a lag of {lag} ps is not between one frame ({interval_ps:g} ps) and all of them "
                             f"({(len(ions) - 1) * interval_ps:g} ps)")
        distance = np.linalg.norm(ions[stride:] - ions[:-stride], axis=-1)
        rows.append(np.histogram(distance, edges)[0] / distance.size / np.diff(edges))
        lags.append(stride * interval_ps)
    return 0.5 * (edges[1:] + edges[:-1]), np.array(lags), np.array(rows)


def probability_density(trajectory: Trajectory, spacing: float = 0.25) -> np.ndarray:
    """Ions per Å^3 on a grid over the mean cell [n_a, n_b, n_c]; its mean times the volume is the number of ions."""
    cell = trajectory.mean_cell
    shape = np.maximum(1, np.round(np.linalg.norm(cell, axis=1) / spacing).astype(int))
    ions = trajectory.ions.reshape(-1, 3)
    fractional = np.linalg.solve(cell.T, ions.T).T % 1.0
    index = np.minimum((fractional * shape).astype(int), shape - 1)
    counts = np.bincount(np.ravel_multi_index(index.T, shape), minlength=int(shape.prod())).reshape(shape)
    return counts * shape.prod() / (len(trajectory.positions) * abs(np.linalg.det(cell)))


def write_density(path: str | Path, trajectory: Trajectory, density: np.ndarray) -> None:
    """A .cube file (VESTA, OVITO) of the density in Å^-3, with the mean positions of the framework."""
    # imported late: few write one
    from ase.io.cube import write_cube

    framework = trajectory.framework
    atoms = Atoms(trajectory.numbers[framework], trajectory.positions[:, framework].mean(axis=0), cell=trajectory.mean_cell, pbc=True)
    with whole_file(path) as part, open(part, "w") as file:
        write_cube(file, atoms, data=density)
