"""Runs the parts of an evaluation one after the other, keeps what each found, and goes on where it was cut off.

A part is `part(calculator) -> Section`. What it found is written to folder/sections/NAME.json the moment it ends, so
that a killed evaluation repeats one part only, and the report is drawn from those files.
"""

import hashlib
import time
import traceback
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path

from rich.console import Console

from mlip.evaluation.result import Result, plain
from mlip.evaluation.section import Section, read_section, write_section
from mlip.files import whole_file
from mlip.settings import first_difference

FAILED = "failed"  # name of the one result of a part that raised


def evaluate(
    calculator,
    parts: Mapping[str, Callable[[object], Section]],
    folder: str | Path,
    settings: Mapping[str, dict],
    overwrite: bool = False,
    console: Console | None = None,
) -> dict[str, Section]:
    """Every part's section by name, finished ones from the folder.

    settings   by part, JSON only: what decides its numbers. A finished part is not repeated while they stay the same
    overwrite  repeats the parts whose settings changed; otherwise such a part raises ValueError before anything runs
    A part that raises becomes a section with the verdict "fail" and its message; the others go on, and the next call
    tries it again. Its traceback goes to folder/errors/NAME.txt.
    """
    folder, console = Path(folder), console or Console()
    finished = {name: found for name in parts if (found := earlier(folder, name, plain(settings[name]), overwrite))}
    sections = {}
    for count, (name, part) in enumerate(parts.items(), 1):
        label = f"{count}/{len(parts)} {name}"
        if name in finished:
            sections[name] = finished[name]
            console.print(f"{label}: done before", highlight=False)
            continue
        console.print(f"{label} ...", highlight=False)
        begin = time.perf_counter()
        found = run(name, part, calculator, folder)
        wall = time.perf_counter() - begin
        sections[name] = replace(found, name=name, settings={**plain(settings[name]), "wall_s": round(wall, 3)})
        write_section(section_file(folder, name), sections[name])
        said = f"[red]failed[/]: {sections[name].notes[0]}" if is_failed(sections[name]) else "done"
        console.print(f"{label}: {said} ({wall:.1f} s)", highlight=False)
    return sections


def run(name: str, part: Callable, calculator, folder: Path) -> Section:
    """What the part found, or a section that says how it failed."""
    error_file = folder / "errors" / f"{name}.txt"
    try:
        section = part(calculator)
        if not isinstance(section, Section):
            raise TypeError(f"a part gives a Section, {name} gave {type(section).__name__}")
        error_file.unlink(missing_ok=True)
        return section
    except Exception as error:  # noqa: BLE001  one dimension that breaks must not take the others with it
        with whole_file(error_file) as part_file:
            part_file.write_text(traceback.format_exc())
        cause = root(error)
        told = cause.args[0] if isinstance(cause, KeyError) and cause.args else str(cause)
        message = str(told) or f"{type(cause).__name__}, see {error_file}"
        return Section(name, [Result(FAILED, None, "", verdict="fail", notes=(message,))], {}, (message,))


def root(error: BaseException) -> BaseException:
    """The error at the beginning: what a config names raises inside another."""
    return root(error.__cause__) if error.__cause__ is not None else error


def is_failed(section: Section) -> bool:
    """Whether the part raised."""
    return [result.name for result in section.results] == [FAILED]


def earlier(folder: Path, name: str, settings: dict, overwrite: bool) -> Section | None:
    """The finished section in the folder; None for one that is missing, failed, or of other settings to be overwritten."""
    file = section_file(folder, name)
    if not file.exists() or is_failed(found := read_section(file)):
        return None
    before = {key: value for key, value in found.settings.items() if key != "wall_s"}
    changed = first_difference(before, settings)
    if changed is None:
        return found
    if overwrite:
        return None
    values = [at(each, changed) for each in (before, settings)]
    raise ValueError(f"{file} was made with {changed} {values[0]}, asked is {values[1]}: overwrite=true evaluates it again, "
                     "folder=... keeps both")  # fmt: skip


def at(settings: dict, dotted: str):
    """settings[a][b] of the name "a.b"; None where there is none. Keys may hold dots themselves."""
    if not isinstance(settings, dict):
        return None
    for key, value in settings.items():
        if dotted == key:
            return value
        if dotted.startswith(f"{key}."):
            return at(value, dotted.removeprefix(f"{key}."))
    return None


def section_file(folder: str | Path, name: str) -> Path:
    """folder/sections/NAME.json"""
    return Path(folder) / "sections" / f"{name}.json"


def fingerprint(settings) -> dict[str, str]:
    """SHA-256 (first 16 digits) of every file that the settings name, so that another file under the old name is seen."""
    found = {}
    for text in strings(settings):
        path = Path(text.split("@")[0])  # ASE's file@index
        if len(text) < 1000 and path.is_file():
            found[str(text)] = digest(path)
    return found


def digest(path: Path) -> str:
    """First 16 digits of the file's SHA-256."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()[:16]


def strings(value) -> list[str]:
    """Every string inside dictionaries and lists."""
    if isinstance(value, dict):
        return [text for inner in value.values() for text in strings(inner)]
    if isinstance(value, list | tuple):
        return [text for inner in value for text in strings(inner)]
    return [value] if isinstance(value, str) else []
