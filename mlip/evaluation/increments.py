"""Diffusion coefficient from increments: scan over tau, plateau, error and interval.

With x a position, d = x(t + tau) - x(t) and d' = x(t + 2 tau) - x(t + tau), per axis

    D(tau) = <d^2> / (2 tau) + <d d'> / tau = [MSD(2 tau) - MSD(tau)] / (2 tau),

a slope between two lags: what vibrates without going away (the intercept of the MSD) drops out, and it is right
as soon as increments further apart than tau are independent. All time origins are used.

tau comes from two plateaus, and D is their mean. The lenient one takes what looks flat within the noise: unbiased for
free hops, too high for rare back-jumps, which the noise hides. The strict one counts any fall: the MSD of overdamped,
reversible motion is concave (its second derivative, twice the velocity autocorrelation, is negative at every time > 0),
so that D(tau) can only fall. It is right for back-jumps, and somewhat low for free hops, since it follows noise down.
"""

from dataclasses import dataclass

import numpy as np
from scipy.stats import chi2
from scipy.stats import t as t_law

from mlip.errors import InputError

TWO_SIGMA = 0.954499736  # probability of |x| < 2 for a normal number
LEAST_FRAMES = 41  # a twentieth of the trajectory must hold two strides
SCANS = (20, 8)  # tau up to 1/20 of the trajectory, and to 1/8 where that shows no plateau: longer is noisier
LENIENT, STRICT = (1.5, 1.5), (0.5, 2.5)  # sigma by which D(tau) may fall and rise on a plateau
BLOCKS = (4, 20)
OCTAVE, OCTAVE_RATIO = 2, 1.9  # points of the scan; tau of whole frames, so that two points are not quite a factor of 2


@dataclass(frozen=True)
class Point:
    """The estimate at one tau.  by_ion [n_ions], by_time [n_origins] (mean over ions), Å^2/ps; mean over axes."""

    tau_ps: float
    by_ion: np.ndarray
    by_time: np.ndarray
    n_blocks: int

    @property
    def value(self) -> float:
        return float(self.by_ion.mean())


@dataclass(frozen=True)
class Estimate:
    """D of walkers in Å^2/ps: value, 1 sigma error, 2 sigma interval, and its place in the scan.

    low, high   of the chi-square law that has this mean and error: never negative, lopsided if hops are few
    error       of the noisier of two plateaus, with half of what lies between them, and what D moves in the octave after
                tau_ps (before it, if no plateau was reached)
    tau_ps      where the lenient plateau begins;  reached: True if it does
    tensor      [3, 3] Å^2/ps and its 1 sigma error
    freedom     2 (value / error)^2, the degrees of freedom of the chi-square law, error with Student's factor
    taus_ps, values, errors   [n_tau] the scan
    """

    value: float
    error: float
    low: float
    high: float
    tau_ps: float
    reached: bool
    freedom: float
    tensor: np.ndarray
    tensor_error: np.ndarray
    taus_ps: np.ndarray
    values: np.ndarray
    errors: np.ndarray


def estimate(positions: np.ndarray, interval_ps: float, least_tau_ps: float = 0.0) -> Estimate:
    """Diffusion coefficient of walkers.  positions [n_frames, n_ions, 3] Å, unwrapped, without drift.

    least_tau_ps  the plateau is looked for from here on. Raises ValueError below 41 frames.
    """
    if len(positions) < LEAST_FRAMES:
        raise InputError(
            f"diffusion needs at least {LEAST_FRAMES} frames, got {len(positions)}: save more often or run longer"
        )
    duration = (len(positions) - 1) * interval_ps
    for part in SCANS:
        points = [point(positions, stride, interval_ps) for stride in strides(len(positions), part)]
        n_free = independent(points[0])
        start = min(sum(p.tau_ps < least_tau_ps for p in points), len(points) - 1)
        lenient, strict = (start + plateau(points[start:], duration, n_free, *rule) for rule in (LENIENT, STRICT))
        at = points[lenient]
        reached = 2 * at.tau_ps <= points[-1].tau_ps
        if reached:
            break
    errors = np.array([error(p, duration, n_free) for p in points])
    value, apart = (at.value + points[strict].value) / 2, abs(at.value - points[strict].value) / 2
    total = np.sqrt(max(errors[lenient], errors[strict]) ** 2 + apart**2 + trend(points, lenient) ** 2)
    # the error is itself estimated, from so many ions and blocks
    student = t_law.ppf(0.5 + TWO_SIGMA / 2, at.n_blocks + len(at.by_ion) - 2) / 2
    low, high, freedom = interval(value, total * student)
    tensors, tensor_errors = zip(*(axes(positions, round(points[i].tau_ps / interval_ps), interval_ps)
                                   for i in (lenient, strict)), strict=True)  # fmt: skip
    tensor, tensor_error = (
        (tensors[0] + tensors[1]) / 2,
        np.hypot(np.maximum(*tensor_errors), abs(tensors[0] - tensors[1]) / 2),
    )
    taus, values = np.array([p.tau_ps for p in points]), np.array([p.value for p in points])
    return Estimate(
        value, float(total), low, high, at.tau_ps, reached, freedom, tensor, tensor_error, taus, values, errors
    )


def strides(n_frames: int, part: int) -> list[int]:
    """Frames per tau in the scan: two to an octave, up to 1/part of the trajectory."""
    longest = (n_frames - 1) // part
    return sorted({round(2 ** (k / 2)) for k in range(int(2 * np.log2(longest)) + 1)} | {longest})


def _triples(positions: np.ndarray, stride: int) -> tuple[np.ndarray, np.ndarray]:
    """d and d' of every origin (of every eighth of a stride: nearer ones say almost the same)."""
    every = max(1, stride // 8)
    first, middle, last = (
        positions[: -2 * stride : every],
        positions[stride:-stride:every],
        positions[2 * stride :: every],
    )
    return middle - first, last - middle


def point(positions: np.ndarray, stride: int, interval_ps: float) -> Point:
    """D(tau) at tau = stride frames, by ion and by time."""
    d, e = _triples(positions, stride)
    each = 0.5 * (_dot(d, d) + _dot(e, e)) + 2 * _dot(d, e)  # summed over axes
    each /= 3 * 2 * stride * interval_ps
    return Point(stride * interval_ps, each.mean(axis=0), each.mean(axis=1), n_blocks(len(positions), stride))


def _dot(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    return np.einsum("tia,tia->ti", a, b)


def n_blocks(n_frames: int, stride: int) -> int:
    """Blocks of 4 tau if there are enough: increments within 2 tau of each other share displacements."""
    return int(np.clip((n_frames - 1) // (4 * stride), *BLOCKS))


def error(at: Point, duration_ps: float, n_free: float) -> float:
    """1 sigma error of the mean, Å^2/ps: the largest of three.

    jackknife over ions  blind to ions that move together
    time blocks          blind to what is slower than a block
    brownian             of free walkers: ours hop, which scatters more. Keeps the other two, which are noisy themselves,
                         from being too small by chance
    """
    free = brownian(at.value, at.tau_ps, duration_ps, n_free)
    return float(max(jackknife(at.by_ion), blocks(at.by_time, at.n_blocks), free))


def brownian(value: float, tau_ps: float, duration_ps: float, n_free: float) -> float:
    """D sqrt(16 tau / (9 t n)): 1 sigma of this estimator for n free walkers in three dimensions in a time t."""
    return abs(value) * np.sqrt(16 * tau_ps / (9 * duration_ps * n_free))


def independent(at: Point) -> float:
    """Number of ions that move as if alone, 1 to n_ions: n (error by ions / error by time blocks)^2, best seen at a short tau."""
    by_time = blocks(at.by_time, at.n_blocks)
    n_ions = len(at.by_ion)
    return float(np.clip(n_ions * (jackknife(at.by_ion) / by_time) ** 2, 1, n_ions)) if by_time > 0 else 1.0


def jackknife(values: np.ndarray) -> float:
    """Error of the mean over ions; of a mean, the jackknife is std / sqrt(n). 0 for a single ion."""
    return float(values.std(ddof=1) / np.sqrt(len(values))) if len(values) > 1 else 0.0


def blocks(series: np.ndarray, n_blocks: int) -> float:
    """Error of the mean of a time series from its block means."""
    means = np.array([block.mean() for block in np.array_split(series, n_blocks)])
    return float(means.std(ddof=1) / np.sqrt(n_blocks))


def plateau(points: list[Point], duration_ps: float, n_free: float, fall: float, rise: float) -> int:
    """The first tau whose D falls and rises to no longer tau by more than so many sigma of their difference.

    Two tau of one trajectory share their noise, so that their difference is known far better than either: it shows
    back-jumps that error bars would hide. Where D(tau) was seen to bend, an octave more lets the bend end.
    """
    for i, short in enumerate(points):
        if all(
            -rise * sigma <= short.value - long.value <= fall * sigma
            for long in points[i + 1 :]
            for sigma in (difference(short, long, duration_ps, n_free),)
        ):
            return i if i == 0 else min(i + OCTAVE, len(points) - 1)
    return len(points) - 1


def difference(short: Point, long: Point, duration_ps: float, n_free: float) -> float:
    """1 sigma error of D(long) - D(short): by ions, by blocks, and that of free walkers, whose variances subtract."""
    times = np.linspace(0, 1, len(long.by_time))
    by_time = long.by_time - np.interp(times, np.linspace(0, 1, len(short.by_time)), short.by_time)
    free = brownian(long.value, long.tau_ps - short.tau_ps, duration_ps, n_free)
    return max(jackknife(long.by_ion - short.by_ion), blocks(by_time, long.n_blocks), free)


def trend(points: list[Point], chosen: int) -> float:
    """Change of D over the octave of tau after the chosen one, Å^2/ps; over the octave before it if none is left."""
    at = points[chosen]
    longer = [p for p in points[chosen + 1 :] if p.tau_ps >= OCTAVE_RATIO * at.tau_ps]
    shorter = [p for p in points[:chosen] if p.tau_ps * OCTAVE_RATIO <= at.tau_ps] or points[:1]
    return abs((longer or shorter[-1:])[0].value - at.value)


def interval(value: float, error: float) -> tuple[float, float, float]:
    """low, high, freedom: 2 sigma interval of a positive quantity whose estimate is chi-square with this mean and error.

    freedom = 2 (value / error)^2. An estimate within its error of zero
    has no such law: [0, value + 2 error] and freedom 0, an upper limit.
    """
    if value <= error:
        return 0.0, max(value, 0.0) + 2 * error, 0.0
    freedom = 2 * (value / error) ** 2 if error > 0 else np.inf
    if not np.isfinite(freedom) or freedom > 1e8:
        return value - 2 * error, value + 2 * error, freedom
    tail = (1 - TWO_SIGMA) / 2
    return freedom * value / chi2.ppf(1 - tail, freedom), freedom * value / chi2.ppf(tail, freedom), freedom


def axes(positions: np.ndarray, stride: int, interval_ps: float) -> tuple[np.ndarray, np.ndarray]:
    """Tensor [3, 3] Å^2/ps in Cartesian axes, <(d d + d' d') / 2 + d d' + d' d> / (2 tau), and its 1 sigma error.

    The error is the larger of those by ions and by blocks.
    """
    d, e = _triples(positions, stride)
    whole = d + e
    by_time = _outer(whole, "tab") - 0.5 * _outer(d, "tab") - 0.5 * _outer(e, "tab")
    by_ion = _outer(whole, "iab") - 0.5 * _outer(d, "iab") - 0.5 * _outer(e, "iab")
    by_time, by_ion = (each / (2 * stride * interval_ps) for each in (by_time / d.shape[1], by_ion / d.shape[0]))
    means = np.array([block.mean(axis=0) for block in np.array_split(by_time, n_blocks(len(positions), stride))])
    errors = means.std(axis=0, ddof=1) / np.sqrt(len(means))
    if len(by_ion) > 1:
        errors = np.maximum(errors, by_ion.std(axis=0, ddof=1) / np.sqrt(len(by_ion)))
    return by_ion.mean(axis=0), errors


def _outer(vectors: np.ndarray, kept: str) -> np.ndarray:
    return np.einsum(f"tia,tib->{kept}", vectors, vectors)
