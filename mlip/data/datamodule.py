"""Data for training: files in, batches of graphs and statistics out, the test part fixed before anything is fitted."""

import hashlib
import os
import warnings
from collections.abc import Iterator, Mapping
from pathlib import Path

import numpy as np
import torch
from ase import Atoms
from ase.data import chemical_symbols
from pytorch_lightning import LightningDataModule
from rich.progress import BarColumn, MofNCompleteColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

from mlip.data import processed, splits
from mlip.data.dataset import GraphDataset
from mlip.data.sampler import EdgeBatchSampler, GraphLoader
from mlip.data.splits import TEST, TRAIN, VALIDATION
from mlip.data.statistics import statistics as make_statistics
from mlip.data.structures import frames, sources
from mlip.errors import InputError
from mlip.files import lock, write_json


class DataModule(LightningDataModule):
    """Files of labelled structures as training, validation and test batches.

    files             a path, glob, folder, dictionary (fields of `structures.Source`), or a list of these
    validation_files, test_files  instead of a part of `files`
    cutoff            Å, of the neighbour lists
    split             {validation, test, method, seed}, see `splits.split`; its seed is not the training's seed, so that
                      all members of a committee share one test part
    batch_size, edges_per_batch   at most so many structures, edges, in a batch; one of them, or both
    seed              of the shuffling
    atomic_energies   "auto" (isolated atoms where there are any, else least squares), "least_squares", or a table
    statistics        of the model to be fine-tuned: its elements, levels and scales stay, new ones are added
    remove_net_force  subtracts the mean force of every frame
    cache             folder of processed sets, written once per content, cutoff and settings
    memory            bytes of graphs kept in memory per part
    """

    def __init__(
        self,
        files,
        cutoff: float,
        validation_files=None,
        test_files=None,
        split: Mapping | None = None,
        batch_size: int | None = 8,
        edges_per_batch: int | None = None,
        seed: int = 0,
        atomic_energies: str | Mapping = "auto",
        statistics: dict | None = None,
        remove_net_force: bool = False,
        cache: str = "~/.cache/mlip",
        memory: int = 2**28,
        num_workers: int = 0,
        progress: bool = True,
    ):
        super().__init__()
        self.cutoff, self.seed, self.num_workers, self.memory = float(cutoff), seed, num_workers, memory
        self.batch_size, self.edges_per_batch = batch_size, edges_per_batch
        self.split, self.atomic_energies, self.previous = dict(split or {}), atomic_energies, statistics
        self.remove_net_force, self.cache, self.progress = remove_net_force, cache, progress
        self.files = {TRAIN: files, VALIDATION: validation_files, TEST: test_files}
        self.parts: dict[str, np.ndarray] = {}

    def prepare_data(self) -> None:
        """Reads the files and writes the processed set, unless it is there and whole; does nothing after `setup`."""
        if self.parts:
            return
        self.sources, self._part_of_file = [], []
        for part, files in self.files.items():
            if files is not None:
                found = sources(files)
                self.sources += found
                self._part_of_file += [part] * len(found)
        self.cache_file = processed.cache_file(self.cache, self.sources, self.cutoff,
                                             {"remove_net_force": self.remove_net_force})  # fmt: skip
        if processed.is_whole(self.cache_file):
            return
        with lock(self.cache_file.with_suffix(".lock")):  # one process builds the set, others wait
            if not processed.is_whole(self.cache_file):
                levels = list(dict.fromkeys(source.level for source in self.sources))
                processed.build(self.cache_file, self._frames(*processed.built(self.cache_file)), self.cutoff, levels)

    def _frames(self, n_built: int, last_file: int, n_of_last: int) -> Iterator[tuple[int, Atoms]]:
        """Frames but for those that were built before, which are read without being looked at."""
        columns = SpinnerColumn(), TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn()
        with Progress(*columns, TimeElapsedColumn(), transient=True, disable=not self.progress) as bar:
            task = bar.add_task("structures and neighbour lists, frames read", total=None, completed=n_built)
            for number, source in list(enumerate(self.sources))[last_file:]:
                left_out = n_of_last if number == last_file else 0
                for atoms in frames(source, self.remove_net_force or source.remove_net_force, left_out=left_out):
                    yield number, atoms
                    bar.advance(task)

    def setup(self, stage: str | None = None) -> None:
        """Makes the parts and the statistics; does nothing the second time."""
        if self.parts:
            return
        self.prepare_data()
        whole = GraphDataset(self.cache_file)
        self.config_types: list[str] = whole.config_types
        previous = list(self.previous["levels"]) if self.previous else []
        self.levels: list[str] = [*previous, *(level for level in whole.levels if level not in previous)]
        self.parts, self.dropped = self._split(whole)
        if self.dropped:
            warnings.warn(f"{self.dropped} frames of the training or validation part repeat a structure of a held-out "
                          "part and were left out", stacklevel=2)  # fmt: skip
        self.sets = {part: GraphDataset(self.cache_file, chosen, self.levels, self.memory)
                     for part, chosen in self.parts.items()}  # fmt: skip
        self.statistics = self._statistics()
        content = sorted(row.tobytes() for row in self.sets[TRAIN].column("content"))
        self.training_hash = hashlib.sha256(b"".join(content)).hexdigest()

    def _split(self, whole: GraphDataset) -> tuple[dict[str, np.ndarray], int]:
        part_of = np.array(self._part_of_file)[whole.column("file")]
        config_types = np.array(whole.config_types)[whole.column("config_type")]
        settings = dict(self.split)
        for part in (VALIDATION, TEST):
            if self.files[part] is not None:
                settings[part] = 0  # files were given, nothing is taken from the training files
        # isolated atoms are reference energies: held out, they would leave a fit of total energies in their place
        alone = (whole.column("n_atoms") == 1) & (whole.n_edges == 0)
        references = np.flatnonzero((part_of == TRAIN) & alone)
        inside = np.flatnonzero((part_of == TRAIN) & ~alone)
        if len(inside) == 0:  # nothing but isolated atoms
            references, inside = inside, references
        parts = splits.split(whole.column("trajectory")[inside], whole.column("order")[inside], config_types[inside],
                             **settings)  # fmt: skip
        parts = {part: np.concatenate([inside[chosen], np.flatnonzero(part_of == part)]) if part != TRAIN
                 else inside[chosen] for part, chosen in parts.items()}  # fmt: skip
        parts[TRAIN] = np.concatenate([parts[TRAIN], references])
        return splits.without_repeats(parts, whole.column("geometry"))

    def _statistics(self) -> dict:
        train = self.sets[TRAIN]
        elements = sorted({int(z) for _, numbers in train.numbers() for z in np.unique(numbers)})
        known = {*elements, *(self.previous["elements"] if self.previous else ())}
        for part in (VALIDATION, TEST):
            strange = {int(z) for _, numbers in self.sets[part].numbers() for z in np.unique(numbers)} - known
            if strange:
                names = ", ".join(chemical_symbols[z] for z in sorted(strange))
                raise InputError(
                    f"{names} occurs in the {part} part but in no training frame; "
                    "split otherwise, or add training frames with it"
                )
        compositions = np.zeros((len(train), len(elements)), dtype=np.int32)
        for position, numbers in train.numbers():
            compositions[position] = np.bincount(np.searchsorted(elements, numbers), minlength=len(elements))
        counts, n_force = train.column("n_atoms"), train.column("n_force").sum()
        rms = float(np.sqrt(train.column("force_square").sum() / n_force)) if n_force else 0.0
        return make_statistics(
            elements, train.levels, compositions, train.column("energy"), train.column("level"),
            isolated=(counts == 1) & (train.n_edges == 0),
            mean_neighbours=max(1.0, float(train.n_edges.sum() / counts.sum())),
            force_rms=rms or 1.0,  # energies only, or perfect crystals only: forces give no scale
            extremes=train.extremes(), atomic_energies=self.atomic_energies, previous=self.previous,
        )  # fmt: skip

    def _loader(self, part: str, shuffle: bool) -> GraphLoader | list:
        chosen = self.sets[part]
        if len(chosen) == 0:
            return []
        rank, world_size = (self.trainer.global_rank, self.trainer.world_size) if self.trainer else (0, 1)
        sampler = EdgeBatchSampler(chosen.n_edges, self.edges_per_batch, self.batch_size, shuffle, self.seed, rank,
                                   world_size)  # fmt: skip
        return GraphLoader(chosen, sampler, self.num_workers, pin_memory=torch.cuda.is_available())

    def train_dataloader(self) -> GraphLoader:
        """Shuffled by seed and epoch; its state_dict is the position inside the epoch."""
        return self._loader(TRAIN, shuffle=True)

    def val_dataloader(self) -> GraphLoader | list:
        """In a fixed order; an empty list where nothing validates."""
        return self._loader(VALIDATION, shuffle=False)

    def test_dataloader(self) -> GraphLoader | list:
        """In a fixed order; an empty list where nothing tests."""
        return self._loader(TEST, shuffle=False)

    def describe(self) -> dict:
        """What is in each part: frames, atoms, labels and config_types, plain numbers for a table or a JSON file."""
        self.setup()
        description = {"files": [source.path for source in self.sources], "cutoff_A": self.cutoff, "dropped": self.dropped,
                "training_hash": self.training_hash, "statistics": self.statistics, "parts": {}}  # fmt: skip
        for part, chosen in self.sets.items():
            names, counts = np.unique(np.array(self.config_types)[chosen.column("config_type")], return_counts=True)
            description["parts"][part] = {
                "frames": len(chosen),
                "atoms": int(chosen.column("n_atoms").sum()),
                "edges": int(chosen.n_edges.sum()),
                "energies": int(np.isfinite(chosen.column("energy")).sum()),
                "force_components": int(chosen.column("n_force").sum()),
                "stresses": int(np.isfinite(chosen.column("stress")).all(axis=(1, 2)).sum()),
                "config_types": dict(zip(names.tolist(), counts.tolist(), strict=True)),
            }
        return description

    def save_split(self, folder: str | os.PathLike) -> Path:
        """Writes `split.json` into a run's folder: describe() and the source ("file:index") of every frame."""
        description = {**self.describe(), "frames": {part: chosen.sources() for part, chosen in self.sets.items()}}
        path = Path(folder) / "split.json"
        write_json(path, description)
        return path
