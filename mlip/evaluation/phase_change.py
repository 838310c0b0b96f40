"""Phase changes between temperatures: the cell, the vibrations and the g(r) of the framework, each against its error.

A jump counts if it is large and certain: a mean cell of a few ps of NPT is known to a percent only.
"""

from collections.abc import Mapping, Sequence
from itertools import pairwise

import numpy as np
from ase import Atoms
from scipy.stats import t as t_law

from mlip.evaluation.displacements import Trajectory
from mlip.evaluation.increments import TWO_SIGMA
from mlip.evaluation.rdf import blocks, jackknife

STRAIN_JUMP = 0.01  # beyond thermal expansion, between neighbouring temperatures
CERTAIN = 3  # standard errors: four lengths at a dozen temperatures are some fifty chances of a false alarm
SOFTENING = 2  # factor of u^2 / T
# 1 - overlap of two peaks of widths w, w' is 0.48 |ln(w / w')|, and widths go as sqrt(T) in a harmonic crystal
HARMONIC = 0.25
GR_FACTOR, GR_MARGIN = 2, 0.03  # of what vibrations explain; histograms of some hundred frames differ by 0.01
LENGTHS = ("volume^(1/3)", "a", "b", "c")
LEVELS = (4, 8, 16)  # numbers of time blocks
DRAWS = 400  # of cells within their errors
RDF_CUTOFF, RDF_WIDTH, RDF_FRAMES = 6.0, 0.1, 100  # Å, Å, frames


def logarithms(cells: np.ndarray) -> np.ndarray:
    """ln of V^(1/3) and of the three edges [..., 4].  cells [..., 3, 3] Å"""
    volume = np.log(np.abs(np.linalg.det(cells))) / 3
    return np.concatenate([volume[..., None], np.log(np.linalg.norm(cells, axis=-1))], axis=-1)


def length_errors(cells: np.ndarray) -> np.ndarray:
    """Standard errors of the mean ln V^(1/3), ln a, ln b, ln c [4] over correlated frames; zeros for a cell that is fixed.

    cells [n_frames, 3, 3] Å. Of 4, 8 and 16 time blocks the largest, with Student's factor: cells breathe slowly, and errors
    from blocks shorter than a breath are too small. NaN below 4 frames.
    """
    series = logarithms(cells)
    if (np.ptp(series, axis=0) < 1e-12).all():
        return np.zeros(series.shape[1])
    errors = [student(n) * np.array([block.mean(axis=0) for block in np.array_split(series, n)]).std(axis=0, ddof=1) / n**0.5
              for n in LEVELS if n <= len(series)]  # fmt: skip
    return np.max(errors, axis=0) if errors else np.full(series.shape[1], np.nan)


def student(n_blocks: int) -> float:
    """Factor by which a 2 sigma interval from so few blocks is wider than 2 standard errors."""
    return float(t_law.ppf(0.5 + TWO_SIGMA / 2, n_blocks - 1)) / 2


def framework_rdfs(trajectory: Trajectory) -> dict[str, np.ndarray]:
    """g(r) of the framework in time blocks, {pair: [n_blocks, n_bins]}, lengths in units of the cube root of 20th of the volume per atom.

    So scaled, thermal expansion moves no peak.
    """
    chosen = np.unique(np.linspace(0, len(trajectory.positions) - 1, RDF_FRAMES).round().astype(int))
    numbers = trajectory.numbers[trajectory.framework]
    if not len(numbers):
        return {}
    scale = (20 * len(numbers) / trajectory.volume) ** (1 / 3)
    cell = scale * trajectory.mean_cell
    frames = [
        Atoms(numbers, scale * trajectory.positions[i, trajectory.framework], cell=cell, pbc=True) for i in chosen
    ]
    return blocks(frames, RDF_CUTOFF, RDF_WIDTH)


def phase_changes(
    temperatures_K: Sequence[float],
    mean_cells: np.ndarray | None = None,
    framework_rmsds: Sequence[float] | None = None,
    errors: np.ndarray | None = None,
    rdfs: Sequence[Mapping[str, np.ndarray]] | None = None,
) -> list[tuple[float, float, str]]:
    """Pairs of neighbouring temperatures between which the framework changed, and why.

    mean_cells  [n_temperatures, 3, 3] Å, of one supercell: the volume^(1/3) or an edge jumps by more than 1 % beyond the
                usual expansion (median over the other pairs), and by three standard errors. Edges see tetragonal -> cubic,
                which keeps the volume
    errors      [n_temperatures, 4] of length_errors; None: the cells are exact
    framework_rmsds  [n_temperatures] Å: u^2 / T of a crystal is constant; more than doubled from one to the next is a change
    rdfs        of framework_rdfs: g(r) changes by more than twice what vibrations, or the other pairs of temperatures, explain
    """
    order = np.argsort(temperatures_K)
    t = np.asarray(temperatures_K, float)[order]
    reasons: list[list[str]] = [[] for _ in t[1:]]
    if mean_cells is not None:
        logs = logarithms(np.asarray(mean_cells, float)[order])
        error = np.zeros_like(logs) if errors is None else np.asarray(errors, float)[order]
        for pair, text in jumps(t, logs, error):
            reasons[pair].append(text)
    if framework_rmsds is not None:
        softness = np.asarray(framework_rmsds, float)[order] ** 2 / t
        for pair, (one, other) in enumerate(pairwise(softness)):
            if (
                min(one, other) > 0 and not 1 / SOFTENING <= other / one <= SOFTENING
            ):  # a framework held fixed says nothing
                reasons[pair].append(f"framework u^2/T changes by a factor {other / one:.1f}")
    if rdfs is not None:
        for pair, text in rdf_changes(t, [rdfs[i] for i in order]):
            reasons[pair].append(text)
    return [(float(t[i]), float(t[i + 1]), ", ".join(why)) for i, why in enumerate(reasons) if why]


def jumps(t: np.ndarray, logs: np.ndarray, errors: np.ndarray) -> list[tuple[int, str]]:
    """Pairs of temperatures, and lengths that jump between them.  logs, errors [n_temperatures, 4]"""
    size = beyond_others(t, logs)
    drawn = logs + errors * np.random.default_rng(0).normal(size=(DRAWS, *logs.shape))
    sigma = np.std([beyond_others(t, each) for each in drawn], axis=0)
    certain = np.abs(size) > np.maximum(STRAIN_JUMP, CERTAIN * sigma)  # never of NaN, the error from three frames
    return [
        (int(i), f"{LENGTHS[k]} jumps by {size[i, k]:+.1%} ± {2 * sigma[i, k]:.1%}") for i, k in np.argwhere(certain)
    ]


def beyond_others(t: np.ndarray, values: np.ndarray) -> np.ndarray:
    """Change from each temperature to the next, less the usual one: the median rate of the other pairs.  [n - 1, k]"""
    rates = np.diff(values, axis=0) / np.diff(t)[:, None]
    usual = np.array([np.median(np.delete(rates, i, axis=0), axis=0) if len(rates) > 1 else 0 * rates[0]
                      for i in range(len(rates))])  # fmt: skip
    return (rates - usual) * np.diff(t)[:, None]


def rdf_changes(t: np.ndarray, rdfs: Sequence[Mapping[str, np.ndarray]]) -> list[tuple[int, str]]:
    """Pairs of temperatures, and pairs of elements whose g(r) changes between them by more than vibrations do."""
    changed = []
    for name in set.intersection(*(set(each) for each in rdfs)):
        overlaps = [jackknife(one[name], other[name]) for one, other in pairwise(rdfs)]
        distance = np.array([1 - value for value, _ in overlaps])
        sigma = np.array([error or 0.0 for _, error in overlaps])
        ratio = np.log(t[1:] / t[:-1])
        for i, rate in enumerate(distance / ratio):
            usual = max(HARMONIC, np.median(np.delete(distance / ratio, i)) if len(distance) > 1 else 0.0)
            if distance[i] - 2 * sigma[i] > GR_FACTOR * usual * ratio[i] + GR_MARGIN:
                changed.append(
                    (i, f"g(r) of {name} changes by {distance[i]:.0%}, {rate / usual:.1f} times what is usual")
                )
    return changed
