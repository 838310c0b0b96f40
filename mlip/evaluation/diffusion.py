"""Diffusivities, Haven ratio and conductivity of a trajectory, with intervals.

The estimator is that of increments.py. Every number comes as a Result with its 2 sigma interval; if nothing hops
there is an upper limit and no number.
"""

from dataclasses import dataclass

import numpy as np
from scipy.stats import f as f_law

from mlip.errors import InputError
from mlip.evaluation import conductivity as formulas
from mlip.evaluation.conductivity import CM2_PER_S
from mlip.evaluation.displacements import Trajectory
from mlip.evaluation.framework import framework_intact
from mlip.evaluation.increments import TWO_SIGMA, Estimate, estimate
from mlip.evaluation.result import Result
from mlip.evaluation.van_hove import settled_displacements

FEW_HOPS = 160  # below, 2 sigma intervals of hopping walkers are less sure than they say


@dataclass(frozen=True)
class TransportEstimates:
    """Estimates, curves and results of one trajectory.

    tracer, collective  Å^2/ps; None if nothing hops
    lags_ps, msd, msd_error   [n_lags] ps, Å^2, Å^2 (jackknife over ions)
    settled             [n_ions] settled displacements of every ion by more than half a hop
    results             rows of the report
    """

    tracer: Estimate | None
    collective: Estimate | None
    lags_ps: np.ndarray
    msd: np.ndarray
    msd_error: np.ndarray
    settled: np.ndarray
    results: list[Result]


def analyse(trajectory: Trajectory, *, charge: float, temperature_K: float, hop_length_A: float) -> TransportEstimates:
    """Everything a trajectory at one temperature says about transport.

    charge      of the mobile ion, e; never guessed
    hop_length_A  distance between neighbouring sites, Å (2-4 Å): decides whether anything hops, N_eff and the upper limit; D
                does not depend on it
    """
    formulas.check_charge(charge)
    if not hop_length_A > 0:
        raise InputError(f"hop_length_A must be positive, got {hop_length_A} Å")
    ions, interval = trajectory.ions, trajectory.interval_ps
    n_ions = ions.shape[1]
    where: dict[str, float | str] = {"species": trajectory.mobile, "temperature_K": float(temperature_K)}
    tracer = estimate(ions, interval)
    lags, msd, msd_error = mean_square_displacement(ions, interval)
    settled = settled_displacements(ions, interval, hop_length_A / 2)
    framework = framework_intact(trajectory, species=trajectory.mobile, temperature_K=float(temperature_K))
    results = [framework, Result("settled_displacements", settled.sum(), "", conditions=where)]

    def sigma(name: str, d: Result) -> Result:
        return conductivity(name, d, n_ions / trajectory.volume, charge)

    if settled.sum() == 0:
        limit = formulas.upper_limit(n_ions, trajectory.duration_ps, hop_length_A) * CM2_PER_S
        note = f"no hop of {n_ions} ions in {trajectory.duration_ps:g} ps: D < 3 a^2 / (6 N t), a = {hop_length_A:g} Å"
        d = Result("tracer_diffusivity", None, "cm2/s", 0.0, limit, "limit", (note,), where)
        return TransportEstimates(
            None, None, lags, msd, msd_error, settled, [*results, d, sigma("conductivity_nernst_einstein", d)]
        )

    collective = estimate(together(ions), interval, least_tau_ps=tracer.tau_ps)
    n_eff = formulas.effective_hops(msd.max(), n_ions, hop_length_A)
    d = diffusivity("tracer_diffusivity", tracer, where, n_eff, framework.verdict == "fail")
    d_sigma = diffusivity("collective_diffusivity", collective, where, None, framework.verdict == "fail")
    results += [
        d,
        *tensor_results(tracer, where),
        d_sigma,
        haven_ratio(tracer, collective, where),
        sigma("conductivity_nernst_einstein", d),
        sigma("conductivity", d_sigma),
        Result("effective_hops", n_eff, "", conditions=where),
        Result("relative_error_he_zhu_mo", formulas.hop_count_error(n_eff), "", conditions=where),
        Result("relative_error", tracer.error / tracer.value if tracer.value > 0 else None, "", conditions=where),
    ]
    return TransportEstimates(tracer, collective, lags, msd, msd_error, settled, results)


def conductivity(name: str, d: Result, density: float, charge: float) -> Result:
    """Nernst and Einstein's conductivity of a diffusivity, S/cm.  density N/V, Å^-3;  charge of an ion, e"""
    temperature_K = float(d.conditions["temperature_K"])
    value, low, high = (
        None if x is None else formulas.nernst_einstein(x, density, charge, temperature_K)
        for x in (d.value, d.low, d.high)
    )
    return Result(name, value, "S/cm", low, high, d.verdict, d.notes, {**d.conditions, "charge_e": float(charge)})


def together(ions: np.ndarray) -> np.ndarray:
    """sum_i u_i / sqrt(N) [n_frames, 1, 3]: one walker whose D is D_sigma = <|sum_i du_i|^2> / (2 d N tau)."""
    return ions.sum(axis=1, keepdims=True) / np.sqrt(ions.shape[1])


def diffusivity(name: str, at: Estimate, where: dict, n_eff: float | None, molten: bool) -> Result:
    """An estimate as a row, in cm^2/s, with notes on its reliability."""
    notes = [f"slope of the MSD between tau and 2 tau, mean of two plateaus, the first from tau = {at.tau_ps:.3g} ps"]
    if not at.reached:
        notes.append(
            f"D(tau) is not flat up to {at.taus_ps[-1]:.3g} ps: run longer (the interval includes how far it still moved)"
        )
    if n_eff is not None and n_eff < FEW_HOPS:
        notes.append(f"only {n_eff:.0f} effective hops: the interval is a rough one below {FEW_HOPS}")
    if molten:
        notes.append("the framework has moved away: this is the diffusion of another phase, or of a melt")
    verdict = "fail" if molten else "warn" if len(notes) > 1 else "pass"
    if at.freedom == 0:
        verdict = "limit"
        notes.append("not distinguishable from zero: an upper limit")
    value = None if at.freedom == 0 else at.value * CM2_PER_S
    return Result(name, value, "cm2/s", at.low * CM2_PER_S, at.high * CM2_PER_S, verdict, tuple(notes), where)


def tensor_results(at: Estimate, where: dict) -> list[Result]:
    """D_xx ... D_xy in Cartesian axes, value +- 2 sigma."""
    rows = []
    for i, j in ((0, 0), (1, 1), (2, 2), (1, 2), (0, 2), (0, 1)):
        d, error = at.tensor[i, j] * CM2_PER_S, at.tensor_error[i, j] * CM2_PER_S
        rows.append(
            Result(
                f"tracer_diffusivity_{'xyz'[i]}{'xyz'[j]}", d, "cm2/s", d - 2 * error, d + 2 * error, conditions=where
            )
        )
    return rows


def haven_ratio(tracer: Estimate, collective: Estimate, where: dict) -> Result:
    """H = D* / D_sigma; the ratio of two chi-square numbers has an F interval.

    The collective motion is that of one walker however many ions there are: only a longer run narrows this.
    """
    if tracer.freedom == 0 or collective.freedom == 0:
        note = "D or D_sigma is not distinguishable from zero: run longer"
        return Result("haven_ratio", None, "", verdict="warn", notes=(note,), conditions=where)
    ratio = tracer.value / collective.value
    law = f_law(min(tracer.freedom, 1e8), min(collective.freedom, 1e8))
    tail = (1 - TWO_SIGMA) / 2
    flat = tracer.reached and collective.reached
    note = () if flat else ("one of D(tau), D_sigma(tau) is not flat",)
    return Result(
        "haven_ratio",
        ratio,
        "",
        ratio / law.ppf(1 - tail),
        ratio / law.ppf(tail),
        "pass" if flat else "warn",
        note,
        where,
    )


def mean_square_displacement(
    ions: np.ndarray, interval_ps: float, n_lags: int = 60
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """lags [n_lags] ps up to 70 % of the trajectory, MSD [n_lags] Å^2 over all origins, its jackknife error over ions."""
    longest = max(1, int(0.7 * (len(ions) - 1)))
    lags = np.unique(np.linspace(1, longest, n_lags).round().astype(int))
    strides = [max(1, lag // 8) for lag in lags]
    each = np.array([
        ((ions[lag::every] - ions[:-lag:every]) ** 2).sum(axis=-1).mean(axis=0)
        for lag, every in zip(lags, strides, strict=True)
    ])  # fmt: skip
    n_ions = each.shape[1]
    error = each.std(axis=1, ddof=1) / np.sqrt(n_ions) if n_ions > 1 else np.full(len(lags), np.nan)
    return lags * interval_ps, each.mean(axis=1), error
