"""The command `mlip VERB key=value ...`: configs in, one folder with everything out.

Only this file (and scripts/) knows Hydra: configs name what to build, the library is handed objects.
"""

import argparse
import difflib
import inspect
import os
import re
import sys
from functools import partial
from pathlib import Path

import hydra
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.plugins import Plugins
from hydra.errors import HydraException
from hydra.plugins.search_path_plugin import SearchPathPlugin
from hydra.utils import instantiate
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

PACKAGE = Path(__file__).resolve().parent
CONFIGS = PACKAGE / "configs" if (PACKAGE / "configs").is_dir() else PACKAGE.parent / "configs"  # wheel, checkout
NOT_SHIPPED = ". This data set is not ours to ship: put shared/ beside the checkout, or its path into MLIP_SHARED"

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
    from pytorch_lightning.utilities.rank_zero import rank_zero_only

    from mlip.training.checkpoint import read_run
    from mlip.training.finetune import fine_tune
    from mlip.training.module import TrainingModule
    from mlip.training.run_folder import claim, export_run, furnish

    config = OmegaConf.to_container(cfg, resolve=True)
    overwrite, folder = config.pop("overwrite"), Path(cfg.folder)
    if rank_zero_only.rank == 0:  # with several devices, Lightning starts this command once for each
        claim(folder, config, overwrite)
    pl.seed_everything(cfg.seed, verbose=False)
    previous = read_run(cfg.checkpoint)["mlip"]["statistics"] if cfg.checkpoint else None
    data = make(cfg.data, cutoff=cfg.model.network.cutoff, statistics=previous)
    data.setup("fit")
    if rank_zero_only.rank == 0:
        furnish(folder, config, data)
    if cfg.checkpoint:
        potential, statistics = fine_tune(cfg.checkpoint, partial(build, config), data.statistics, data.train_dataloader())
    else:
        potential, statistics = build(config, data.statistics), data.statistics
    module = TrainingModule(
        potential.to(getattr(torch, cfg.dtype)), make(cfg.loss), make(cfg.optimizer), make(cfg.scheduler),
        ema_decay=cfg.ema_decay, statistics=statistics, config=config, config_types=data.config_types, log_every=cfg.log_every,
    )  # fmt: skip
    make(cfg.trainer)(module, data, folder, resume=True)
    if rank_zero_only.rank == 0:
        for level in statistics["levels"]:
            name = "model.pt" if len(statistics["levels"]) == 1 else f"model_{level}.pt"
            export_run(folder, folder / name, build, level=level)


def make(config: DictConfig, **arguments):
    """The object that a config names."""
    return instantiate(config, _convert_="all", **arguments)


def build(config: dict, statistics: dict):
    """The untrained potential of a resolved config."""
    return make(OmegaConf.create(config["model"]))(statistics=statistics)


def export(cfg: DictConfig) -> None:
    """Turn a run into a file that works without mlip: TorchScript, or AOTInductor for this machine.

    mlip export runs/li3incl6
    mlip export runs/li3incl6 format=aoti
    mlip export runs/li3incl6 dtype=float64 path=double.pt
    """
    from mlip.training.run_folder import export_run

    run = Path(cfg.run)
    path = Path(cfg.path or run / ("model.pt2" if cfg.format == "aoti" else "model.pt"))
    metadata = export_run(run, path, build, cfg.format, cfg.dtype, cfg.level, cfg.n_frames)
    worst = metadata["parity"]
    print(f"{path}: {metadata['dtype']}, energy within {worst['energy']:.1e} eV/atom and forces within "
          f"{worst['forces']:.1e} eV/Å of the live potential")  # fmt: skip


def predict(cfg: DictConfig) -> None:
    """Label structures with an exported model; prints errors where the input has labels.

    mlip predict model.pt in.xyz out.xyz
    """
    from rich.console import Console
    from rich.progress import track

    import mlip
    from mlip.data.structures import read, write
    from mlip.training.labelled import errors
    from mlip.training.table import error_table

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


def md(cfg: DictConfig) -> None:
    """Molecular dynamics with an exported model.

    mlip md model.pt start.xyz repeat=[2,2,2] temperature=600 steps=100000
    mlip md model.pt start.xyz ensemble=npt pressure=0.1 folder=runs/npt

    The same command again goes on with a run that was cut off.
    """
    import ase.io

    import mlip
    from mlip.md.guard import GuardStop
    from mlip.md.plots import plot
    from mlip.md.run import run

    calculator = mlip.load_calculator(cfg.model, device=cfg.device, dtype=cfg.dtype, skin=cfg.skin)
    settings = ["steps", "timestep_fs", "repeat", "initial_temperature_K", "masses", "seed", "frame_every", "thermo_every",
                "state_every"]  # fmt: skip
    settings = {name: OmegaConf.to_container(cfg)[name] for name in settings}
    try:
        summary = run(ase.io.read(cfg.structure), calculator, cfg.folder, make(cfg.ensemble), guard=make(cfg.guard), **settings)
    except GuardStop as stop:
        raise ValueError(str(stop)) from stop
    plot(cfg.folder)
    print(f"{cfg.folder}: " + ", ".join(f"{name} {value:.4g}" for name, value in summary.items() if value is not None))


def data_check(cfg: DictConfig) -> int:
    """Look for wrong labels in files: signs, units, missing, duplicates, outliers; exit code 1 where errors are found.

    mlip data check a.xyz OUTCAR
    mlip data check data=llzo
    """
    from rich.console import Console

    from mlip.data.doctor import check, has_errors, table

    plain = OmegaConf.to_container(cfg.data, resolve=True)
    asked = ["files", "validation_files", "test_files", "split", "remove_net_force"]
    findings = check(**{name: plain[name] for name in asked})
    Console().print(table(findings))
    return int(has_errors(findings))


VERBS = {"train": train, "export": export, "md": md, "predict": predict, "data check": data_check}
WORDS = {  # what words without '=' mean, in their order; the last may be a list
    "train": [],
    "export": ["run"],
    "md": ["model", "structure"],
    "predict": ["model", "input", "output"],
    "data check": ["data.files..."],
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


class OwnConfigs(SearchPathPlugin):
    """Makes Hydra look into folders of the user before ours."""

    folders: tuple[Path, ...] = ()

    def manipulate_search_path(self, search_path) -> None:
        for folder in self.folders:
            search_path.prepend("own", f"file://{folder}", anchor="main")


Plugins.instance().register(OwnConfigs)


def compose(verb: str, overrides: list[str], config_dirs: list[Path], **how) -> DictConfig:
    """The config of a verb with the overrides applied; folders earlier in config_dirs win.

    Raises ValueError with the nearest valid key or option.
    """
    OwnConfigs.folders = tuple(config_dirs[:-1])
    with hydra.initialize_config_dir(str(config_dirs[-1]), version_base="1.3"):
        try:
            return hydra.compose(verb.replace(" ", "_"), overrides, **how)
        except HydraException as error:
            reason = error
    raise ValueError(explain(verb, overrides, config_dirs) or str(reason))


def explain(verb: str, overrides: list[str], config_dirs: list[Path]) -> str | None:
    """What is wrong with the overrides: an option or a key that does not exist, with the nearest that does."""
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
    close = list(dict.fromkeys([*ends, *difflib.get_close_matches(word, words, n=2, cutoff=0.6)]))
    return f"did you mean {' or '.join(close[:3])}?" if close else f"there are {', '.join(words)}"


# ---------------------------------------------------------------- the command


def main(arguments: list[str] | None = None) -> int:
    """Entry point. Returns 0, 1 where `mlip data check` found errors, 2 for what the user can mend."""
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
        hint = NOT_SHIPPED if isinstance(cause, FileNotFoundError) and "shared/data/" in str(cause) else ""
        print(f"mlip: {cause.args[0] if isinstance(cause, KeyError) and cause.args else cause}{hint}", file=sys.stderr)
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
            fixed |= dict(word.split("=", 1) for word in job if word.startswith("model="))
            job = [word for word in job if not word.startswith("model=")]
        cfg = compose(verb, job, config_dirs)
        OmegaConf.update(cfg, "folder", f"{cfg.folder}/{name}") if name else None
        for key, value in fixed.items():
            OmegaConf.update(cfg, key, value)  # as it is: a file's name may hold what Hydra's grammar would not take
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
