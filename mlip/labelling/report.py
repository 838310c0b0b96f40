"""Report of a labelling: labels, failures and their causes, the output file."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from ase import Atoms
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from mlip.data import doctor
from mlip.data.diagnosis import OK, Finding
from mlip.data.structures import write


@dataclass
class Report:
    """The labels in the order of the structures (None if there is none), and their provenance.

    kept      number of labels of earlier calls
    seconds   of the new labels
    failed    index of the structure -> cause; pending: the same for labels computed elsewhere
    findings  of the label doctor on all labels together
    """

    labelled: list[Atoms | None]
    kept: int
    seconds: list[float] = field(default_factory=list)
    failed: dict[int, str] = field(default_factory=dict)
    pending: dict[int, str] = field(default_factory=dict)
    findings: list[Finding] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)


def labelling_table(report: Report, structures: Sequence[Atoms]) -> Table:
    """Counts of new and kept labels, and a line for each cause of a missing label."""
    total = sum(atoms is not None for atoms in report.labelled)
    shown = Table(title=f"{total} of {len(report.labelled)} structures labelled", show_lines=False)
    for name in ("structures", "", "what"):
        shown.add_column(name, overflow="fold")
    new = len(report.seconds)
    rate = f"{np.mean(report.seconds):.3g} s per label, {np.sum(report.seconds):.3g} s together" if new else ""
    shown.add_row(str(new), "[green]new[/]", rate)
    shown.add_row(str(report.kept), "[green]kept[/]", "labelled by an earlier call" if report.kept else "")
    for word, colour, causes in (("failed", "bold red", report.failed), ("pending", "yellow", report.pending)):
        by_cause: dict[str, list[int]] = {}
        for n, cause in causes.items():
            by_cause.setdefault(cause, []).append(n)
        for cause, numbers in by_cause.items():
            named = ", ".join(_short(structures[n], n) for n in numbers[:3]) + (", ..." if len(numbers) > 3 else "")
            shown.add_row(str(len(numbers)), f"[{colour}]{word}[/]", escape(f"{named}: {cause}"))
    for note in report.notes:
        shown.add_row("", "[yellow]note[/]", escape(note))
    return shown


def _short(atoms: Atoms, n: int) -> str:
    return str(atoms.info.get("source", n)).rsplit("/", 1)[-1]


def write_labels(report: Report, structures: Sequence[Atoms], path: str | Path, console: Console) -> int:
    """Writes the labelled structures and prints the tables.

    Returns 1 if labels are missing or wrong, else 0. With a wrong unit or sign among the labels, the file is not written.
    """
    console.print(labelling_table(report, structures))
    notable = [finding for finding in report.findings if finding.severity != OK]
    if notable:
        console.print(doctor.table(notable))
    labelled = [atoms for atoms in report.labelled if atoms is not None]
    if doctor.has_errors(report.findings):
        console.print(f"{path} is not written: the labels must be right first (see the table)", markup=False)
        return 1
    if labelled:
        write(path, labelled)
        console.print(f"{path}: {len(labelled)} labelled structures", markup=False)
    return int(len(labelled) < len(structures))
