"""Comparison of evaluated folders: one table of numbers, figures side by side."""

from collections.abc import Mapping, Sequence
from html import escape
from pathlib import Path

from matplotlib.figure import Figure

from mlip.errors import InputError
from mlip.evaluation import html, report
from mlip.evaluation.cost_figures import plot_accuracy_cost
from mlip.evaluation.evaluate import is_failed
from mlip.evaluation.plots import plot_arrhenius_lines
from mlip.evaluation.property import Presentation
from mlip.evaluation.result import write_csv
from mlip.evaluation.section import Section
from mlip.evaluation.static.barrier_parity import pairs, plot_along, plot_parity
from mlip.evaluation.thresholds import Judged, judge
from mlip.evaluation.transport import points_and_line
from mlip.files import whole_file


def compare(folders: Sequence[str], folder: str | Path, properties: Mapping[str, Presentation]) -> Path:
    """Writes comparison.html, comparison.csv and figures/ into folder; returns the page.

    folders  at least two that mlip evaluate wrote; properties as report.build takes them
    """
    if len(folders) < 2:
        raise InputError(f"compare needs at least two evaluated folders, got {list(folders)}")
    folder = Path(folder)
    evaluated = [report.read(Path(each), list(properties)) for each in folders]
    names = distinct([about["name"] for about, _ in evaluated], folders)
    sections = [{section.name: section for section in of_folder} for _, of_folder in evaluated]
    thresholds = {name: each.thresholds for name, each in properties.items()}
    judged = {name: judge(of_folder.values(), thresholds) for name, of_folder in zip(names, sections, strict=True)}
    order = list(dict.fromkeys(section for of_folder in sections for section in of_folder))
    order = [name for name in properties if name in order] + [name for name in order if name not in properties]
    by_name = dict(zip(names, sections, strict=True))
    body = [
        f"<h1>{escape(' · '.join(names))}</h1>",
        *accuracy_against_cost(by_name, folder),
        *barrier_parity(by_name, folder),
        *arrhenius_lines(by_name, folder),
    ]
    for section in order:
        shown = properties.get(section, Presentation(section))
        body += [f"<h2>{escape(shown.title)}</h2>", quantity_table(judged, section)]
        drawn = {}
        for name, of_folder in zip(names, sections, strict=True):
            if section in of_folder:
                pictures, remarks = report.save(folder / "figures" / name, of_folder[section], shown.figures)
                drawn |= {(kind, name): png for kind, png in pictures.items()}
                body += report.sentences([f"{name}: {text}" for text in remarks])
        body += side_by_side(drawn)
    page = folder / "comparison.html"
    with whole_file(page) as part:
        part.write_text(html.page(" · ".join(names), body), encoding="utf-8")
    flat = [row for name, rows in judged.items() for row in report.flat(rows, {"model": name})]
    write_csv(folder / "comparison.csv", flat)
    return page


def distinct(names: list[str], folders: Sequence[str]) -> list[str]:
    """The names, or the folders' own paths if two are the same; matplotlib leaves a name that begins with _ out of a legend."""
    return names if len(set(names)) == len(names) else [str(each).strip("/._").replace("/", "_") for each in folders]


def key(row: Judged) -> tuple:
    """Key of a quantity, equal for the same quantity of different models."""
    return row.result.name, row.result.unit, tuple(sorted((k, str(v)) for k, v in row.result.conditions.items()))


def quantity_table(judged: Mapping[str, list[Judged]], section: str) -> str:
    """One row per quantity, one column per model."""
    by_model = {name: {key(row): row for row in rows if row.section == section} for name, rows in judged.items()}
    keys = list(dict.fromkeys(each for rows in by_model.values() for each in rows))
    lines = []
    for each in keys:
        rows = [by_model[name].get(each) for name in judged]
        first = next(row.result for row in rows if row)
        cells = [f"{html.value(row.result)} <small>{html.interval(row.result)}</small> {html.verdict(row.result.verdict)}"
                 if row else "" for row in rows]  # fmt: skip
        lines.append((html.words(first.name), html.where(first), html.unit(first.unit), *cells))
    return html.table(["quantity", "where", "unit", *judged], lines, numbers=range(3, 3 + len(judged)))


def side_by_side(drawn: Mapping[tuple[str, str], bytes]) -> list[str]:
    """Figures of one kind beside each other, one for each model."""
    rows = []
    for kind in dict.fromkeys(kind for kind, _ in drawn):
        images = [
            html.figure(png, f"{name}: {kind.replace('_', ' ')}") for (of, name), png in drawn.items() if of == kind
        ]
        rows.append('<div class="figures">' + "\n".join(images) + "</div>")
    return rows


def accuracy_against_cost(sections: Mapping[str, Mapping[str, Section]], folder: Path) -> list[str]:
    """Force error against time per atom and step, if at least two models have both."""
    both = {name: (of_model["accuracy"], of_model["cost"]) for name, of_model in sections.items()
            if all(each in of_model and not is_failed(of_model[each]) for each in ("accuracy", "cost"))}  # fmt: skip
    if len(both) < 2:
        return []
    return kept(plot_accuracy_cost(both), folder, "accuracy_cost", "Accuracy against cost; lower left is better")


def barrier_parity(sections: Mapping[str, Mapping[str, Section]], folder: Path) -> list[str]:
    """Barriers on the models' own paths against DFT's, and each hop that several have on the same DFT images."""
    hops = {name: of_model["barriers"].data["hops"] for name, of_model in sections.items()
            if "barriers" in of_model and not is_failed(of_model["barriers"])}  # fmt: skip
    both = {name: points for name, of_hops in hops.items() if len(points := pairs(of_hops))}
    body = kept(plot_parity(both), folder, "barrier_parity", "Barriers against those of DFT") if both else []
    for hop in dict.fromkeys(hop for of_hops in hops.values() for hop in of_hops):
        curves = {name: of_hops[hop] for name, of_hops in hops.items() if "fixed" in of_hops.get(hop, {})}
        if len(curves) > 1 and len({tuple(of["fixed"]["dft_eV"]) for of in curves.values()}) == 1:
            body += kept(plot_along(hop, curves), folder, f"along_{hop}", f"Energy along hop {hop}")
    return body


def arrhenius_lines(sections: Mapping[str, Mapping[str, Section]], folder: Path) -> list[str]:
    """D against 1000/T, if at least two have it."""
    of_models = fits(sections)
    if len(of_models) < 2:
        return []
    return kept(plot_arrhenius_lines(of_models), folder, "arrhenius", "Diffusivities with their 2σ bars")


def fits(sections: Mapping[str, Mapping[str, Section]]) -> dict[str, tuple]:
    """Points and line of D of each model that has at least two temperatures; of trajectories that were named, if there are any."""
    found = {}
    for name, of_model in sections.items():
        for section in ("diffusion", "trajectories"):
            if section in of_model and not is_failed(of_model[section]):
                points, line = points_and_line(of_model[section].data, "tracer_diffusivity")
                found |= {name: (points, line)} if len(points) > 1 else {}
    return found


def kept(figure: Figure, folder: Path, name: str, caption: str) -> list[str]:
    """The figure as folder/figures/NAME.png and .pdf, and for the page."""
    data = report.png(figure)
    for suffix in ("png", "pdf"):
        with whole_file(folder / "figures" / f"{name}.{suffix}") as part:
            part.write_bytes(data if suffix == "png" else report.pdf(figure))
    return ['<div class="figures">' + html.figure(data, caption) + "</div>"]
