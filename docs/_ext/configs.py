"""Reference of the command from the comments in configs/: a page for every verb and every group, written before a build."""

import re
from pathlib import Path

from mlip.config import CONFIGS
from mlip.config_comments import Config, Key, groups, read_config


def verbs(configs: Path = CONFIGS) -> dict[str, Path]:
    """The file of every verb."""
    return {path.stem.replace("_", " "): path for path in sorted(configs.glob("*.yaml"))}


# ---------------------------------------------------------------- pages


def plain(text: str) -> str:
    """Text as MyST shows it unchanged; what stands in backticks stays literal."""
    parts = re.split(r"(`[^`]*`)", text)
    return "".join(part if k % 2 else re.sub(r"([\\*_<>\[\]$|{}~^])", r"\\\1", part) for k, part in enumerate(parts))


def literal(text: str) -> str:
    """Text in backticks, of as many as it needs."""
    ticks = "`" * (max(map(len, re.findall(r"`+", text)), default=0) + 1)
    return f"{ticks}{text}{ticks}" if text else ""


def anchor(kind: str, name: str) -> str:
    return f"{kind}-{re.sub(r'[^a-z0-9]+', '-', name.lower())}"


def about_lines(config: Config) -> list[str]:
    """The first comments of a file: sentences as text, commands as code."""
    commands = [
        line for line in config.about if (line.startswith("mlip ") and "=" in line) or line.startswith("mlip data")
    ]
    text = [line for line in config.about if line not in commands]
    out = [plain(" ".join(text)), ""] if text else []
    return [*out, "```bash", *commands, "```", ""] if commands else out


def table(keys: list[Key]) -> list[str]:
    """Keys, defaults and comments; `_target_` is shown as the class that a branch makes."""
    if not keys:
        return []
    rows = [":::{list-table}", ":header-rows: 1", ":widths: 30 30 40", "", "* - key", "  - default", "  - meaning"]
    for key in keys:
        if key.name == "_target_":
            continue
        if key.name.endswith("._target_"):
            name = literal(key.name.removesuffix("._target_"))
            rows += [f"* - {name}", "  - ", f"  - {literal(key.default)} {plain(key.comment)}".rstrip()]
        elif key.default or key.comment:
            rows += [
                f"* - {literal(key.name)}",
                f"  - {literal(key.default)}".rstrip(),
                f"  - {plain(key.comment)}".rstrip(),
            ]
    return [*rows, ":::", ""] if len(rows) > 7 else []


def verb_page(verb: str, path: Path, known: dict[str, list[Path]]) -> str:
    """The page of one verb."""
    config = read_config(path)
    lines = [f"({anchor('verb', verb)})=", f"# mlip {verb}", "", *about_lines(config)]
    chosen = [choice for choice in config.choices if choice.name in known]
    bases = [choice.name for choice in config.choices if choice.name not in known and choice.name in verbs()]
    if bases:
        lines += [
            "All keys and groups of "
            + ", ".join(f"[mlip {base}](#{anchor('verb', base)})" for base in bases)
            + ", and:",
            "",
        ]
    if chosen:
        lines += ["## Groups", "", "Chosen with `group=NAME`, set below it with `group.key=value`.", ""]
        lines += [":::{list-table}", ":header-rows: 1", "", "* - group", "  - default", "  - choices", "  - meaning"]
        for choice in chosen:
            names = ", ".join(literal(path.stem) for path in known[choice.name])
            lines += [f"* - [{literal(choice.name)}](#{anchor('group', choice.name)})", f"  - {literal(choice.default)}",
                      f"  - {names}", f"  - {plain(choice.comment)}".rstrip()]  # fmt: skip
        lines += [":::", ""]
    return (
        "\n".join([*lines, "## Keys", "", "Set with `key=value`; `???` must be given.", "", *table(config.keys)]) + "\n"
    )


def group_page(group: str, paths: list[Path]) -> str:
    """The page of one group, an entry for each of its options."""
    lines = [f"({anchor('group', group)})=", f"# {group}", ""]
    for path in paths:
        config = read_config(path)
        lines += [f"## {group}={config.name}", "", *about_lines(config)]
        made = [key.default for key in config.keys if key.name == "_target_"]
        if made:
            lines += [f"Makes {literal(made[0])}.", ""]
        if bases := [choice for choice in config.choices if not choice.default]:
            lines += ["As " + ", ".join(literal(base.name) for base in bases) + ", with:", ""]
        if chosen := [choice for choice in config.choices if choice.default]:
            lines += ["Chooses " + ", ".join(literal(f"{choice.name}={choice.default}") for choice in chosen) + ".", ""]
        lines += table(config.keys)
    return "\n".join(lines) + "\n"


def write_pages(folder: Path) -> None:
    """All pages into a folder; unchanged ones are left alone, so that Sphinx need not read them again."""
    known = groups()
    pages = {f"verbs/{verb.replace(' ', '_')}.md": verb_page(verb, path, known) for verb, path in verbs().items()}
    pages |= {f"groups/{group.replace('/', '_')}.md": group_page(group, paths) for group, paths in known.items()}
    for kind in ("verbs", "groups"):
        for stale in (folder / kind).glob("*.md"):
            if f"{kind}/{stale.name}" not in pages:
                stale.unlink()
    for name, text in pages.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        if not path.exists() or path.read_text(encoding="utf-8") != text:
            path.write_text(text, encoding="utf-8")


def setup(app) -> dict:
    """Sphinx calls this."""
    app.connect("builder-inited", lambda app: write_pages(Path(app.srcdir) / "_generated"))
    return {"parallel_read_safe": True}
