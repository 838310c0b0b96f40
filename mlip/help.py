"""`mlip --help`, `mlip VERB --help` and `mlip VERB --help=GROUP`: keys with the comments of their YAML files."""

import re
import textwrap
from pathlib import Path

from mlip.commands import VERBS
from mlip.config import CONFIGS, nearest, options
from mlip.config_comments import Config, Key, groups, read_config
from mlip.errors import UnknownNameError

WIDTH = 118  # columns
KEY = 26  # of them for the key and its default, when both fit


def overview() -> str:
    """What `mlip --help` prints."""
    lines = [f"  {verb:12}{config_of(verb).about[0]}" for verb in VERBS]
    return "\n".join([
        "mlip: interatomic potentials for solid electrolytes", "", "mlip VERB [key=value ...]", "", *lines, "",
        "mlip VERB --help          keys, groups and examples of a verb",
        "mlip VERB --help=GROUP    keys of a group and of each of its choices",
        "-m                        a run for every combination of key=a,b",
        "--config-dir DIR          your own configs; searched before the shipped ones",
        "MLIP_TRACEBACK=1          shows where an error came from",
    ])  # fmt: skip


def config_of(verb: str) -> Config:
    """Comments and keys of the config of a verb."""
    return read_config(CONFIGS / f"{verb.replace(' ', '_')}.yaml")


def verb_help(verb: str, config_dirs: list[Path]) -> str:
    """Examples, the verb's own keys, and the groups that bring more."""
    config = config_of(verb)
    chosen = [choice for choice in config.choices if (CONFIGS / choice.name).is_dir()]
    bases = [choice.name for choice in config.choices if (CONFIGS / f"{choice.name}.yaml").is_file()]
    lines = [*config.about, "", "keys: key=value or branch.key=value; ??? must be given", *rows(config.keys)]
    if bases:
        lines += ["", *(f"and the keys and groups of mlip {base}: mlip {base} --help" for base in bases)]
    if chosen:
        lines += ["", f"groups: group=CHOICE, * is the default; their keys: mlip {verb} --help={chosen[0].name}"]
    for choice in chosen:
        names = " ".join(f"*{name}" if name == choice.default else name for name in options(choice.name, config_dirs))
        listed = any(word in choice.comment for word in names.replace("*", "").split())
        lines += row(choice.name, names, "" if listed else choice.comment)
    if (CONFIGS / "property").is_dir() and verb in ("evaluate", "report"):
        names = " ".join(options("property", config_dirs))
        lines += [
            "",
            *textwrap.wrap(f"properties: {names}", WIDTH),
            f"  the keys of one: mlip {verb} --help=property/cost",
        ]
    return "\n".join(lines)


def group_help(verb: str, name: str) -> str:
    """Keys of every choice of a group, or of the one that GROUP/CHOICE names."""
    known = groups(CONFIGS)
    if name in known:
        files = known[name]
    elif (CONFIGS / f"{name}.yaml").is_file() and "/" in name:
        files = [CONFIGS / f"{name}.yaml"]
    else:
        raise UnknownNameError(f"mlip {verb} has no group {name!r}: {nearest(name, list(known))}")
    lines: list[str] = []
    for file in files:
        config = read_config(file)
        lines += [
            f"{file.parent.relative_to(CONFIGS).as_posix()}={file.stem}",
            *(f"  # {line}" for line in config.about),
        ]
        lines += [f"  as {', '.join(choice.name for choice in config.choices)}, but"] if config.choices else []
        lines += [*rows(config.keys), ""]
    return "\n".join(lines).rstrip()


def rows(keys: list[Key]) -> list[str]:
    """A row for each key; what makes the object of a branch is hidden."""
    shown = [key for key in keys if key.name.rsplit(".", 1)[-1] != "_target_" and (key.default or key.comment)]
    return [line for key in shown for line in row(key.name, written(key.default), key.comment)]


def row(name: str, default: str, comment: str) -> list[str]:
    """Key, default and comment, in as few lines as they need."""
    head = f"  {name:{KEY}}{default}".rstrip()
    if not comment:
        return textwrap.wrap(head, WIDTH, subsequent_indent=" " * (KEY + 4)) or [head]
    column = max(46, len(head) + 2)
    if column > 70:
        return [head[:WIDTH], *textwrap.wrap(comment, WIDTH, initial_indent=" " * 46, subsequent_indent=" " * 46)]
    return textwrap.wrap(f"{head:{column}}{comment}", WIDTH, subsequent_indent=" " * column, drop_whitespace=True)


def written(default: str) -> str:
    """A default as a person reads it: without the grammar of interpolations."""
    default = re.sub(r"\$\{oc\.select:material\.\w+,(.*)\}$", r"\1", default)
    default = re.sub(r"\$\{level:([^}]*)\}", lambda match: match[1].replace(",", " | "), default)
    return re.sub(r"\$\{([\w.]+)\}", r"\1", default)
