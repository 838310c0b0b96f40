"""Literature values: the shipped table, and points of a user's own."""

import csv
import math
import re
from dataclasses import dataclass
from pathlib import Path

from mlip.data.structures import CHECKOUT
from mlip.errors import InputError, MissingFileError, UnknownNameError

TABLE = CHECKOUT / "datasets" / "literature" / "solid_electrolytes.csv"
COLUMNS = ("material", "quantity", "value", "unit", "kind", "source", "verified")
ROOM = 298.15  # K, what the tables call RT


@dataclass(frozen=True)
class Entry:
    """A row of the table: values are the numbers in it, one, several, or the two ends of a range."""

    material: str
    quantity: str
    values: tuple[float, ...]
    is_range: bool
    unit: str
    kind: str
    source: str
    verified: str


@dataclass(frozen=True)
class LiteraturePoint:
    """A point of an Arrhenius plot.  unit cm2/s or S/cm; low and high if a range or an error was given."""

    temperature_K: float
    value: float
    unit: str
    low: float | None
    high: float | None
    source: str


def read_table(material: str | None = None, path: str | Path = TABLE) -> list[Entry]:
    """Rows of the table, of one material if named. Raises for a missing file, column or material."""
    entries = []
    for row in _rows(path, COLUMNS):
        text = row["value"].strip()
        ends = re.fullmatch(r"(\d[\d.]*)-(\d[\d.]*)", text)  # 0.24-0.26, and not 1.6e-3
        try:
            values = tuple(float(part) for part in (ends.groups() if ends else text.split(",")))
        except ValueError as error:
            raise InputError(
                f"{path}: {row['material']} {row['quantity']} has value {text!r}; write 1.2, 1-2 or '1, 2'"
            ) from error
        rest = {name: row[name].strip() for name in COLUMNS if name != "value"}
        entries.append(Entry(values=values, is_range=bool(ends), **rest))
    chosen = [entry for entry in entries if material in (None, entry.material)]
    if not chosen:
        raise UnknownNameError(
            f"no {material!r} in {path}; it has {', '.join(dict.fromkeys(e.material for e in entries))}"
        )
    return chosen


def points(material: str, path: str | Path = TABLE) -> list[LiteraturePoint]:
    """Conductivities (S/cm) and diffusivities (cm^2/s) of a material at their temperatures, from the table."""
    entries = []
    for entry in read_table(material, path):
        name = re.fullmatch(r"(conductivity|diffusivity)_(RT|(\d+)K)", entry.quantity)
        if not name:
            continue
        scale = {"mS/cm": 1e-3, "S/cm": 1.0, "cm2/s": 1.0}[entry.unit]
        low, high = (scale * min(entry.values), scale * max(entry.values)) if entry.is_range else (None, None)
        temperature = float(name[3]) if name[3] else ROOM
        values = [sum(entry.values) / 2] if entry.is_range else entry.values
        unit = "S/cm" if name[1] == "conductivity" else "cm2/s"
        source = f"{entry.kind}, {entry.source}"
        entries += [LiteraturePoint(temperature, scale * value, unit, low, high, source) for value in values]
    return entries


def read_points(path: str | Path) -> list[LiteraturePoint]:
    """A user's own CSV: temperature_K, value, unit (cm2/s or S/cm), error (1 sigma, may be empty), source."""
    entries = []
    for line, row in enumerate(_rows(path, ("temperature_K", "value", "unit", "error", "source")), 2):
        unit = row["unit"].strip()
        if unit not in ("cm2/s", "S/cm"):
            raise InputError(f"{path}, line {line}: unit must be cm2/s or S/cm, got {unit!r}")
        try:
            t, value, error = float(row["temperature_K"]), float(row["value"]), float(row["error"] or "nan")
        except ValueError as wrong:
            raise InputError(f"{path}, line {line}: {wrong}") from wrong
        if not (t > 0 and value > 0):
            raise InputError(f"{path}, line {line}: temperature and value must be positive, got {t} K and {value}")
        low, high = (value - error, value + error) if math.isfinite(error) else (None, None)
        entries.append(LiteraturePoint(t, value, unit, low, high, row["source"].strip()))
    return entries


def _rows(path: str | Path, columns: tuple[str, ...]) -> list[dict[str, str]]:
    path = Path(path)
    if not path.is_file():
        raise MissingFileError(f"no table {path}; the shipped one lies in datasets/literature of the checkout")
    with open(path, newline="", encoding="utf-8") as file:
        reader = csv.DictReader(file, restval="")
        missing = [name for name in columns if name not in (reader.fieldnames or [])]
        if missing:
            raise InputError(
                f"{path} lacks the columns {', '.join(missing)}; it has {', '.join(reader.fieldnames or [])}"
            )
        return list(reader)
