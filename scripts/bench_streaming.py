"""Time and memory per frame of a training set that is larger than memory, against the number of frames.

    python scripts/bench_streaming.py --frames 1000 4000 16000      # docs/benchmarks/training_at_scale.md

A synthetic extxyz file (8 atoms, random displacements and labels) is read as `mlip train` reads it: neighbour lists and
labels go to the processed set once (`build`), every later start opens it (`open`), and an epoch reads each frame from
it, shuffled, with nothing kept in memory (`data.memory=0`). Each entry has a process of its own, and its memory is the
peak beyond that of the imports. Times are CPU seconds of the process that trains, so that other work on the machine
does not count; with a worker, they are what is left for that process to do.
"""

import argparse
import multiprocessing
import resource
import tempfile
import time
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import numpy as np
import torch
from ase.build import bulk
from rich.console import Console
from rich.table import Table

from mlip import keys
from mlip.data.datamodule import DataModule
from mlip.data.structures import write

COLUMNS = ("frames", "file MB", "build us/frame", "build MB", "open us/frame", "open MB", "epoch us/frame", "epoch MB",
           "epoch us/frame, 1 worker")  # fmt: skip


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
    frames, parts = synthetic(n_frames), path.with_suffix(".part.xyz")
    with open(path, "wb") as file:
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


def timed_open(folder: Path) -> tuple[float, float]:
    """Seconds and MB of a start."""
    return opened(folder)[1:]


def timed_epoch(folder: Path, workers: int) -> tuple[float, float]:
    """Seconds for each frame of an epoch, and MB of start and epoch."""
    torch.set_num_threads(1)
    before = peak_mb()
    data, _, _ = opened(folder, num_workers=workers)
    loader = data.train_dataloader()
    begin = time.process_time()
    n_frames = sum(len(batch[keys.CELL]) for batch in loader)
    return (time.process_time() - begin) / n_frames, peak_mb() - before


def bench(n_frames: int) -> dict:
    """One size."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write_frames(folder / "frames.xyz", n_frames)
        build_s, build_mb = in_process(timed_open, folder)
        open_s, open_mb = in_process(timed_open, folder)
        epoch_s, epoch_mb = in_process(timed_epoch, folder, 0)
        worker_s, _ = in_process(timed_epoch, folder, 1)
        size = sum(path.stat().st_size for path in folder.glob("*.h5")) / 1e6
    row = (
        size,
        1e6 * build_s / n_frames,
        build_mb,
        1e6 * open_s / n_frames,
        open_mb,
        1e6 * epoch_s,
        epoch_mb,
        1e6 * worker_s,
    )
    return dict(zip(COLUMNS, (n_frames, *row), strict=True))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--frames", type=int, nargs="+", default=[1000, 4000, 16000])
    table = Table(*COLUMNS)
    for n_frames in parser.parse_args().frames:
        row = bench(n_frames)
        print(row, flush=True)
        table.add_row(*(f"{value:.3g}" if isinstance(value, float) else str(value) for value in row.values()))
    Console(width=160).print(table)


if __name__ == "__main__":
    main()
