"""Configs: composed from files and overrides, with answers to typing errors; objects made from them.

Only this file, cli.py and scripts/ import Hydra: configs name what to build, the library is handed objects.
"""

import difflib
import inspect
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import hydra
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.plugins import Plugins
from hydra.errors import HydraException
from hydra.plugins.search_path_plugin import SearchPathPlugin
from hydra.utils import get_class, get_object, instantiate
from omegaconf import DictConfig, ListConfig, OmegaConf

from mlip.errors import InputError
from mlip.number_rules import check_numbers

PACKAGE = Path(__file__).resolve().parent
CONFIGS = PACKAGE / "configs" if (PACKAGE / "configs").is_dir() else PACKAGE.parent / "configs"  # wheel, checkout

CLASSICAL = "mlip.models.classical"
MOVED = {  # old `_target_` of a class: the present one
    "mlip.models.featureless.Featureless": f"{CLASSICAL}.featureless.Featureless",
    "mlip.models.ion_energy.IonEnergy": f"{CLASSICAL}.ion_energy.IonEnergy",
    "mlip.models.buckingham.Buckingham": f"{CLASSICAL}.buckingham.Buckingham",
    "mlip.models.core_shell.CoreShell": f"{CLASSICAL}.core_shell.CoreShell",
    "mlip.electrostatics.point.PointCharges": f"{CLASSICAL}.point_charges.PointCharges",
}


RENAMED = {  # former last words of keys, so that an old command is answered with the key of today
    "apart": "min_descriptor_distance", "control": "n_relabelled", "first": "n_initial", "highest": "max_barrier_eV",
    "most_hops": "max_hops",
    "least": "min_uncertainty", "times": "rmse_factor", "spread": "upper_factor", "fill": "min_candidates_per_label",
    "share": "uncertain_fraction", "level": "level_of_theory",
    "temperature": "temperature_K", "pressure": "pressure_GPa", "min_distance": "min_distance_A", "max_force": "max_force_eV_A",
    "hop_length": "hop_length_A", "max_length": "max_length_A", "max_barrier": "max_barrier_eV",
    "barrier_sigma": "barrier_sigma_eV", "barrier_change": "barrier_change_eV", "saddle_error": "saddle_error_eV",
}  # fmt: skip


class OwnConfigs(SearchPathPlugin):
    """Makes Hydra look into folders of the user before ours."""

    folders: tuple[Path, ...] = ()

    def manipulate_search_path(self, search_path) -> None:
        for folder in self.folders:
            search_path.prepend("own", f"file://{folder}", anchor="main")


Plugins.instance().register(OwnConfigs)


def compose(verb: str, overrides: list[str], config_dirs: list[Path], **how) -> DictConfig:
    """The config of a verb with the overrides applied; folders earlier in config_dirs win.

    Raises InputError with the nearest valid key or option.
    """
    OwnConfigs.folders = tuple(config_dirs[:-1])
    with hydra.initialize_config_dir(str(config_dirs[-1]), version_base="1.3"):
        try:
            cfg = hydra.compose(verb.replace(" ", "_"), [*properties(verb, config_dirs), *overrides], **how)
            check_preset(cfg, [word.split("=", 1)[0].lstrip("+") for word in overrides])
            return presented(cfg) if verb == "report" else cfg
        except HydraException as error:
            reason = error
    raise InputError(explain(verb, overrides, config_dirs) or str(reason))


def check_preset(cfg: DictConfig, keys: Sequence[str]) -> None:
    """Raise InputError for a key of the preset `material` that is set, and that nothing in this config reads."""
    read = set(re.findall(r"\bmaterial\.(\w+)", OmegaConf.to_yaml(cfg)))
    for key in keys:
        group, _, name = key.partition(".")
        if group == "material" and name and name.split(".")[0] not in read:
            raise InputError(
                f"{key}: nothing here reads it, so it would change nothing; read are "
                f"{', '.join(f'material.{one}' for one in sorted(read)) or 'no keys of material'}"
            )


LEVELS = ("short", "standard", "full")  # of `evaluation`
PRESENTATION = ("_target_", "title", "order", "thresholds")  # what a report reads of a property


def of_level(*values, _root_):
    """Value of `${level:a,b,c}` for evaluation=short, standard, full."""
    if _root_.evaluation not in LEVELS:
        raise InputError(f"evaluation={_root_.evaluation}: choose one of {', '.join(LEVELS)}")
    return values[LEVELS.index(_root_.evaluation)]


OmegaConf.register_new_resolver("level", of_level, replace=True)


def properties(verb: str, config_dirs: list[Path]) -> list[str]:
    """Overrides that put every file of the group `property` into the tree `properties` of a verb that has one."""
    if verb not in ("evaluate", "report"):
        return []
    return [f"+property@properties.{name}={name}" for name in options("property", config_dirs)]


def presented(cfg: DictConfig) -> DictConfig:
    """Config of a report: of every property only how it is presented."""
    shown = {name: OmegaConf.masked_copy(node, [key for key in PRESENTATION if key in node])
             for name, node in cfg.properties.items() if node is not None}  # fmt: skip
    OmegaConf.set_struct(cfg, False)
    cfg.properties = shown
    OmegaConf.set_struct(cfg, True)
    return cfg


def make(config: DictConfig, **arguments):
    """The object that a config names. Raises InputError for a key that its class does not take."""
    check_arguments(config)
    return instantiate(config, _convert_="all", **arguments)


def check_arguments(node: DictConfig | ListConfig, prefix: str = "") -> None:
    """Raise InputError for a key that nothing reads: the class or function of its node has no such argument."""
    for name in range(len(node)) if isinstance(node, ListConfig) else list(map(str, node)):
        child = node._get_node(name)
        if isinstance(child, DictConfig | ListConfig) and not child._is_interpolation() and not child._is_none():
            check_arguments(child, f"{prefix}{name}.")
    if not isinstance(node, DictConfig) or "_target_" not in node:
        return
    known = inspect.signature(get_object(node["_target_"])).parameters
    if any(parameter.kind is parameter.VAR_KEYWORD for parameter in known.values()):
        return
    for name in map(str, node):
        if not name.startswith("_") and name not in known:
            raise InputError(f"{prefix}{name}: {node['_target_']} takes no {name!r}; {nearest(name, list(known))}")


def class_of(config: DictConfig) -> type:
    """Class that a config names, not made."""
    return get_class(config["_target_"])


def build(config: dict, statistics: dict):
    """The untrained potential of a resolved config."""
    return make(OmegaConf.create(with_moved_targets(config["model"])))(statistics=statistics)


def with_moved_targets(node: Any) -> Any:
    """A config of an older version, as in its run folder, with the present `_target_` of classes that moved."""
    if not isinstance(node, dict):
        return node
    return {k: MOVED.get(v, v) if k == "_target_" else with_moved_targets(v) for k, v in node.items()}


# ---------------------------------------------------------------- keys and options


def leaves(config, prefix: str = "") -> list[str]:
    """Every key of a config, dotted, branches too."""
    if not isinstance(config, DictConfig):
        return []
    return [
        name for key in map(str, config) for name in (prefix + key, *leaves(config._get_node(key), f"{prefix}{key}."))
    ]


def nodes_with(mark: str, tree: DictConfig, prefix: str = "") -> dict[str, DictConfig]:
    """Nodes of a config that hold the key `mark`, by dotted name; null nodes were taken out."""
    nodes = {}
    for key, node in tree.items():
        if isinstance(node, DictConfig):
            name = prefix + str(key)
            nodes |= {name: node} if mark in node else nodes_with(mark, node, f"{name}.")
    return nodes


def select_node(cfg: DictConfig, key: str):
    """The node at a dotted key as it is written: interpolations stay unresolved."""
    node = cfg
    for name in key.split("."):
        node = node._get_node(name)
    return node


def groups(verb: str, overrides: Sequence[str] = (), config_dirs: Sequence[Path] = (CONFIGS,)) -> dict[str, str | None]:
    """Groups of a verb's config with the chosen option of each."""
    choices = compose(verb, list(overrides), list(config_dirs), return_hydra_config=True).hydra.runtime.choices
    return {group: option for group, option in choices.items() if not group.startswith("hydra")}


def keys_of(verb: str, config_dirs: list[Path]) -> list[str]:
    """Every key and group of a verb's config as it comes."""
    return [*leaves(compose(verb, [], config_dirs)), *groups(verb, (), config_dirs)]


def missing_keys(cfg: DictConfig) -> list[str]:
    """Keys without a value, `???`; those taken over from them are not named."""
    return [key for key in leaves(cfg) if (node := select_node(cfg, key)) is not None and node._value() == "???"]


def check(verb: str, cfg: DictConfig) -> None:
    """Raise InputError naming the keys that have no value yet, or the number that breaks its rule."""
    if missing := missing_keys(cfg):
        raise InputError(f"mlip {verb} needs {', '.join(missing)}; see mlip {verb} --help")
    for name in ("folder", "output", "path"):
        if cfg.get(name) == "":
            raise InputError(f"{name}= is empty: name a {'folder' if name == 'folder' else 'file'}")
    check_numbers(cfg, lambda: compose(verb, [], [CONFIGS]))


def options(group: str, config_dirs: list[Path]) -> list[str]:
    """What `group=NAME` can choose; empty if there is no such group."""
    return sorted({path.stem for folder in config_dirs for path in (folder / group).glob("*.yaml")})


def explain(verb: str, overrides: list[str], config_dirs: list[Path]) -> str | None:
    """What is wrong with the overrides: an option or a key that does not exist, with the nearest that does."""
    folders = sorted(
        {str(path.parent.relative_to(folder)) for folder in config_dirs for path in folder.rglob("*.yaml")} - {"."}
    )
    chosen, rest = [], []
    for override in OverridesParser.create().parse_overrides(overrides):
        (chosen if override.key_or_group in folders else rest).append(override)
    for override in chosen:
        names = options(override.key_or_group, config_dirs)
        if isinstance(override.value(), str) and override.value() not in names:
            return f"{override.key_or_group} has no {override.value()!r}: {nearest(override.value(), names)}"
        outer, _, inner = override.key_or_group.rpartition("/")
        outside = [other.input_line for other in chosen if "/" not in other.key_or_group]
        if outer and override.key_or_group not in groups(verb, outside, config_dirs):
            return f"the chosen {outer} is complete and takes no {inner}: leave out {override.input_line}, or choose another {outer}"
    known = leaves(compose(verb, [override.input_line for override in chosen], config_dirs)) if rest else []
    for override in rest:
        if not override.is_add() and override.key_or_group not in known:
            return f"mlip {verb} has no {override.key_or_group!r}: {nearest(override.key_or_group, known + folders)}"
    return None


def nearest(word: str, words: list[str]) -> str:
    """A question with the words most like this one; `lr` finds optimizer.lr."""
    last = re.split("[./]", word)[-1]
    ends = [known for known in words if re.split("[./]", known)[-1] in (last, RENAMED.get(last))]
    close = list(dict.fromkeys([*ends, *difflib.get_close_matches(word, words, n=2, cutoff=0.6)]))
    return (
        f"did you mean {' or '.join(close[:3])}?"
        if close
        else f"there are {', '.join(word for word in words if '.' not in word)}"
    )
