"""Page of one material in Markdown: what a paper prints of an evaluated folder, beside the literature; what is not established first."""

import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path

from ase import Atoms

from mlip.evaluation.agreement import beside
from mlip.evaluation.html import interval, number, unit, value, where, words
from mlip.evaluation.literature import Entry
from mlip.evaluation.result import Result
from mlip.evaluation.section import Section
from mlip.files import whole_file

FIGURES = {  # file of the folder: caption
    "barriers_parity": "Barriers of hops against DFT",
    **{f"{section}_{name}": caption for section in ("diffusion", "trajectories") for name, caption in (
        ("arrhenius_tracer_diffusivity", "Diffusivity, 2σ bars and band"),
        ("arrhenius_conductivity", "Conductivity, 2σ bars and band"),
        ("msd", "Mean square displacement"),
    )},
    "eos_eos": "Energy against volume",
}  # fmt: skip
ACCURACY = ("energy_mae", "force_mae", "force_rmse", "stress_rmse", "softening_slope")
WANTED = ("accuracy", "barriers", "lattice", "eos")  # properties without which the page is not whole, beside dynamics
LATTICE = ("a", "b", "c", "alpha", "beta", "gamma", "volume", "density", "B0")
TRANSPORT = {  # result at a temperature: head of its column
    "md_time": "production (ps)", "tracer_diffusivity": "D (cm²/s)", "effective_hops": "effective hops", "haven_ratio": "Haven ratio",
    "conductivity": "σ (S/cm)",
}  # fmt: skip


def write_page(
    page: Path,
    folder: Path,
    about: Mapping,
    sections: Sequence[Section],
    labels: Sequence[Atoms],
    known: Sequence[Entry],
    remarks: str,
) -> None:
    """Write PAGE.md and the figures it shows, page.parent/figures/PAGE_*.png, from those of the folder.

    labels   frames that the potential was trained on;  known  rows of the literature table;  remarks  Markdown, of a person
    """
    of = {section.name: section for section in sections}
    shown = [name for name in FIGURES if (folder / "figures" / f"{name}.png").is_file()]
    for name in shown:
        target = page.parent / "figures" / f"{page.stem}_{name}.png"
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(folder / "figures" / f"{name}.png", target)
    results = [result for section in sections for result in section.results]
    parts = [f"# {about['name']}", "", *not_established(about, sections), *potential(about, labels), *accuracy(of.get("accuracy")),
             *barriers(of.get("barriers")), *lattice(results, known), *transport(of.get("diffusion", of.get("trajectories"))),
             *compared(results, known)]  # fmt: skip
    parts += [f"![{FIGURES[name]}](figures/{page.stem}_{name}.png)\n" for name in shown]
    parts += ["## Remarks", "", remarks.strip(), ""] if remarks else []
    parts += ["## Commands", "", "```bash", *about.get("commands", []), "```", ""]
    with whole_file(page) as part:
        part.write_text("\n".join(parts), encoding="utf-8")


def table(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    """A table of Markdown and an empty line; nothing without rows."""
    lines = [columns, ["---"] * len(columns), *rows]
    return ["| " + " | ".join(line) + " |" for line in lines] + [""] if rows else []


def shown(result: Result, digits: int = 3) -> str:
    """Value and interval."""
    text = number(result.value, digits) if result.value is not None else value(result)
    return f"{text} {interval(result, digits)}".strip()


def not_established(about: Mapping, sections: Sequence[Section]) -> list[str]:
    """What the evaluation could not establish: failed and uncertain numbers with their notes, and what was left out."""
    texts: dict[str, list[str]] = {}
    for section in sections:
        for result in section.results:
            for note in result.notes if result.verdict in ("warn", "fail", "limit") else ():
                texts.setdefault(note, []).append(
                    f"{words(result.name)} {f'({where(result)})' if result.conditions else ''}".strip()
                )
        for note in section.notes if not section.results else ():
            texts.setdefault(note, []).append(section.name)
    lines = [f"- {', '.join(dict.fromkeys(names))}: {note}" for note, names in texts.items()]
    there = {section.name for section in sections}
    lines += [f"- not evaluated: {name}, for want of {', '.join(about.get('left_out', {}).get(name, ['a command that names it']))}"
              for name in WANTED if name not in there]  # fmt: skip
    if not there & {"diffusion", "trajectories"}:
        lines.append("- no dynamics: neither a diffusivity nor an activation energy nor a conductivity")
    return ["## Not established", "", *(lines or ["All that was evaluated is established."]), ""]


def potential(about: Mapping, labels: Sequence[Atoms]) -> list[str]:
    """Labels, what they cost, the potential and the machine."""
    seconds = [atoms.info["label_seconds"] for atoms in labels if "label_seconds" in atoms.info]
    cost = (
        f"{sum(seconds) / 3600:.2g} hours ({len(seconds)} of {len(labels)} labels say how long they took)"
        if seconds
        else "not recorded"
    )
    sizes = sorted({len(atoms) for atoms in labels})
    rows = [
        ("labels", f"{len(labels)} of {' and '.join(map(str, sizes))} atoms"),
        ("DFT, one core", cost),
    ]
    rows = rows if labels else []
    facts = ("model", "sha256", "cutoff", "structure", "kernel", "date")
    rows += [(key.replace("_", " "), str(about[key])) for key in facts if about.get(key)]
    return ["## Potential", "", *table(("", ""), rows)]


def accuracy(section: Section | None) -> list[str]:
    """Errors on held-out frames, of all ions and of the migrating ones."""
    if section is None:
        return []
    rows = [(words(r.name), where(r) or "all", shown(r), unit(r.unit)) for r in section.results
            if r.name in ACCURACY and set(r.conditions) <= {"ions"}]  # fmt: skip
    return ["## Accuracy on held-out frames", "", *table(("", "of", "value, 2σ interval", "unit"), rows)]


def barriers(section: Section | None) -> list[str]:
    """Barriers of every hop in their numbers, and mean errors."""
    if section is None:
        return []
    hops = list(dict.fromkeys(r.conditions["hop"] for r in section.results if "hop" in r.conditions))
    names = ("barrier_dft", "barrier_fixed_images", "barrier_own", "barrier_dft_on_own_saddle")
    values = {(r.conditions.get("hop"), r.name): r for r in section.results}
    used = [name for name in names if any((hop, name) in values for hop in hops)]
    rows = [(str(hop), *(shown(values[hop, name]) if (hop, name) in values else "" for name in used)) for hop in hops]
    means = [(words(r.name), where(r), shown(r), unit(r.unit)) for r in section.results
             if r.name in ("barrier_mae", "barrier_largest_error")]  # fmt: skip
    heads = ["hop", *(f"{words(name).removeprefix('barrier ')} (eV)" for name in used)]
    return ["## Barriers", "", *table(heads, rows), *table(("", "of", "value", "unit"), means)]


def lattice(results: Sequence[Result], known: Sequence[Entry]) -> list[str]:
    """The relaxed cell and the bulk modulus beside known ones of the conventional cell."""
    rows = [
        (words(r.name), shown(r, 4), unit(r.unit), "")
        for r in results
        if r.name in LATTICE and "against" not in r.conditions
    ]
    if not rows:
        return []
    cells = [e for e in known if set(e.quantity.replace(",", " ").split()) <= {*LATTICE, "bulk_modulus"}]
    rows += [(words(e.quantity), text_of(e), unit(e.unit), f"{e.kind}, {e.source}") for e in cells]
    return [
        "## Lattice and bulk modulus",
        "",
        *table(("", "value, 2σ interval", "unit", "source, where not ours"), rows),
    ]


def text_of(entry: Entry) -> str:
    """Values of a row of the literature."""
    return ("–" if entry.is_range else ", ").join(number(each) for each in entry.values)


def transport(section: Section | None) -> list[str]:
    """A row for each run, by temperature; E_a and what is extrapolated below."""
    if section is None:
        return []
    at: dict[float, list[dict[str, Result]]] = {}
    for result in section.results:
        if result.name in TRANSPORT:
            runs = at.setdefault(result.conditions["temperature_K"], [{}])
            if result.name in runs[-1]:  # the next run of this temperature
                runs.append({})
            runs[-1][result.name] = result
    columns = [name for name in TRANSPORT if any(name in run for runs in at.values() for run in runs)]
    rows = [(f"{t:g}", *(shown(run[name]) if name in run else "" for name in columns))
            for t, runs in sorted(at.items()) for run in runs]  # fmt: skip
    lines = [(words(r.name), where(r), shown(r), unit(r.unit)) for r in section.results
             if r.name in ("activation_energy", "diffusivity_extrapolated", "conductivity_extrapolated")]  # fmt: skip
    notes = [f"{section.notes[0]}.", ""] if section.notes else []
    return ["## Diffusion", "", *notes, *table(("T (K)", *(TRANSPORT[name] for name in columns)), rows),
            *table(("", "of", "value, 2σ interval", "unit"), lines)]  # fmt: skip


def compared(results: Sequence[Result], known: Sequence[Entry]) -> list[str]:
    """Ours beside each value of the literature, and the sentence whether they agree."""
    rows = [(words(entry.quantity), shown(ours), text_of(entry), unit(entry.unit), f"{entry.kind}, {entry.source}", verdict)
            for entry in known if (both := beside(results, entry)) for ours, verdict in [both]]  # fmt: skip
    return (
        ["## Beside the literature", "", *table(("", "ours, 2σ interval", "theirs", "unit", "source", ""), rows)]
        if rows
        else []
    )
