"""The folder of a run: who may write there, what it keeps so that its potential can be exported without the data."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import torch
import yaml
from ase import Atoms
from torch import nn

from mlip import keys
from mlip.data.graph import to_graph
from mlip.data.structures import read, write
from mlip.export import export
from mlip.files import whole_file
from mlip.settings import first_difference
from mlip.training.fit import load_potential


def claim(folder: Path, config: dict, overwrite: bool) -> None:
    """Makes sure that a run may use this folder: new, or left by the same run when it was cut off.

    config     resolved, plain. overwrite deletes an earlier run
    Raises FileExistsError for a finished run, for an unfinished one of another config, for what is no run at all.
    """
    if overwrite and (folder / "config.yaml").exists():
        shutil.rmtree(folder)
    if has_ended(folder):
        raise FileExistsError(f"{folder} holds a finished run: choose another name=..., or overwrite=true")
    if (folder / "checkpoints" / "last.ckpt").exists():
        changed = first_difference(yaml.safe_load((folder / "config.yaml").read_text()), json.loads(json.dumps(config)))
        if changed is not None:
            raise FileExistsError(
                f"{folder} holds an unfinished run with another {changed}: repeat its command to go on with it, "
                "choose another name=..., or overwrite=true"
            )
    elif folder.is_dir() and not (folder / "config.yaml").exists() and any(folder.iterdir()):
        raise FileExistsError(f"{folder} exists and is no run of mlip: choose another name=...")


def has_ended(folder: Path) -> bool:
    """Whether the folder holds the metrics and the model of a run."""
    return (folder / "metrics.json").exists() and any(folder.glob("model*.pt"))


def is_finished(folder: Path, config: dict) -> bool:
    """Whether a run with this config (resolved, plain) has ended here."""
    return has_ended(folder) and first_difference(yaml.safe_load((folder / "config.yaml").read_text()), json.loads(json.dumps(config))) is None


def furnish(folder: Path, config: dict, data) -> None:
    """Writes what is known before the first step: config.yaml, split.json, and examples.xyz for the checks of exports.

    data  a `DataModule` that was set up
    """
    with whole_file(folder / "config.yaml") as part:
        part.write_text(yaml.safe_dump(config, sort_keys=False, allow_unicode=True))
    data.save_split(folder)
    write(folder / "examples.xyz", examples(data.sets["train"]))


def examples(frames, n_frames: int = 8) -> list[Atoms]:
    """A few structures of a data set, spread over it."""
    chosen = sorted({round(i * (len(frames) - 1) / n_frames) for i in range(n_frames)})
    return [
        Atoms(
            graph[keys.ATOMIC_NUMBERS].numpy(), graph[keys.POSITIONS].numpy(), cell=graph[keys.CELL][0].numpy(),
            pbc=graph[keys.PBC][0].numpy(), info={keys.TOTAL_CHARGE: float(graph[keys.TOTAL_CHARGE])},
        )
        for graph in map(frames.__getitem__, chosen)
    ]  # fmt: skip


def export_run(
    run: Path,
    path: Path,
    build: Callable[[dict, dict], nn.Module],
    format: str = "torchscript",
    dtype: str | None = None,
    level: str | None = None,
    n_frames: int = 8,
    checkpoint: Path | None = None,
) -> dict:
    """Exports a run, its best weights unless a checkpoint of it is named; returns the file's metadata.

    build as in `load_potential`, the rest as in `export`
    """
    return export_potential(load_potential(checkpoint or run, build), run, path, format, dtype, level, n_frames)


def export_potential(
    potential: nn.Module,
    run: Path,
    path: Path,
    format: str = "torchscript",
    dtype: str | None = None,
    level: str | None = None,
    n_frames: int = 8,
    about: dict | None = None,
) -> dict:
    """Exports a potential made from a run, with the run's examples and description; about: more for the metadata."""
    structures = read(run / "examples.xyz")[:n_frames]
    for atoms in structures:
        atoms.info["level"] = potential.levels[0]
    graphs = [to_graph(atoms, potential.cutoff, potential.levels) for atoms in structures]
    metadata = {
        "training_hash": json.loads((run / "split.json").read_text())["training_hash"],
        "config": yaml.safe_load((run / "config.yaml").read_text()),
        **(about or {}),
    }
    return export(potential, path, metadata, graphs, format, dtype and getattr(torch, dtype), level)
