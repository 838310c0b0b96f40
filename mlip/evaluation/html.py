"""HTML of a page that needs no other file; every text is escaped."""

import base64
from collections.abc import Iterable, Sequence
from html import escape

from mlip.evaluation.result import Result

SIGNS = {"A": "Å", "cm2": "cm²", "cm3": "cm³", "Å^2": "Å²", "Å^3": "Å³", "degree": "°", "k_B": "k<sub>B</sub>"}
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
tr:has(+ tr.note) td { border-bottom: 0 } tr.note td { padding-top: 0 } .scroll { overflow-x: auto }
th.number { white-space: normal } td.whole { white-space: nowrap; overflow-wrap: normal } sup { line-height: 0 }
.verdict { font-weight: 650; white-space: nowrap } .pass { color: var(--pass) } .warn { color: var(--warn) }
.fail { color: var(--fail) } .limit { color: var(--limit) }
.figures { display: grid; grid-template-columns: repeat(auto-fill, minmax(460px, 1fr)); gap: 1.2rem; align-items: start }
figure.wide { grid-column: 1 / -1; max-width: 960px } figure { margin: 0 } figure img { width: 100%; height: auto }
figcaption { font-size: .85rem } details { margin: .6rem 0 } summary { cursor: pointer; color: var(--limit) }
@media print { body { max-width: none; margin: 0 } figure, tr { break-inside: avoid } nav { display: none } }
@media (max-width: 520px) { .figures { grid-template-columns: 1fr } }
"""
ENDS = {"_eV_per_A": "eV/Å", "_K": "K", "_ps": "ps", "_fs": "fs", "_e": "e", "_GPa": "GPa", "_A": "Å"}  # units in keys
PLAIN = ("species", "element", "config_type", "ions", "pair", "hop", "path", "material")
WIDE = 1.7
SHORT = {word: word.upper() for word in ("mae", "rmse", "rms", "msd", "rdf", "nve", "md", "dft", "eos")} | {
    name.lower(): name for name in ("Haven", "Nernst", "Einstein", "Hove", "He", "Zhu", "Mo", "Arrhenius", "Frenkel")
}
MARKS = {"pass": "✓ pass", "warn": "! warn", "fail": "✗ fail", "limit": "≤ limit", "": ""}


def page(title: str, body: Iterable[str]) -> str:
    """The whole document."""
    return (f'<!DOCTYPE html>\n<html lang="en"><head><meta charset="utf-8"><title>{escape(title)}</title>'
            '<meta name="viewport" content="width=device-width, initial-scale=1">'
            f"<style>{STYLE}</style></head>\n<body>\n" + "\n".join(body) + "\n</body></html>\n")  # fmt: skip


def table(
    columns: Sequence[str], rows: Iterable[Sequence[str]], numbers: Sequence[int] = (), whole: Sequence[int] = ()
) -> str:
    """Cells are HTML already; the columns `numbers` are set flush right, the columns `whole` are never broken.

    A row of one cell is a remark under the row before it.
    """

    def line(tag: str, cells: Sequence[str]) -> str:
        if len(cells) == 1:
            return f'<tr class="note"><td></td><td colspan="{len(columns) - 1}"><small>{cells[0]}</small></td></tr>'
        marks = [
            ' class="number"' if i in numbers else ' class="whole"' if i in whole else "" for i in range(len(cells))
        ]
        return (
            "<tr>" + "".join(f"<{tag}{mark}>{cell}</{tag}>" for mark, cell in zip(marks, cells, strict=True)) + "</tr>"
        )

    head = line("th", [escape(column) for column in columns])
    body = "\n".join(line("td", row) for row in rows)
    return f'<div class="scroll"><table><thead>{head}</thead><tbody>{body}</tbody></table></div>'


def figure(png: bytes, caption: str) -> str:
    """An image inside the page; one much wider than high gets a row of its own."""
    data = base64.b64encode(png).decode()
    width, height = (int.from_bytes(png[i : i + 4], "big") for i in (16, 20))  # of the PNG's first chunk
    kind = ' class="wide"' if width > WIDE * height else ""
    return (f'<figure{kind}><img alt="{escape(caption, quote=True)}" src="data:image/png;base64,{data}">'
            f"<figcaption>{escape(caption)}</figcaption></figure>")  # fmt: skip


def verdict(word: str) -> str:
    """Verdict in colour, and with a sign for colour-blind readers."""
    return f'<span class="verdict {word}">{MARKS[word]}</span>'


def words(name: str) -> str:
    """tracer_diffusivity -> tracer diffusivity, force_rmse -> force RMSE"""
    return escape(" ".join(SHORT.get(word, word) for word in name.split("_")))


def caption(name: str) -> str:
    """The same as the beginning of a sentence."""
    text = words(name)
    return text[:1].upper() + text[1:]


def unit(text: str) -> str:
    """cm2/s -> cm²/s, Å^3 -> Å³"""
    return "/".join(SIGNS.get(part, escape(part)) for part in text.split("/"))


def where(result: Result) -> str:
    """Conditions of a number: "Li, 600 K, 80 atoms"; words that explain themselves stand without their key."""
    parts = []
    for key, value in result.conditions.items():
        shown = f"{value:g}" if isinstance(value, float) else str(value)
        end = next((end for end in ENDS if key.endswith(end)), "")
        name = key.removesuffix(end).replace("_", " ")
        if key == "temperature_K":
            parts.append(f"{shown} K")
        elif key in ("n_atoms", "atoms"):
            parts.append(f"{shown} atoms")
        elif key in PLAIN:
            parts.append(shown)
        else:
            parts.append(f"{name} {shown} {ENDS.get(end, '')}".replace("_", " ").strip())
    return escape(", ".join(parts))


def number(value: float | None, digits: int = 4) -> str:
    """So many digits; powers of ten as they are read."""
    if value is None:
        return ""
    text = f"{value:.{digits}g}"
    if "e" not in text:
        return text.replace("-", "−")
    mantissa, power = text.split("e")
    return f"{mantissa}×10<sup>{int(power)}</sup>".replace("-", "−")


def value(result: Result) -> str:
    """The value, or its bound if it has none."""
    if result.value is None and result.high is not None:
        return f"&lt; {number(result.high)}"
    if result.value is None and result.low is not None:
        return f"&gt; {number(result.low)}"
    return number(result.value) or "–"


def interval(result: Result, digits: int = 3) -> str:
    """[low, high]"""
    if result.value is None or (result.low is None and result.high is None):
        return ""
    ends = ["?" if end is None else number(end, digits) for end in (result.low, result.high)]
    return f"[{ends[0]}, {ends[1]}]"
