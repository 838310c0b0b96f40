"""Evaluated folders side by side: every number in one table, figures next to each other, accuracy against cost."""

from collections.abc import Mapping, Sequence
from html import escape
from pathlib import Path

from mlip.evaluation import html, report
from mlip.evaluation.cost_figures import accuracy_cost
from mlip.evaluation.evaluate import is_failed
from mlip.evaluation.result import write_csv
from mlip.evaluation.section import Section
from mlip.evaluation.thresholds import Judged, judge
from mlip.files import whole_file


def compare(folders: Sequence[str], folder: str | Path, layout: Mapping[str, Mapping], thresholds: Mapping) -> Path:
    """Writes comparison.html, comparison.csv and figures/ into folder; returns the page.

    folders  at least two that mlip evaluate wrote; layout, thresholds as report.build takes them
    """
    if len(folders) < 2:
        raise ValueError(f"compare needs at least two evaluated folders, got {list(folders)}")
    folder = Path(folder)
    evaluated = [report.read(Path(each), list(layout)) for each in folders]
    names = distinct([about["name"] for about, _ in evaluated], folders)
    sections = [{section.name: section for section in found} for _, found in evaluated]
    judged = {name: judge(found, thresholds) for name, (_, found) in zip(names, evaluated, strict=True)}
    order = list(dict.fromkeys(section for found in sections for section in found))
    order = [name for name in layout if name in order] + [name for name in order if name not in layout]
    body = [f"<h1>{escape(' · '.join(names))}</h1>", *accuracy_against_cost(dict(zip(names, sections, strict=True)), folder)]
    for section in order:
        body += [f"<h2>{escape(layout.get(section, {}).get('title', section))}</h2>", table(judged, section)]
        drawn = {}
        for name, found in zip(names, sections, strict=True):
            if section in found:
                pictures, complaint = report.save(folder / "figures" / name, found[section], layout.get(section, {}).get("draw"))
                drawn |= {(kind, name): png for kind, png in pictures.items()}
                body += report.sentences([f"{name}: {text}" for text in complaint])
        body += side_by_side(drawn)
    page = folder / "comparison.html"
    with whole_file(page) as part:
        part.write_text(html.page(" · ".join(names), body), encoding="utf-8")
    flat = [row for name, rows in judged.items() for row in report.flat(rows, {"model": name})]
    write_csv(folder / "comparison.csv", flat)
    return page


def distinct(names: list[str], folders: Sequence[str]) -> list[str]:
    """The names, or the folders' own paths where two are the same."""
    return names if len(set(names)) == len(names) else [str(each).replace("/", "_") for each in folders]


def key(row: Judged) -> tuple:
    """What makes two numbers of different models the same quantity."""
    return row.result.name, row.result.unit, tuple(sorted((k, str(v)) for k, v in row.result.conditions.items()))


def table(judged: Mapping[str, list[Judged]], section: str) -> str:
    """One row per quantity, one column per model."""
    found = {name: {key(row): row for row in rows if row.section == section} for name, rows in judged.items()}
    keys = list(dict.fromkeys(each for rows in found.values() for each in rows))
    lines = []
    for each in keys:
        rows = [found[name].get(each) for name in judged]
        first = next(row.result for row in rows if row)
        cells = [f"{html.value(row.result)} <small>{html.interval(row.result)}</small> {html.verdict(row.result.verdict)}"
                 if row else "" for row in rows]  # fmt: skip
        lines.append((html.words(first.name), html.where(first), html.unit(first.unit), *cells))
    return html.table(["quantity", "where", "unit", *judged], lines, numbers=range(3, 3 + len(judged)))


def side_by_side(drawn: Mapping[tuple[str, str], bytes]) -> list[str]:
    """Figures of one kind beside each other, one for each model."""
    rows = []
    for kind in dict.fromkeys(kind for kind, _ in drawn):
        images = [html.figure(png, f"{name}: {kind.replace('_', ' ')}") for (of, name), png in drawn.items() if of == kind]
        rows.append('<div class="figures">' + "\n".join(images) + "</div>")
    return rows


def accuracy_against_cost(sections: Mapping[str, Mapping[str, Section]], folder: Path) -> list[str]:
    """Force error against time per atom and step, where at least two models have both."""
    both = {name: (found["accuracy"], found["cost"]) for name, found in sections.items()
            if all(part in found and not is_failed(found[part]) for part in ("accuracy", "cost"))}  # fmt: skip
    if len(both) < 2:
        return []
    figure = accuracy_cost(both)
    data = report.png(figure)
    for suffix in ("png", "pdf"):
        with whole_file(folder / "figures" / f"accuracy_cost.{suffix}") as part:
            part.write_bytes(data if suffix == "png" else report.pdf(figure))
    return ['<div class="figures">' + html.figure(data, "Accuracy against cost; lower left is better") + "</div>"]
