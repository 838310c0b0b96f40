"""Folder of a training: its settings, data, history, weights, and the export of its potential."""

import csv
import json
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

import torch
import yaml

from mlip.config import OmegaConf, build, make
from mlip.data.graph import to_graph
from mlip.data.structures import read
from mlip.errors import InputError, MissingFileError
from mlip.export import export
from mlip.files import read_json
from mlip.models.potential import Potential
from mlip.settings import first_difference
from mlip.training.checkpoint import read_run
from mlip.training.fit import load_potential
from mlip.training.walls import shortest_distances, without_holes

if TYPE_CHECKING:
    from mlip.data.datamodule import DataModule


class Run:
    """A folder that `mlip train` wrote, or a checkpoint in it; nothing is read before it is needed.

    checkpoint  whose weights count instead of those of the best validation
    """

    def __init__(self, folder: str | Path, checkpoint: str | Path | None = None):
        self.folder = Path(folder)
        self.checkpoint = None if checkpoint is None else Path(checkpoint)

    def __repr__(self) -> str:
        return f"Run({str(self.folder)!r})"

    @cached_property
    def config(self) -> dict:
        """Resolved settings of the training (config.yaml)."""
        file = self._file("config.yaml")
        try:
            config = yaml.safe_load(file.read_text(encoding="utf-8"))
        except (ValueError, yaml.YAMLError) as error:
            raise InputError(f"{file} is damaged, it holds no YAML ({' '.join(str(error).split())})") from error
        if not isinstance(config, dict):
            raise InputError(f"{file} is no config of mlip train: it holds {type(config).__name__}, no keys")
        return config

    @cached_property
    def split(self) -> dict:
        """Source "file:index" of every training, validation and test frame, and their numbers (split.json)."""
        return read_json(self._file("split.json"))

    @property
    def metrics(self) -> dict:
        """Steps, seconds, best validation and test errors (metrics.json)."""
        return read_json(self._file("metrics.json"))

    @property
    def history(self) -> list[dict[str, float]]:
        """One row per validation (metrics.csv); columns with their units in the name."""
        with open(self._file("metrics.csv"), newline="", encoding="utf-8") as file:
            return [{name: float(value) for name, value in row.items() if value} for row in csv.DictReader(file)]

    @property
    def statistics(self) -> dict:
        """Elements, levels of theory, atomic energies (eV) and scales that belong to the weights."""
        return read_run(self.checkpoint or self.folder)["mlip"]["statistics"]

    def data(self) -> "DataModule":
        """The labelled structures of the training, split as it was, set up."""
        data = make(OmegaConf.create(self.config["data"]), cutoff=self.config["model"]["network"]["cutoff"])
        data.setup("fit")
        return data

    def potential(self) -> Potential:
        """The trained potential: weight average, eval mode."""
        return load_potential(self.checkpoint or self.folder, build)

    def export(self, path: str | Path | None = None, level: str | None = None, **settings) -> dict:
        """Export the trained potential; returns the file's metadata.

        path      None: model.pt in the folder
        settings  format, dtype, n_frames, max_fall_eV as in `export_potential`
        """
        return self.export_potential(self.potential(), path or self.folder / "model.pt", level=level, **settings)

    def export_potential(
        self,
        potential: Potential,
        path: str | Path,
        format: str = "torchscript",
        dtype: str | None = None,
        level: str | None = None,
        n_frames: int = 8,
        max_fall_eV: float | None = 0.1,
        about: dict | None = None,
    ) -> dict:
        """Export a potential made from this run, checked on its examples; returns the file's metadata.

        format    torchscript or aoti;  dtype  float32 or float64, None: as trained;  level  of theory, None: the only one
        n_frames  examples on which the file must equal the live potential
        max_fall_eV  largest fall of the energy as atoms are pushed together (`without_holes`); None allows any
        about     more for the metadata
        """
        structures = read(self._file("examples.xyz"))[:n_frames]
        for atoms in structures:
            atoms.info["level"] = potential.levels[0]
        graphs = [to_graph(atoms, potential.cutoff, potential.levels) for atoms in structures]
        metadata = {
            "training_hash": self.split["training_hash"],
            "config": self.config,
            "metrics": self.metrics if (self.folder / "metrics.json").exists() else {},
            "shortest_distances_A": shortest_distances(potential),
            "holes": without_holes(potential, structures, max_fall_eV),
            **(about or {}),
        }
        return export(potential, Path(path), metadata, graphs, format, dtype and getattr(torch, dtype), level)

    @property
    def has_ended(self) -> bool:
        """True if the folder holds the metrics and the model of a run."""
        return (self.folder / "metrics.json").exists() and any(self.folder.glob("model*.pt"))

    def difference(self, config: dict) -> str | None:
        """Dotted key of the first setting in which a resolved config differs from this run's; None if they are equal."""
        return first_difference(self.config, json.loads(json.dumps(config)))

    def is_finished(self, config: dict) -> bool:
        """True if a run with this resolved config has ended here."""
        return self.has_ended and self.difference(config) is None

    def _file(self, name: str) -> Path:
        path = self.folder / name
        if not path.is_file():
            raise MissingFileError(f"no {name} in {self.folder}: give the folder of a run of mlip train")
        return path
