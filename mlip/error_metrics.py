"""Errors of predicted vectors (forces): per Cartesian component, and of the whole vector.

    force_rmse         = sqrt(mean of (F_a - F_a^ref)^2 over atoms and components a)
    force_vector_rmse  = sqrt(mean of |F - F^ref|^2 over atoms) = sqrt(3) force_rmse

and likewise the mean absolute errors, *_mae and *_vector_mae. A name without `vector` is per component in every file and
table that mlip writes, as in the tables of MACE and NequIP. All functions take errors [n, d] and average over the first axis.
"""

import numpy as np


def components(error: np.ndarray) -> np.ndarray:
    """Every Cartesian component on its own, [n d]."""
    return np.asarray(error).ravel()


def lengths(error: np.ndarray) -> np.ndarray:
    """Lengths of the error vectors, [n]."""
    return np.linalg.norm(error, axis=-1)


def component_mae(error: np.ndarray) -> float:
    """Mean absolute error per component."""
    return float(np.abs(components(error)).mean())


def component_rmse(error: np.ndarray) -> float:
    """Root mean square error per component."""
    return rmse_of_sums((components(error) ** 2).mean(), 1)


def vector_mae(error: np.ndarray) -> float:
    """Mean length of the error vector."""
    return float(lengths(error).mean())


def vector_rmse(error: np.ndarray) -> float:
    """Root mean square length of the error vector."""
    return float(np.sqrt((np.asarray(error) ** 2).sum(axis=-1).mean()))


def rmse_of_sums(square_sum: float, count: float) -> float:
    """RMSE from the sum of squares of `count` components, which adds up over batches and processes."""
    return (square_sum / count) ** 0.5
