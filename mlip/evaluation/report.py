"""Report of an evaluated folder: one page, tables and figures, from its sections alone."""

import json
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import replace
from html import escape
from io import BytesIO
from pathlib import Path

import matplotlib
from matplotlib.figure import Figure
from rich.table import Table

from mlip.errors import MissingFileError
from mlip.evaluation import html, tables
from mlip.evaluation.evaluate import is_failed
from mlip.evaluation.property import Presentation
from mlip.evaluation.result import Result, write_csv, write_json
from mlip.evaluation.section import Section, read_section
from mlip.evaluation.thresholds import Judged, judge
from mlip.files import whole_file

ABOUT = "evaluation.json"  # model or calculator, versions, date; written by the command
FEW = 20  # numbers that stand beside a single figure
# print size: a column of 5 inches; 42: letters stay letters in the PDF
STYLE = {"font.size": 9, "pdf.fonttype": 42, "savefig.facecolor": "white"}
FORMER_NAMES = {"size.diffusion": "diffusion_large", "size.barriers": "barriers_large"}  # of sections of older versions


def build(folder: str | Path, properties: Mapping[str, Presentation]) -> list[Judged]:
    """Write report.html, results.json, results.csv and figures/ into an evaluated folder; return every judged result.

    properties  in the order of the page. Sections of others come last, without figures
    Raises FileNotFoundError for a folder that was never evaluated.
    """
    folder = Path(folder)
    about, sections = read(folder, list(properties))
    judged = judge(sections, {name: each.thresholds for name, each in properties.items()})
    titles = {name: each.title for name, each in properties.items()}
    body = [*head(about, judged), *verdicts(judged, titles), *contents(sections, titles)]
    n_figures = 0
    for section in sections:
        figures = properties[section.name].figures if section.name in properties else None
        pictures, remarks = save(folder / "figures", section, figures)
        body += [f'<h2 id="{section.name}">{escape(titles.get(section.name, section.name))}</h2>',
                 *sentences([*section.notes, *remarks]),
                 *section_body(section, [row for row in judged if row.section == section.name], pictures, n_figures)]  # fmt: skip
        n_figures += len(pictures)
    with whole_file(folder / "report.html") as part:
        part.write_text(html.page(f"{about['name']}: evaluation", body), encoding="utf-8")
    write_json(folder / "results.json", flat(judged))
    write_csv(folder / "results.csv", flat(judged))
    return judged


def section_body(section: Section, rows: list[Judged], pictures: Mapping[str, bytes], n_before: int) -> list[str]:
    """Figures of a property, numbered on from n_before, and the tables of its numbers."""
    images = [
        html.figure(png, f"Figure {n}. {html.caption(name)}")
        for n, (name, png) in enumerate(pictures.items(), n_before + 1)
    ]
    beside = len(images) == 1 and len(rows) <= FEW
    if beside:
        images.append(tables.result_table(rows, with_notes=False))
    body = ['<div class="figures">' + "\n".join(images) + "</div>"] if images else []
    body += tables.group_table(rows)
    if rows and not is_failed(section) and (not beside or any(row.result.notes for row in rows)):
        body.append(f"<details><summary>All {len(rows)} numbers</summary>{tables.result_table(rows)}</details>")
    return body


def flat(judged: list[Judged], where: Mapping[str, str] | None = None) -> list[Result]:
    """Results with their section (and more) among the conditions: rows of one table."""
    return [
        replace(row.result, conditions={**(where or {}), "section": row.section, **row.result.conditions})
        for row in judged
    ]


def read(folder: Path, order: list[str]) -> tuple[dict, list[Section]]:
    """Content of evaluation.json, and the sections in this order, then by name; those of older versions under new names."""
    files: dict[str, Path] = {}
    for path in sorted((folder / "sections").glob("*.json")):
        name = current_name(path.stem)
        if name not in files or path.stem == name:  # one that was evaluated again since goes before its former self
            files[name] = path
    if not files:
        raise MissingFileError(
            f"{folder} holds no evaluation: no sections/*.json; run mlip evaluate MODEL folder={folder}"
        )
    names = [name for name in order if name in files] + [name for name in sorted(files) if name not in order]
    about = {"name": folder.name}
    if (folder / ABOUT).exists():
        about |= json.loads((folder / ABOUT).read_text(encoding="utf-8"))
    return about, [replace(read_section(files[name]), name=name) for name in names]


def current_name(section: str) -> str:
    """Name of a section, which versions up to November 2026 wrote as static.NAME or size.NAME."""
    return FORMER_NAMES.get(section, section.removeprefix("static."))


def save(folder: Path, section: Section, figures: Callable | None) -> tuple[dict[str, bytes], list[str]]:
    """The section's figures as folder/SECTION_NAME.png and .pdf: PNG bytes by name, and a sentence if plotting failed."""
    if figures is None or is_failed(section):
        return {}, []
    pictures = {}
    try:
        with matplotlib.rc_context(STYLE):
            plotted = figures(section.data)
        for name, figure in plotted.items():
            pictures[name] = png(figure)
            figure.set_layout_engine("none")  # the PDF takes the places that were found for the PNG
            for suffix in ("png", "pdf"):
                with whole_file(folder / f"{section.name}_{name}.{suffix}") as part:
                    part.write_bytes(pictures[name] if suffix == "png" else pdf(figure))
    except Exception as error:  # noqa: BLE001  numbers are worth reading without their picture
        return pictures, [f"a figure could not be drawn: {type(error).__name__}: {error}"]
    return pictures, []


def png(figure: Figure, dpi: int = 160) -> bytes:
    """The figure as a PNG file."""
    return _bytes(figure, format="png", dpi=dpi)


def pdf(figure: Figure) -> bytes:
    """The figure as a PDF file, the same bytes each time."""
    return _bytes(figure, format="pdf", metadata={"CreationDate": None})


def _bytes(figure: Figure, **how) -> bytes:
    file = BytesIO()
    with matplotlib.rc_context(STYLE):
        figure.savefig(file, **how)
    return file.getvalue()


# ---------------------------------------------------------------- parts of the page


def head(about: dict, judged: list[Judged]) -> list[str]:
    """Title, what was evaluated, how many verdicts of each kind."""
    count = Counter(row.result.verdict for row in judged)
    counts = [f"{html.verdict(word)} {count[word]}" for word in ("pass", "warn", "fail", "limit") if count[word]]
    shown_of = {key: value.get("_target_") if isinstance(value, dict) else value for key, value in about.items()
               if key not in ("name", "left_out", "commands")}  # fmt: skip
    facts = [
        f"{escape(key.replace('_', ' '))}: {escape(str(value))}"
        for key, value in shown_of.items()
        if value not in (None, "")
    ]
    left_out = [f"{name} needs {', '.join(needs)}" for name, needs in about.get("left_out", {}).items()]
    return [
        f"<h1>{escape(about['name'])}</h1>",
        f'<p class="soft">{" · ".join(facts)}</p>',
        f"<p>{' &nbsp; '.join(counts)}</p>" if counts else "",
        f'<p class="soft">Not evaluated: {escape("; ".join(left_out))}</p>' if left_out else "",
    ]


def verdicts(judged: list[Judged], titles: dict[str, str]) -> list[str]:
    """The table that a reader in a hurry reads."""
    rows = [row for row in judged if row.result.verdict or row.threshold]
    return [
        "<h2>Verdicts</h2>",
        '<p class="soft">Intervals are 95.4 % (2σ). Pass and warn: the limits in the threshold column, and the property\'s own checks.</p>',
        tables.verdict_table(rows, titles) if rows else "<p>Nothing was judged.</p>",
    ]


def contents(sections: list[Section], titles: dict[str, str]) -> list[str]:
    """Links to the sections."""
    links = [f'<a href="#{section.name}">{escape(titles.get(section.name, section.name))}</a>' for section in sections]
    return ["<nav>" + "".join(links) + "</nav>"]


def sentences(notes: list[str]) -> list[str]:
    """Notes as a list; empty if there are none."""
    return ["<ul>" + "".join(f"<li>{escape(note)}</li>" for note in notes) + "</ul>"] if notes else []


def console_table(judged: list[Judged], title: str) -> Table:
    """The verdict table in the terminal."""
    table = Table(title=title)
    for column in ("property", "quantity", "value", "threshold", "verdict"):
        table.add_column(column, justify="right" if column == "value" else "left")
    colours = {"pass": "green", "warn": "yellow", "fail": "red", "limit": "cyan", "": "default"}
    for row in judged:
        result = row.result
        if not (result.verdict or row.threshold):
            continue
        value = str(replace(result, name="", conditions={}, verdict="")).strip()
        at, current = result.conditions.get("temperature_K"), result.conditions.get("current")
        of = "" if current is None else f" of {current}"  # formal charges, Born charges
        quantity = result.name.replace("_", " ") + of + ("" if at is None else f", {at:g} K")
        shown = "–" if result.value is None and result.high is None else value.removeprefix("= ")
        if shown == "–" and result.notes:
            quantity += f": {result.notes[0]}"
        table.add_row(row.section, quantity, shown, row.threshold, f"[{colours[result.verdict]}]{result.verdict}[/]")
    return table
