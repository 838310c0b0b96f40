"""Thresholds that turn a number into pass, warn or fail."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace

from mlip.errors import InputError
from mlip.evaluation.result import Result
from mlip.evaluation.section import Section

ORDER = ("", "pass", "limit", "warn", "fail")  # the worse verdict of a property and of a threshold stands
KINDS = {"at_most": "≤", "at_least": "≥", "size_at_most": "|x| ≤"}


@dataclass(frozen=True)
class Judged:
    """One row of the verdict table: a result with its final verdict, and the threshold in words ("" if it has none)."""

    section: str
    result: Result
    threshold: str


def judge(sections: Iterable[Section], thresholds: Mapping[str, Mapping[str, Mapping]]) -> list[Judged]:
    """Every result of the sections, in their order.

    thresholds  by section, then by result: {unit: meV/Å, at_most: [30, 60]}; pass up to the first number, warn up to the
                second, fail beyond. at_least the other way round, size_at_most for the size of the number less `around` (0). With `where`
                it holds under exactly these conditions: {} for a total, {ions: migrating}; a list of rules for several
    Raises ValueError for a rule of another unit than the result's, or that is no rule.
    """
    judged = []
    for section in sections:
        rules = thresholds.get(section.name) or {}
        for result in section.results:
            listed = rules.get(result.name) or []
            listed = listed if isinstance(listed, list) else [listed]
            fits = [rule for rule in listed if rule.get("where", result.conditions) == result.conditions]
            if not fits:
                judged.append(Judged(section.name, result, ""))
                continue
            kind, limits = check(section.name, result, fits[0])
            around = float(fits[0].get("around", 0.0))
            verdict = worse(result.verdict, grade(result, kind, limits, around))
            sign = KINDS[kind].replace("x", f"x - {around:g}") if around else KINDS[kind]
            text = f"{sign} {limits[0]:g} (warn {limits[1]:g}) {result.unit}".strip()
            judged.append(Judged(section.name, replace(result, verdict=verdict), text))
    return judged


def check(section: str, result: Result, rule: Mapping) -> tuple[str, tuple[float, float]]:
    """Kind and limits of a rule."""
    where = f"threshold of {section}.{result.name}"
    kinds = [kind for kind in KINDS if kind in rule]
    known = {"unit", "where", *KINDS, *(["around"] if "size_at_most" in kinds else [])}
    if len(kinds) != 1 or set(rule) - known or len(rule[kinds[0]]) != 2:
        raise InputError(
            f"{where} must have one of {', '.join(KINDS)} with two numbers, for pass and for warn, got {dict(rule)}"
        )
    if rule.get("unit", "") != result.unit:
        raise InputError(f"{where} is in {rule.get('unit', '')!r}, the result in {result.unit!r}")
    good, fair = map(float, rule[kinds[0]])
    if (good < fair) if kinds[0] == "at_least" else (good > fair):
        raise InputError(f"{where}: the limit for pass must be stricter than that for warn, got {good:g} and {fair:g}")
    return kinds[0], (good, fair)


def grade(result: Result, kind: str, limits: tuple[float, float], around: float = 0.0) -> str:
    """pass, warn or fail of a value; of a bound, only what it proves."""
    value = result.value
    if value is None:
        return ""
    value = abs(value - around) if kind == "size_at_most" else value
    sign = -1 if kind == "at_least" else 1
    return "pass" if sign * value <= sign * limits[0] else "warn" if sign * value <= sign * limits[1] else "fail"


def worse(one: str, other: str) -> str:
    """The verdict that weighs more."""
    return max(one, other, key=ORDER.index)
