#!/usr/bin/env python3
"""What a student is worth in labels: fits to few frames of a pool, judged on unseen hops; of the shipped Li3YCl6 set, if no other is named.

    scripts/bench_few_labels.py runs/few --student runs/distill/student --selections mixed dozen --labels 12 24 --seeds 0 1 2 3
    scripts/bench_few_labels.py runs/few --selections mixed --labels 12 --words trainer.max_steps=1500        # from nothing
    scripts/bench_few_labels.py runs/few --student runs/distill/student --labels 12 --words l2_sp=10 --name l2sp
    scripts/bench_few_labels.py runs/few_br --data runs/br --student runs/br/distill/student

The student: mlip distill, see docs/benchmarks/few_labels.md. A finished fit is one file, FOLDER/NAME.json; repeated, the command goes on
and prints the table. --data names a folder with pool.xyz and hops.xyz, labelled frames with their kind (and hop, ion) among the info, as
sampling writes them. Of the shipped set the frames of the trials, which were chosen on this very test, are left out.
"""

import argparse
import contextlib
import io
import json
import shutil
import time
from pathlib import Path

import numpy as np
from ase import Atoms
from rich.console import Console
from rich.table import Table

import mlip
from mlip import cli
from mlip.data.structures import read, write
from mlip.files import write_json
from mlip.sampling.errors import hold_out_errors

DATA = Path(__file__).resolve().parents[1] / "datasets" / "li3ycl6"
SHIPPED = ("li3ycl6_gpaw.xyz", "li3ycl6_hops_gpaw.xyz")
TRIALS = ("first_trial", "second_trial")
MD = ("md", "check")
SELECTIONS = {  # shares of kinds; the rest comes from the last entry
    "mixed": [(("start",), 1 / 4), (MD, 1)],  # frames of dynamics and a few distorted crystals
    "dozen": [(("saddle",), 1 / 6), (("end",), 1 / 12), (("start",), 1 / 6), (MD, 1)],
    "paths": [(("saddle",), 1 / 3), (("end",), 1 / 6), (("hop",), 1)],  # saddles, ends, ions on their way
    "hops": [(("hop",), 1)],
    "dynamics": [(MD, 1)],
}


def choose(frames: list[Atoms], selection: str, n: int, seed: int) -> list[Atoms]:
    """n frames of a selection, drawn at random within each kind."""
    rng, kinds, chosen = np.random.default_rng([seed, n]), np.array([a.info["kind"] for a in frames]), []
    for wanted, share in SELECTIONS[selection]:
        pool = rng.permutation(np.flatnonzero(np.isin(kinds, wanted)))
        chosen += pool[: n - len(chosen) if share == 1 else int(n * share)].tolist()
    return [frames[number] for number in chosen]


def fit(
    folder: Path, name: str, frames: list[Atoms], test: list[Atoms], student: str | None, seed: int, words: list[str]
) -> dict:
    """Errors of one fit on the unseen hops, meV and Å."""
    run, result = folder / name, folder / f"{name}.json"
    if not result.exists():
        shutil.rmtree(run, ignore_errors=True)
        write(folder / f"{name}.xyz", frames)
        settings = {"data.files": folder / f"{name}.xyz", "material": "halide", "model": "small", "data.batch_size": 4, "folder": run,
                    "data.split.method": "random", "data.split.test": 0, "data.split.validation": 0, "trainer.max_steps": 500,
                    "trainer.logger": "null", "max_fall_eV": "null", "seed": seed}  # fmt: skip
        settings |= dict(word.split("=", 1) for word in words) | ({"checkpoint": student} if student else {})
        begin = time.process_time()
        with contextlib.redirect_stdout(io.StringIO()):
            code = cli.main(["train", *(f"{key}={value}" for key, value in settings.items())])
        if code:
            raise SystemExit(f"{name} broke off")
        write_json(result, errors(run / "model.pt", test) | {"cpu_s": time.process_time() - begin})
        shutil.rmtree(run)
    return json.loads(result.read_text())


def errors(model: Path, test: list[Atoms]) -> dict:
    """Barrier MAE, RMSE of the force vector of all atoms, and its MAE of hopping ions, on the hops; meV, Å."""
    found = hold_out_errors(mlip.load_calculator(model), test)
    return {
        "barrier": 1e3 * found.barrier_mae,
        "force": 1e3 * found.force_vector_rmse,
        "ion": 1e3 * found.ion_force_vector_mae,
    }


def main() -> None:
    """Fits what is missing, prints the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--data", type=Path, help="folder with pool.xyz and hops.xyz; without one the shipped set")
    parser.add_argument("--student", help="folder of its run; without one the fits start from nothing")
    parser.add_argument("--selections", nargs="+", choices=list(SELECTIONS), default=["mixed"])
    parser.add_argument("--labels", nargs="+", type=int, default=[12])
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2, 3])
    parser.add_argument("--name", default="", help="of these words, in the names of the files")
    parser.add_argument("--words", nargs="*", default=[], metavar="KEY=VALUE")
    asked = parser.parse_args()
    folder, names = (asked.data, ("pool.xyz", "hops.xyz")) if asked.data else (DATA, SHIPPED)
    pool, test = (read(folder / name) for name in names)
    frames = [a for a in pool if a.info.get("sampling") not in TRIALS or a.info["kind"] == "start"]
    table = Table(title=f"median (least - most) on {len({a.info['hop'] for a in test})} unseen hops")
    for head in ("selection", "labels", "barrier MAE, meV", "force vector RMSE, meV/Å", "of hopping ions, MAE"):
        table.add_column(head)
    if asked.student:
        table.add_row(
            "student alone", "0", *(f"{value:.1f}" for value in errors(Path(asked.student) / "model.pt", test).values())
        )
    for selection in asked.selections:
        for n in asked.labels:
            origin = "tuned" if asked.student else "new"
            rows = [fit(asked.folder, f"{origin}{asked.name}_{selection}_{n}_{seed}", choose(frames, selection, n, seed), test,
                        asked.student, seed, asked.words) for seed in asked.seeds]  # fmt: skip
            values = [[row[key] for row in rows] for key in ("barrier", "force", "ion")]
            table.add_row(selection, str(n), *(f"{np.median(v):.1f} ({min(v):.1f} - {max(v):.1f})" for v in values))
    Console().print(table)


if __name__ == "__main__":
    main()
