"""Reference energy of isolated atoms, one table per level of theory."""

from typing import Final

import torch
from torch import Tensor, nn

from mlip import keys
from mlip.errors import InputError
from mlip.nn.species import species_lookup


class AtomicEnergy(nn.Module):
    """E_i = E0[level of the system, element of i].

    Levels of theory differ by a shift per element, so that several train together. The table is float64
    whatever the network's dtype: a million eV of all-electron energy must not lose 1e-6 eV per atom.
    """

    local: Final[bool] = True

    def __init__(self, statistics: dict):
        super().__init__()
        self.register_buffer("lookup", species_lookup(statistics["elements"]))
        table = torch.tensor(statistics["atomic_energies"], dtype=torch.float64)
        if table.shape != (len(statistics["levels"]), len(statistics["elements"])):
            raise InputError(
                f"atomic_energies must be [levels, elements] = [{len(statistics['levels'])}, "
                f"{len(statistics['elements'])}], got {list(table.shape)}"
            )
        # whole neV, because Module.to(float32) would round a floating buffer
        self.register_buffer("table_neV", (table * 1e9).round().to(torch.int64))

    def forward(self, graph: dict[str, Tensor]) -> Tensor:  # [n_atoms] eV
        """Reference energy of each atom."""
        level = graph[keys.LEVEL][graph[keys.BATCH]]
        species = self.lookup[graph[keys.ATOMIC_NUMBERS][: level.shape[0]]]
        return self.table_neV[level, species].to(torch.float64) * 1e-9
