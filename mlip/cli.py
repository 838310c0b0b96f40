"""The command `mlip VERB key=value ...`: configs in, one folder with everything out.

Only this file (and scripts/) knows Hydra: configs name what to build, the library is handed objects.
"""

import argparse
import difflib
import inspect
import os
import re
import shutil
import sys
from pathlib import Path

from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

PACKAGE = Path(__file__).resolve().parent
CONFIGS = PACKAGE / "configs" if (PACKAGE / "configs").is_dir() else PACKAGE.parent / "configs"  # wheel, checkout

# ---------------------------------------------------------------- what the verbs do


def train(cfg: DictConfig) -> None:
    """Train a potential on labelled structures.

    mlip train data.files=my.xyz
    mlip train data.files=[a.xyz,vasp_runs/] model=large trainer.max_seconds=3600 name=mine
    mlip train experiment=li3incl6
    mlip train -m experiment=li3incl6 model=small,medium seed=1,2

    A run is one folder, runs/NAME: config.yaml, metrics.csv, metrics.json, logs, checkpoints, plots, model.pt.
    The same command again goes on with a run that was cut off.
    """
    import pytorch_lightning as pl
    import torch

    from mlip.training.fit import load_potential
    from mlip.training.module import TrainingModule

    config = OmegaConf.to_container(cfg, resolve=True)
    folder = claim(config)
    pl.seed_everything(cfg.seed, verbose=False)
    data = make(cfg.data, cutoff=cfg.model.network.cutoff)
    data.setup("fit")
    potential = build(config, data.statistics).to(getattr(torch, cfg.dtype))
    module = TrainingModule(
        potential,
        make(cfg.loss),
        make(cfg.optimizer),
        make(cfg.scheduler),
        ema_decay=cfg.ema_decay,
        statistics=data.statistics,
        config=config,
        config_types=data.config_types,
        log_every=cfg.log_every,
    )
    folder.mkdir(parents=True, exist_ok=True)
    OmegaConf.save(OmegaConf.create(config), folder / "config.yaml")
    data.save_split(folder)
    make(cfg.trainer)(module, data, folder, resume=True)


def make(config: DictConfig, **arguments):
    """The object that a config names."""
    from hydra.utils import instantiate

    return instantiate(config, _convert_="all", **arguments)


def build(config: dict, statistics: dict):
    """The untrained potential of a resolved config."""
    return make(OmegaConf.create(config["model"]))(statistics=statistics)


def claim(config: dict) -> Path:
    """The folder for a run: new, or that of the same run when it was cut off. Raises FileExistsError for any other."""
    folder = Path(config["folder"])
    if config.pop("overwrite") and (folder / "config.yaml").exists():
        shutil.rmtree(folder)
    if (folder / "metrics.json").exists():
        raise FileExistsError(f"{folder} holds a finished run: choose another name=..., or overwrite=true")
    if (folder / "checkpoints" / "last.ckpt").exists():
        before, now = OmegaConf.load(folder / "config.yaml"), OmegaConf.create(config)
        changed = [key for key in leaves(now) if OmegaConf.select(before, key) != OmegaConf.select(now, key)]
        if changed:
            raise FileExistsError(f"{folder} holds an unfinished run with another {changed[-1]}: repeat its command "
                                  "to go on with it, choose another name=..., or overwrite=true")  # fmt: skip
    elif folder.is_dir() and not (folder / "config.yaml").exists() and any(folder.iterdir()):
        raise FileExistsError(f"{folder} exists and is no run of mlip: choose another name=...")
    return folder


def export(cfg: DictConfig) -> None:
    """Turn a run into a file that works without mlip: TorchScript, or AOTInductor for this machine.

    mlip export runs/li3incl6
    mlip export runs/li3incl6 format=aoti dtype=float64
    """


def predict(cfg: DictConfig) -> None:
    """Label structures with an exported model; prints errors where the input has labels.

    mlip predict model.pt in.xyz out.xyz
    """


def md(cfg: DictConfig) -> None:
    """Molecular dynamics with an exported model.

    mlip md model.pt start.xyz repeat=[2,2,2] temperature=600
    """


def data_check(cfg: DictConfig) -> int:
    """Look for wrong labels in files: signs, units, missing, duplicates, outliers; exit code 1 where errors are found.

    mlip data check a.xyz OUTCAR
    """


VERBS = {"train": train, "export": export, "md": md, "predict": predict, "data check": data_check}
WORDS = {  # what words without '=' mean, in their order; the last may be a list
    "train": [],
    "export": ["run"],
    "md": ["model", "structure"],
    "predict": ["model", "input", "output"],
    "data check": ["files..."],
}

# ---------------------------------------------------------------- from words to a config


def leaves(config, prefix: str = "") -> list[str]:
    """Every key of a config, dotted, branches too."""
    if not isinstance(config, DictConfig):
        return []
    return [name for key in config for name in (prefix + str(key), *leaves(config._get_node(key), f"{prefix}{key}."))]


def options(group: str, config_dirs: list[Path]) -> list[str]:
    """What `group=NAME` can choose; empty when there is no such group."""
    return sorted({path.stem for folder in config_dirs for path in (folder / group).glob("*.yaml")})


def compose(verb: str, overrides: list[str], config_dirs: list[Path], **how) -> DictConfig:
    """The config of a verb with the overrides applied; folders earlier in config_dirs win.

    Raises ValueError with the nearest valid key or option.
    """
    import hydra
    from hydra.errors import HydraException

    later = ",".join(f"'file://{folder}'" for folder in config_dirs[1:])
    with hydra.initialize_config_dir(str(config_dirs[0]), version_base="1.3"):
        try:
            return hydra.compose(verb.replace(" ", "_"), [*overrides, f"hydra.searchpath=[{later}]"], **how)
        except HydraException as error:
            reason = error
    raise ValueError(explain(verb, overrides, config_dirs) or str(reason))


def explain(verb: str, overrides: list[str], config_dirs: list[Path]) -> str | None:
    """What is wrong with the overrides: an option or a key that does not exist, with the nearest that does."""
    from hydra.core.override_parser.overrides_parser import OverridesParser

    groups = [path.name for folder in config_dirs for path in folder.iterdir() if path.is_dir()]
    chosen, rest = [], []
    for override in OverridesParser.create().parse_overrides(overrides):
        (chosen if override.key_or_group in groups else rest).append(override)
    for override in chosen:
        names = options(override.key_or_group, config_dirs)
        if isinstance(override.value(), str) and override.value() not in names:
            return f"{override.key_or_group} has no {override.value()!r}: {nearest(override.value(), names)}"
    known = leaves(compose(verb, [override.input_line for override in chosen], config_dirs)) if rest else []
    for override in rest:
        if not override.is_add() and override.key_or_group not in known:
            return f"mlip {verb} has no {override.key_or_group!r}: {nearest(override.key_or_group, known + groups)}"
    return None


def nearest(word: str, words: list[str]) -> str:
    """A question with the words most like this one; `lr` finds optimizer.lr."""
    ends = [known for known in words if known.rsplit(".", 1)[-1] == word.rsplit(".", 1)[-1]]
    close = list(dict.fromkeys([*ends, *difflib.get_close_matches(word, words, n=2, cutoff=0.7)]))
    return f"did you mean {' or '.join(close[:3])}?" if close else f"there are {', '.join(words)}"


# ---------------------------------------------------------------- the command


def main(arguments: list[str] | None = None) -> int:
    """Entry point. Returns 0, 1 where `mlip data check` found errors, 2 for what the user can mend."""
    from hydra.errors import HydraException

    parser = argparse.ArgumentParser(prog="mlip", add_help=False, usage="mlip VERB [key=value ...] [-h] [-m] [--config-dir DIR]")
    parser.add_argument("words", nargs="*")
    parser.add_argument("-h", "--help", action="store_true")
    parser.add_argument("-m", "--multirun", action="store_true")
    parser.add_argument("--config-dir", type=Path)
    asked = parser.parse_intermixed_args(arguments)
    try:
        return dispatch(asked.words, asked.help, asked.multirun, asked.config_dir)
    except (ValueError, LookupError, OSError, ArithmeticError, OmegaConfBaseException, HydraException) as error:
        if os.environ.get("MLIP_TRACEBACK") == "1":
            raise
        # errors of a class that a config names arrive wrapped
        cause = error.__cause__ if isinstance(error, HydraException) and error.__cause__ else error
        print(f"mlip: {cause.args[0] if isinstance(cause, KeyError) and cause.args else cause}", file=sys.stderr)
        return 2


def dispatch(words: list[str], help: bool, multirun: bool, config_dir: Path | None) -> int:
    """Finds the verb, composes its config (one per point of a sweep with -m) and runs it."""
    verb = words[0] if words else ""
    if verb == "data" and (words[1:2] == ["check"] or help):
        words, verb = words[1:], "data check"
    if verb not in VERBS and (help or not verb):
        print(overview())
        return 0
    if verb not in VERBS:
        raise ValueError(f"there is no verb {verb!r}: {nearest(verb, list(VERBS))}")
    if config_dir is not None and not config_dir.is_dir():
        raise FileNotFoundError(f"--config-dir needs a folder with configs of yours, got {config_dir}")
    config_dirs = [CONFIGS] if config_dir is None else [config_dir.resolve(), CONFIGS]
    if help:
        print(verb_help(verb, config_dirs))
        return 0
    overrides = [re.sub(r"^\+experiment=", "experiment=", word) for word in words[1:] if "=" in word or word[0] == "~"]
    fixed = assign(verb, [word for word in words[1:] if "=" not in word and word[0] != "~"])
    codes = []
    for job, name in sweep(overrides) if multirun else [(overrides, "")]:
        if verb != "train":  # where `model` is a file, Hydra would look for it in the group configs/model
            fixed |= {"model": word.split("=", 1)[1] for word in job if word.startswith("model=")}
            job = [word for word in job if not word.startswith("model=")]
        cfg = compose(verb, job, config_dirs)
        OmegaConf.update(cfg, "folder", f"{cfg.folder}/{name}") if name else None
        for key, value in fixed.items():
            OmegaConf.update(cfg, key, value)
        if missing := OmegaConf.missing_keys(cfg):
            raise ValueError(f"mlip {verb} needs {', '.join(sorted(missing))}; see mlip {verb} --help")
        codes.append(VERBS[verb](cfg) or 0)
    return max(codes)


def assign(verb: str, words: list[str]) -> dict:
    """The keys that words without '=' stand for, in their order."""
    names = WORDS[verb]
    if names and names[-1].endswith("..."):
        return {names[0].removesuffix("..."): words} if words else {}
    if len(words) > len(names):
        takes = f"takes {' '.join(name.upper() for name in names)}" if names else "takes key=value"
        raise ValueError(f"mlip {verb} {takes}, got {words[len(names)]!r}")
    return dict(zip(names, words, strict=False))


def sweep(overrides: list[str]) -> list[tuple[list[str], str]]:
    """Every combination of `key=a,b` as (overrides, name of its folder)."""
    from hydra._internal.core_plugins.basic_sweeper import BasicSweeper
    from hydra.core.override_parser.overrides_parser import OverridesParser

    parsed = OverridesParser.create().parse_overrides(overrides)
    swept = {override.get_key_element() for override in parsed if override.is_sweep_override()}
    jobs = BasicSweeper.split_arguments(parsed, max_batch_size=None)[0]
    return [(job, ",".join(word for word in job if word.split("=")[0] in swept)) for job in jobs]


def overview() -> str:
    """What `mlip --help` says."""
    lines = [f"  {verb:12}{inspect.getdoc(function).splitlines()[0]}" for verb, function in VERBS.items()]
    return "\n".join([
        "mlip: interatomic potentials for solid electrolytes", "", "mlip VERB [key=value ...]", "", *lines, "",
        "mlip VERB --help    keys, groups and examples of a verb",
        "-m                  a run for every combination of key=a,b",
        "--config-dir DIR    your own configs; searched before the shipped ones",
        "MLIP_TRACEBACK=1    shows where an error came from",
    ])  # fmt: skip


def verb_help(verb: str, config_dirs: list[Path]) -> str:
    """Examples, groups with their options, keys with their defaults."""
    cfg = compose(verb, [], config_dirs, return_hydra_config=True)
    chosen = {group: name for group, name in cfg.hydra.runtime.choices.items() if not group.startswith("hydra")}
    lines = [inspect.getdoc(VERBS[verb])]
    if chosen:
        lines += ["", "groups, chosen with group=NAME (* is the default)"]
    for group in sorted(chosen):
        names = [f"*{name}" if name == chosen[group] else name for name in options(group, config_dirs)]
        lines.append(f"  {group:12}{' '.join(names)}")
    shown = OmegaConf.masked_copy(cfg, [key for key in cfg if key != "hydra"])
    return "\n".join([*lines, "", "keys, set with key=value or key.below=value (??? must be given)", OmegaConf.to_yaml(shown)])
