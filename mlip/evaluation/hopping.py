"""Hops of ions in a trajectory: rate, length, concerted motion."""

import numpy as np
from matplotlib.figure import Figure
from scipy.stats import gamma

from mlip.evaluation.conductivity import CM2_PER_S
from mlip.evaluation.displacements import Trajectory
from mlip.evaluation.increments import TWO_SIGMA
from mlip.evaluation.plots import canvas, colours, legend
from mlip.evaluation.result import Result
from mlip.transitions.hops import count_hops

KEPT = 2000  # lengths of hops that a figure is drawn from


def hopping(trajectory: Trajectory, **where) -> tuple[list[Result], dict]:
    """Numbers of hops under these conditions, and what their figure needs.

    hop_rate              per ion and ps; the interval is that of so many independent events
    hop_length            Å, median
    concerted_hops        share of the hops that happen together with others
    diffusivity_of_hops   cm2/s: sum of squared hops / (6 N t), what D* would be if no hop knew of the one before
    """
    try:
        hops, n_sites = count_hops(trajectory.ions, trajectory.mean_cell, trajectory.interval_ps)
    except ValueError as error:  # frames too far apart, or too few
        note = f"hops were not counted: {error}"
        return [Result("hop_rate", None, "1/ps", verdict="warn", notes=(note,), conditions=where)], {"lengths_A": []}
    how = (
        f"between {n_sites} sites, the peaks of the ions' own density"
        if n_sites
        else "without sites: no place holds ions for long"
    )
    n_ions = trajectory.ions.shape[1]
    time = n_ions * trajectory.duration_ps
    low, high = rate_interval(len({hop.group for hop in hops}))
    events = max(len({hop.group for hop in hops}), 1)
    scale = max(len(hops), 1) / events / time  # hops of one event are not independent
    results = [Result("hop_rate", len(hops) / time, "1/ps", low * scale, high * scale, notes=(how,), conditions=where)]
    lengths = np.array([hop.length for hop in hops])
    if hops:
        groups = np.array([hop.group for hop in hops])
        together = np.bincount(groups)[groups] > 1
        results += [
            Result("hop_length", np.median(lengths), "Å", conditions=where),
            Result("concerted_hops", together.mean(), "", conditions=where),
            Result("diffusivity_of_hops", (lengths**2).sum() / (6 * time) * CM2_PER_S, "cm2/s", conditions=where),
        ]
    every = max(1, len(lengths) // KEPT)
    return results, {"lengths_A": np.round(lengths[::every], 3).tolist()}


def rate_interval(n_events: int) -> tuple[float, float]:
    """2 sigma interval of a Poisson mean of which n events were seen (exact, Garwood)."""
    tail = (1 - TWO_SIGMA) / 2
    return (float(gamma.ppf(tail, n_events)) if n_events else 0.0), float(gamma.ppf(1 - tail, n_events + 1))


def plot_hop_lengths(runs: list[dict]) -> Figure | None:
    """Distribution of hop lengths at every temperature; None if nothing hopped."""
    moving = [run for run in runs if run["hopping"]["lengths_A"]]
    if not moving:
        return None
    figure, axis = canvas("length of a hop (Å)", "probability density (1/Å)")
    edges = np.linspace(0, max(max(run["hopping"]["lengths_A"]) for run in moving) + 0.2, 41)
    for run, colour in zip(moving, colours(len(moving)), strict=True):
        axis.hist(run["hopping"]["lengths_A"], edges, density=True, histtype="step", linewidth=1.3, color=colour,
                  label=f"{run['temperature_K']:g} K")  # fmt: skip
    return legend(figure)
