"""Measures of error as statistics of block weights (see bootstrap.py), for intervals.

Rows are what a measure is over (atoms, components, frames); `block` [n_rows] says which block a row belongs to.
"""

import numpy as np

from mlip.evaluation.bootstrap import Statistic

GRID = 2000  # points of the distribution that quantiles of draws are read from; fewer rows are all used
LEAST_FORCE = 0.1  # eV/Å; below it the direction of a force is noise


def ratio(above: np.ndarray, below: np.ndarray, block: np.ndarray, n_blocks: int) -> Statistic:
    """sum(above) / sum(below) over rows."""
    sums = [np.bincount(block, values, n_blocks) for values in (above, below)]
    return lambda weights: (weights @ sums[0]) / (weights @ sums[1])


def mean(values: np.ndarray, block: np.ndarray, n_blocks: int) -> Statistic:
    """Mean over rows."""
    return ratio(values, np.ones_like(values), block, n_blocks)


def rms(values: np.ndarray, block: np.ndarray, n_blocks: int) -> Statistic:
    """Root of the mean square over rows."""
    squares = mean(values**2, block, n_blocks)
    return lambda weights: np.sqrt(squares(weights))


def relative(error: np.ndarray, label: np.ndarray, block: np.ndarray, n_blocks: int) -> Statistic:
    """RMSE / rms(label): 1 is as good as predicting zero."""
    squares = ratio(error**2, label**2, block, n_blocks)
    return lambda weights: np.sqrt(squares(weights))


def quantile(values: np.ndarray, block: np.ndarray, n_blocks: int, q: float) -> Statistic:
    """The value below which a part q of the rows lies."""
    order = np.argsort(values, kind="stable")
    ends = np.unique(np.linspace(0, len(values), min(GRID, len(values)) + 1).round().astype(int))
    edges = values[order][ends[1:] - 1]  # the largest value of each of at most GRID bins with equally many rows
    row = np.empty(len(values), dtype=int)
    row[order] = np.repeat(np.arange(len(edges)), np.diff(ends))
    counts = np.bincount(block * len(edges) + row, minlength=n_blocks * len(edges)).reshape(n_blocks, -1)

    def statistic(weights: np.ndarray) -> np.ndarray:
        below = np.cumsum(weights @ counts, axis=1)
        reached = (below < q * below[:, -1:]).sum(axis=1)
        return np.where(below[:, -1] > 0, edges[np.minimum(reached, len(edges) - 1)], np.nan)

    return statistic


def cosines(predicted: np.ndarray, label: np.ndarray) -> np.ndarray:
    """Cosine of the angle between two vectors of each row, [n]; 0 if one of them vanishes.

    predicted, label  [n, 3]
    """
    lengths = np.linalg.norm(predicted, axis=1) * np.linalg.norm(label, axis=1)
    return np.einsum("na,na->n", predicted, label) / np.where(lengths > 0, lengths, np.inf)


def angles(predicted: np.ndarray, label: np.ndarray) -> np.ndarray:
    """The angle in degrees, 0 to 180, [n]; by atan2, because arccos loses half the digits of a small one."""
    return np.degrees(
        np.arctan2(np.linalg.norm(np.cross(predicted, label), axis=1), np.einsum("na,na->n", predicted, label))
    )


def magnitude_errors(predicted: np.ndarray, label: np.ndarray) -> np.ndarray:
    """| |F_p| - |F_ref| | of each row, [n] eV/Å."""
    return np.abs(np.linalg.norm(predicted, axis=1) - np.linalg.norm(label, axis=1))


def softening(predicted: np.ndarray, label: np.ndarray, block: np.ndarray, n_blocks: int) -> Statistic:
    """sum(F_p . F_ref) / sum(F_ref^2): below 1 the energy surface is too soft, forces too small on average."""
    return ratio(np.einsum("na,na->n", predicted, label), np.einsum("na,na->n", label, label), block, n_blocks)
