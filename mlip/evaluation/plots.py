"""Figures of transport: MSD with the fit window, D(tau) with its plateau, Arrhenius with band and literature."""

from collections.abc import Sequence
from pathlib import Path

import matplotlib
import numpy as np
from matplotlib.figure import Figure

from mlip.evaluation.arrhenius import Arrhenius
from mlip.evaluation.conductivity import CM2_PER_S
from mlip.evaluation.diffusion import Diffusion
from mlip.evaluation.increments import Estimate
from mlip.evaluation.literature import LiteraturePoint
from mlip.training.files import whole_file

# Okabe and Ito: told apart by colour-blind readers, and shapes say the same in grey print
BLUE, ORANGE, GREEN, RED = "#0072B2", "#E69F00", "#009E73", "#D55E00"
MARKERS = "sD^vP*X<>"


def msd(diffusion: Diffusion, path: str | Path) -> None:
    """MSD against lag with its 1 sigma band; the two lags whose slope is D are marked, with the line through them."""
    figure, axis = _figure()
    lags, curve, error = diffusion.lags_ps, diffusion.msd, np.nan_to_num(diffusion.msd_error)
    axis.fill_between(lags, curve - error, curve + error, color=BLUE, alpha=0.25, linewidth=0)
    axis.plot(lags, curve, color=BLUE, label="MSD, all origins")
    if diffusion.tracer is not None:
        tau = diffusion.tracer.tau_ps
        axis.axvspan(tau, 2 * tau, color=ORANGE, alpha=0.3, linewidth=0, label=f"fit window {tau:.3g}-{2 * tau:.3g} ps")
        start = np.interp(tau, lags, curve)
        axis.plot(lags, start + 6 * diffusion.tracer.value * (lags - tau), "--", color=RED, label="6 D t + intercept")
    axis.set(xlabel="lag (ps)", ylabel="mean square displacement (Å$^2$)", ylim=(0, None))
    _save(figure, path)


def plateau(diffusion: Diffusion, path: str | Path) -> None:
    """D(tau) of tracer and collective with 1 sigma bars; open ring and line: the tau that was taken."""
    figure, axis = _figure()
    kinds = (("tracer D*", diffusion.tracer, BLUE, "o"), ("collective D$_σ$", diffusion.collective, ORANGE, "s"))
    for label, at, colour, marker in kinds:
        if at is not None:
            _scan(axis, at, label, colour, marker)
    axis.axhline(0, color="0.7", linewidth=0.8)
    axis.set(xlabel="τ (ps)", ylabel="D(τ) (cm$^2$/s)", xscale="log")
    _save(figure, path)


def _scan(axis, at: Estimate, label: str, colour: str, marker: str) -> None:
    axis.errorbar(at.taus_ps, at.values * CM2_PER_S, at.errors * CM2_PER_S, fmt=f"{marker}-", color=colour, markersize=4,
                  linewidth=1, capsize=2, label=label + ("" if at.reached else " (no plateau)"))  # fmt: skip
    axis.plot(at.tau_ps, at.value * CM2_PER_S, "o", markersize=10, markerfacecolor="none", color=colour)
    axis.hlines(at.value * CM2_PER_S, at.tau_ps, at.taus_ps[-1], color=colour, linestyle=":")


def arrhenius(
    line: Arrhenius, path: str | Path, literature: Sequence[LiteraturePoint] = (), to_K: float = 300.0, name: str = "this work"
) -> None:
    """ln y against 1000/T: points, line, 2 sigma band down to to_K, and literature in the same quantity.

    Literature in the other quantity is left out: turning one into the other needs a density, a charge, a Haven ratio.
    """
    figure, axis = _figure()
    is_sigma = line.unit == "S K/cm"
    same = [p for p in literature if p.unit == ("S/cm" if is_sigma else "cm2/s")]
    reach = [*line.temperatures_K, to_K, *(p.temperature_K for p in same)]
    grid = 1 / np.linspace(1 / max(reach), 1 / min(reach), 200)
    log, error = line.line(grid)
    axis.fill_between(1e3 / grid, np.exp(log - 2 * error), np.exp(log + 2 * error), color=BLUE, alpha=0.2, linewidth=0,
                      label="2σ band")  # fmt: skip
    axis.plot(1e3 / grid, np.exp(log), color=BLUE, linewidth=1)
    y = np.exp(line.logarithms)
    bars = [y - np.exp(line.logarithms - 2 * line.errors), np.exp(line.logarithms + 2 * line.errors) - y]
    label = f"{name}, $E_a$ = {line.energy:.3f} ± {2 * line.covariance[1, 1] ** 0.5:.3f} eV"
    axis.errorbar(1e3 / line.temperatures_K, y, bars, fmt="o", color=BLUE, capsize=2, markersize=5, label=label)
    for i, source in enumerate(dict.fromkeys(p.source for p in same)):
        chosen = [p for p in same if p.source == source]
        t = np.array([p.temperature_K for p in chosen])
        scale = t if is_sigma else 1.0
        value = np.array([p.value for p in chosen]) * scale
        ends = np.array([[p.low or p.value, p.high or p.value] for p in chosen]).T * scale
        axis.errorbar(1e3 / t, value, np.abs(ends - value), fmt=MARKERS[i % len(MARKERS)], color=(ORANGE, GREEN, RED)[i % 3],
                      capsize=2, label=source)  # fmt: skip
    for low, high, _ in line.phase_changes:
        axis.axvspan(1e3 / high, 1e3 / low, color="0.85", linewidth=0, label=f"phase change {low:g}-{high:g} K")
    quantity = "σT (S K/cm)" if is_sigma else "D (cm$^2$/s)"
    axis.set(xlabel="1000 / T (1/K)", ylabel=quantity, yscale="log")
    above = axis.secondary_xaxis("top", functions=(_inverse, _inverse))
    above.set_xlabel("T (K)")
    shown = [t for t in (200, 250, 300, 400, 500, 600, 800, 1000, 1500) if min(reach) - 1 <= t <= max(reach) + 1]
    above.set_xticks(shown, [str(t) for t in shown])
    _save(figure, path)


def _inverse(x):
    return 1e3 / np.where(np.asarray(x) == 0, np.nan, x)


def _figure():
    figure = Figure(figsize=(5.2, 3.8), layout="constrained")
    return figure, figure.subplots()


def _save(figure: Figure, path: str | Path) -> None:
    """PNG or PDF by the name's ending."""
    for axis in figure.axes:
        axis.legend(frameon=False, fontsize=8)
    form = Path(path).suffix.lstrip(".") or "png"
    with whole_file(path) as part, matplotlib.rc_context({"font.size": 9, "pdf.fonttype": 42}):
        figure.savefig(part, format=form, dpi=200)
