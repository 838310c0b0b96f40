"""Time and memory per frame of a training set that is larger than memory, against the number of frames.

    python scripts/bench_streaming.py FOLDER --frames 1000 10000 100000 1000000      # docs/benchmarks/training_at_scale.md

A synthetic extxyz file (8 atoms, random displacements and labels) is read as `mlip train` reads it: neighbour lists and
labels go to the processed set once (`build`), every later start opens it (`open`), and an epoch reads each frame from
it, shuffled, with nothing kept in memory (`data.memory=0`). Each entry has a process of its own, and its memory is the
peak beyond that of the imports. Times are CPU seconds of the process that trains, so that other work on the machine
does not count; with a worker, they are what is left for that process to do. FOLDER keeps every entry that is done: the
same command goes on with the next, and a build that was killed with its last piece.
"""

import argparse
import json
import multiprocessing
import resource
import shutil
import time
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import h5py
import numpy as np
import torch
from ase.build import bulk
from rich.console import Console
from rich.table import Table

from mlip import keys
from mlip.data.datamodule import DataModule
from mlip.data.structures import write
from mlip.files import read_json, whole_file, write_json

COLUMNS = ("frames", "file MB", "build us/frame", "build MB", "open us/frame", "open MB", "epoch us/frame", "epoch MB",
           "worker us/frame", "worker MB")  # fmt: skip


def synthetic(n_frames: int):
    """Labelled LiCl cells, one after another."""
    rng = np.random.default_rng(0)
    crystal = bulk("LiCl", "rocksalt", a=5.1, cubic=True)
    for number in range(n_frames):
        atoms = crystal.copy()
        atoms.positions += rng.normal(scale=0.1, size=(8, 3))
        atoms.info |= {keys.REF_ENERGY: -30.0 + rng.normal(), "step": number}
        atoms.arrays[keys.REF_FORCES] = rng.normal(size=(8, 3))
        yield atoms


def write_frames(path: Path, n_frames: int, chunk: int = 1000) -> None:
    """The file, chunk by chunk."""
    frames, parts = synthetic(n_frames), path.with_name("chunk.xyz")
    with whole_file(path) as whole, open(whole, "wb") as file:
        for start in range(0, n_frames, chunk):
            write(parts, [next(frames) for _ in range(min(chunk, n_frames - start))])
            file.write(parts.read_bytes())
    parts.unlink()


def peak_mb() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e3


def in_process(action, *arguments):
    """The result of a function that a fresh child runs."""
    with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as pool:
        return pool.submit(action, *arguments).result()


def opened(folder: Path, **settings) -> tuple[DataModule, float, float]:
    """The data as training sees it, seconds, and MB."""
    before, begin = peak_mb(), time.process_time()
    data = DataModule(folder / "frames.xyz", cutoff=5.0, cache=folder, split={"method": "random"}, batch_size=8, memory=0,
                      progress=False, **settings)  # fmt: skip
    data.setup()
    return data, time.process_time() - begin, peak_mb() - before


def timed_open(folder: Path, n_frames: int) -> tuple[float, float]:
    """Seconds for each frame of a start, or of a build without the pieces that are there, and MB."""
    for piece in folder.glob("*.pieces/*.h5"):
        with h5py.File(piece, "r") as file:
            n_frames -= len(file["frames"])
    _, seconds, mb = opened(folder)
    return seconds / n_frames, mb


def timed_epoch(folder: Path, workers: int) -> tuple[float, float]:
    """Seconds for each frame of an epoch, and MB of start and epoch."""
    torch.set_num_threads(1)
    before = peak_mb()
    data, _, _ = opened(folder, num_workers=workers)
    loader = data.train_dataloader()
    begin = time.process_time()
    n_frames = sum(len(batch[keys.CELL]) for batch in loader)
    return (time.process_time() - begin) / n_frames, peak_mb() - before


def bench(folder: Path, n_frames: int) -> dict:
    """One size; `done.json` holds what is measured."""
    done = folder / "done.json"
    folder.mkdir(parents=True, exist_ok=True)
    row = read_json(done) if done.exists() else {"frames": n_frames}
    if not (row.keys() >= set(COLUMNS) or (folder / "frames.xyz").exists()):
        write_frames(folder / "frames.xyz", n_frames)
    for name, action, argument in (("build", timed_open, n_frames), ("open", timed_open, n_frames), ("epoch", timed_epoch, 0),
                                   ("worker", timed_epoch, 1)):  # fmt: skip
        if f"{name} us/frame" not in row:
            seconds, mb = in_process(action, folder, argument)
            row |= {f"{name} us/frame": 1e6 * seconds, f"{name} MB": mb,
                    "file MB": sum(path.stat().st_size for path in folder.glob("*.h5")) / 1e6}  # fmt: skip
            write_json(done, row)
            print(json.dumps(row), flush=True)
    return row


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--frames", type=int, nargs="+", default=[1000, 10_000, 100_000])
    asked, table = parser.parse_args(), Table(*COLUMNS)
    for n_frames in asked.frames:
        row = bench(asked.folder / str(n_frames), n_frames)
        for path in (asked.folder / str(n_frames)).iterdir():  # done.json stays
            if path.name != "done.json":
                shutil.rmtree(path) if path.is_dir() else path.unlink()
        table.add_row(*(f"{row[name]:.3g}" if isinstance(row[name], float) else str(row[name]) for name in COLUMNS))
    Console(width=160).print(table)


if __name__ == "__main__":
    main()
