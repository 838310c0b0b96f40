"""Total charge of a structure: one rule for every door, training, prediction, calculator and dynamics."""

from collections.abc import Mapping

import numpy as np

from mlip import keys
from mlip.errors import InputError

OTHER_NAME = "charge"  # what public data sets call it
CHARGE_MISSED = 0.01  # e, by which a total charge and the sum of charges may differ


def total_charge(info: Mapping) -> float | None:
    """Total charge in e that a structure's info asks for, as `total_charge` or `charge`; None if it asks for none.

    Raises InputError for what is no finite number, and where both names are there and differ.
    """
    stated = {name: info[name] for name in (keys.TOTAL_CHARGE, OTHER_NAME) if info.get(name) is not None}
    charges = {}
    for name, value in stated.items():
        try:
            charges[name] = float(value)
        except (TypeError, ValueError):
            charges[name] = np.nan
        if not np.isfinite(charges[name]):
            raise InputError(f"{name} must be a finite number in e, got {value}; correct it, or leave it out for 0")
    if len(set(charges.values())) > 1:
        raise InputError(
            f"total_charge {charges[keys.TOTAL_CHARGE]:g} and charge {charges[OTHER_NAME]:g} differ: both name the total "
            "charge in e; leave one of them out"
        )
    return next(iter(charges.values()), None)


def set_total_charge(info: dict, charge: float | None) -> None:
    """Write the charge under its one name, in place; None leaves it out."""
    info.pop(OTHER_NAME, None)
    info.pop(keys.TOTAL_CHARGE, None)
    if charge is not None:
        info[keys.TOTAL_CHARGE] = charge
