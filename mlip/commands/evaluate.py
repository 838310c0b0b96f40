"""Evaluation of a model or calculator: the properties in the tree `dimensions` of the config, then the report."""

import os
import platform
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import torch
from ase.data import chemical_symbols
from omegaconf import DictConfig, OmegaConf
from rich.console import Console

import mlip
from mlip.commands.report import report
from mlip.config import make, nodes_with
from mlip.evaluation.evaluate import digest, fingerprint, is_failed
from mlip.evaluation.evaluate import evaluate as run
from mlip.evaluation.report import ABOUT
from mlip.files import write_json
from mlip.training.run import Run

# keys of a part that are ours and not its arguments: what of the command it cannot do without; the precision it needs
RESERVED_KEYS = ("needs", "dtype")
# where numbers are kept and on which machine they are made does not change them
NOT_HASHED = ("needs", "folder", "devices", "open_calculator")


def evaluate(cfg: DictConfig) -> int:
    """Put a model, or any calculator of ASE, to the test: accuracy, static properties, diffusion, cost; ends with a report."""
    if cfg.compare:
        return report(cfg)
    who = candidate(cfg)
    tree = nodes_with("_target_", cfg.dimensions)
    needs = {name: missing(cfg, tree[name]) for name in chosen(list(tree), cfg.only)}
    left_out = {name: keys for name, keys in needs.items() if keys}
    names = [name for name in needs if name not in left_out]
    if not names:
        raise ValueError("nothing can be evaluated: " + "; ".join(f"{name} needs {', '.join(keys)}" for name, keys in needs.items()))
    write_about(cfg, who, left_out)
    sections = run(
        None, {name: runnable(tree[name], who) for name in names}, cfg.folder,
        {name: settings(tree[name], who) for name in names}, cfg.overwrite, Console(),
    )  # fmt: skip
    report(cfg)
    return int(any(map(is_failed, sections.values())))


# ---------------------------------------------------------------- the model or calculator under test


@dataclass
class Candidate:
    """Who is evaluated.

    about   what identifies it, plain: hash of its file, or the config of its calculator
    open    open(dtype) -> calculator; None as dtype keeps the model's own
    """

    about: dict
    open: Callable[[str | None], object]
    opened: dict = field(default_factory=dict)

    def calculator(self, dtype: str | None = None):
        """The calculator of a precision, opened once."""
        if dtype not in self.opened:
            self.opened[dtype] = self.open(dtype)
        return self.opened[dtype]


def candidate(cfg: DictConfig) -> Candidate:
    """Who is evaluated, and what follows from it.

    Sets cfg.model to the exported file, and cfg.name, cfg.folder and (for a training's folder) cfg.data.files where they
    are null. Without model and calculator there are only trajectories to read.
    """
    if cfg.model is not None and cfg.calculator is not None:
        raise ValueError("give either a model or a calculator, got both")
    if cfg.calculator is not None:
        plain = OmegaConf.to_container(cfg.calculator, resolve=True)
        cfg.name = cfg.name or plain["_target_"].rsplit(".", 1)[-1]
        cfg.folder = cfg.folder or f"runs/{cfg.name}/evaluation"
        made = make(cfg.calculator)
        return Candidate({"calculator": plain, "files": fingerprint(plain)}, lambda dtype: made)
    if cfg.model is None:
        cfg.name, cfg.folder = cfg.name or "trajectories", cfg.folder or "runs/evaluation"
        return Candidate({}, lambda dtype: None)
    given = Path(cfg.model)
    path, run = exported(given)
    cfg.name = cfg.name or (run.name if run else path.stem)
    cfg.folder = cfg.folder or str((run or path.parent) / "evaluation")
    if run and cfg.data.files is None:
        cfg.data.files = str(run)
    cfg.model = str(path)
    return Candidate({"model": digest(path)}, lambda dtype: mlip.load_calculator(path, cfg.device, dtype or cfg.dtype, cfg.skin))


def exported(given: Path) -> tuple[Path, Path | None]:
    """The exported file of a training's folder or checkpoint, made where it is missing; and the folder of the training."""
    if given.is_dir():
        files = sorted(given.glob("model*.pt"))
        if len(files) > 1:
            raise ValueError(f"{given} holds {', '.join(file.name for file in files)}: name one of them")
        if not files:
            Run(given).export()
        return (files or [given / "model.pt"])[0], given
    if given.suffix == ".ckpt" and given.is_file():
        run, path = given.resolve().parent.parent, given.with_suffix(".pt")
        if not path.exists() or path.stat().st_mtime < given.stat().st_mtime:
            Run(run, given).export(path)
        return path, None
    if not given.is_file():
        raise FileNotFoundError(f"no model {given}: give a file of mlip export, a folder of mlip train, or a checkpoint in it")
    return given, None


# ---------------------------------------------------------------- parts


def chosen(names: list[str], only: list[str] | None) -> list[str]:
    """The parts that `only` names, by their own name or that of a branch: static means all of static.*"""
    if only is None:
        return names
    known = [*names, *dict.fromkeys(name.rsplit(".", 1)[0] for name in names if "." in name)]
    unknown = [word for word in only if word not in known]
    if unknown:
        raise ValueError(f"only={unknown[0]}: there is no such part; there are {', '.join(known)}")
    return [name for name in names if any(name == word or name.startswith(f"{word}.") for word in only)]


def missing(cfg: DictConfig, node: DictConfig) -> list[str]:
    """Keys of the command that the part needs and that are null; `model` stands for a calculator too."""
    found = [key for key in node.get("needs", []) if OmegaConf.select(cfg, key) is None]
    return [key for key in found if not (key == "model" and cfg.calculator is not None)]


def runnable(node: DictConfig, who: Candidate) -> Callable:
    """part(calculator) of a config; files are read when it is called, and the calculator has the precision it asks for."""
    bare = OmegaConf.masked_copy(node, [key for key in node if key not in RESERVED_KEYS])
    bare._set_parent(node._get_parent())
    return lambda _: make(bare)(who.calculator(node.get("dtype")))


def settings(node: DictConfig, who: Candidate) -> dict:
    """What decides the numbers of a part, plain: its config, the files that it names, and whom it is about."""
    plain = without(OmegaConf.to_container(node, resolve=True))
    return {"candidate": who.about, "part": plain, "files": fingerprint(plain)}


def without(config):
    """The config without what does not matter, on every level."""
    if isinstance(config, dict):
        return {key: without(value) for key, value in config.items() if key not in NOT_HASHED}
    return [without(value) for value in config] if isinstance(config, list) else config


def write_about(cfg: DictConfig, who: Candidate, left_out: dict[str, list[str]]) -> None:
    """folder/evaluation.json: who was evaluated, by which versions, on which machine, what it was not asked and why."""
    metadata = getattr(who.calculator(), "metadata", {})
    about = {
        "name": cfg.name, "model": cfg.model, "sha256": who.about.get("model"), "calculator": who.about.get("calculator"),
        "elements": " ".join(chemical_symbols[z] for z in metadata.get("elements", [])),
        "cutoff": f"{metadata['cutoff']:g} Å" if "cutoff" in metadata else None, "dtype": cfg.dtype or metadata.get("dtype"), "structure": cfg.structure,
        "mlip": mlip.__version__, "torch": torch.__version__, "date": time.strftime("%Y-%m-%d"),
        "machine": f"{platform.machine()}, {os.cpu_count()} cores, {cfg.device}", "left_out": left_out,
    }  # fmt: skip
    write_json(Path(cfg.folder) / ABOUT, about)
