"""Activation energy and extrapolation of diffusivities and conductivities, with intervals.

ln y = ln y0 - E_a / (k_B T), with y = D, or y = sigma T; weighted by the full covariance of the points' logarithms.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from mlip import units
from mlip.errors import InputError
from mlip.evaluation.result import Result

LEAST_TEMPERATURES = 4
MOST_FACTOR = 10  # of an extrapolation's 2 sigma interval either way, beyond which it is more a guess than a number


@dataclass(frozen=True)
class Arrhenius:
    """A fitted line.

    temperatures_K, logarithms [n], errors [n]  the points, ln y and its 1 sigma
    energy, log_prefactor   E_a eV, ln y0
    covariance [2, 2]       of (ln y0, E_a), enlarged by chi^2 / freedom where the points scatter more than they say
    chi2_per_freedom        near 1 for a straight line with honest errors
    curvature_sigma         how many sigma the best parabola in 1/T is away from the line
    phase_changes           (T below, T above, reason) from framework.phase_changes
    unit                    of y
    """

    temperatures_K: np.ndarray
    logarithms: np.ndarray
    errors: np.ndarray
    energy: float
    log_prefactor: float
    covariance: np.ndarray
    chi2_per_freedom: float
    curvature_sigma: float
    phase_changes: list[tuple[float, float, str]]
    unit: str

    def line(self, temperatures_K) -> tuple[np.ndarray, np.ndarray]:
        """ln y and its 1 sigma error at any temperatures."""
        rows = design(temperatures_K)
        return rows @ [self.log_prefactor, self.energy], np.sqrt(np.einsum("ti,ij,tj->t", rows, self.covariance, rows))


def design(temperatures_K) -> np.ndarray:
    """Rows (1, -1 / k_B T) [n, 2]."""
    beta = 1 / (units.BOLTZMANN * np.atleast_1d(np.asarray(temperatures_K, float)))
    return np.stack([np.ones_like(beta), -beta], axis=1)


def fit(
    temperatures_K: Sequence[float],
    values: Sequence[float],
    covariance: np.ndarray,
    phase_changes: Sequence[tuple[float, float, str]] = (),
    unit: str = "cm2/s",
) -> Arrhenius:
    """Weighted least squares of ln y.

    values      [n] y > 0
    covariance  [n] relative 1 sigma errors (errors of ln y), or their [n, n] covariance
    Raises ValueError below four different temperatures, where neither curvature nor the points' own errors can be
    checked, and for values that have no logarithm (upper limits).
    """
    t, y = np.asarray(temperatures_K, float), np.asarray(values, float)
    if len(np.unique(t)) < LEAST_TEMPERATURES:
        raise InputError(
            f"an Arrhenius line needs at least {LEAST_TEMPERATURES} temperatures, got {sorted(set(t.tolist()))} K: "
            "with fewer, a line cannot be distinguished from a curve"
        )
    if not (np.isfinite(t).all() and (t > 0).all()):
        raise InputError(f"temperatures must be positive, got {t.tolist()} K")
    if not (np.isfinite(y).all() and (y > 0).all()):
        raise InputError(
            f"values must be positive, got {y.tolist()}: leave out temperatures that have only an upper limit"
        )
    c = np.asarray(covariance, float)
    c = np.diag(c**2) if c.ndim == 1 else c
    if c.shape != (len(t), len(t)) or len(y) != len(t):
        raise InputError(f"{len(t)} temperatures need as many values and errors, got {len(y)} and {c.shape[0]}")
    if not (np.isfinite(c).all() and np.linalg.eigvalsh(c).min() > 0):
        raise InputError(
            f"the covariance of the logarithms must be positive, got errors {np.sqrt(np.diag(c)).tolist()}"
        )
    x, log = design(t), np.log(y)
    best, cov, chi2 = least_squares(x, log, c)
    excess = chi2 / (len(t) - 2)
    # around the middle, so that the parabola's numbers stay apart
    beta = -x[:, 1] - (-x[:, 1]).mean()
    bent, bent_cov, _ = least_squares(np.column_stack([np.ones_like(beta), beta, beta**2]), log, c)
    curvature = float(bent[2] / np.sqrt(bent_cov[2, 2]))
    return Arrhenius(
        t, log, np.sqrt(np.diag(c)), float(best[1]), float(best[0]), cov * max(1.0, excess), float(excess), curvature,
        list(phase_changes), unit,
    )  # fmt: skip


def least_squares(x: np.ndarray, y: np.ndarray, covariance: np.ndarray) -> tuple[np.ndarray, np.ndarray, float]:
    """Parameters, their covariance and chi^2 of y = x p with correlated errors.  x [n, k], y [n], covariance [n, n]"""
    whiten = np.linalg.inv(np.linalg.cholesky(covariance))
    a, b = whiten @ x, whiten @ y
    inverse = np.linalg.inv(a.T @ a)
    best = inverse @ (a.T @ b)
    return best, inverse, float(((a @ best - b) ** 2).sum())


def from_results(
    results: Sequence[Result], phase_changes: Sequence[tuple[float, float, str]] = ()
) -> tuple[Arrhenius, list[str]]:
    """The fit of one quantity's Results at many temperatures, and notes on what was left out.

    Conductivities are fitted as sigma T. The error of a logarithm is a quarter of ln(high / low), the 2 sigma
    interval; limits and failed points (a molten framework) are left out and named.
    """
    rows, notes = [], []
    for result in results:
        t = result.conditions.get("temperature_K")
        if t is None:
            raise InputError(f"{result.name} has no temperature_K among its conditions")
        if result.value is None or not (result.low or 0) > 0 or result.verdict in ("limit", "fail"):
            notes.append(f"{t:g} K left out: {'; '.join(result.notes) or result.verdict or 'no interval'}")
            continue
        weight = t if result.unit == "S/cm" else 1.0
        rows.append((t, result.value * weight, np.log(result.high / result.low) / 4))
    names = {(result.name, result.unit) for result in results}
    if len(names) > 1:
        raise InputError(f"one line for one quantity, got {sorted(names)}")
    unit = "S K/cm" if results and results[0].unit == "S/cm" else results[0].unit if results else ""
    t, y, error = np.array(rows).reshape(-1, 3).T
    return fit(t, y, error, phase_changes, unit), notes


def activation_energy(line: Arrhenius) -> Result:
    """E_a in eV with its 2 sigma interval, warned of curvature, excess scatter and phase changes."""
    error = 2 * np.sqrt(line.covariance[1, 1])
    notes = []
    if abs(line.curvature_sigma) > 2:
        notes.append(f"curved: {abs(line.curvature_sigma):.1f} sigma from a line in 1/T; E_a depends on the range")
    if line.chi2_per_freedom > 3:
        notes.append(
            f"points scatter {line.chi2_per_freedom:.1f} times more (chi^2) than their errors say; interval enlarged"
        )
    if line.energy < error:
        notes.append("not distinguishable from zero: run longer, or at temperatures farther apart")
    notes += [f"phase change between {low:g} and {high:g} K ({why})" for low, high, why in line.phase_changes]
    where = {"from_K": float(line.temperatures_K.min()), "to_K": float(line.temperatures_K.max())}
    return Result("activation_energy", line.energy, "eV", line.energy - error, line.energy + error,
                  "warn" if notes else "pass", tuple(notes), where)  # fmt: skip


def extrapolate(line: Arrhenius, temperature_K: float, across_phase_change: bool = False) -> Result:
    """y at another temperature with its 2 sigma interval; sigma is given back as S/cm.

    Raises ValueError if a known phase change lies between the points or on the way to temperature_K, unless
    across_phase_change: the line of one phase says nothing about another.
    """
    low, high = min(temperature_K, *line.temperatures_K), max(temperature_K, *line.temperatures_K)
    crossed = [change for change in line.phase_changes if change[1] > low and change[0] < high]
    if crossed and not across_phase_change:
        below, above, why = crossed[0]
        raise InputError(
            f"no extrapolation to {temperature_K:g} K across the phase change between {below:g} and {above:g} K "
            f"({why}): fit the temperatures of one phase only, or say across_phase_change=True"
        )
    log, error = line.line(temperature_K)
    is_sigma = line.unit == "S K/cm"
    value = np.exp(log[0]) / (temperature_K if is_sigma else 1.0)
    factor = np.exp(2 * error[0])
    notes = activation_energy(line).notes
    if factor > MOST_FACTOR:
        notes = (*notes, f"known to a factor of {factor:.3g} only: run longer, or nearer to {temperature_K:g} K")
    name, unit = ("conductivity", "S/cm") if is_sigma else ("diffusivity", line.unit)
    return Result(f"{name}_extrapolated", value, unit, value / factor, value * factor, "warn" if notes else "pass", notes,
                  {"temperature_K": float(temperature_K)})  # fmt: skip
