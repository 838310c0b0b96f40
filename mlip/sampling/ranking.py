"""Ranking of the runs of a sweep by forces on hopping ions and barriers.

Liu, He, Mo, npj Comput. Mater. 9, 174 (2023): errors on migrating ions follow diffusion, errors on all atoms do not.
"""

import csv
import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from ase import Atoms
from rich.table import Table

from mlip.data.structures import read
from mlip.errors import InputError
from mlip.files import whole_file
from mlip.sampling.errors import hold_out_errors

RANKED_BY = {"ion_force_vector_mae": "force vector MAE\nof hopping ions\nmeV/Å", "barrier_mae": "barrier MAE\nmeV"}
SHOWN = {**RANKED_BY, "force_vector_rmse": "force vector RMSE\nof all atoms\nmeV/Å"}


def rank(runs: Mapping[str, Path], hold_out: Sequence[Atoms], load: Callable[[Path], object]) -> list[dict]:
    """A row for each run, the best first.

    Columns: place, run, ion_force_vector_mae, barrier_mae, force_vector_rmse (eV, Å), cpu_s. The order is that of the sum
    of the places in RANKED_BY; a tie goes to the smaller error on the ions.

    runs      folder by name
    hold_out  labelled frames of hops, from `read_hold_out`
    Raises ValueError if a run was trained on one of them.
    """
    rows = []
    for name, folder in runs.items():
        check_not_trained_on(folder, hold_out)
        errors = hold_out_errors(load(min(folder.glob("model*.pt"))), hold_out)
        metrics = json.loads((folder / "metrics.json").read_text(encoding="utf-8"))
        rows.append({"run": name, **{key: getattr(errors, key) for key in SHOWN}, "cpu_s": metrics["cpu_s"]})
    for row in rows:
        row["places"] = sum(sum(other[key] < row[key] for other in rows) for key in RANKED_BY if row[key] is not None)
    rows.sort(key=lambda row: (row["places"], row["ion_force_vector_mae"]))
    return [
        {"place": number + 1, **{key: value for key, value in row.items() if key != "places"}}
        for number, row in enumerate(rows)
    ]


def read_hold_out(files) -> list[Atoms]:
    """The frames of hold_out; ValueError if none names the hopping ion."""
    frames = read(files)
    if not any(int(atoms.info.get("ion", -1)) >= 0 for atoms in frames):
        raise InputError(f"none of the {len(frames)} frames of hold_out={files} names the ion that hops (info `ion`): runs are ranked by "
                         "errors on migrating ions; mlip sample writes such frames, see datasets/li3ycl6")  # fmt: skip
    return frames


def check_not_trained_on(folder: Path, hold_out: Sequence[Atoms]) -> None:
    """Raises ValueError if a run was trained or validated on one of the frames."""
    frames = json.loads((folder / "split.json").read_text(encoding="utf-8"))["frames"]
    shared = {source for part in ("train", "validation") for source in frames[part]} & {
        a.info["source"] for a in hold_out
    }
    if shared:
        raise InputError(f"{folder} was trained on {len(shared)} frames of hold_out, {min(shared)} among them: name files that data.files "
                         "does not hold")  # fmt: skip


def ranking_table(rows: Sequence[dict]) -> Table:
    """The rows as a table for the terminal."""
    shown = Table(title="runs, best first, on hops that none was trained on")
    for head in ("", "run", *SHOWN.values(), "CPU s"):
        shown.add_column(head, justify="left" if head == "run" else "right", overflow="fold")
    for row in rows:
        values = ["" if row[key] is None else f"{1e3 * row[key]:.1f}" for key in SHOWN]
        shown.add_row(str(row["place"]), row["run"], *values, f"{row['cpu_s']:.0f}")
    return shown


def write_ranking(path: Path, rows: Sequence[dict]) -> None:
    """The rows as CSV, eV and Å."""
    with whole_file(path) as part, open(part, "w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
