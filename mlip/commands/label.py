"""Labelling of structures with an engine."""

from omegaconf import DictConfig
from rich.console import Console

from mlip.config import make
from mlip.data.structures import read
from mlip.labelling.report import write_labels
from mlip.labelling.run import run


def label(cfg: DictConfig) -> int:
    """Label structures with an engine: DFT (GPAW, VASP), any ASE calculator, or files."""
    structures = read(cfg.input)
    report = run(structures, make(cfg.engine), cfg.folder, make(cfg.execution), cfg.retries)
    return write_labels(report, structures, cfg.output, Console())
