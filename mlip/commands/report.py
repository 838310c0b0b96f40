"""Report of an evaluated folder, or of several side by side."""

from pathlib import Path

from omegaconf import DictConfig, OmegaConf
from rich.console import Console

from mlip.config import make, nodes_with
from mlip.evaluation.compare import compare
from mlip.evaluation.report import console_table
from mlip.evaluation.report import build as build_report


def report(cfg: DictConfig) -> int:
    """The report of an evaluated folder again, from its JSON; or several folders side by side."""
    layout = {name: make(node) for name, node in nodes_with("title", cfg.layout).items()}
    thresholds = OmegaConf.to_container(cfg.thresholds, resolve=True)
    if cfg.compare:
        page = compare(list(cfg.compare), cfg.folder or "runs/comparison", layout, thresholds)
    elif cfg.folder:
        Console().print(console_table(build_report(cfg.folder, layout, thresholds), str(cfg.folder)))
        page = Path(cfg.folder) / "report.html"
    else:
        raise ValueError("mlip report needs a folder that mlip evaluate wrote, or compare=[FOLDER,FOLDER]")
    print(page)
    return 0
