"""Comments of the YAML files in configs/: what every key means, for `mlip VERB --help` and for the reference pages."""

import re
from dataclasses import dataclass
from pathlib import Path

from mlip.config import CONFIGS
from mlip.errors import InputError

HIDDEN = ("_partial_", "_convert_", "_recursive_")  # how Hydra makes an object, no setting of it


@dataclass(frozen=True)
class Key:
    """One line of a config: dotted name, default as it is written ("" of a branch), comment."""

    name: str
    default: str
    comment: str


@dataclass(frozen=True)
class Config:
    """What one YAML file says: first comments, choices of its `defaults` list, keys in their order."""

    name: str
    about: list[str]
    choices: list[Key]
    keys: list[Key]


def split_comment(line: str) -> tuple[str, str]:
    """A line of YAML before and after its comment; a # in quotes is no comment."""
    match = re.match(r"""((?:[^#'"]|'[^']*'|"(?:[^"\\]|\\.)*"|(?<=\S)#)*)(?:(?<!\S)#\s?(.*))?$""", line)
    if match is None:
        raise InputError(f"cannot read this line of a config: {line!r}")
    return match[1].rstrip(), (match[2] or "").strip()


def read_config(path: Path) -> Config:
    """Keys of a block-style YAML file with the comments beside or above them."""
    about: list[str] = []
    choices: list[Key] = []
    keys: list[Key] = []
    parents: list[tuple[int, str]] = []  # (indent, name) of the branches around a line
    above: list[str] = []
    for line in path.read_text(encoding="utf-8").splitlines():
        text, comment = split_comment(line)
        indent = len(text) - len(text.lstrip())
        if not text:
            if comment and not comment.startswith("@package"):
                (above if keys or choices or parents else about).append(comment)
            continue
        parents = [parent for parent in parents if parent[0] < indent]
        item = re.match(r"\s*- (.*)", text)
        if item and parents and parents[0][1] == "defaults":
            group, _, option = item[1].partition(": ")
            choices.append(Key(group.replace("override ", "").lstrip("/"), option, comment))
        elif item:  # of a list under the last key
            keys[-1] = Key(
                keys[-1].name, f"{keys[-1].default} {item[1]}".strip(), " ".join([keys[-1].comment, comment]).strip()
            )
        else:
            name, _, value = text.strip().partition(":")
            parents.append((indent, name))
            if parents[0][1] == "defaults":
                choices += [
                    Key(entry.strip(" /").removesuffix("@_here_"), "", "")
                    for entry in value.strip(" []").split(",")
                    if value.strip()
                ]
            elif name not in HIDDEN:
                dotted = ".".join(parent for _, parent in parents)
                keys.append(Key(dotted, value.strip(), " ".join([*above, comment]).strip()))
                above = []
    return Config(path.stem, about, [choice for choice in choices if choice.name != "_self_"], keys)


def groups(configs: Path = CONFIGS) -> dict[str, list[Path]]:
    """Files of every group, by its name: model, model/network, ..."""
    folders = sorted({path.parent for path in configs.glob("*/**/*.yaml")})
    return {folder.relative_to(configs).as_posix(): sorted(folder.glob("*.yaml")) for folder in folders}
