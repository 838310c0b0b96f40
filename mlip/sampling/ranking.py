"""Which run of a sweep is best where conductivity is decided: at ions on their way and at barriers, not in the mean error.

Liu, He, Mo, npj Comput. Mater. 9, 174 (2023): errors on migrating ions follow diffusion, errors on all atoms do not.
"""

import csv
import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from ase import Atoms
from rich.table import Table

from mlip.data.structures import read
from mlip.files import whole_file
from mlip.sampling.checks import on_hold_out

DECIDES = {"ion_force_vector_mae": "force vector MAE of hopping ions\nmeV/Å", "barrier_mae": "barrier MAE\nmeV"}
SHOWN = {**DECIDES, "force_vector_rmse": "force vector RMSE, all atoms\nmeV/Å"}


def rank(runs: Mapping[str, Path], hold_out: Sequence[Atoms], load: Callable[[Path], object]) -> list[dict]:
    """A row for each run, the best first: place, run, ion_force_vector_mae (eV/Å), barrier_mae (eV),
    force_vector_rmse (eV/Å), cpu_s; vector errors are those of mlip/error_metrics.py.

    The order is that of the sum of the places in DECIDES; a tie goes to the smaller error on the ions.

    runs      folder by name
    hold_out  labelled frames of hops, of `hops_of`
    Raises ValueError where a run was trained on one of them.
    """
    rows = []
    for name, folder in runs.items():
        refuse_known(folder, hold_out)
        found = on_hold_out(load(min(folder.glob("model*.pt"))), hold_out)
        metrics = json.loads((folder / "metrics.json").read_text())
        rows.append({"run": name, **{key: found[key] for key in SHOWN}, "cpu_s": metrics["cpu_s"]})
    for row in rows:
        row["places"] = sum(sum(other[key] < row[key] for other in rows) for key in DECIDES if row[key] is not None)
    rows.sort(key=lambda row: (row["places"], row["ion_force_vector_mae"]))
    return [{"place": number + 1, **{key: value for key, value in row.items() if key != "places"}} for number, row in enumerate(rows)]


def hops_of(files) -> list[Atoms]:
    """The frames of hold_out. ValueError where none names the ion that hops, with `ion` and `kind` as `mlip sample` writes them."""
    frames = read(files)
    if not any(int(atoms.info.get("ion", -1)) >= 0 for atoms in frames):
        raise ValueError(f"none of the {len(frames)} frames of hold_out={files} names the ion that hops (info `ion`): runs are ranked by "
                         "errors on migrating ions; mlip sample writes such frames, see datasets/li3ycl6")  # fmt: skip
    return frames


def refuse_known(folder: Path, hold_out: Sequence[Atoms]) -> None:
    """ValueError where a run has seen one of the frames."""
    frames = json.loads((folder / "split.json").read_text())["frames"]
    known = {source for part in ("train", "validation") for source in frames[part]} & {a.info["source"] for a in hold_out}
    if known:
        raise ValueError(f"{folder} was trained on {len(known)} frames of hold_out, {min(known)} among them: name files that data.files "
                         "does not hold")  # fmt: skip


def table(rows: Sequence[dict]) -> Table:
    """The rows for a terminal."""
    shown = Table(title="runs, best first, on hops that none was trained on")
    for head in ("", "run", *SHOWN.values(), "CPU s"):
        shown.add_column(head, justify="left" if head == "run" else "right", overflow="fold")
    for row in rows:
        values = ["" if row[key] is None else f"{1e3 * row[key]:.1f}" for key in SHOWN]
        shown.add_row(str(row["place"]), row["run"], *values, f"{row['cpu_s']:.0f}")
    return shown


def write(path: Path, rows: Sequence[dict]) -> None:
    """The rows as CSV, eV and Å."""
    with whole_file(path) as part, open(part, "w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
