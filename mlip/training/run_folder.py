"""Inputs of a run in its folder: who may write there, and what is kept to export it without the data."""

import itertools
from pathlib import Path

import yaml
from ase import Atoms

from mlip import keys
from mlip.data.structures import write
from mlip.errors import FolderInUseError
from mlip.files import whole_file
from mlip.training.run import Run

# what a run that was killed at once may leave; "lock" holds nothing
LEFT_BY_A_KILL = {"config.yaml", "config.yaml.part", "split.json.part", "lock"}


def check_run_folder(folder: Path, config: dict, overwrite: bool) -> None:
    """Check that a run may use this folder: new, or left by the same run when it was cut off. Nothing is touched.

    config     resolved, plain. overwrite allows an earlier run, which `move_aside` keeps under another name
    Raises FolderInUseError for a finished run, for an unfinished one of another config, for what is no run at all.
    """
    if overwrite and is_run(folder):
        return
    if Run(folder).has_ended:
        raise FolderInUseError(f"{folder} holds a finished run: choose another name=..., or overwrite=true")
    if (folder / "checkpoints" / "last.ckpt").exists():
        changed = Run(folder).difference(config)
        if changed is not None:
            raise FolderInUseError(
                f"{folder} holds an unfinished run with another {changed}: repeat its command to resume it, "
                "choose another name=..., or overwrite=true"
            )
    elif folder.is_dir() and not is_run(folder) and any(path.name not in LEFT_BY_A_KILL for path in folder.iterdir()):
        raise FolderInUseError(
            f"{folder} exists and is no run of mlip: choose another name=...; nothing in it was touched"
        )


def is_run(folder: Path) -> bool:
    """True for a folder that `write_run_inputs` has begun to fill: a config.yaml alone may be anybody's."""
    return (folder / "config.yaml").is_file() and (
        (folder / "split.json").is_file() or {path.name for path in folder.iterdir()} <= LEFT_BY_A_KILL
    )


def move_aside(folder: Path) -> Path | None:
    """Rename an earlier run to NAME.old-1, NAME.old-2, ...; returns its new place, None if there was none."""
    if not is_run(folder):
        return None
    number = next(n for n in itertools.count(1) if not folder.with_name(f"{folder.name}.old-{n}").exists())
    return folder.rename(folder.with_name(f"{folder.name}.old-{number}"))


def check_same_data(folder: Path, training_hash: str) -> None:
    """Raise FolderInUseError if the run in the folder was begun with other training frames."""
    if (folder / "split.json").is_file() and Run(folder).split["training_hash"] != training_hash:
        raise FolderInUseError(
            f"the training frames are not those that {folder} was begun with: its files have changed since. Restore them, "
            "choose another name=..., or overwrite=true"
        )


def write_run_inputs(folder: Path, config: dict, data) -> None:
    """Write what a run is made of before its first step: config.yaml, split.json, and examples.xyz for the checks of exports.

    data  a `DataModule` that was set up
    """
    with whole_file(folder / "config.yaml") as part:
        part.write_text(yaml.safe_dump(config, sort_keys=False, allow_unicode=True), encoding="utf-8")
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
