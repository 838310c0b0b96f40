"""Evaluation of a model or of any calculator: its properties, then the report."""

import os
import platform
import shlex
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import torch
from ase.data import chemical_symbols
from omegaconf import DictConfig, OmegaConf
from rich.console import Console

import mlip
from mlip.commands.report import in_order, report
from mlip.config import make
from mlip.data.structures import read_one
from mlip.errors import InputError, MissingFileError
from mlip.evaluation.evaluate import evaluate as evaluate_properties
from mlip.evaluation.evaluate import file_hash, file_hashes, is_failed
from mlip.evaluation.report import ABOUT
from mlip.evaluation.section import Section
from mlip.files import read_json, write_json
from mlip.training.run import Run

RESERVED_KEYS = ("title", "order", "needs", "levels", "dtype", "thresholds")  # of a property, no arguments of its class
# what is shown, where numbers are kept and on which machine they are made does not change them
NOT_HASHED = ("title", "order", "needs", "levels", "thresholds", "folder", "devices", "open_calculator")


def evaluate(cfg: DictConfig) -> int:
    """Evaluate the properties of a model or calculator, and write the report."""
    if cfg.compare:
        return report(cfg)
    if cfg.structure:
        read_one(cfg.structure)  # a structure that cannot be one is refused before the first property
    subject = subject_of(cfg)
    nodes = in_order(cfg.properties)
    needs = {name: missing(cfg, nodes[name]) for name in selected(nodes, cfg.only, cfg.evaluation)}
    left_out = {name: keys for name, keys in needs.items() if keys}
    names = [name for name in needs if name not in left_out]
    if not names:
        raise InputError(
            "nothing can be evaluated: " + "; ".join(f"{name} needs {', '.join(keys)}" for name, keys in needs.items())
        )
    write_about(cfg, subject, left_out)
    sections = evaluate_properties(
        None, {name: ConfiguredProperty(nodes[name], subject) for name in names}, cfg.folder,
        {name: settings(nodes[name], subject) for name in names}, cfg.overwrite, Console(),
    )  # fmt: skip
    report(cfg)
    return int(any(is_failed(section) or is_without_answer(section) for section in sections.values()))


def is_without_answer(section: Section) -> bool:
    """Whether something that was asked for by name has no value: a hop whose ends are no minima."""
    return any(result.value is None and result.high is None and result.verdict == "fail" for result in section.results)


# ---------------------------------------------------------------- the model or calculator under test


@dataclass
class Subject:
    """Model or calculator under test.

    identity  hash of its file, or the config of its calculator
    open      open(dtype) -> calculator; None as dtype keeps the model's own
    """

    identity: dict
    open: Callable[[str | None], object]
    opened: dict = field(default_factory=dict)

    def calculator(self, dtype: str | None = None):
        """Calculator of a precision, opened once."""
        if dtype not in self.opened:
            self.opened[dtype] = self.open(dtype)
        return self.opened[dtype]


def subject_of(cfg: DictConfig) -> Subject:
    """Model or calculator of a config, and the keys that follow from it.

    Sets cfg.model to the exported file, and cfg.name, cfg.folder and (for a training's folder) cfg.data.files if they are
    null. Without model and calculator there are only trajectories to read.
    """
    if cfg.model is not None and cfg.calculator is not None:
        raise InputError("give either a model or a calculator, got both")
    if cfg.calculator is not None:
        config = OmegaConf.to_container(cfg.calculator, resolve=True)
        cfg.name = cfg.name or config["_target_"].rsplit(".", 1)[-1]
        cfg.folder = cfg.folder or f"runs/{cfg.name}/evaluation"
        calculator = make(cfg.calculator)
        return Subject({"calculator": config, "files": file_hashes(config)}, lambda dtype: calculator)
    if cfg.model is None:
        cfg.name, cfg.folder = cfg.name or "trajectories", cfg.folder or "runs/evaluation"
        return Subject({}, lambda dtype: None)
    path, run = exported(Path(cfg.model))
    cfg.name = cfg.name or (run.name if run else path.stem)
    cfg.folder = cfg.folder or str((run or path.parent) / "evaluation")
    if run and cfg.data.files is None:
        cfg.data.files = str(run)
    cfg.model = str(path)
    return Subject(
        {"model": file_hash(path)}, lambda dtype: mlip.load_calculator(path, cfg.device, dtype or cfg.dtype, cfg.skin)
    )


def exported(path: Path) -> tuple[Path, Path | None]:
    """Exported file of a model, run or checkpoint, made if it is missing; and the folder of the run."""
    if path.is_dir():
        files = sorted(path.glob("model*.pt"))
        if len(files) > 1:
            raise InputError(f"{path} holds {', '.join(file.name for file in files)}: name one of them")
        if not files:
            Run(path).export()
        return (files or [path / "model.pt"])[0], path
    if path.suffix == ".ckpt" and path.is_file():
        run, model = path.resolve().parent.parent, path.with_suffix(".pt")
        if not model.exists() or model.stat().st_mtime < path.stat().st_mtime:
            Run(run, path).export(model)
        return model, None
    if not path.is_file():
        raise MissingFileError(
            f"no model {path}: give a file of mlip export, a folder of mlip train, or a checkpoint in it"
        )
    return path, None


# ---------------------------------------------------------------- properties


@dataclass(frozen=True)
class ConfiguredProperty:
    """Property of a config, made when it is evaluated, so that a file it cannot read is its failure alone."""

    node: DictConfig
    subject: Subject

    def evaluate(self, _) -> Section:
        """Evaluate the property with the calculator of the precision that its config names."""
        arguments = OmegaConf.create(
            {key: value for key, value in resolved(self.node).items() if key not in RESERVED_KEYS}
        )
        return make(arguments).evaluate(self.subject.calculator(self.node.get("dtype")))


def resolved(node: DictConfig) -> dict:
    """Plain config with its interpolations resolved."""
    return OmegaConf.to_container(node, resolve=True)


def selected(nodes: dict[str, DictConfig], only: list[str] | None, level: str) -> list[str]:
    """Names in `only`, whatever their level; without it those of the level."""
    if only is None:
        return [name for name, node in nodes.items() if level in node.get("levels", [level])]
    unknown = [word for word in only if word not in nodes]
    if unknown:
        raise InputError(f"only={unknown[0]}: there is no such property; there are {', '.join(nodes)}")
    return [name for name in nodes if name in only]


def missing(cfg: DictConfig, node: DictConfig) -> list[str]:
    """Keys of the command that the property needs and that are null; `model` stands for a calculator too."""
    null = [key for key in node.get("needs", []) if OmegaConf.select(cfg, key) is None]
    return [key for key in null if not (key == "model" and cfg.calculator is not None)]


def settings(node: DictConfig, subject: Subject) -> dict:
    """Settings that decide the numbers of a property: its config, the files that it names, the model or calculator."""
    config = hashed(resolved(node))
    return {"subject": subject.identity, "property": config, "files": file_hashes(config)}


def hashed(config):
    """Config without the keys that do not change numbers, on every level."""
    if isinstance(config, dict):
        return {key: hashed(value) for key, value in config.items() if key not in NOT_HASHED}
    return [hashed(value) for value in config] if isinstance(config, list) else config


def write_about(cfg: DictConfig, subject: Subject, left_out: dict[str, list[str]]) -> None:
    """Write folder/evaluation.json: the model or calculator, versions, machine, commands, properties left out and what they need."""
    calculator = subject.calculator()
    metadata = getattr(calculator, "metadata", {})
    file = Path(cfg.folder) / ABOUT
    before = read_json(file).get("commands", []) if file.exists() else []
    words = sys.argv[1:] if sys.argv[1:2] == ["evaluate"] else []  # none where Python calls this function
    command = [shlex.join(["mlip", *words])] if words else []
    about = {
        "name": cfg.name, "model": cfg.model, "sha256": subject.identity.get("model"), "calculator": subject.identity.get("calculator"),
        "elements": " ".join(chemical_symbols[z] for z in metadata.get("elements", [])),
        "cutoff": f"{metadata['cutoff']:g} Å" if "cutoff" in metadata else None, "dtype": cfg.dtype or metadata.get("dtype"),
        "structure": cfg.structure, "mlip": mlip.__version__, "torch": torch.__version__, "date": time.strftime("%Y-%m-%d"),
        "machine": f"{platform.machine()}, {os.cpu_count()} cores, {cfg.device}",
        "kernel": getattr(calculator, "kernel", None), "threads": torch.get_num_threads(), "left_out": left_out,
        "commands": list(dict.fromkeys([*before, *command])),
    }  # fmt: skip
    write_json(file, about)
