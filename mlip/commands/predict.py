"""Prediction of energies, forces and stresses for the structures of a file."""

from omegaconf import DictConfig
from rich.console import Console
from rich.progress import track

import mlip
from mlip.data.structures import read, write
from mlip.training.labelled import errors
from mlip.training.table import error_table


def predict(cfg: DictConfig) -> None:
    """Label structures with an exported model; prints errors where the input has labels."""
    structures = read(cfg.input)
    calculator = mlip.load_calculator(cfg.model, device=cfg.device, dtype=cfg.dtype)
    starts = range(0, len(structures), cfg.batch_size)
    labelled = [
        atoms
        for start in track(starts, "predicting", transient=True)
        for atoms in calculator.calculate_many(structures[start : start + cfg.batch_size])
    ]
    write(cfg.output, labelled)
    found = errors(labelled)
    if found["total"]:
        Console().print(error_table(found, f"{cfg.model} against the labels of {cfg.input}"))
    print(f"{cfg.output}: {len(labelled)} structures")
