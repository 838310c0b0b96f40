"""Inputs of an evaluation: one structure, labelled frames, the test frames of a training."""

import json
from pathlib import Path

import numpy as np
import yaml
from ase import Atoms

from mlip.data.structures import frames, read, read_one, sources
from mlip.errors import InputError


def structure(file: str, repeat=(1, 1, 1), times: int = 1) -> Atoms:
    """The structure in a file, its last frame or the one of "start.xyz@3", repeated; `times` that along every axis."""
    repeat = tuple(times * n for n in repeat)
    frame = read_one(file)
    atoms = Atoms(frame.numbers, frame.positions, cell=frame.cell, pbc=frame.pbc)
    atoms.info["total_charge"] = frame.info["total_charge"] * int(np.prod(repeat))
    return atoms.repeat(repeat)


def labelled(files, max_frames: int | None = None) -> list[Atoms]:
    """Labelled frames of files (as data.files of a training), at most max_frames, evenly spaced; none of None.

    A folder of a training means the frames that it held out to test.
    """
    if files is None:
        return []
    entries = [files] if isinstance(files, str | dict) else list(files)
    structures = []
    for entry in entries:
        is_run = isinstance(entry, str) and (Path(entry) / "split.json").is_file()
        structures += held_out(Path(entry)) if is_run else read(entry)
    if max_frames is None or max_frames >= len(structures):
        return structures
    return [structures[i] for i in np.linspace(0, len(structures) - 1, max_frames).round().astype(int)]


def held_out(run: Path) -> list[Atoms]:
    """The test frames of a training, read as the training read them, in the order of its split.json.

    Keys, index, level, energy shift, format and net forces are those of its data.files. Raises InputError if it held none
    out, or if its files no longer hold them.
    """
    wanted = json.loads((run / "split.json").read_text(encoding="utf-8"))["frames"].get("test", [])
    if not wanted:
        raise InputError(
            f"{run} held out no frames to test: name labelled frames that it never saw, data.files=other.xyz"
        )
    config = yaml.safe_load((run / "config.yaml").read_text(encoding="utf-8"))["data"]
    net = config.get("remove_net_force", False)
    by_source: dict[str, Atoms] = {}
    for files in filter(None, (config["files"], config.get("test_files"))):
        for source in sources(files):
            for atoms in frames(source, net or source.remove_net_force):
                by_source.setdefault(atoms.info["source"], atoms)
    lost = [name for name in wanted if name not in by_source]
    if lost:
        raise InputError(f"{run} held out {lost[0]}, which its files no longer hold: restore them, or give data.files")
    return [by_source[name] for name in wanted]
