"""One run with the doubt of its last layer, or several as a committee: which frames make it, which calibrate it."""

import json
from collections.abc import Callable, Sequence
from pathlib import Path

import pytorch_lightning as pl
import yaml
from ase.data import chemical_symbols
from torch import Tensor, nn

from mlip.data.graph import to_graph
from mlip.data.splits import TRAIN, VALIDATION
from mlip.data.structures import read
from mlip.models.committee import Committee
from mlip.training.doubt import calibrate, last_layer
from mlip.training.fit import load_potential
from mlip.training.run_folder import export_potential


def export_with_doubt(
    runs: Sequence[Path],
    path: Path,
    build: Callable[[dict, dict], nn.Module],
    data_of: Callable[[dict], pl.LightningDataModule],
    n_draws: int,
    calibration_files=None,
    **settings,
) -> dict:
    """Exports a committee of runs, or one run with its last layer; returns the file's metadata, "uncertainty" in it.

    data_of            data_of(config of a run) -> its DataModule, for the frames that it was trained on
    calibration_files  labelled frames that no run was trained on; None: the validation part of the first run
    settings           format, dtype, level, n_frames as in `export_run`
    Raises ValueError where there is no frame to calibrate with, or where a run was trained on one.
    """
    potentials = [load_potential(run, build) for run in runs]
    first, data = potentials[0], None
    if len(runs) == 1 or calibration_files is None:
        data = data_of(yaml.safe_load((runs[0] / "config.yaml").read_text()))
        data.setup("fit")
    held_out = frames_for(first, calibration_files) if calibration_files is not None else unseen(runs, data)
    if len(runs) > 1:
        potential, about = Committee(potentials).eval(), {"kind": "committee", "members": [str(run) for run in runs]}
    else:
        potential = last_layer(first, data.train_dataloader(), n_draws)
        about = {"kind": "last_layer", "n_draws": n_draws}
    found = calibrate(potential, held_out)
    found["force_scale"] = {chemical_symbols[z]: value for z, value in found["force_scale"].items()}
    return export_potential(potential, runs[0], path, **settings, about={"uncertainty": {**about, **found}})


def frames_for(potential: nn.Module, files) -> list[dict[str, Tensor]]:
    """Graphs of labelled files."""
    return [to_graph(atoms, potential.cutoff, potential.levels) for atoms in read(files)]


def unseen(runs: Sequence[Path], data: pl.LightningDataModule) -> list[dict[str, Tensor]]:
    """The validation frames of the first run, which no run may have been trained on."""
    chosen = data.sets[VALIDATION]
    if len(chosen) == 0:
        raise ValueError(f"{runs[0]} has no validation part to calibrate the uncertainty with: give calibrate=FILE with "
                         "labelled frames that it was not trained on, or train with data.split.validation")  # fmt: skip
    wanted = set(chosen.sources())
    for run in runs[1:]:
        seen = wanted & set(json.loads((run / "split.json").read_text())["frames"][TRAIN])
        if seen:
            raise ValueError(f"{run} was trained on {len(seen)} of the frames that validate {runs[0]}, {min(seen)} among them: "
                             "train all members with the same data.split, or give calibrate=FILE")  # fmt: skip
    return [chosen[i] for i in range(len(chosen))]
