"""Inputs of a run in its folder: who may write there, and what is kept to export it without the data."""

import shutil
from pathlib import Path

import yaml
from ase import Atoms

from mlip import keys
from mlip.data.structures import write
from mlip.errors import FolderInUseError
from mlip.files import whole_file
from mlip.training.run import Run


def check_run_folder(folder: Path, config: dict, overwrite: bool) -> None:
    """Check that a run may use this folder: new, or left by the same run when it was cut off.

    config     resolved, plain. overwrite deletes an earlier run
    Raises FolderInUseError for a finished run, for an unfinished one of another config, for what is no run at all.
    """
    if overwrite and (folder / "config.yaml").exists():
        shutil.rmtree(folder)
    if Run(folder).has_ended:
        raise FolderInUseError(f"{folder} holds a finished run: choose another name=..., or overwrite=true")
    if (folder / "checkpoints" / "last.ckpt").exists():
        changed = Run(folder).difference(config)
        if changed is not None:
            raise FolderInUseError(
                f"{folder} holds an unfinished run with another {changed}: repeat its command to resume it, "
                "choose another name=..., or overwrite=true"
            )
    elif folder.is_dir() and not (folder / "config.yaml").exists() and any(folder.iterdir()):
        raise FolderInUseError(f"{folder} exists and is no run of mlip: choose another name=...")


def write_run_inputs(folder: Path, config: dict, data) -> None:
    """Write what a run is made of before its first step: config.yaml, split.json, and examples.xyz for the checks of exports.

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
