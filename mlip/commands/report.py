"""Report of an evaluated folder, the page of its material, or several folders side by side."""

from pathlib import Path

from omegaconf import DictConfig, OmegaConf
from rich.console import Console

from mlip.config import class_of
from mlip.data.structures import read as read_structures
from mlip.errors import InputError
from mlip.evaluation.comparison_page import compare
from mlip.evaluation.literature import read_table
from mlip.evaluation.material_page import write_page
from mlip.evaluation.property import Presentation
from mlip.evaluation.report import build as build_report
from mlip.evaluation.report import console_table
from mlip.evaluation.report import read as read_folder

LAST = 1000  # order of a property that gives none


def report(cfg: DictConfig) -> int:
    """Write the report of an evaluated folder from its JSON, or of several folders side by side."""
    properties = presentations(cfg.properties)
    if cfg.compare:
        page = compare(list(cfg.compare), cfg.folder or "runs/comparison", properties)
    elif cfg.folder:
        Console().print(console_table(build_report(cfg.folder, properties), str(cfg.folder)))
        page = Path(cfg.folder) / "report.html"
        if cfg.get("page"):
            page = material_page(cfg, list(properties))
    else:
        raise InputError("mlip report needs a folder that mlip evaluate wrote, or compare=[FOLDER,FOLDER]")
    print(page)
    return 0


def material_page(cfg: DictConfig, order: list[str]) -> Path:
    """Write the Markdown page of a material from an evaluated folder with its report; return its path."""
    page, folder = Path(cfg.page), Path(cfg.folder)
    if page.suffix != ".md":
        raise InputError(f"page is a Markdown file, name.md, got {cfg.page}")
    labels = [] if cfg.labels is None else read_structures(OmegaConf.to_container(cfg, resolve=True)["labels"])
    known = [] if cfg.literature is None else read_table(cfg.literature)
    remarks = Path(cfg.remarks).read_text(encoding="utf-8") if cfg.remarks else ""
    about, sections = read_folder(folder, order)
    write_page(page, folder, about, sections, labels, known, remarks)
    return page


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
