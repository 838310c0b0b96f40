"""Evaluation of properties one after the other, each kept in a file as it ends."""

import hashlib
import time
import traceback
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from rich.console import Console

from mlip.errors import FolderInUseError, InputError
from mlip.evaluation.property import Property
from mlip.evaluation.result import Result, plain
from mlip.evaluation.section import Section, read_section, section_file, write_section
from mlip.files import whole_file
from mlip.settings import first_difference

FAILED = "failed"  # name of the one result of a property that raised


def evaluate(
    calculator,
    properties: Mapping[str, Property],
    folder: str | Path,
    settings: Mapping[str, dict],
    overwrite: bool = False,
    console: Console | None = None,
) -> dict[str, Section]:
    """Evaluate every property, or read its finished section from folder/sections/NAME.json.

    settings   by property, JSON only: what decides its numbers. A finished property is not repeated while they stay the same
    overwrite  repeats the properties whose settings changed; otherwise such a property raises ValueError before anything runs
    A property that raises becomes a section with the verdict "fail" and its message; the others are evaluated, and the next
    call tries it again. Its traceback goes to folder/errors/NAME.txt.
    """
    folder, console = Path(folder), console or Console()
    earlier = {name: finished(folder, name, plain(settings[name]), overwrite) for name in properties}
    sections = {}
    for count, (name, each) in enumerate(properties.items(), 1):
        label = f"{count}/{len(properties)} {name}"
        if (section := earlier[name]) is not None:
            sections[name] = section
            console.print(f"{label}: done before", highlight=False)
            continue
        console.print(f"{label} ...", highlight=False)
        begin = time.perf_counter()
        section = evaluate_one(name, each, calculator, folder)
        wall = time.perf_counter() - begin
        sections[name] = replace(section, name=name, settings={**plain(settings[name]), "wall_s": round(wall, 3)})
        write_section(section_file(folder, name), sections[name])
        state = f"[red]failed[/]: {section.notes[0]}" if is_failed(section) else "done"
        console.print(f"{label}: {state} ({wall:.1f} s)", highlight=False)
    return sections


def evaluate_one(name: str, each: Property, calculator, folder: Path) -> Section:
    """Section of the property, or one that says how it failed."""
    error_file = folder / "errors" / f"{name}.txt"
    try:
        section = each.evaluate(calculator)
        if not isinstance(section, Section):
            raise InputError(f"evaluate of a property returns a Section, {name} returned {type(section).__name__}")
        error_file.unlink(missing_ok=True)
        return section
    except Exception as error:  # noqa: BLE001  one property that breaks must not take the others with it
        with whole_file(error_file) as part_file:
            part_file.write_text(traceback.format_exc(), encoding="utf-8")
        cause = root_cause(error)
        text = cause.args[0] if isinstance(cause, KeyError) and cause.args else str(cause)
        message = str(text) or f"{type(cause).__name__}, see {error_file}"
        return Section(name, [Result(FAILED, None, "", verdict="fail", notes=(message,))], {}, (message,))


def root_cause(error: BaseException) -> BaseException:
    """First error of a chain: what a config names raises inside another. The traceback of another process is none."""
    is_error = error.__cause__ is not None and type(error.__cause__).__name__ != "_RemoteTraceback"
    return root_cause(error.__cause__) if is_error else error


def is_failed(section: Section) -> bool:
    """Tell whether the property raised."""
    return [result.name for result in section.results] == [FAILED]


def finished(folder: Path, name: str, settings: dict, overwrite: bool) -> Section | None:
    """Finished section of the folder; None if it is missing, failed, or of other settings and to be overwritten."""
    file = section_file(folder, name)
    if not file.exists() or is_failed(section := read_section(file)):
        return None
    before = {key: value for key, value in section.settings.items() if key != "wall_s"}
    changed = first_difference(before, settings)
    if changed is None:
        return section
    if overwrite:
        return None
    if "part" in before:  # of a version that named its settings otherwise
        raise FolderInUseError(f"{file} is of an earlier version of mlip: mlip report {folder} shows it as it is, "
                               "overwrite=true evaluates it again, folder=... keeps both")  # fmt: skip
    values = [value_at(each, changed) for each in (before, settings)]
    raise InputError(f"{file} was made with {changed} {values[0]}, not {values[1]}: overwrite=true evaluates it again, "
                     "folder=... keeps both")  # fmt: skip


def value_at(settings: dict, dotted: str):
    """settings[a][b] of the name "a.b"; None if there is none. Keys may hold dots themselves."""
    if not isinstance(settings, dict):
        return None
    for key, value in settings.items():
        if dotted == key:
            return value
        if dotted.startswith(f"{key}."):
            return value_at(value, dotted.removeprefix(f"{key}."))
    return None


def file_hashes(settings) -> dict[str, str]:
    """Hash of every file that the settings name, so that another file under the old name is another setting."""
    hashes = {}
    for text in strings(settings):
        path = Path(text.split("@")[0])  # ASE's file@index
        if len(text) < 1000 and path.is_file():
            hashes[str(text)] = file_hash(path)
    return hashes


def file_hash(path: Path) -> str:
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
