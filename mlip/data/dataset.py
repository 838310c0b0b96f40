"""Graphs of labelled structures, read frame by frame from the processed set (`mlip.data.processed`)."""

import os
from collections.abc import Iterator, Sequence

import h5py
import numpy as np
import torch
from torch import Tensor

from mlip import keys
from mlip.data.processed import CHARGE_OF_GROUP, PER_ATOM


class GraphDataset(torch.utils.data.Dataset):
    """Graphs from a processed set; only the frames asked for are read.

    indices  which frames of the file, in which order; all of them without it
    levels   names whose positions become keys.LEVEL; those of the file, in its order, without it
    memory   bytes of graphs kept after their first reading: small sets are read once, large ones stay on disk
    """

    def __init__(self, path: str | os.PathLike, indices: np.ndarray | None = None,
                 levels: Sequence[str] | None = None, memory: int = 2**28):  # fmt: skip
        self.path = str(path)
        with h5py.File(self.path, "r") as file:
            self.config_types, self.levels, self.trajectories = (
                [name.decode() for name in file[kind][:]] for kind in ("config_types", "levels", "trajectories")
            )
            self.cutoff = float(file.attrs["cutoff"])
            total = len(file["frames"])
        self._level_number = [list(levels or self.levels).index(name) for name in self.levels]
        self.indices = np.arange(total) if indices is None else np.asarray(indices, dtype=np.int64)
        self.n_edges = self.column("n_edges")
        self.memory, self._kept = memory, {}
        self._file: h5py.File | None = None
        self._tables: dict[str, h5py.Dataset] = {}
        self._process: int | None = None

    def __len__(self) -> int:
        return len(self.indices)

    def __getstate__(self) -> dict:
        return {**self.__dict__, "_file": None, "_tables": {}, "_kept": {}}

    def column(self, name: str) -> np.ndarray:
        """One field of FRAME for every frame of this set."""
        with h5py.File(self.path, "r") as file:
            return file["frames"].fields(name)[:][self.indices]

    def sources(self) -> list[str]:
        """Where each frame came from, "file:index"."""
        with h5py.File(self.path, "r") as file:
            return [name.decode() for name in file["source"][:][self.indices]]

    def extremes(self) -> tuple[dict[tuple[int, int], float], dict[int, float], dict[int, float]]:
        """Shortest distance Å of each pair of atomic numbers (ascending), largest and least crowding of each, over this set."""
        chosen = np.unique(self.indices)
        shortest: dict[tuple[int, int], float] = {}
        most: dict[int, float] = {}
        least: dict[int, float] = {}
        with h5py.File(self.path, "r") as file:
            for start in range(0, len(file["extremes"]), 2**20):
                rows = file["extremes"][start : start + 2**20]
                rows = rows[np.isin(rows["frame"], chosen)]
                kinds, place = np.unique(rows[["a", "b"]], return_inverse=True)
                low, high = np.full(len(kinds), np.inf), np.full(len(kinds), -np.inf)
                np.minimum.at(low, place, rows["value"])
                np.maximum.at(high, place, rows["value"])
                for (a, b), lowest, highest in zip(kinds.tolist(), low.tolist(), high.tolist(), strict=True):
                    if b == 0:
                        most[a] = max(most.get(a, 0.0), highest)
                    elif a == 0:
                        least[b] = min(least.get(b, np.inf), lowest)
                    else:
                        shortest[a, b] = min(shortest.get((a, b), np.inf), lowest)
        return shortest, most, least

    def numbers(self) -> Iterator[tuple[int, np.ndarray]]:
        """(position in this set, atomic numbers [n_atoms]) of each frame, in the order of the file, few at a time."""
        with h5py.File(self.path, "r") as file:
            start, count = (file["frames"].fields(name)[:] for name in ("atom_start", "n_atoms"))
            order = np.argsort(self.indices, kind="stable")
            for block in np.array_split(order, max(1, len(order) // 4096)):
                if len(block):
                    first, last = self.indices[block[0]], self.indices[block[-1]]
                    all_numbers = file["numbers"][start[first] : start[last] + count[last]]
                    for position in block:
                        begin = start[self.indices[position]] - start[first]
                        yield int(position), all_numbers[begin : begin + count[self.indices[position]]]

    def __getitem__(self, position: int) -> dict[str, Tensor]:
        frame = int(self.indices[position])
        graph = self._kept.get(frame)
        if graph is None:
            graph = self._read(frame)
            size = sum(tensor.nbytes for tensor in graph.values())
            if size <= self.memory:
                self.memory -= size
                self._kept[frame] = graph
        return dict(graph)  # the tensors are shared, the dictionary is the caller's

    def _open(self) -> dict[str, h5py.Dataset]:
        if self._file is None or self._process != os.getpid():  # a forked worker must not share its parent's handle
            # looking a data set up costs as much as reading a frame from it: done once
            file = h5py.File(self.path, "r")
            self._file, self._process, self._tables = file, os.getpid(), dict(file.items())
        return self._tables

    def _read(self, frame: int) -> dict[str, Tensor]:
        file = self._open()
        row = file["frames"][frame]
        atoms = slice(row["atom_start"], row["atom_start"] + row["n_atoms"])
        edges = slice(row["edge_start"], row["edge_start"] + row["n_edges"])
        centre = np.repeat(np.arange(row["n_atoms"], dtype=np.int64), file["degree"][atoms])
        graph = {
            keys.POSITIONS: torch.from_numpy(file["positions"][atoms]),
            keys.ATOMIC_NUMBERS: torch.from_numpy(file["numbers"][atoms].astype(np.int64)),
            keys.CELL: torch.from_numpy(row["cell"].copy())[None],
            keys.PBC: torch.from_numpy(row["pbc"].astype(bool))[None],
            keys.BATCH: torch.zeros(int(row["n_atoms"]), dtype=torch.int64),
            keys.EDGE_INDEX: torch.from_numpy(np.stack([centre, file["neighbour"][edges].astype(np.int64)])),
            keys.EDGE_SHIFT: torch.from_numpy(file["shift"][edges].astype(np.float64)),
            keys.TOTAL_CHARGE: torch.tensor([row["total_charge"]], dtype=torch.float64),
            keys.WEIGHT: torch.tensor([row["weight"]], dtype=torch.float64),
            keys.LEVEL: torch.tensor([self._level_number[row["level"]]]),
            keys.CONFIG_TYPE: torch.tensor([int(row["config_type"])]),
            keys.REF_ENERGY: torch.tensor([row["energy"]], dtype=torch.float64),
            keys.REF_STRESS: torch.from_numpy(row["stress"].copy())[None],
            keys.REF_FORCES: torch.full((int(row["n_atoms"]), 3), torch.nan, dtype=torch.float64),
        }
        for key in PER_ATOM:
            if key in file:
                graph[key] = torch.from_numpy(file[key][atoms])
        if np.isfinite(row["field"]).all():
            graph[keys.FIELD] = torch.from_numpy(row["field"].copy())[None]
        if keys.CHARGE_GROUP in file and np.isfinite(file[keys.CHARGE_GROUP][atoms]).all():
            group = torch.from_numpy(file[keys.CHARGE_GROUP][atoms].astype(np.int64))
            charge = torch.from_numpy(file[CHARGE_OF_GROUP][atoms])
            graph[keys.CHARGE_GROUP] = group
            graph[keys.GROUP_CHARGE] = torch.zeros(int(group.max()) + 1, dtype=torch.float64).index_copy(
                0, group, charge
            )
        return graph
