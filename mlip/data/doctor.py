"""The label doctor: looks at files before a training does, and says what is wrong, where, and what helps."""

import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from rich.markup import escape
from rich.table import Table

from mlip.data import diagnosis, splits
from mlip.data.diagnosis import ERROR, OK, UNKNOWN, WARN, Finding
from mlip.data.label_check import label_complaint
from mlip.data.statistics import fit_atomic_energies
from mlip.data.structure_check import complaint
from mlip.data.structures import Source, frames, sources
from mlip.data.summary import Summary


def check(
    files, validation_files=None, test_files=None, split: dict | None = None, remove_net_force: bool = False
) -> list[Finding]:
    """Findings on every file, on files against each other, and on the parts a split would make of them.

    files, validation_files, test_files, split, remove_net_force  as in `DataModule`. Frames are read one at a time.
    A file that cannot be read is a finding, not an exception.
    """
    findings, summaries, parts = [], [], []
    for part, given in (("train", files), ("validation", validation_files), ("test", test_files)):
        found, problems = _sources(given)
        findings += problems
        for source in found:
            summary, problems = _read(source, remove_net_force)
            findings += problems
            if summary is not None:
                summaries.append(summary)
                parts.append(part)
                findings += diagnosis.examine(summary)
    findings += _references(summaries)
    findings += _repeats(summaries)
    if summaries:
        findings += _coverage(summaries, parts, dict(split or {}))
    return findings


def has_errors(findings: Iterable[Finding]) -> bool:
    """Whether training on these files would be wrong: the command's exit status."""
    return any(finding.severity == ERROR for finding in findings)


def table(findings: Sequence[Finding]) -> Table:
    """Findings as a table, the worst first."""
    shown = Table(title="label doctor", show_lines=False)
    for name in ("", "file", "check", "finding", "what helps"):
        shown.add_column(name, overflow="fold")
    colours = {ERROR: "bold red", WARN: "yellow", UNKNOWN: "cyan", OK: "green"}
    for finding in sorted(findings, key=lambda f: list(colours).index(f.severity)):
        mark = f"[{colours[finding.severity]}]{finding.severity}[/]"
        shown.add_row(mark, *map(escape, (_short(finding.file), finding.check, finding.message, finding.remedy)))
    return shown


def _sources(given) -> tuple[list[Source], list[Finding]]:
    found, problems = [], []
    one = given is None or isinstance(given, str | os.PathLike | Mapping | Source)
    for entry in [] if given is None else [given] if one else given:
        try:
            found += sources(entry)
        except (FileNotFoundError, KeyError) as error:
            problems.append(Finding(ERROR, "reading", str(entry), str(error.args[0])))
    return found, problems


def _read(source: Source, remove_net_force: bool) -> tuple[Summary | None, list[Finding]]:
    summary, problems = Summary(source), {}
    try:
        for atoms in frames(source, remove_net_force or source.remove_net_force, checked=False):
            complaints = {"geometry": complaint(atoms), "labels": label_complaint(atoms)}
            complaints = {check: f"{atoms.info['source']}: {text}" for check, text in complaints.items() if text}
            for check, text in complaints.items():
                problems.setdefault(check, []).append(text)
            if not complaints:
                summary.add(atoms)
    except (ValueError, KeyError, OSError) as error:
        problems["reading"] = [str(error.args[0] if error.args else error)]
    return (summary if len(summary) else None), [
        _listed(check, source.path, texts) for check, texts in problems.items()
    ]


def _listed(check: str, path: str, texts: list[str], most: int = 3) -> Finding:
    """The first complaints of a kind, and how many more there are."""
    more = f"; and {len(texts) - most} frames more" if len(texts) > most else ""
    return Finding(ERROR, check, path, "; ".join(texts[:most]) + more, "training refuses these frames")


@dataclass(frozen=True)
class _Reference:
    file: str
    mean: float
    spread: float


def _references(summaries: Sequence[Summary]) -> list[Finding]:
    """Files of one level must share their energy reference: equal compositions must not differ by file."""
    findings = []
    for level in sorted({summary.source.level for summary in summaries}):
        chosen = [s for s in summaries if s.source.level == level and np.isfinite(s.array("energy")).sum() >= 3]
        if len(chosen) < 2:
            continue
        elements = sorted({z for s in chosen for composition in s.compositions for z in composition})
        rows = [s.composition_rows(elements) for s in chosen]
        energies = [s.array("energy") for s in chosen]
        good = [np.isfinite(e) for e in energies]
        table_of = fit_atomic_energies(np.concatenate([r[g] for r, g in zip(rows, good, strict=True)]),
                                       np.concatenate([e[g] for e, g in zip(energies, good, strict=True)]))  # fmt: skip
        references = []
        for s, row, energy, mask in zip(chosen, rows, energies, good, strict=True):
            residual = ((energy - row @ table_of) / row.sum(axis=1))[mask]
            references.append(_Reference(s.source.path, float(residual.mean()), float(residual.std())))
        low, high = min(references, key=lambda r: r.mean), max(references, key=lambda r: r.mean)
        if high.mean - low.mean > max(0.1, 8 * max(low.spread, high.spread)):
            findings.append(Finding(
                WARN, "energy reference", high.file,
                f"lies {high.mean - low.mean:.3g} eV/atom above {low.file.rsplit('/', 1)[-1]} at the same level {level!r}",
                "give each file its own `level` (or `energy_shift`)",
            ))  # fmt: skip
        else:
            findings.append(
                Finding(OK, "energy reference", f"{len(chosen)} files", f"one reference at level {level!r}")
            )
    return findings


def _repeats(summaries: Sequence[Summary]) -> list[Finding]:
    """The same structure twice: harmless with equal labels, wrong with different ones at one level."""
    seen: dict[tuple[str, bytes], tuple[str, float, int]] = {}
    repeated, contradicting = {}, {}
    for summary in summaries:
        for name, geometry, energy, n in zip(summary.names, summary.geometries, summary.array("energy"),
                                             summary.array("n_atoms"), strict=True):  # fmt: skip
            first = seen.setdefault((summary.source.level, geometry), (name, energy, n))
            if first[0] == name:
                continue
            different = abs(first[1] - energy) / n > 1e-3
            (contradicting if different else repeated).setdefault(summary.source.path, []).append((first[0], name))
    findings = []
    for path, pairs in contradicting.items():
        findings.append(Finding(ERROR, "duplicates", path, f"{len(pairs)} structures occur twice with energies that "
                                f"differ by more than 1 meV/atom, e.g. {_short(pairs[0][0])} and {_short(pairs[0][1])}",
                                "remove the wrong one, or give the files different levels"))  # fmt: skip
    for path, pairs in repeated.items():
        findings.append(Finding(WARN, "duplicates", path, f"{len(pairs)} frames repeat an earlier structure, e.g. "
                                f"{_short(pairs[0][1])} repeats {_short(pairs[0][0])}",
                                "remove them: they weigh double; training never lets them cross its parts"))  # fmt: skip
    if summaries and not findings:
        findings.append(Finding(OK, "duplicates", _together(summaries), "no structure occurs twice"))
    return findings


def _together(summaries: Sequence[Summary]) -> str:
    """Name of all files in a row of the table."""
    return summaries[0].source.path if len(summaries) == 1 else f"{len(summaries)} files"


def _short(name: str) -> str:
    return name.rsplit("/", 1)[-1]


def _coverage(summaries: Sequence[Summary], parts: Sequence[str], settings: dict) -> list[Finding]:
    """Every element of the held-out parts must be trained."""
    inside = [s for s, part in zip(summaries, parts, strict=True) if part == splits.TRAIN]
    where = inside[0].source.path if len(inside) == 1 else f"{len(summaries)} files"
    if not inside:
        return [Finding(ERROR, "split", where, "no readable file to train on")]
    for part in (splits.VALIDATION, splits.TEST):
        if part in parts:
            settings[part] = 0
    trajectory = np.unique([f"{i}:{t}" for i, s in enumerate(inside) for t in s.trajectories], return_inverse=True)[1]
    order = np.concatenate([s.array("order") for s in inside])
    config_types = np.array([c for s in inside for c in s.config_types])
    try:
        chosen = splits.split(trajectory, order, config_types, **settings)
    except (ValueError, KeyError) as error:
        return [Finding(ERROR, "split", where, str(error.args[0]))]
    compositions = [c for s in inside for c in s.compositions]
    counts = {part: {} for part in chosen}
    for part, numbers in chosen.items():
        for n in numbers:
            for element in compositions[n]:
                counts[part][element] = counts[part].get(element, 0) + 1
    for summary, part in zip(summaries, parts, strict=True):
        if part != splits.TRAIN:
            for composition in summary.compositions:
                for element in composition:
                    counts[part][element] = counts[part].get(element, 0) + 1
    return diagnosis.coverage(where, counts)
