"""One page about a sampling, drawn again after every round from its records: what was found, labelled, learned."""

from collections.abc import Sequence
from html import escape
from pathlib import Path

from matplotlib.figure import Figure

from mlip.evaluation import html
from mlip.evaluation.plots import BLUE, GREEN, MARKERS, ORANGE, RED, canvas, colours, legend
from mlip.evaluation.report import png
from mlip.files import whole_file
from mlip.sampling.checks import with_current_names
from mlip.sampling.stop import Limits, barriers_of, criteria, decide

MOST_LINES = 12  # hops in one figure


def write(folder: str | Path, records: Sequence[dict], limits: Limits) -> None:
    """folder/history.html, with figures inside."""
    reason, converged = decide(records, limits)
    state = reason or "not finished"
    body = [
        f"<h1>{escape(Path(folder).resolve().name)}: sampling</h1>",
        f'<p>{html.verdict("pass" if converged else "warn")} {escape(state)}</p>',
        "<h2>Stop</h2>", criteria_table(records, limits),
        "<h2>Rounds</h2>", round_table(records), "<h2>Hops</h2>", hop_table(records),
        '<div class="figures">',
        *(html.figure(png(figure), html.caption(name)) for name, figure in draw(records, limits).items()),
        "</div>", *remarks(records[-1]),
    ]  # fmt: skip
    with whole_file(Path(folder) / "history.html") as part:
        part.write_text(html.page(f"{Path(folder).resolve().name}: sampling", body), encoding="utf-8")


def criteria_table(records: Sequence[dict], limits: Limits) -> str:
    """What would end the sampling, and where it stands."""
    rows = [(escape(each.name), html.number(each.value, 3) or "–", html.number(each.limit, 3), escape(each.unit.strip()),
             html.verdict("pass" if each.is_met else "warn")) for each in criteria(records, limits)]  # fmt: skip
    return html.table(["criterion", "value", "limit", "unit", ""], rows, (1, 2)) if rows else "<p>Nothing can be judged yet.</p>"


def round_table(records: Sequence[dict]) -> str:
    """A row for each round."""
    rows = []
    for record in map(with_current_names, records):
        counts = record["counts"] or {}
        held = record["hold_out"]
        rows.append((str(record["round"]), str(record["labels"]), str(record["new"]), str(sum(counts.get("window", {}).values()) or ""),
                     str(sum(counts.get("above", {}).values()) or ""), html.number(counts.get("share"), 2),
                     html.number(1e3 * record["force_vector_rmse"], 3), milli(held.get("ion_force_vector_mae")), milli(held.get("barrier_mae"))))  # fmt: skip
    heads = ["round", "labels", "new", "in the window", "above it", "share doubtful", "force vector RMSE, validation (meV/Å)",
             "force vector MAE of hopping ions, hold-out (meV/Å)", "barrier MAE, hold-out (meV)"]  # fmt: skip
    return html.table(heads, rows, range(9))


def hop_table(records: Sequence[dict]) -> str:
    """A row for each hop of the last round that has paths."""
    last = next((record for record in reversed(records) if record["paths"]), None)
    if last is None:
        return "<p>No path of a hop was relaxed.</p>"
    rows = [
        (escape(path["hop"]), html.number(path["length_A"], 3), milli(path["barrier"]), milli(path["reverse"]), milli(path["sigma"]),
         milli(last["labelled_barriers"].get(path["hop"])), milli(last["saddle_errors"].get(path["hop"])),
         milli(last["saddle_errors_after"].get(path["hop"])), str(path["n_negative"]), "" if path["converged"] else "not converged")
        for path in last["paths"]
    ]  # fmt: skip
    heads = ["hop", "length (Å)", "barrier (meV)", "back (meV)", "sigma (meV)", "of the labels (meV)", "error before training (meV)",
             "after (meV)", "negative curvatures", ""]  # fmt: skip
    return html.table(heads, rows, range(1, 9), (0,))


def milli(value: float | None) -> str:
    """Thousandths, three digits; nothing where there is none."""
    return html.number(None if value is None else 1e3 * value, 3)


def remarks(record: dict) -> list[str]:
    """What proposers said in the last round."""
    lines = "".join(f"<li>{escape(note)}</li>" for note in record["notes"])
    return [f"<h2>Remarks of round {record['round']}</h2><ul>{lines}</ul>"] if lines else []


def draw(records: Sequence[dict], limits: Limits) -> dict[str, Figure]:
    """Figures by name: candidates, barriers, errors_at_saddles, labels_by_kind; those that have something to show."""
    figures = {}
    if any(record["counts"] for record in records):
        figures["candidates"] = candidates(records)
    if any(record["paths"] for record in records):
        figures["barriers"] = barriers(records)
        figures["errors_at_saddles"] = errors(records, limits)
    figures["labels_by_kind"] = kinds(records)
    return figures


def candidates(records: Sequence[dict]) -> Figure:
    """How many structures were known, in the window, above it."""
    figure, axis = canvas("round", "candidates")
    looked = [record for record in records if record["counts"]]
    bottom = [0] * len(looked)
    for name, colour in (("known", BLUE), ("window", ORANGE), ("above", RED)):
        heights = [sum(record["counts"][name].values()) for record in looked]
        axis.bar([r["round"] for r in looked], heights, bottom=bottom, color=colour, label=name, edgecolor="white")
        bottom = [low + high for low, high in zip(bottom, heights, strict=True)]
    return whole_rounds(legend(figure))


def barriers(records: Sequence[dict]) -> Figure:
    """The model's barrier of each hop with its sigma, as found in each round."""
    figure, axis = canvas("round", "barrier (eV)")
    hops = list(dict.fromkeys(path["hop"] for record in records for path in record["paths"] or []))[:MOST_LINES]
    for n, (hop, colour) in enumerate(zip(hops, colours(len(hops)), strict=True)):
        found = [(r["round"], p["barrier"], p["sigma"] or 0.0) for r in records for p in r["paths"] or [] if p["hop"] == hop and p["barrier"]]
        if found:
            rounds, values, sigmas = zip(*found, strict=True)
            axis.errorbar(rounds, values, sigmas, fmt=f"-{('o' + MARKERS)[n % 10]}", color=colour, capsize=2, markersize=4, label=hop)
    return whole_rounds(legend(figure))


def errors(records: Sequence[dict], limits: Limits) -> Figure:
    """Error of E_saddle - E_start on newly labelled saddles, before and after training on them."""
    figure, axis = canvas("round", "largest error at a saddle (meV)")
    for name, label, marker, colour in (("saddle_errors", "before training", "o", ORANGE), ("saddle_errors_after", "after", "s", GREEN)):
        found = [(r["round"], 1e3 * max(abs(e) for e in r[name].values())) for r in records if r[name] and barriers_of(r)]
        if found:
            axis.plot(*zip(*found, strict=True), f"-{marker}", color=colour, label=label)
    axis.axhline(1e3 * limits.saddle_error, color="0.6", linewidth=0.8, linestyle="--")
    axis.set_ylim(0, None)
    return whole_rounds(legend(figure))


def kinds(records: Sequence[dict]) -> Figure:
    """Labels in all, by kind."""
    figure, axis = canvas("round", "labels")
    names = list(dict.fromkeys(kind for record in records for kind in record["by_kind"]))
    bottom = [0] * len(records)
    for name, colour in zip(names, colours(len(names)), strict=True):
        heights = [record["by_kind"].get(name, 0) for record in records]
        axis.bar([r["round"] for r in records], heights, bottom=bottom, color=colour, label=name, edgecolor="white")
        bottom = [low + high for low, high in zip(bottom, heights, strict=True)]
    return whole_rounds(legend(figure))


def whole_rounds(figure: Figure) -> Figure:
    """Ticks at whole numbers."""
    figure.axes[0].xaxis.get_major_locator().set_params(integer=True)
    return figure
