"""Tables with one row per element of the model."""

import torch
from ase.data import chemical_symbols
from torch import Tensor, nn

from mlip.errors import InputError

MAX_ATOMIC_NUMBER = 118


def species_lookup(elements: list[int]) -> Tensor:
    """Row of each atomic number in a table ordered like `elements`, [119] int64; -1 where the model has none.

    Raises ValueError when elements repeat, are not ascending, or are no atomic numbers.
    """
    if (
        list(elements) != sorted(set(elements))
        or not elements
        or not 1 <= elements[0] <= elements[-1] <= MAX_ATOMIC_NUMBER
    ):
        raise InputError(
            f"elements must be distinct ascending atomic numbers from 1 to {MAX_ATOMIC_NUMBER}, got {elements}"
        )
    lookup = torch.full((MAX_ATOMIC_NUMBER + 1,), -1, dtype=torch.int64)
    lookup[torch.tensor(elements)] = torch.arange(len(elements))
    return lookup


def check_elements(atomic_numbers: Tensor, lookup: Tensor) -> None:
    """Raise ValueError naming the elements that the model has not been trained on."""
    missing = sorted(set(atomic_numbers[lookup[atomic_numbers] < 0].tolist()))
    if missing:
        known = [chemical_symbols[z] for z in range(len(lookup)) if lookup[z] >= 0]
        names = [chemical_symbols[z] for z in missing]
        raise InputError(
            f"no parameters for {names}; the model has parameters for {known}: train or fine-tune it with these elements"
        )


class SpeciesTable(nn.Module):
    """A learned row per element: forward(species [n]) -> [n, width]. Fine-tuning copies rows by element."""

    def __init__(self, elements: list[int], initial: Tensor):
        super().__init__()
        self.elements = list(elements)
        self.weight = nn.Parameter(initial)  # [n_elements, width]

    def forward(self, species: Tensor) -> Tensor:
        """Rows of the table, [..., width]."""
        return nn.functional.embedding(species, self.weight)
