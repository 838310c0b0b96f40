"""Tables of results in HTML: verdicts, all numbers, errors by group, temperatures."""

from collections.abc import Iterable, Mapping, Sequence
from html import escape

from mlip.evaluation.html import interval, number, table, unit, value, verdict, where, words
from mlip.evaluation.result import Result
from mlip.evaluation.thresholds import Judged

Series = dict[float, Judged]  # one quantity by temperature in K


def by_temperature(rows: Iterable[Judged]) -> tuple[list[Judged], list[Series]]:
    """Split rows into single numbers, and quantities that are known at two temperatures or more."""
    groups: dict[tuple, list[Judged]] = {}
    for row in rows:
        others = tuple(
            sorted((key, str(each)) for key, each in row.result.conditions.items() if key != "temperature_K")
        )
        groups.setdefault((row.section, row.result.name, row.result.unit, others), []).append(row)
    singles: list[Judged] = []
    series: list[Series] = []
    for group in groups.values():
        of_group = {row.result.conditions.get("temperature_K"): row for row in group}
        if None not in of_group and len(of_group) == len(group) > 1:
            series.append(dict(sorted(of_group.items())))
        else:
            singles += group
    return singles, series


def verdict_table(judged: Sequence[Judged], titles: Mapping[str, str]) -> str:
    """Value with interval, threshold and verdict; below a number the notes on it, each sentence once.

    Quantities at several temperatures stand in a table of their property, a column for each temperature.
    """
    singles, series = by_temperature(judged)
    rows, written, last = [], set(), ""
    for row in singles:
        result = row.result
        title = escape(titles.get(row.section, row.section))
        rows.append((title if title != last else "", words(result.name), where(result), value(result), interval(result),
                     unit(result.unit), threshold(row), verdict(result.verdict)))  # fmt: skip
        last = title
        new = [
            note for note in result.notes if (note, row.section, result.conditions.get("temperature_K")) not in written
        ]
        written |= {(note, row.section, result.conditions.get("temperature_K")) for note in new}
        if new and result.verdict != "pass":
            rows.append(("; ".join(map(escape, new)),))
    heads = ["property", "quantity", "where", "value", "2σ interval", "unit", "threshold", "verdict"]
    parts = [table(heads, rows, (3, 4), (0, 5, 6, 7))] if rows else []
    for section in dict.fromkeys(first(each).section for each in series):
        of_section = [each for each in series if first(each).section == section]
        parts += [f"<h3>{escape(titles.get(section, section))}, by temperature</h3>", temperature_table(of_section)]
    return "\n".join(parts)


def temperature_table(series: Sequence[Series]) -> str:
    """A row for each quantity, a column for each temperature; below a row the notes on its doubtful numbers."""
    temperatures = sorted({t for each in series for t in each})
    rows, written = [], set()
    for each in series:
        row = first(each)
        cells = [cell(each[t].result) if t in each else "" for t in temperatures]
        rows.append(
            (words(row.result.name), without_temperature(row.result), unit(row.result.unit), *cells, threshold(row))
        )
        notes: dict[str, list[float]] = {}
        for t, at in each.items():
            for note in at.result.notes if at.result.verdict not in ("", "pass") else ():
                if (note, t) not in written:
                    notes.setdefault(note, []).append(t)
                    written.add((note, t))
        if notes:
            rows.append(
                ("; ".join(f"{', '.join(f'{t:g}' for t in at)} K: {escape(note)}" for note, at in notes.items()),)
            )
    heads = ["quantity", "where", "unit", *(f"{t:g} K" for t in temperatures), "threshold"]
    return table(heads, rows, range(3, 3 + len(temperatures)), (2, 3 + len(temperatures)))


def first(series: Series) -> Judged:
    """Row at the lowest temperature."""
    return next(iter(series.values()))


def cell(result: Result) -> str:
    """Value, interval and verdict, one below the other."""
    ends = f"<small>{interval(result)}</small>" if interval(result) else ""
    mark = verdict(result.verdict) if result.verdict else ""
    return "<br>".join(line for line in (value(result), ends, mark) if line)


def without_temperature(result: Result) -> str:
    """Conditions of a number, its temperature left out."""
    return where(
        Result(result.name, None, "", conditions={k: v for k, v in result.conditions.items() if k != "temperature_K"})
    )


def threshold(row: Judged) -> str:
    """Threshold without its unit, which has its own column."""
    return escape(row.threshold.removesuffix(row.result.unit).strip())


def result_table(results: Sequence[Judged], with_notes: bool = True) -> str:
    """All numbers of one property."""
    singles, series = by_temperature(results)
    rows = [
        (words(row.result.name) + (notes(row.result) if with_notes else ""), where(row.result), value(row.result),
         interval(row.result), unit(row.result.unit), verdict(row.result.verdict))
        for row in singles
    ]  # fmt: skip
    parts = (
        [table(["quantity", "where", "value", "2σ interval", "unit", "verdict"], rows, (2, 3), (4, 5))] if rows else []
    )
    return "\n".join([*parts, *([temperature_table(series)] if series else [])])


def notes(result: Result) -> str:
    """Notes on a number, below its name."""
    return "".join(f"<br><small>{escape(note)}</small>" for note in result.notes)


def group_table(judged: Iterable[Judged], kinds: Sequence[str] = ("mae", "rmse")) -> list[str]:
    """Errors in total, by element, by config_type ...: a row per group, a column per error. Empty if there are no groups."""
    cells: dict[str, dict[str, Result]] = {}
    for row in judged:
        if row.result.name.rpartition("_")[2] in kinds and len(row.result.conditions) < 2:
            cells.setdefault(where(row.result) or "all", {})[row.result.name] = row.result
    names = {name: each.unit for group in cells.values() for name, each in group.items()}
    if len(cells) < 2:
        return []
    lines = []
    for group, errors in cells.items():
        shown = [errors.get(name) for name in names]
        lines.append(
            (
                group,
                *(
                    "" if each is None else f"{number(each.value, 3)}<br><small>{interval(each)}</small>"
                    for each in shown
                ),
            )
        )
    heads = [f"{words(name)} ({each})" for name, each in names.items()]
    return [table(["group", *heads], lines, range(1, len(heads) + 1), (0,))]
