"""HDF5 files that are written in pieces and joined at the end, so that a kill costs the last piece only."""

import contextlib
import io
import shutil
from collections.abc import Iterator, Sequence
from pathlib import Path

import h5py
import numpy as np

from mlip.files import whole_file

ROWS = 2**16  # copied at once


def folder_of(path: Path) -> Path:
    """Where the pieces of a file lie until it is whole."""
    return path.with_suffix(".pieces")


def piece(path: Path, number: int) -> Path:
    """File of one piece."""
    return folder_of(path) / f"{number:06d}.h5"


def pieces(path: Path) -> list[Path]:
    """The pieces that are there, from the first on; a damaged one and those behind it do not count."""
    whole: list[Path] = []
    while True:
        try:
            with h5py.File(piece(path, len(whole)), "r"):
                whole.append(piece(path, len(whole)))
        except OSError:
            return whole


def remove(path: Path) -> None:
    """The pieces of a file, gone."""
    shutil.rmtree(folder_of(path), ignore_errors=True)


def column(parts: Sequence[Path], table: str, name: str) -> np.ndarray:
    """One field of a table of all pieces."""
    columns = [np.zeros(0, dtype=np.int64)]
    for part in parts:
        with h5py.File(part, "r") as file:
            columns.append(file[table].fields(name)[:])
    return np.concatenate(columns)


@contextlib.contextmanager
def new_file(path: Path) -> Iterator[tuple[h5py.File, "FileOfHDF5"]]:
    """A file that appears under its name when the block ends, and the disk below it, whose error the block must raise."""
    with whole_file(path) as part, FileOfHDF5(part, "w+b") as disk:
        try:
            with h5py.File(disk, "w") as file:
                yield file, disk
        except (OSError, RuntimeError) as error:  # HDF5 stumbles over what the full disk did not keep
            raise disk.error or error from None
        disk.check()


def join(parts: Sequence[Path], path: Path, rows: str) -> None:
    """One file of all pieces: tables that grow are appended to each other, the rest is that of the last piece.

    rows   table that every piece has; one that some pieces lack has as many rows, of its fill value there
    """
    with new_file(path) as (whole, disk):
        for part in parts:
            with h5py.File(part, "r") as file:
                before = len(whole[rows]) if rows in whole else 0
                for name, table in file.items():
                    if table.maxshape[0] is None:
                        _append(whole, name, table, before)
                        disk.check()
                for name in set(whole) - set(file):
                    whole[name].resize(len(whole[rows]), axis=0)
        with h5py.File(parts[-1], "r") as file:
            for name in set(file) - set(whole):
                whole.create_dataset(name, data=file[name][:], dtype=file[name].dtype)
            whole.attrs.update(file.attrs)


def _append(whole: h5py.File, name: str, table: h5py.Dataset, before: int) -> None:
    if name not in whole:
        whole.create_dataset(name, (before, *table.shape[1:]), table.dtype, maxshape=table.maxshape, chunks=table.chunks,
                             fillvalue=table.fillvalue)  # fmt: skip
    start = len(whole[name])
    whole[name].resize(start + len(table), axis=0)
    for row in range(0, len(table), ROWS):
        whole[name][start + row : start + row + ROWS] = table[row : row + ROWS]


class FileOfHDF5(io.FileIO):
    """A file that keeps the error of a full disk from HDF5, which would try again as the process ends, and crash it."""

    error: OSError | None = None

    def check(self) -> None:
        """Raise the error, if there was one."""
        if self.error is not None:
            raise self.error

    def write(self, content) -> int:
        """Write all of it, or note why that failed."""
        left = memoryview(content).cast("B")
        while len(left) and self.error is None:
            try:
                left = left[super().write(left) :]
            except OSError as error:
                self.error = error
        return len(content)

    def truncate(self, size=None) -> int:
        """Set the length, or note why that failed."""
        try:
            return super().truncate(size)
        except OSError as error:
            self.error = self.error or error
            return size or 0
