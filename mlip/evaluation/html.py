"""A page that needs nothing but itself: tables, figures inside as base64, one style; every text is escaped."""

import base64
from collections.abc import Iterable, Sequence
from html import escape

from mlip.evaluation.result import Result
from mlip.evaluation.thresholds import Judged

SIGNS = {"A": "Å", "A2": "Å²", "A3": "Å³", "cm2": "cm²", "cm3": "cm³", "nm2": "nm²", "us": "µs", "deg": "°"}
STYLE = """
:root { --ink: #1b1f24; --soft: #5b6570; --line: #d8dde3; --pass: #00694d; --warn: #8a5a00; --fail: #b23a00; --limit: #00568a }
* { box-sizing: border-box }
body { font: 15px/1.5 system-ui, "Segoe UI", "DejaVu Sans", sans-serif; color: var(--ink); max-width: 1120px; margin: 2rem auto;
       padding: 0 1.2rem }
h1 { font-size: 1.7rem; margin: 0 0 .3rem } h2 { font-size: 1.25rem; margin: 2.4rem 0 .5rem; border-bottom: 2px solid var(--line) }
p, li { max-width: 80ch } .soft, small, figcaption { color: var(--soft) } nav a { margin-right: 1rem; white-space: nowrap }
a { color: var(--limit) } ul { padding-left: 1.2rem; margin: .4rem 0 }
table { border-collapse: collapse; font-size: .88rem; margin: .6rem 0; width: 100% }
th { text-align: left; border-bottom: 1.5px solid var(--ink); padding: .3rem .8rem .3rem 0; vertical-align: bottom }
td { border-bottom: 1px solid var(--line); padding: .28rem .8rem .28rem 0; vertical-align: top; overflow-wrap: anywhere }
td.number, th.number { text-align: right; font-variant-numeric: tabular-nums; white-space: nowrap }
td.whole { white-space: nowrap; overflow-wrap: normal } sup { line-height: 0 }
.verdict { font-weight: 650; white-space: nowrap } .pass { color: var(--pass) } .warn { color: var(--warn) }
.fail { color: var(--fail) } .limit { color: var(--limit) }
.figures { display: grid; grid-template-columns: repeat(auto-fill, minmax(460px, 1fr)); gap: 1.2rem; align-items: start }
figure { margin: 0 } figure img { width: 100%; height: auto }
figcaption { font-size: .85rem } details { margin: .6rem 0 } summary { cursor: pointer; color: var(--limit) }
@media print { body { max-width: none; margin: 0 } figure, tr { break-inside: avoid } nav { display: none } }
@media (max-width: 520px) { .figures { grid-template-columns: 1fr } }
"""
MARKS = {"pass": "✓ pass", "warn": "! warn", "fail": "✗ fail", "limit": "≤ limit", "": ""}


def page(title: str, body: Iterable[str]) -> str:
    """The whole document."""
    return (f'<!DOCTYPE html>\n<html lang="en"><head><meta charset="utf-8"><title>{escape(title)}</title>'
            '<meta name="viewport" content="width=device-width, initial-scale=1">'
            f"<style>{STYLE}</style></head>\n<body>\n" + "\n".join(body) + "\n</body></html>\n")  # fmt: skip


def table(columns: Sequence[str], rows: Iterable[Sequence[str]], numbers: Sequence[int] = (), whole: Sequence[int] = ()) -> str:
    """Cells are HTML already; the columns `numbers` are set flush right, the columns `whole` are never broken."""

    def line(tag: str, cells: Sequence[str]) -> str:
        marks = [' class="number"' if i in numbers else ' class="whole"' if i in whole else "" for i in range(len(cells))]
        return "<tr>" + "".join(f"<{tag}{mark}>{cell}</{tag}>" for mark, cell in zip(marks, cells, strict=True)) + "</tr>"

    head = line("th", [escape(column) for column in columns])
    return f"<table><thead>{head}</thead><tbody>" + "\n".join(line("td", row) for row in rows) + "</tbody></table>"


def figure(png: bytes, caption: str) -> str:
    """An image inside the page."""
    data = base64.b64encode(png).decode()
    return (f'<figure><img alt="{escape(caption, quote=True)}" src="data:image/png;base64,{data}">'
            f"<figcaption>{escape(caption)}</figcaption></figure>")  # fmt: skip


def verdict(word: str) -> str:
    """A verdict that colour-blind readers tell by its sign."""
    return f'<span class="verdict {word}">{MARKS[word]}</span>'


def words(name: str) -> str:
    """tracer_diffusivity -> tracer diffusivity"""
    return escape(name.replace("_", " "))


def unit(text: str) -> str:
    """cm2/s -> cm²/s, meV/A -> meV/Å"""
    for name, sign in SIGNS.items():
        text = "/".join(sign if part == name else part for part in text.split("/"))
    return escape(text)


def where(result: Result) -> str:
    """Conditions of a number: "Li, 600 K"; keys that name neither unit nor thing are said."""
    parts = []
    for key, value in result.conditions.items():
        stem, _, of = key.rpartition("_")
        shown = f"{value:g}" if isinstance(value, float) else str(value)
        named = isinstance(value, str)
        if key == "temperature_K":
            parts.append(f"{shown} K")
        elif named:
            parts.append(shown)
        elif of in ("K", "ps", "fs", "A", "e", "GPa", "eV") and stem:
            parts.append(f"{stem.replace('_', ' ')} {shown} {SIGNS.get(of, of)}")
        else:
            parts.append(f"{key.replace('_', ' ')} {shown}")
    return escape(", ".join(parts))


def number(value: float | None) -> str:
    """Four digits; powers of ten as they are read."""
    if value is None:
        return ""
    text = f"{value:.4g}"
    if "e" not in text:
        return text.replace("-", "−")
    mantissa, power = text.split("e")
    return f"{mantissa}×10<sup>{int(power)}</sup>".replace("-", "−")


def value(result: Result) -> str:
    """The value, or its bound where that is all there is."""
    if result.value is None and result.high is not None:
        return f"&lt; {number(result.high)}"
    return number(result.value) or "–"


def interval(result: Result) -> str:
    """[low, high]"""
    if result.value is None or (result.low is None and result.high is None):
        return ""
    ends = ["?" if end is None else number(end) for end in (result.low, result.high)]
    return f"[{ends[0]}, {ends[1]}]"


def notes(result: Result) -> str:
    """What must be read beside the number."""
    return "".join(f"<br><small>{escape(note)}</small>" for note in result.notes)


def verdict_table(judged: Iterable[Judged], titles: dict[str, str]) -> str:
    """Part, quantity, value with interval, threshold, verdict."""
    rows = [
        (escape(titles.get(row.section, row.section)), words(row.result.name) + notes(row.result), where(row.result),
         value(row.result), interval(row.result), unit(row.result.unit), threshold(row), verdict(row.result.verdict))
        for row in judged
    ]  # fmt: skip
    return table(["part", "quantity", "where", "value", "2σ interval", "unit", "threshold", "verdict"], rows, (3, 4), (0, 5, 7))


def threshold(row: Judged) -> str:
    """Without the unit, which has its own column."""
    return escape(row.threshold.removesuffix(row.result.unit).strip())


def result_table(results: Iterable[Judged]) -> str:
    """All numbers of one part."""
    rows = [
        (words(row.result.name) + notes(row.result), where(row.result), value(row.result), interval(row.result),
         unit(row.result.unit), verdict(row.result.verdict))
        for row in results
    ]  # fmt: skip
    return table(["quantity", "where", "value", "2σ interval", "unit", "verdict"], rows, (2, 3), (4, 5))
