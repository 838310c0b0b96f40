"""Figures of transport: MSD, D(tau), Arrhenius, van Hove function, density.

Each takes plain lists and dictionaries, as they come from a report's JSON, and gives a Figure.
"""

from collections.abc import Mapping, Sequence

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, NullFormatter

from mlip.evaluation.arrhenius import Arrhenius
from mlip.evaluation.literature import LiteraturePoint

# Okabe and Ito: told apart by colour-blind readers, and shapes say the same in grey print
BLUE, ORANGE, GREEN, RED = "#0072B2", "#E69F00", "#009E73", "#D55E00"
MARKERS = "sD^vP*X<>"
SEVERAL = (BLUE, ORANGE, GREEN, RED, "#CC79A7", "#56B4E9", "#000000")


def colours(n: int) -> list:
    """From cold to hot, dark to light: the order survives grey print and every kind of colour blindness."""
    return [matplotlib.colormaps["plasma"](x) for x in np.linspace(0.0, 0.82, max(n, 1))]


def plot_msd(runs: Sequence[Mapping]) -> Figure:
    """MSD against lag with its 1 sigma band; thick and dashed between the two lags whose slope is D."""
    figure, axis = canvas("lag (ps)", "mean square displacement (Å$^2$)")
    for run, colour in zip(runs, colours(len(runs)), strict=True):
        lags, curve, error = (np.array(run[name], float) for name in ("lags_ps", "msd", "msd_error"))
        error = np.nan_to_num(error)
        axis.fill_between(lags, curve - error, curve + error, color=colour, alpha=0.2, linewidth=0)
        axis.plot(lags, curve, color=colour, linewidth=1, label=f"{run['temperature_K']:g} K")
        if run["tracer"] is not None:
            tau = run["tracer"]["tau_ps"]
            window = np.array([tau, 2 * tau])
            axis.plot(window, np.interp(window, lags, curve), "o--", color=colour, linewidth=2.5, markersize=4)
    axis.set(ylim=(0, None), xlim=(0, None))
    title(axis, "circles: the lags τ and 2τ whose slope is 6 D")
    return legend(figure)


def plot_plateau(runs: Sequence[Mapping]) -> Figure | None:
    """D(tau) of tracer (full) and collective (open, dotted) with 1 sigma bars; a ring marks the tau that was taken."""
    moving = [run for run in runs if run["tracer"] is not None]
    if not moving:
        return None
    figure, axis = canvas("τ (ps)", "D(τ) (cm$^2$/s)")
    for run, colour in zip(moving, colours(len(moving)), strict=True):
        for name, marker, style, fill in (("tracer", "o", "-", colour), ("collective", "s", ":", "white")):
            at = run[name]
            values, errors = np.array(at["values"], float), np.array(at["errors"], float)
            shown = f"{run['temperature_K']:g} K" if name == "tracer" else None
            axis.errorbar(at["taus_ps"], values, errors, fmt=marker + style, color=colour, markerfacecolor=fill, markersize=4,
                          linewidth=1, elinewidth=0.7, capsize=2, label=shown)  # fmt: skip
            axis.plot(at["tau_ps"], at["value"], "o", markersize=11, markerfacecolor="none", color=colour)
    axis.axhline(0, color="0.7", linewidth=0.8)
    axis.set_xscale("log")
    title(axis, "full: tracer D*, open: collective D$_σ$, ring: taken")
    return legend(figure)


def plot_arrhenius(
    points: Sequence[Mapping],
    line: Arrhenius | None,
    unit: str,
    literature: Sequence[LiteraturePoint] = (),
    to_K: float = 300.0,
) -> Figure:
    """ln y against 1000/T: points with 2 sigma bars, line with its 2 sigma band down to to_K, literature in the same quantity.

    points  {temperature_K, value, low, high}; value None is an upper limit at `high`. unit cm2/s, or S/cm shown as sigma T
    Literature in the other quantity is left out: turning one into the other needs a density, a charge, a Haven ratio.
    """
    is_sigma = unit == "S/cm"
    figure, axis = canvas("1000 / T (1/K)", "σT (S K/cm)" if is_sigma else "D (cm$^2$/s)")
    same = [p for p in literature if p.unit == unit]
    reach = [*(p["temperature_K"] for p in points), *(p.temperature_K for p in same), *([to_K] if line else [])]
    if line is not None:
        draw_line(axis, line, min(reach), max(reach), BLUE, "2σ band")
        for low, high, _ in line.phase_changes:
            axis.axvspan(1e3 / high, 1e3 / low, color="0.85", linewidth=0, label=f"phase change {low:g}-{high:g} K")
    draw_points(axis, points, f"this work{activation_energy(line)}", BLUE, "o", is_sigma)
    for i, source in enumerate(dict.fromkeys(p.source for p in same)):
        chosen = [p for p in same if p.source == source]
        t = np.array([p.temperature_K for p in chosen])
        scale = t if is_sigma else 1.0
        value = np.array([p.value for p in chosen]) * scale
        ends = np.array([[p.low or p.value, p.high or p.value] for p in chosen]).T * scale
        axis.errorbar(1e3 / t, value, np.abs(ends - value), fmt=MARKERS[i % len(MARKERS)], color=(ORANGE, GREEN, RED)[i % 3],
                      capsize=2, label=source)  # fmt: skip
    temperature_axis(axis, reach)
    return legend(figure)


def plot_arrhenius_lines(fits: Mapping[str, tuple[Sequence[Mapping], Arrhenius | None]], to_K: float = 300.0) -> Figure:
    """D of several models or materials against 1000/T: points with 2 sigma bars, each line with its band down to to_K.

    fits  by name, points and line as plot_arrhenius takes them, cm^2/s
    """
    figure, axis = canvas("1000 / T (1/K)", "D (cm$^2$/s)", (6.2, 4.4))
    reach = [to_K] if any(line for _, line in fits.values()) else []
    for i, (name, (points, line)) in enumerate(fits.items()):
        colour = SEVERAL[i % len(SEVERAL)]
        temperatures = [p["temperature_K"] for p in points]
        reach += temperatures
        if line is not None:
            draw_line(axis, line, to_K, max(temperatures), colour, None)
        draw_points(axis, points, name + activation_energy(line), colour, MARKERS[i % len(MARKERS)])
    temperature_axis(axis, reach)
    return legend(figure)


def draw_line(axis: Axes, line: Arrhenius, low_K: float, high_K: float, colour, band: str | None) -> None:
    """A line and its 2 sigma band, of the name `band`, between two temperatures."""
    grid = 1 / np.linspace(1 / high_K, 1 / low_K, 200)
    log, error = line.line(grid)
    axis.fill_between(
        1e3 / grid, np.exp(log - 2 * error), np.exp(log + 2 * error), color=colour, alpha=0.2, linewidth=0, label=band
    )
    axis.plot(1e3 / grid, np.exp(log), color=colour, linewidth=1)


def draw_points(axis: Axes, points: Sequence[Mapping], label: str, colour, marker: str, times_T: bool = False) -> None:
    """Points with 2 sigma bars, an arrow where there is an upper limit alone; multiplied by T if asked for."""
    for p in points:
        t = p["temperature_K"]
        scale = t if times_T else 1.0
        if p["value"] is None:
            axis.plot(1e3 / t, scale * p["high"], marker=r"$\downarrow$", markersize=12, color=colour, linestyle="none")
            continue
        low = max(p["low"] or 0.0, 1e-3 * p["value"])  # a bar down to zero has no end on this axis
        bars = [[scale * (p["value"] - low)], [scale * (p["high"] - p["value"])]]
        axis.errorbar(1e3 / t, scale * p["value"], bars, fmt=marker, color=colour, capsize=2, markersize=5, label=label)
        label = None


def activation_energy(line: Arrhenius | None) -> str:
    """The activation energy of a line for a legend, with its 2 sigma interval; nothing without a line."""
    return "" if line is None else f", $E_a$ = {line.energy:.3f} ± {2 * line.covariance[1][1] ** 0.5:.3f} eV"


def temperature_axis(axis: Axes, reach: Sequence[float]) -> None:
    """A logarithmic axis of values, and temperatures in K above that of 1000/T."""
    axis.set_yscale("log")
    above = axis.secondary_xaxis("top", functions=(_inverse, _inverse))
    above.set_xlabel("T (K)")
    shown = [t for t in (200, 250, 300, 400, 500, 600, 800, 1000, 1500) if min(reach) - 1 <= t <= max(reach) + 1]
    shown = shown or sorted({round(t) for t in reach})
    above.set_xticks(shown, [str(t) for t in shown])


def _inverse(x):
    return 1e3 / np.where(np.asarray(x) == 0, np.nan, x)


def plot_van_hove(run: Mapping) -> Figure:
    """Self part: how far ions are after several lags, as a probability per Å."""
    figure, axis = canvas("displacement r (Å)", "4πr$^2$ G$_s$(r, t) (1/Å)")
    curves = run["van_hove"]
    for lag, row, colour in zip(curves["lags_ps"], curves["density"], colours(len(curves["lags_ps"])), strict=True):
        axis.plot(curves["r_A"], row, color=colour, linewidth=1.2, label=f"t = {lag:.3g} ps")
    axis.set(ylim=(0, None), xlim=(0, None))
    title(axis, f"{run['temperature_K']:g} K")
    return legend(figure)


def plot_density(run: Mapping) -> Figure:
    """Density of the ions summed along c, over the a and b axes of the cell."""
    values = np.array(run["density"]["projected"], float)
    cell = np.array(run["density"]["cell"], float)
    a, b = plane(cell)
    begin = 0.5 if run["density"].get("centred") else 0.0  # of a voxel; older files have their grid point at its corner
    i, j = np.meshgrid(*((np.arange(n + 1) - begin) / n for n in values.shape), indexing="ij")
    figure, axis = canvas("along a (Å)", "in the a-b plane, across a (Å)")
    mesh = axis.pcolormesh(i * a[0] + j * b[0], i * a[1] + j * b[1], values, cmap="cividis", rasterized=True, vmin=0)
    axis.set_aspect("equal")
    title(axis, f"{run['mobile']} at {run['temperature_K']:g} K, summed along c")
    figure.colorbar(mesh, label=f"{run['mobile']} per area (1/Å$^2$)")
    return figure


def plane(cell: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """a and b as vectors of the plane that they span, a along the first axis.  cell [3, 3]"""
    length = np.linalg.norm(cell[0])
    along = cell[1] @ cell[0] / length
    return np.array([length, 0.0]), np.array([along, np.sqrt(max(cell[1] @ cell[1] - along**2, 0.0))])


def canvas(xlabel: str, ylabel: str, size: tuple[float, float] = (5.2, 3.8)) -> tuple[Figure, Axes]:
    """Empty figure with one pair of axes and their labels."""
    figure = Figure(figsize=size, layout="constrained")
    axis = figure.subplots()
    axis.set(xlabel=xlabel, ylabel=ylabel)
    return figure, axis


def log_ticks(axis: Axis, low: float, high: float) -> None:
    """Label a logarithmic axis so that labels do not touch: 1, 2, 5 of each decade, or powers of ten above two decades."""
    is_short = high < 100 * low
    axis.set_major_locator(LogLocator(subs=(1, 2, 5) if is_short else (1,), numticks=6))
    axis.set_major_formatter("{x:g}")
    axis.set_minor_formatter(NullFormatter())


def title(axis, text: str) -> None:
    """A small grey line above an axis."""
    axis.set_title(text, fontsize=8.5, color="0.3", loc="left")


def legend(figure: Figure) -> Figure:
    """The figure with a legend wherever something has a name."""
    for axis in figure.axes:
        if axis.get_legend_handles_labels()[0]:
            axis.legend(frameon=False, fontsize=8)
    return figure
