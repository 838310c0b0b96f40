#!/usr/bin/env python3
"""Samplings side by side: errors on the same held-out hops against the number of labels, as figures and a table.

    scripts/compare_samplings.py runs/compared transition_states=runs/li3ycl6_ts random_md=runs/li3ycl6_md

Runs of one name are seeds of one sampler: the figures show their medians, bars from best to worst. Writes results.csv, NAME.png.
"""

import csv
import json
import sys
from collections.abc import Iterable
from pathlib import Path

import numpy as np
from rich.console import Console
from rich.table import Table

from mlip.evaluation.plots import BLUE, GREEN, ORANGE, RED, canvas, legend, log_ticks
from mlip.files import whole_file

STYLES = {
    "random_md": (BLUE, "o"),
    "uncertainty": (ORANGE, "s"),
    "neb_only": (GREEN, "D"),
    "transition_states": (RED, "^"),
    "on_demand": ("#CC79A7", "v"),  # the purple of Okabe and Ito
}
ERRORS = {  # key of a record's hold_out: axis, unit, factor
    "barrier_mae": ("barrier MAE, unseen hops", "meV"),
    "ion_force_vector_mae": ("force vector MAE of hopping ions, unseen", "meV/Å"),
    "force_vector_rmse": ("force vector RMSE, all atoms, unseen hops", "meV/Å"),
}
FORMER_NAMES = {
    "ion_force_mae": "ion_force_vector_mae",
    "force_rmse": "force_vector_rmse",
}  # in records of older samplings


def rows_of(runs: Iterable[tuple[str, Path]]) -> list[dict]:
    """A row for every round: sampler, run, labels, and the errors in eV and Å."""
    rows = []
    for name, run in runs:
        for file in sorted(run.glob("rounds/*/record.json")):
            record = json.loads(file.read_text())
            if not record.get("ended"):
                errors = {key: errors_of(record).get(key) for key in ERRORS}
                rows.append({"sampler": name, "run": run.name, "labels": record["labels"], **errors})
    if not rows:
        raise SystemExit("none of the folders holds a finished round")
    return rows


def errors_of(record: dict) -> dict:
    """The hold-out errors of a record, under their names of today."""
    return {FORMER_NAMES.get(key, key): value for key, value in (record["hold_out"] or {}).items()}


def write(folder: Path, rows: list[dict]) -> None:
    """folder/results.csv and folder/NAME.png."""
    folder.mkdir(parents=True, exist_ok=True)
    with whole_file(folder / "results.csv") as part, open(part, "w", newline="") as file:
        writer = csv.DictWriter(file, rows[0])
        writer.writeheader()
        writer.writerows(rows)
    for key, (label, unit) in ERRORS.items():
        figure, axis = canvas("labels", f"{label} ({unit})")
        for number, name in enumerate(dict.fromkeys(row["sampler"] for row in rows)):
            found = by_labels([row for row in rows if row["sampler"] == name], key)
            if found:
                middle = np.array([np.median(values) for values in found.values()])
                ends = np.abs(np.array([[min(values), max(values)] for values in found.values()]).T - middle)
                colour, marker = STYLES.get(name, (f"{0.2 + 0.2 * (number % 4):g}", "x"))  # others in grey
                axis.errorbar(
                    list(found), middle, ends, fmt=f"-{marker}", color=colour, capsize=2, markersize=4, label=name
                )
        axis.set_yscale("log")
        log_ticks(axis.yaxis, *axis.get_ylim())
        legend(figure).savefig(folder / f"{key}.png", dpi=160)


def by_labels(rows: list[dict], key: str) -> dict[int, list[float]]:
    """Thousandths of an error, of all runs that have so many labels."""
    found: dict[int, list[float]] = {}
    for row in sorted(rows, key=lambda row: row["labels"]):
        if row[key] is not None:
            found.setdefault(row["labels"], []).append(1e3 * row[key])
    return found


def table(rows: list[dict]) -> Table:
    """Medians over the runs of a sampler, smallest and largest behind them, by labels."""
    shown = Table(title="errors on hops that no run was trained on: median (smallest - largest)")
    for head in ("sampler", "labels", "runs", *(f"{label}\n{unit}" for label, unit in ERRORS.values())):
        shown.add_column(head, justify="left" if head == "sampler" else "right")
    for name in dict.fromkeys(row["sampler"] for row in rows):
        of_name = [row for row in rows if row["sampler"] == name]
        for labels in sorted({row["labels"] for row in of_name}):
            values = [by_labels(of_name, key).get(labels, []) for key in ERRORS]
            cells = [
                f"{np.median(v):.1f} ({min(v):.1f} - {max(v):.1f})" if len(v) > 1 else f"{v[0]:.1f}" if v else ""
                for v in values
            ]
            shown.add_row(name, str(labels), str(max(map(len, values))), *cells)
    return shown


def main() -> None:
    """Reads the runs that are named, writes and prints."""
    rows = rows_of((word.split("=", 1)[0], Path(word.split("=", 1)[1])) for word in sys.argv[2:])
    write(Path(sys.argv[1]), rows)
    Console().print(table(rows))


if __name__ == "__main__":
    main()
