"""Interface of a property, and its presentation in the report.

A property is one class in one file of this package, and one file of configs/property that names it:

    _target_: my_package.my_property.MyProperty    the class; every other key is an argument of it
    title, order      heading in the report, and its place there (evaluated in this order too)
    needs             keys of the command that must not be null; otherwise the property is left out
    levels            of `evaluation`, at which it is evaluated unless `only` names it; none: all
    dtype             precision of the model
    thresholds        limits of its verdicts (thresholds.py)
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Protocol

from matplotlib.figure import Figure

from mlip.evaluation.section import Section


class Property(Protocol):
    """Property of a material or a calculator; its settings are the arguments of its class."""

    def evaluate(self, calculator) -> Section:
        """Measure the property with a calculator of ASE."""

    @staticmethod
    def figures(data: Mapping) -> dict[str, Figure]:
        """Plot the section's data, as read from its JSON."""


@dataclass(frozen=True)
class Presentation:
    """Presentation of a property in the report.

    figures     of its class; None: numbers only
    thresholds  by result, as thresholds.judge takes them
    """

    title: str
    figures: Callable[[Mapping], dict[str, Figure]] | None = None
    thresholds: Mapping = field(default_factory=dict)
