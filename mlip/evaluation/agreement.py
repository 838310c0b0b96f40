"""Agreement of results with values of the literature."""

import re
from collections.abc import Sequence
from dataclasses import replace

from mlip.evaluation.literature import Entry
from mlip.evaluation.result import Result

SCALES = {"S/cm": 1.0, "mS/cm": 1e-3, "cm2/s": 1.0, "eV": 1.0, "GPa": 1.0}  # of a table's unit in that of our results
WIDE = 10  # ends of an interval, beyond which agreement says little
ROOM_K = (290.0, 310.0)  # what the tables call RT, and the 300 K to which lines are extrapolated


def beside(results: Sequence[Result], entry: Entry) -> tuple[Result, str] | None:
    """Our result for the quantity of a row, in its unit, and whether they agree; None if we have none.

    They agree if the interval of ours, and the range of theirs, have a value in common.
    """
    ours = counterpart(results, entry)
    if ours is None or entry.unit not in SCALES:
        return None
    scale = SCALES[entry.unit]
    value, low, high = (None if x is None else x / scale for x in (ours.value, ours.low, ours.high))
    ours = replace(ours, value=value, low=low, high=high, unit=entry.unit)
    return ours, verdict(ours, entry)


def counterpart(results: Sequence[Result], entry: Entry) -> Result | None:
    """Our result for activation_energy, bulk_modulus, conductivity_RT, diffusivity_1000K ...; None without a value.

    A conductivity by Nernst and Einstein stands beside ours by Nernst and Einstein.
    """
    quantity = entry.quantity
    name = re.fullmatch(r"(conductivity|diffusivity)_(RT|(\d+)K)", quantity)
    if quantity == "bulk_modulus":
        chosen = [r for r in results if r.name == "B0"]
    elif quantity == "activation_energy":
        chosen = [r for r in results if r.name == quantity and r.conditions.get("of") == "tracer_diffusivity"]
    elif name is None:
        return None
    else:
        low, high = (float(name[3]) - 1, float(name[3]) + 1) if name[3] else ROOM_K
        if name[1] == "diffusivity":
            wanted = {"tracer_diffusivity", "diffusivity_extrapolated"}
        elif "Nernst-Einstein" in entry.kind:
            wanted = {"conductivity_nernst_einstein"}
        else:
            wanted = {"conductivity", "conductivity_extrapolated"}
        chosen = [r for r in results if r.name in wanted and low <= float(r.conditions.get("temperature_K", 0)) <= high]
    return next((r for r in chosen if r.value is not None), None)


def verdict(ours: Result, entry: Entry) -> str:
    """Agreement of both, or by how much ours differs from the nearest of theirs, in words."""
    low, high = (ours.value if end is None else end for end in (ours.low, ours.high))
    theirs = [(min(entry.values), max(entry.values))] if entry.is_range else [(v, v) for v in entry.values]
    if any(low <= most and least <= high for least, most in theirs):
        return "agree" if low > 0 and high < WIDE * low else f"agree, but ours is known to a factor of {WIDE} at best"
    nearest = min((v for pair in theirs for v in pair), key=lambda v: abs(v - ours.value))
    if entry.unit == "eV":
        return f"ours is {abs(ours.value - nearest):.2f} eV {'above' if ours.value > nearest else 'below'}"
    return f"ours is {ours.value / nearest:.2g} times theirs"
