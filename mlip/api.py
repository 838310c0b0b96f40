"""The verbs of the command as Python functions, with the same configs and defaults.

A keyword is a key of the verb's config (`mlip VERB --help`). For a group, a string chooses an option and a mapping
sets keys below it, at any depth: model={"network": "small", "head": "qeq"}, trainer={"max_steps": 2000}.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf

from mlip import calculator, commands
from mlip.calculator import ExportedCalculator
from mlip.config import CONFIGS, check, check_preset, compose, groups, leaves, nearest, select_node
from mlip.data.structures import read
from mlip.errors import InputError
from mlip.evaluation.result import Result, read_json
from mlip.training.run import Run

__all__ = ["Run", "evaluate", "load_calculator", "read", "sample", "train"]


def train(files: Any = None, **settings: Any) -> Run:
    """Train a potential on labelled structures, as `mlip train` does; returns the finished run.

    files     labelled structures: a path, a glob, a folder, or a list of them (`data.files`)
    settings  keys of `mlip train`: name, experiment, model, trainer, ...
    A run that was cut off is resumed by the same call.
    """
    cfg = config("train", {"data.files": files}, settings)
    commands.run("train", cfg)
    return Run(cfg.folder)


def evaluate(model: str | Path | Run | None, structure: str | Path | None = None, **settings: Any) -> list[Result]:
    """Evaluate a model on a crystal, as `mlip evaluate` does; returns the results with units, errors and verdicts.

    model     exported file, folder of a training or checkpoint; None: give calculator={"_target_": ...}
    structure  file of the crystal
    settings  keys of `mlip evaluate`: mobile, charge, only, data, folder, ...
    The report is report.html in the folder of the evaluation; a property that failed is a result with the verdict "fail".
    """
    cfg = config(
        "evaluate", {"model": model.folder if isinstance(model, Run) else model, "structure": structure}, settings
    )
    commands.run("evaluate", cfg)
    return read_json(Path(cfg.folder) / "results.json")


def sample(structures: Any, **settings: Any) -> Path:
    """Select, label and learn structures until barriers have converged, as `mlip sample` does; returns the folder.

    structures  files of the crystals to start from
    settings    keys of `mlip sample`: engine, mobile, limits, per_round, ...
    The folder holds history.html, labelled.xyz and rounds/; a sampling that was cut off is continued by the same call.
    """
    cfg = config("sample", {"structure": structures}, settings)
    commands.run("sample", cfg)
    return Path(cfg.folder)


def load_calculator(
    path: str | Path | Run, device: str = "cpu", dtype: str | None = None, skin: float = 0.5, **parameters: Any
) -> ExportedCalculator:
    """ASE calculator of an exported model, or of the exported model of a run; see `mlip.calculator.load_calculator`."""
    return calculator.load_calculator(
        path.folder / "model.pt" if isinstance(path, Run) else path, device, dtype, skin, **parameters
    )


def config(verb: str, words: Mapping[str, Any], settings: Mapping[str, Any]) -> DictConfig:
    """The config of a verb: options of groups first, then keys, as on the command line."""
    given_words = {key: value for key, value in words.items() if value is not None}
    chosen, values = split_settings({**given_words, **settings}, groups(verb))
    cfg = compose(verb, [f"{group}={option}" for group, option in chosen.items()], [CONFIGS])
    for key, value in values.items():
        set_value(verb, cfg, key, value)
    check(verb, cfg)
    return cfg


def split_settings(
    settings: Mapping[str, Any], known: list[str], prefix: str = ""
) -> tuple[dict[str, str], dict[str, Any]]:
    """Settings as (group -> option, dotted key -> value)."""
    chosen: dict[str, str] = {}
    values: dict[str, Any] = {}
    for name, value in settings.items():
        key = f"{prefix}{name}"
        if key in known and isinstance(value, str):
            chosen[key] = value
        elif isinstance(value, Mapping) and any(group.startswith(f"{key}/") for group in known):
            inner_chosen, inner_values = split_settings(value, known, f"{key}/")
            chosen |= inner_chosen
            values |= inner_values
        else:
            values[key.replace("/", ".")] = value
    return chosen, values


def set_value(verb: str, cfg: DictConfig, key: str, value: Any) -> None:
    """Set a key, or with a mapping the keys below it. Raises InputError with the nearest key if there is none."""
    known = leaves(cfg)
    if key not in known:
        raise InputError(f"mlip {verb} has no {key!r}: {nearest(key, known)}")
    node = select_node(cfg, key)
    if isinstance(value, Mapping) and isinstance(node, DictConfig) and len(node):
        for name, below in value.items():
            set_value(verb, cfg, f"{key}.{name}", below)
    else:
        check_preset(cfg, [key])
        OmegaConf.update(cfg, key, str(value) if isinstance(value, Path) else value, merge=False)
