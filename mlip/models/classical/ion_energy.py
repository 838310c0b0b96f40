"""Energy of an ion above its atom: the zero of energy of a potential of ions."""

from typing import Any, Final

import torch
from ase.data import chemical_symbols
from torch import Tensor, nn

from mlip import keys
from mlip.electrostatics.parameters import formal_charge_table
from mlip.nn.species import SpeciesTable, species_lookup


class IonEnergy(nn.Module):
    """E_i = eps z_i^2 + w[element], w learned (eV, zero at the start).

    The energy of ions in a crystal is tens of eV per atom below that of the ions apart, while reference energies come
    from fits to total energies of crystals. `scale` eps = 4.4 eV e^-2 is a generic start: about the lattice energy of
    salts over the sum of z^2; what it misses, w learns in the first steps. A lone ion has this above its reference.
    """

    local: Final[bool] = True

    def __init__(self, statistics: dict[str, Any], scale: float = 4.4, formal_charges: dict[str, float] | None = None):
        super().__init__()
        elements = list(statistics["elements"])
        charges = formal_charge_table([chemical_symbols[z] for z in elements], formal_charges)
        self.register_buffer("lookup", species_lookup(elements))
        self.register_buffer("start", scale * charges.square())
        self.learned = SpeciesTable(elements, torch.zeros(len(elements), 1))

    def forward(self, graph: dict[str, Tensor]) -> Tensor:  # [n_atoms] eV
        """Energy of each ion by itself."""
        species = self.lookup[graph[keys.ATOMIC_NUMBERS][: graph[keys.POSITIONS].shape[0]]]
        return self.start.to(torch.float64)[species] + self.learned(species)[:, 0].to(torch.float64)
