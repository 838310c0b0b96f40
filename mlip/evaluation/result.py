"""Result: one number of the report with unit, interval and verdict; JSON and CSV of them."""

import csv
import json
import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path

import numpy as np

from mlip import files
from mlip.errors import InputError
from mlip.files import whole_file

VERDICTS = ("", "pass", "warn", "fail", "limit")


@dataclass(frozen=True)
class Result:
    """A number that can be put in a paper.

    value       None if there is only a limit; low and high are then what is known
    low, high   ends of the 95.4 % (2 sigma) interval; None if it has none
    unit        as it stands in a column name: cm2/s, S/cm, eV; "" for a pure number
    verdict     "" not judged, "pass", "warn", "fail", or "limit": an upper or lower bound and no number
    notes       sentences a reader must see beside the number
    conditions  where it holds, e.g. {"temperature_K": 600, "species": "Li"}
    """

    name: str
    value: float | None
    unit: str
    low: float | None = None
    high: float | None = None
    verdict: str = ""
    notes: tuple[str, ...] = ()
    conditions: dict[str, float | str] = field(default_factory=dict)

    def __post_init__(self):
        if self.verdict not in VERDICTS:
            raise InputError(
                f"verdict of {self.name} must be one of {', '.join(map(repr, VERDICTS))}, got {self.verdict!r}"
            )
        object.__setattr__(self, "notes", tuple(self.notes))
        for name in ("value", "low", "high"):
            number = getattr(self, name)
            object.__setattr__(self, name, None if number is None else float(number))

    def __str__(self) -> str:
        unit = f" {self.unit}" if self.unit else ""
        where = ", ".join(f"{name}={value}" for name, value in self.conditions.items())
        ends = ["?" if end is None else f"{end:.3g}" for end in (self.low, self.high)]
        if self.value is None:
            bound = f"< {ends[1]}" if self.high is not None else f"> {ends[0]}" if self.low is not None else ""
            text = f"{self.name} {bound}{unit}" if bound else f"{self.name}: no value"
        else:
            text = f"{self.name} = {self.value:.4g}{unit}" + (f" [{ends[0]}, {ends[1]}]" if ends != ["?", "?"] else "")
        return text + (f"  ({where})" if where else "") + (f"  {self.verdict.upper()}" if self.verdict else "")


def write_json(path: str | Path, results: Sequence[Result]) -> None:
    """A list of objects with the fields of Result; numbers that are not finite become null."""
    files.write_json(path, [plain(asdict(result)) for result in results], allow_nan=False)


def read_json(path: str | Path) -> list[Result]:
    """Read what write_json wrote. Raises ValueError if a field is missing or unknown."""
    try:
        return [Result(**row) for row in json.loads(Path(path).read_text(encoding="utf-8"))]
    except TypeError as error:
        raise InputError(f"{path} is not a list of results: {error}") from error


def write_csv(path: str | Path, results: Sequence[Result]) -> None:
    """One row per result; every condition is a column, notes are joined by "; "."""
    conditions = list(dict.fromkeys(name for result in results for name in result.conditions))
    columns = [f.name for f in fields(Result) if f.name not in ("notes", "conditions")]
    with whole_file(path) as part, open(part, "w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow([*columns, *conditions, "notes"])
        for result in results:
            values = [plain(getattr(result, name)) for name in columns]
            writer.writerow([*values, *(result.conditions.get(name) for name in conditions), "; ".join(result.notes)])


def plain(value):
    """The value with what JSON does not have made plain: arrays and tuples to lists, numbers that are not finite to None."""
    if isinstance(value, np.ndarray | np.generic):
        value = value.tolist()
    if isinstance(value, dict):
        return {name: plain(inner) for name, inner in value.items()}
    if isinstance(value, list | tuple):
        return [plain(inner) for inner in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
