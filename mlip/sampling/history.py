"""HTML page of a sampling, written after every round: convergence, rounds, hops, figures."""

from collections.abc import Sequence
from html import escape
from pathlib import Path

from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from mlip.evaluation import html
from mlip.evaluation.plots import BLUE, GREEN, MARKERS, ORANGE, RED, canvas, colours, legend
from mlip.evaluation.report import png
from mlip.files import whole_file
from mlip.sampling.convergence import Limits, criteria, decide
from mlip.sampling.store import RoundRecord

MAX_LINES = 12  # hops in one figure


def write_history(folder: str | Path, records: Sequence[RoundRecord], limits: Limits) -> None:
    """folder/history.html, with figures inside."""
    reason, converged = decide(records, limits)
    state = reason or "not finished"
    body = [
        f"<h1>{escape(Path(folder).resolve().name)}: sampling</h1>",
        f'<p>{html.verdict("pass" if converged else "warn")} {escape(state)}</p>',
        "<h2>Stop</h2>", criteria_table(records, limits),
        "<h2>Rounds</h2>", round_table(records), "<h2>Hops</h2>", hop_table(records),
        '<div class="figures">',
        *(html.figure(png(figure), html.caption(name)) for name, figure in plot_all(records, limits).items()),
        "</div>", *notes_list(records[-1]),
    ]  # fmt: skip
    with whole_file(Path(folder) / "history.html") as part:
        part.write_text(html.page(f"{Path(folder).resolve().name}: sampling", body), encoding="utf-8")


def criteria_table(records: Sequence[RoundRecord], limits: Limits) -> str:
    """Convergence criteria with their values and limits."""
    rows = [(escape(each.name), html.number(each.value, 3) or "–", html.number(each.limit, 3), escape(each.unit.strip()),
             html.verdict("pass" if each.is_met else "warn")) for each in criteria(records, limits)]  # fmt: skip
    return (
        html.table(["criterion", "value", "limit", "unit", ""], rows, (1, 2))
        if rows
        else "<p>No criterion can be evaluated yet.</p>"
    )


def round_table(records: Sequence[RoundRecord]) -> str:
    """Table with a row for each round."""
    rows = []
    for record in records:
        counts, hold_out = record.uncertainty, record.hold_out
        rows.append((str(record.round), str(record.labels), str(record.new), str((counts and sum(counts.inside.values())) or ""),
                     str((counts and sum(counts.above.values())) or ""), html.number(counts and counts.uncertain_fraction, 2),
                     html.number(1e3 * record.validation.force_vector_rmse, 3), milli(hold_out and hold_out.ion_force_vector_mae),
                     milli(hold_out and hold_out.barrier_mae)))  # fmt: skip
    heads = ["round", "labels", "new", "in the window", "above it", "fraction uncertain", "force vector RMSE, validation (meV/Å)",
             "force vector MAE of hopping ions, hold-out (meV/Å)", "barrier MAE, hold-out (meV)"]  # fmt: skip
    return html.table(heads, rows, range(9))


def hop_table(records: Sequence[RoundRecord]) -> str:
    """Table with a row for each hop of the last round that has paths."""
    last = next((record for record in reversed(records) if record.paths), None)
    if last is None:
        return "<p>No path of a hop was relaxed.</p>"
    rows = [
        (escape(path.hop), html.number(path.length_A, 3), milli(path.barrier), milli(path.reverse_barrier),
         milli(path.sigma), milli(path.half_width), milli(last.labelled_barriers.get(path.hop)), milli(last.saddle_errors.get(path.hop)),
         milli(last.saddle_errors_after.get(path.hop)), str(path.n_negative), "" if path.converged else "not converged")
        for path in last.paths
    ]  # fmt: skip
    heads = ["hop", "length (Å)", "barrier (meV)", "reverse barrier (meV)", "sigma (meV)", "± 95 % (meV)", "of the labels (meV)",
             "error before training (meV)", "after (meV)", "negative curvatures", ""]  # fmt: skip
    return html.table(heads, rows, range(1, 10), (0,))


def milli(value: float | None) -> str:
    """Value in thousandths, three digits; empty for None."""
    return html.number(None if value is None else 1e3 * value, 3)


def notes_list(record: RoundRecord) -> list[str]:
    """Remarks of the proposers in one round."""
    lines = "".join(f"<li>{escape(note)}</li>" for note in record.notes)
    return [f"<h2>Remarks of round {record.round}</h2><ul>{lines}</ul>"] if lines else []


def plot_all(records: Sequence[RoundRecord], limits: Limits) -> dict[str, Figure]:
    """Figures by name: candidates, barriers, errors_at_saddles, labels_by_kind; those with data."""
    figures = {}
    if any(record.uncertainty for record in records):
        figures["candidates"] = plot_candidates(records)
    if any(record.paths for record in records):
        figures["barriers"] = plot_barriers(records)
        figures["errors_at_saddles"] = plot_saddle_errors(records, limits)
    if records[-1].labels:
        figures["labels_by_kind"] = plot_labels_by_kind(records)
    return figures


def plot_candidates(records: Sequence[RoundRecord]) -> Figure:
    """Numbers of candidates below, inside and above the uncertainty window."""
    figure, axis = canvas("round", "candidates")
    scored = [record for record in records if record.uncertainty]
    bottom = [0] * len(scored)
    for name, label, colour in (
        ("below", "below the window", BLUE),
        ("inside", "in the window", ORANGE),
        ("above", "above it", RED),
    ):
        heights = [sum(getattr(record.uncertainty, name).values()) for record in scored]
        axis.bar([r.round for r in scored], heights, bottom=bottom, color=colour, label=label, edgecolor="white")
        bottom = [low + high for low, high in zip(bottom, heights, strict=True)]
    return integer_ticks(legend(figure))


def plot_barriers(records: Sequence[RoundRecord]) -> Figure:
    """Barrier of each hop with its sigma, round by round."""
    figure, axis = canvas("round", "barrier (eV)")
    hops = list(dict.fromkeys(path.hop for record in records for path in record.paths or []))[:MAX_LINES]
    for n, (hop, colour) in enumerate(zip(hops, colours(len(hops)), strict=True)):
        points = [
            (r.round, p.barrier, p.sigma or 0.0) for r in records for p in r.paths or [] if p.hop == hop and p.barrier
        ]
        if points:
            rounds, values, sigmas = zip(*points, strict=True)
            axis.errorbar(
                rounds,
                values,
                sigmas,
                fmt=f"-{('o' + MARKERS)[n % 10]}",
                color=colour,
                capsize=2,
                markersize=4,
                label=hop,
            )
    return integer_ticks(legend(figure))


def plot_saddle_errors(records: Sequence[RoundRecord], limits: Limits) -> Figure:
    """Error of E_saddle - E_start on newly labelled saddles, before and after training on them."""
    figure, axis = canvas("round", "largest error at a saddle (meV)")
    for name, label, marker, colour in (
        ("saddle_errors", "before training", "o", ORANGE),
        ("saddle_errors_after", "after", "s", GREEN),
    ):
        points = [
            (r.round, 1e3 * max(abs(e) for e in getattr(r, name).values()))
            for r in records
            if getattr(r, name) and r.barriers
        ]
        if points:
            axis.plot(*zip(*points, strict=True), f"-{marker}", color=colour, label=label)
    axis.axhline(1e3 * limits.saddle_error_eV, color="0.6", linewidth=0.8, linestyle="--")
    axis.set_ylim(0, None)
    return integer_ticks(legend(figure))


def plot_labels_by_kind(records: Sequence[RoundRecord]) -> Figure:
    """Number of labels by kind."""
    figure, axis = canvas("round", "labels")
    names = list(dict.fromkeys(kind for record in records for kind in record.by_kind))
    bottom = [0] * len(records)
    for name, colour in zip(names, colours(len(names)), strict=True):
        heights = [record.by_kind.get(name, 0) for record in records]
        axis.bar([r.round for r in records], heights, bottom=bottom, color=colour, label=name, edgecolor="white")
        bottom = [low + high for low, high in zip(bottom, heights, strict=True)]
    return integer_ticks(legend(figure))


def integer_ticks(figure: Figure) -> Figure:
    """Sets the ticks of the round axis to integers."""
    figure.axes[0].xaxis.set_major_locator(MaxNLocator(integer=True))
    return figure
