"""Calibration of the uncertainty that a committee or a last layer gives.

An uncertainty sigma is of a vector of d components, sigma^2 = sum of their variances: d = 3 for a force, 1 for an energy.
An isotropic normal error of that size has components of sigma / sqrt(d).
"""

from collections.abc import Sequence

import numpy as np
import torch
from scipy.special import erf
from scipy.stats import spearmanr

from mlip.training.uncertainty import scale

POINTS = 51  # of the calibration curve
BINS = 10


def alpha(sigma: np.ndarray, error: np.ndarray) -> float:
    """rms of |error| / sigma: 1 is calibrated, above 1 overconfident.  sigma [n], error [n, d] in one unit."""
    return scale(torch.from_numpy(np.ascontiguousarray(sigma)), torch.from_numpy(np.ascontiguousarray(error)))


def scales(sigma: np.ndarray, error: np.ndarray, kind: Sequence) -> dict:
    """alpha of each kind (species).  kind [n]"""
    kind = np.asarray(kind)
    return {name: alpha(sigma[kind == name], error[kind == name]) for name in np.unique(kind).tolist()}


def curve(sigma: np.ndarray, error: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Part of the errors expected within +-z sigma, and the part found there, both from 0 to 1; over components."""
    z = (np.abs(error) * np.sqrt(error.shape[1]) / np.where(sigma > 0, sigma, np.nan)[:, None]).ravel()
    expected = np.linspace(0, 1, POINTS)
    confidence = np.sort(erf(z[np.isfinite(z)] / np.sqrt(2)))
    return expected, np.searchsorted(confidence, expected, side="right") / max(len(confidence), 1)


def miscalibration(expected: np.ndarray, observed: np.ndarray) -> float:
    """Area between the calibration curve and the diagonal: 0 is calibrated, 0.5 the worst."""
    return float(np.trapezoid(np.abs(observed - expected), expected))


def rank_correlation(sigma: np.ndarray, error: np.ndarray) -> float | None:
    """Spearman's correlation of sigma and |error|; None if one of them is constant."""
    sizes = np.linalg.norm(error, axis=1)
    if len(sigma) < 3 or np.ptp(sigma) == 0 or np.ptp(sizes) == 0:
        return None
    return float(spearmanr(sigma, sizes).statistic)


def reliability(sigma: np.ndarray, error: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """rms sigma and rms |error| in bins of equally many rows, ordered by sigma; equal if it is calibrated."""
    parts = [part for part in np.array_split(np.argsort(sigma), BINS) if len(part)]
    square = (error**2).sum(axis=1)
    return tuple(np.array([np.sqrt(values[part].mean()) for part in parts]) for values in (sigma**2, square))


def cross_fitted(sigma: np.ndarray, error: np.ndarray, kind: np.ndarray, block: np.ndarray) -> np.ndarray:
    """sigma times the alpha of its kind, fitted to the other half of the blocks: what calibration can do on new frames."""
    scaled = sigma.astype(float).copy()
    for half in (0, 1):
        mine, others = block % 2 == half, block % 2 != half
        alphas = scales(sigma[others], error[others], kind[others])
        scaled[mine] *= np.array([alphas.get(name, 1.0) for name in kind[mine].tolist()])
    return scaled


def summary(sigma: np.ndarray, error: np.ndarray) -> dict:
    """Calibration of one uncertainty: alpha, area, spearman, curve, reliability."""
    expected, observed = curve(sigma, error)
    rms_sigma, rms_error = reliability(sigma, error)
    return {
        "alpha": alpha(sigma, error), "area": miscalibration(expected, observed), "spearman": rank_correlation(sigma, error),
        "expected": expected.tolist(), "observed": observed.tolist(), "sigma": rms_sigma.tolist(), "rmse": rms_error.tolist(),
    }  # fmt: skip
