"""Total charges of the labelled structures against those that a potential can have."""

from collections.abc import Iterable

import numpy as np
from ase.data import chemical_symbols
from torch import nn

from mlip.data.dataset import GraphDataset
from mlip.data.total_charge import CHARGE_MISSED
from mlip.electrostatics import FormalCharges
from mlip.errors import InputError


def check_total_charges(potential: nn.Module, parts: Iterable[GraphDataset]) -> None:
    """Raise InputError for a frame with a total charge that the formal charges of its atoms do not add up to.

    A frame that states none (0) is not compared: the cell of a disordered crystal need not be neutral in formal charges.
    """
    for term in potential.modules():
        if not isinstance(term, FormalCharges):
            continue
        for part in parts:
            total, sources = part.column("total_charge"), part.sources()
            for position, numbers in part.numbers() if total.any() else ():
                formal = float(term.formal[term.lookup[numbers.astype(int)]].sum())
                if total[position] and abs(formal - total[position]) > CHARGE_MISSED:
                    raise InputError(
                        f"{sources[position]} has a total charge of {total[position]:g} e, and the formal charges of its atoms "
                        f"({_listed(term, numbers)}) add up to {formal:g} e, which this head holds fixed: take a head whose charges "
                        "adapt (model/head=bond_charges, qeq), or leave total_charge out of the file"
                    )


def _listed(term: FormalCharges, numbers: np.ndarray) -> str:
    return ", ".join(f"{chemical_symbols[z]} {float(term.formal[term.lookup[z]]):+g}" for z in np.unique(numbers))
