"""Section: results of one property, and the data of its figures."""

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path

from mlip.errors import InputError
from mlip.evaluation.result import Result, plain
from mlip.files import write_json


@dataclass
class Section:
    """Results of one property.

    name     of the property, a file name: "accuracy", "lattice", "phonons", "diffusion" ...
    results  every number, with unit and interval
    data     JSON only (dicts, lists, numbers, strings): the curves that its figures show
    notes    sentences a reader must see above the numbers
    settings what decides the numbers: written by evaluate.py, which compares it when a folder is used again
    """

    name: str
    results: list[Result] = field(default_factory=list)
    data: dict = field(default_factory=dict)
    notes: Sequence[str] = ()
    settings: dict = field(default_factory=dict)


def section_file(folder: str | Path, name: str) -> Path:
    """folder/sections/NAME.json"""
    return Path(folder) / "sections" / f"{name}.json"


def write_section(path: str | Path, section: Section) -> None:
    """The section as one JSON file, whole or not at all; numbers that are not finite become null."""
    write_json(path, plain(asdict(section)), allow_nan=False)


def read_section(path: str | Path) -> Section:
    """Read what write_section wrote. Raises ValueError if a field is missing or unknown."""
    try:
        fields = json.loads(Path(path).read_text(encoding="utf-8"))
        return Section(**{**fields, "results": [Result(**row) for row in fields["results"]]})
    except (TypeError, KeyError) as error:
        raise InputError(f"{path} is not a section of a report: {error}") from error
