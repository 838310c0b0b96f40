"""Errors of labelled quantities as results with intervals."""

from dataclasses import dataclass, field
from functools import partial

import numpy as np

from mlip.error_metrics import components, lengths
from mlip.evaluation import error_statistics
from mlip.evaluation.bootstrap import Blocks, interval
from mlip.evaluation.predictions import Rows
from mlip.evaluation.result import Result
from mlip.units import EV_PER_A3_IN_GPA

QUANTILES = (0.5, 0.9, 0.99)
SHOWN = 3000  # points of a parity plot


@dataclass(frozen=True)
class Quantity:
    """Labelled quantity of the report.

    unit           of its errors;  factor from eV and Å to it
    parity_factor  to the unit of the parity plot: eV/atom, eV/Å, GPa
    """

    name: str
    unit: str
    factor: float
    parity_factor: float
    rows: Rows


def energies(rows: Rows) -> Quantity:
    """Energies per atom."""
    return Quantity("energy", "meV/atom", 1e3, 1.0, rows)


def forces(rows: Rows) -> Quantity:
    """Forces, or those of some atoms."""
    return Quantity("force", "meV/Å", 1e3, 1.0, rows)


def stresses(rows: Rows) -> Quantity:
    """Stresses."""
    return Quantity("stress", "GPa", EV_PER_A3_IN_GPA, EV_PER_A3_IN_GPA, rows)


def quantities(energy: Rows, force: Rows, stress: Rows) -> list[Quantity]:
    """Quantities that have labels."""
    return [each for each in (energies(energy), forces(force), stresses(stress)) if len(each.rows)]


@dataclass
class ErrorTable:
    """Results with intervals over one set of blocks."""

    blocks: Blocks
    results: list[Result] = field(default_factory=list)

    def add(
        self, name: str, unit: str, measure, values: tuple, block: np.ndarray, where: dict, positive=True, notes=()
    ):
        """One measure of error_statistics.py (or a partial of it) of rows with these values in these blocks."""
        statistic = measure(*values, block=block, n_blocks=len(self.blocks))
        value, low, high = interval(statistic, self.blocks, block, positive)
        self.results.append(Result(name, value, unit, low, high, notes=notes, conditions=where))

    def rows(self, quantity: Quantity, rows: Rows, where: dict, tails: bool = False) -> None:
        """MAE and RMSE per component; with tails, quantiles and maximum over the lengths of error vectors (stress / 3)."""
        name, unit, n_components = quantity.name, quantity.unit, rows.label.shape[1]
        values = components(rows.error) * quantity.factor
        block = self.blocks.of_frame[rows.frame]
        each = np.repeat(block, n_components)
        self.add(f"{name}_mae", unit, error_statistics.mean, (np.abs(values),), each, where)
        self.add(f"{name}_rmse", unit, error_statistics.rms, (values,), each, where)
        if not tails:
            return
        size = lengths(rows.error) * quantity.factor / (3 if n_components == 9 else 1)
        kind = "vector_error" if n_components == 3 else "error"
        for q in QUANTILES:
            self.add(
                f"{name}_{kind}_q{100 * q:g}", unit, partial(error_statistics.quantile, q=q), (size,), block, where
            )
        worst = f"frame {rows.frame[size.argmax()]}"
        self.results.append(Result(f"{name}_{kind}_max", size.max(), unit, notes=(worst,), conditions=where))


def parity_sample(quantity: Quantity) -> dict[str, list[float]]:
    """At most SHOWN components drawn at random, and the worst one, in the unit of the parity plot."""
    label, prediction = (
        values.ravel() * quantity.parity_factor for values in (quantity.rows.label, quantity.rows.predicted)
    )
    chosen = np.random.default_rng(0).permutation(len(label))[:SHOWN]
    chosen = np.unique([*chosen, np.abs(prediction - label).argmax()])
    return {"label": np.round(label[chosen], 6).tolist(), "predicted": np.round(prediction[chosen], 6).tolist()}
