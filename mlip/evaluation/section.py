"""One dimension of an evaluation: results to quote, plain arrays from which its figures are drawn again."""

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path

from mlip.evaluation.result import Result, plain
from mlip.files import write_json


@dataclass
class Section:
    """What one part of an evaluation found.

    name     of the part, a file name: "accuracy", "lattice", "phonons", "diffusion" ...
    results  every number, with unit and interval
    data     JSON only (dicts, lists, numbers, strings): the curves that the figures of this part show
    notes    sentences a reader must see above the numbers
    settings what made it: written by evaluate.py, which compares it when a folder is used again
    """

    name: str
    results: list[Result] = field(default_factory=list)
    data: dict = field(default_factory=dict)
    notes: Sequence[str] = ()
    settings: dict = field(default_factory=dict)


def write_section(path: str | Path, section: Section) -> None:
    """The section as one JSON file, whole or not at all; numbers that are not finite become null."""
    write_json(path, plain(asdict(section)), allow_nan=False)


def read_section(path: str | Path) -> Section:
    """What write_section wrote. Raises ValueError where a field is missing or unknown."""
    try:
        found = json.loads(Path(path).read_text(encoding="utf-8"))
        return Section(**{**found, "results": [Result(**row) for row in found["results"]]})
    except (TypeError, KeyError) as error:
        raise ValueError(f"{path} is not a section of a report: {error}") from error
