"""Intervals of barriers, from the uncertainty of a potential.

At a minimum and at a saddle dE/dr = 0, so that a change dw of the weights changes a barrier by

dE_b = (dE/dw at the saddle - dE/dw at the start) dw,

and the shift of the path counts in second order only: the sigma of a barrier is that of one energy difference between two
structures, whose common errors cancel (`energy_spread` of models/last_layer.py, models/committee.py). A rate is proportional to
exp(-E_b / k_B T), and so known to a factor of exp(half width / k_B T).
"""

import math

import numpy as np
from ase import Atoms
from scipy.stats import norm, t

from mlip import keys, units
from mlip.calculator import calculate_many

INSIDE = 0.9545  # part of the true values in an interval: 2 sigma of a normal law, as of every result of a report


def difference_sigma(one: Atoms, other: Atoms, calculator) -> float | None:
    """sigma of E_other - E_one, eV; None if the calculator has none. Without energy_spread nothing cancels."""
    a, b = (result.calc.results for result in calculate_many(calculator, [one, other]))
    if keys.ENERGY_SPREAD in a:
        return float(np.linalg.norm(np.asarray(b[keys.ENERGY_SPREAD]) - np.asarray(a[keys.ENERGY_SPREAD])))
    if keys.ENERGY_SIGMA in a:
        return float(np.hypot(a[keys.ENERGY_SIGMA], b[keys.ENERGY_SIGMA]))
    return None


def half_width(one: Atoms, other: Atoms, calculator) -> float | None:
    """Half the interval of E_other - E_one, eV, that holds INSIDE of the true values; None without an uncertainty.

    Normal for a last layer, Student's law of K - 1 degrees of freedom for a committee of K.
    """
    sigma = difference_sigma(one, other, calculator)
    members = len(getattr(calculator, "metadata", {}).get("uncertainty", {}).get("members", ()))
    law = t(members - 1) if members > 1 else norm
    return None if sigma is None else float(law.ppf(0.5 + 0.5 * INSIDE)) * sigma


def rate_factor(half_width_eV: float, temperature_K: float) -> float:
    """Factor either way within which the rate of a hop is known: exp(half width / k_B T)."""
    return math.exp(half_width_eV / (units.BOLTZMANN * temperature_K))
