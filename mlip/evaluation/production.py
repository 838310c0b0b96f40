"""Length of production: grown until the diffusivity is as precise as asked."""

from collections.abc import Sequence

from mlip.errors import InputError
from mlip.evaluation.result import Result

GROWTH = 1.25  # of production between two looks at D: a fifth of it at most is more than was needed


def lengths(production_ps: float, longest_ps: float | None) -> list[float]:
    """Times, ps, at which D is looked at: the production, a quarter longer each time, the longest; one if that is None.

    They depend on the settings alone, so that dynamics that was killed stops at the same one as dynamics that was not.
    Raises InputError if the longest is shorter than the production.
    """
    if longest_ps is None:
        return [production_ps]
    if longest_ps < production_ps:
        raise InputError(f"longest_ps is {longest_ps:g}, production_ps {production_ps:g}: production begins with the one "
                         "and ends at the other at the latest; give longest_ps as much or more, or null")  # fmt: skip
    times = [production_ps]
    while times[-1] < longest_ps:
        times.append(min(GROWTH * times[-1], longest_ps))
    return times


def lacking(results: Sequence[Result], relative_interval: float, effective_hops: float) -> str:
    """What the results of one temperature lack of a precision, in words; "" if nothing.

    relative_interval  (high - low) / (2 D) of the 2 sigma interval of the tracer diffusivity
    effective_hops     N max MSD / a^2: below 160 an interval is a rough one
    """
    named = {result.name: result for result in results}
    d = named["tracer_diffusivity"]
    if d.value is None:
        return "D is an upper limit only"
    reasons = []
    half = (d.high - d.low) / (2 * d.value)
    if half > relative_interval:
        reasons.append(f"D is known to {half:.0%} only, asked are {relative_interval:.0%}")
    hops = named["effective_hops"].value
    if hops < effective_hops:
        reasons.append(f"{hops:.0f} effective hops only, asked are {effective_hops:g}")
    return "; ".join(reasons)
