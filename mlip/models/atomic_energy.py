"""Reference energy of isolated atoms, one table per level of theory."""

from typing import Final

import torch
from torch import Tensor, nn

from mlip import keys
from mlip.errors import InputError
from mlip.nn.species import species_lookup


class AtomicEnergy(nn.Module):
    """E_i = E0[level of the system, element of i], and beside it mu[level] Q / n of a system of n atoms (`of_charge`).

    mu V (`charge_energies` of the statistics, absent for labels of neutral cells) is the reservoir of electrons and the
    zero of the potential of the labels' code, Q the total charge; Q mu is a number, and no force.
    Levels of theory differ by a shift per element, so that several train together. The table is float64
    whatever the network's dtype: a million eV of all-electron energy must not lose 1e-6 eV per atom.
    """

    local: Final[bool] = True
    charged: Final[bool]

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
        self.charged = statistics.get("charge_energies") is not None
        of_charge = torch.tensor(statistics.get("charge_energies") or [0.0] * len(table), dtype=torch.float64)
        self.register_buffer("charge_neV", (of_charge * 1e9).round().to(torch.int64), persistent=self.charged)

    def forward(self, graph: dict[str, Tensor]) -> Tensor:  # [n_atoms] eV
        """Reference energy of each atom."""
        level = graph[keys.LEVEL][graph[keys.BATCH]]
        species = self.lookup[graph[keys.ATOMIC_NUMBERS][: level.shape[0]]]
        return self.table_neV[level, species].to(torch.float64) * 1e-9

    @torch.jit.export
    def of_charge(self, graph: dict[str, Tensor]) -> Tensor:
        """mu Q / n of every atom, [n_atoms] eV: of whole systems only, so it is no part of the term, which is local."""
        if not self.charged or keys.TOTAL_CHARGE not in graph:
            return torch.zeros_like(graph[keys.POSITIONS][:, 0])
        total = graph[keys.TOTAL_CHARGE].to(torch.float64)
        counts = torch.bincount(graph[keys.BATCH], minlength=total.shape[0]).clamp(min=1)
        mu = self.charge_neV[graph[keys.LEVEL]].to(torch.float64) * 1e-9
        return (mu * total / counts)[graph[keys.BATCH]]

    @torch.jit.unused
    def move(self, level: int, change: Tensor) -> None:
        """Adds a change [n_elements + 1] eV to the energies of a level's atoms, and of its charge, in place."""
        whole = (change * 1e9).round().to(torch.int64)
        self.table_neV[level] += whole[:-1].to(self.table_neV.device)
        if self.charged:
            self.charge_neV[level] += whole[-1].to(self.charge_neV.device)
