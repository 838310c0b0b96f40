"""Export with calibrated uncertainties: one run with its last layer, or several runs as a committee."""

from collections.abc import Sequence
from pathlib import Path

from ase.data import chemical_symbols
from torch import Tensor, nn

from mlip.data.datamodule import DataModule
from mlip.data.graph import to_graph
from mlip.data.splits import TRAIN, VALIDATION
from mlip.data.structures import read
from mlip.errors import InputError
from mlip.models.committee import Committee
from mlip.training.run import Run
from mlip.training.uncertainty import calibrate, last_layer


def export_with_uncertainty(runs: Sequence[Run], path: Path, n_draws: int, calibration_files=None, **settings) -> dict:
    """Export a committee of runs, or one run with its last layer; returns the file's metadata, "uncertainty" in it.

    n_draws            backward passes of the last layer for force_sigma
    calibration_files  labelled frames that no run was trained on; None: the validation part of the first run
    settings           format, dtype, level, n_frames, max_fall_eV as in `Run.export_potential`
    Raises ValueError if there is no frame to calibrate with, or if a run was trained on one.
    """
    potentials = [run.potential() for run in runs]
    first, data = potentials[0], None
    if len(runs) == 1 or calibration_files is None:
        data = runs[0].data()
    held_out = frames_for(first, calibration_files) if calibration_files is not None else unseen(runs, data)
    if len(runs) > 1:
        potential = Committee(potentials).eval()
        about: dict = {"kind": "committee", "members": [str(run.folder) for run in runs]}
    else:
        potential = last_layer(first, data.train_dataloader(), n_draws)
        about = {"kind": "last_layer", "n_draws": n_draws}
    scales = calibrate(potential, held_out)
    scales["force_scale"] = {chemical_symbols[z]: value for z, value in scales["force_scale"].items()}
    return runs[0].export_potential(potential, path, **settings, about={"uncertainty": {**about, **scales}})


def frames_for(potential: nn.Module, files) -> list[dict[str, Tensor]]:
    """Graphs of labelled files."""
    return [to_graph(atoms, potential.cutoff, potential.levels) for atoms in read(files)]


def unseen(runs: Sequence[Run], data: DataModule) -> list[dict[str, Tensor]]:
    """The validation frames of the first run, which no run may have been trained on."""
    chosen = data.sets[VALIDATION]
    if len(chosen) == 0:
        raise InputError(f"{runs[0].folder} has no validation part to calibrate the uncertainty with: give calibrate=FILE with "
                         "labelled frames that it was not trained on, or train with data.split.validation")  # fmt: skip
    wanted = set(chosen.sources())
    for run in runs[1:]:
        seen = wanted & set(run.split["frames"][TRAIN])
        if seen:
            raise InputError(f"{run.folder} was trained on {len(seen)} of the frames that validate {runs[0].folder}, such as "
                             f"{min(seen)}: train all members with the same data.split, or give calibrate=FILE")  # fmt: skip
    return [chosen[i] for i in range(len(chosen))]
