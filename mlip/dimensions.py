"""What an evaluation is made of: who is evaluated, and the parts in the tree `dimensions` of its config."""

import inspect
import json
import os
import platform
import re
import time
from collections.abc import Callable
from pathlib import Path

import torch
from ase.data import chemical_symbols
from omegaconf import DictConfig, OmegaConf

import mlip
from mlip.evaluation.evaluate import digest, fingerprint
from mlip.evaluation.report import ABOUT
from mlip.training.files import whole_file
from mlip.training.run_folder import export_run

# where numbers are kept and on which machine they are made does not change them
NO_MATTER = ("folder", "devices", "open_calculator")


def parts(tree: DictConfig, prefix: str = "") -> dict[str, DictConfig]:
    """Configs of the parts by dotted name: what holds a `_target_` is a part, what is null was taken out."""
    found = {}
    for key, node in tree.items():
        if isinstance(node, DictConfig):
            found |= {f"{prefix}{key}": node} if "_target_" in node else parts(node, f"{prefix}{key}.")
    return found


def chosen(names: list[str], only: list[str] | None) -> list[str]:
    """The parts that `only` names, by their own name or that of a branch: static means all of static.*"""
    if only is None:
        return names
    known = [*names, *dict.fromkeys(name.rsplit(".", 1)[0] for name in names if "." in name)]
    unknown = [word for word in only if word not in known]
    if unknown:
        raise ValueError(f"only={unknown[0]}: there is no such part; there are {', '.join(known)}")
    return [name for name in names if any(name == word or name.startswith(f"{word}.") for word in only)]


def needs(cfg: DictConfig, node: DictConfig, make: Callable) -> list[str]:
    """Keys of the command that a part cannot do without and that are null: those behind parameters without a default."""
    function = make(OmegaConf.create({"_target_": node["_target_"], "_partial_": True})).func
    parameters = inspect.signature(function).parameters
    raw = OmegaConf.to_container(node, resolve=False)
    required = [name for name in list(parameters)[1:] if parameters[name].default is inspect.Parameter.empty]
    keys = {key for name in required for key in re.findall(r"\$\{([\w.]+)\}", json.dumps(raw.get(name)))}
    return sorted(key for key in keys if OmegaConf.select(cfg, key) is None)


def settings(node: DictConfig, who: dict) -> dict:
    """What decides the numbers of a part, plain: its config, the files that it names, and whom it is about."""
    plain = OmegaConf.to_container(node, resolve=True)
    plain = {key: value for key, value in plain.items() if key not in NO_MATTER}
    return {"candidate": who, "part": plain, "files": fingerprint(plain)}


def candidate(cfg: DictConfig, make: Callable, build: Callable) -> tuple[dict, object]:
    """Who is evaluated, plain and with the hash of its file, and its calculator; None where only trajectories are read.

    Fills in what follows from it: cfg.model becomes the exported file, cfg.name, cfg.folder and, for a training's
    folder, cfg.data.files are set where they were null.
    """
    if (cfg.model is not None) and (cfg.calculator is not None):
        raise ValueError("give either a model or a calculator, got both")
    if cfg.calculator is not None:
        plain = OmegaConf.to_container(cfg.calculator, resolve=True)
        cfg.name = cfg.name or plain["_target_"].rsplit(".", 1)[-1]
        cfg.folder = cfg.folder or f"runs/{cfg.name}/evaluation"
        return {"calculator": plain, "files": fingerprint(plain)}, make(cfg.calculator)
    if cfg.model is None:
        cfg.name, cfg.folder = cfg.name or "trajectories", cfg.folder or "runs/evaluation"
        return {}, None
    given = Path(cfg.model)
    path, run = exported(given, build)
    cfg.name = cfg.name or (run.name if run else path.stem)
    cfg.folder = cfg.folder or str((run or path.parent) / "evaluation")
    if run and cfg.data.files is None:
        cfg.data.files = str(run)
    cfg.model = str(path)
    return {"model": digest(path), "dtype": cfg.dtype}, mlip.load_calculator(path, cfg.device, cfg.dtype, cfg.skin)


def exported(given: Path, build: Callable) -> tuple[Path, Path | None]:
    """The exported file of a training's folder or checkpoint, made where it is missing; and the folder of the training."""
    if given.is_dir():
        files = sorted(given.glob("model*.pt"))
        if len(files) > 1:
            raise ValueError(f"{given} holds {', '.join(file.name for file in files)}: name one of them")
        if not files:
            export_run(given, given / "model.pt", build)
        return (files or [given / "model.pt"])[0], given
    if given.suffix == ".ckpt":
        run = given.resolve().parent.parent
        path = given.with_suffix(".pt")
        if not path.exists() or path.stat().st_mtime < given.stat().st_mtime:
            export_run(run, path, build, checkpoint=given)
        return path, None
    if not given.is_file():
        raise FileNotFoundError(f"no model {given}: give a file of mlip export, a folder of mlip train, or a checkpoint in it")
    return given, None


def write_about(cfg: DictConfig, who: dict, calculator, left_out: dict[str, list[str]]) -> None:
    """folder/evaluation.json: who was evaluated, by which versions, on which machine, what it was not asked and why."""
    file = Path(cfg.folder) / ABOUT
    metadata = getattr(calculator, "metadata", {})
    elements = " ".join(chemical_symbols[z] for z in metadata.get("elements", []))
    about = {
        "name": cfg.name, "model": cfg.model, "sha256": who.get("model"), "calculator": who.get("calculator"), "elements": elements,
        "cutoff_A": metadata.get("cutoff"), "dtype": who.get("dtype") or metadata.get("dtype"), "structure": cfg.structure,
        "mlip": mlip.__version__, "torch": torch.__version__, "machine": f"{platform.machine()}, {os.cpu_count()} cores, {cfg.device}",
        "date": time.strftime("%Y-%m-%d"), "left_out": left_out,
    }  # fmt: skip
    with whole_file(file) as part:
        part.write_text(json.dumps(about, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
