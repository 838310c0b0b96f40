"""Report of an evaluated folder, the page of its material, or several folders side by side."""

from pathlib import Path

from ase import Atoms
from omegaconf import DictConfig, OmegaConf
from rich.console import Console

from mlip.config import class_of
from mlip.data.structures import read as read_structures
from mlip.errors import InputError, MissingFileError
from mlip.evaluation.comparison_page import compare
from mlip.evaluation.literature import Entry, read_table
from mlip.evaluation.material_page import write_page
from mlip.evaluation.property import Presentation
from mlip.evaluation.report import build as build_report
from mlip.evaluation.report import console_table
from mlip.evaluation.report import read as read_folder

LAST = 1000  # order of a property that gives none


def report(cfg: DictConfig) -> int:
    """Write the report of an evaluated folder from its JSON, or of several folders side by side."""
    properties = presentations(cfg.properties)
    wanted = page_inputs(cfg) if cfg.get("page") else None
    if cfg.compare:
        page = compare(list(cfg.compare), cfg.folder or "runs/comparison", properties)
    elif cfg.folder:
        folder = Path(cfg.folder)
        Console().print(console_table(build_report(cfg.folder, properties), str(folder)))
        page = folder / "report.html"
        if wanted is not None:
            page = Path(cfg.page)
            write_page(page, folder, *read_folder(folder, list(properties)), *wanted)
    else:
        raise InputError("mlip report needs a folder that mlip evaluate wrote, or compare=[FOLDER,FOLDER]")
    print(page)
    return 0


def page_inputs(cfg: DictConfig) -> tuple[list[Atoms], list[Entry], str]:
    """Labels, rows of the literature and remarks for the page of a material, read before anything is written.

    Raises InputError if the page is no Markdown file or several folders are compared, MissingFileError without remarks.
    """
    if cfg.compare:
        raise InputError(
            f"page={cfg.page} is of one folder, got compare={list(cfg.compare)}: give the folder alone, or no page"
        )
    if Path(cfg.page).suffix != ".md":
        raise InputError(f"page must be a Markdown file, got {cfg.page}: give page={Path(cfg.page).stem}.md")
    if cfg.remarks and not Path(cfg.remarks).is_file():
        raise MissingFileError(f"no remarks at {cfg.remarks}: give a text file, or remarks=null")
    labels = [] if cfg.labels is None else read_structures(OmegaConf.to_container(cfg, resolve=True)["labels"])
    known = [] if cfg.literature is None else read_table(cfg.literature)
    return labels, known, Path(cfg.remarks).read_text(encoding="utf-8") if cfg.remarks else ""


def in_order(properties: DictConfig) -> dict[str, DictConfig]:
    """Configs of the properties by name, in the order of their key `order`; those set to null are left out."""
    nodes = {name: node for name, node in properties.items() if node is not None}
    return dict(sorted(nodes.items(), key=lambda item: (item[1].get("order", LAST), item[0])))


def presentations(properties: DictConfig) -> dict[str, Presentation]:
    """Title, figures and thresholds of every property, in the order of the report."""
    return {
        name: Presentation(node.get("title", name), getattr(class_of(node), "figures", None),
                           OmegaConf.to_container(node.thresholds, resolve=True) if "thresholds" in node else {})
        for name, node in in_order(properties).items()
    }  # fmt: skip
