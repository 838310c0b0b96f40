"""Core-shell model: polarisable anions, with Buckingham's repulsion acting on their shells."""

from collections.abc import Mapping
from typing import Any

import torch
from ase.data import chemical_symbols
from torch import Tensor, nn

from mlip import keys, units
from mlip.electrostatics.batch import systems_of
from mlip.electrostatics.parameters import formal_charge_table
from mlip.errors import InputError
from mlip.models.classical.buckingham import BuckinghamTable
from mlip.models.classical.core_shell_energy import CoreShellSystem, core_shell_energies, detached
from mlip.models.classical.shell_relaxation import relax_shells, shells_at_rest
from mlip.nn.species import SpeciesTable, species_lookup


def shell_start(symbols: list[str], charges: Tensor, shells: Mapping[str, list[float]]) -> Tensor:
    """Start of (Y e, k eV/Å^2), [n_elements, 2]; zeros for cations, which have no shell.

    Anions that `shells` does not name: Y = z - 1 e and a polarisability Y^2 / k of 2 Å^3, a generic start.
    """
    if unknown := [symbol for symbol in shells if symbol in symbols and charges[symbols.index(symbol)] >= 0]:
        raise InputError(f"shells names {unknown}, no anions: only anions have shells here")
    rows = []
    for symbol, charge in zip(symbols, charges.tolist(), strict=True):
        generic = [charge - 1.0, units.COULOMB * (charge - 1.0) ** 2 / 2.0]
        rows.append(list(shells.get(symbol, generic)) if charge < 0 else [0.0, 0.0])
        if charge < 0 and not (rows[-1][0] != 0 and rows[-1][1] > 0):
            raise InputError(f"a shell needs a charge Y and a spring k > 0 eV/Å^2, got {symbol}: {rows[-1]}")
    return torch.tensor(rows, dtype=torch.float64)


class CoreShell(nn.Module):
    """Buckingham, formal point charges and relaxed shells on the anions.

    E = min over shells of `core_shell_energies`.
    Learned, from their published or generic start: A, rho, C per pair, and per anion Y and k; the sum of core and
    shell stays the formal charge. A free ion has the polarisability Y^2 / k. Adds charges (formal) and dipoles Y u.

    cutoff, width  Å, as in PointCharges        tolerance   of the waves left out; forces err by about as much, eV/Å
    pairs          as in BuckinghamTable        shells      {"O": [Y e, k eV/Å^2]}
    stiffening     Å: displacements from which the spring is stiffer than harmonic (`spring_energy`)
    """

    def __init__(
        self,
        statistics: dict[str, Any],
        cutoff: float,
        width: float,
        pairs: dict[str, list[float]] | None = None,
        shells: dict[str, list[float]] | None = None,
        formal_charges: dict[str, float] | None = None,
        stiffening: float = 0.3,
        tolerance: float = 1e-5,
    ):
        super().__init__()
        elements = list(statistics["elements"])
        symbols = [chemical_symbols[z] for z in elements]
        if cutoff < 7 * width or stiffening <= 0:
            raise InputError(
                f"width must be at most cutoff / 7 and stiffening positive, got {width}, {cutoff} and {stiffening} Å"
            )
        self.cutoff, self.width = float(cutoff), float(width)
        self.stiffening, self.tolerance = float(stiffening), tolerance
        charges = formal_charge_table(symbols, formal_charges)
        self.register_buffer("lookup", species_lookup(elements))
        self.register_buffer("formal", charges)
        self.register_buffer("start", shell_start(symbols, charges, shells or {}))
        self.pairs = BuckinghamTable(elements, charges.tolist(), pairs)
        self.shells = SpeciesTable(elements, torch.zeros(len(elements), 2))

    def forward(self, graph: dict[str, Tensor]) -> Tensor:  # [n_atoms] eV
        """Energies; adds charges and dipoles to the graph."""
        species = self.lookup[graph[keys.ATOMIC_NUMBERS]]
        formal = self.formal.to(torch.float64)[species]
        shells = (self.start.to(torch.float64) * self.shells.weight.to(torch.float64).exp())[species]
        centre, neighbour = graph[keys.EDGE_INDEX][0], graph[keys.EDGE_INDEX][1]
        a, rho, c = self.pairs(species[centre], species[neighbour])
        energies: list[Tensor] = []
        dipoles: list[Tensor] = []
        for system, field, first, last, first_edge, last_edge in systems_of(graph):
            charges, of_shell = formal[first:last], shells[first:last]
            shelled = torch.nonzero(charges < 0).squeeze(1)
            outer = torch.where(charges < 0, of_shell[:, 0], charges)
            ions = CoreShellSystem(
                system.positions, system.cell, system.pbc, field, outer, shelled,
                (charges - outer)[shelled], of_shell[:, 1][shelled], centre[first_edge:last_edge] - first,
                neighbour[first_edge:last_edge] - first, graph[keys.EDGE_VECTOR][first_edge:last_edge],
                a[first_edge:last_edge], rho[first_edge:last_edge], c[first_edge:last_edge],
                self.width, self.cutoff, self.stiffening, self.tolerance,
            )  # fmt: skip
            # in inference the shells are constants: forces are exact because they are at rest
            u = relax_shells(detached(ions), 1e-6 if self.training else 1e-9)
            if self.training:  # a Newton step more, to 1e-12
                u = shells_at_rest(ions, u)
            energies.append(core_shell_energies(ions, u))
            dipoles.append(torch.zeros_like(ions.positions).index_copy(0, shelled, outer[shelled, None] * u))
        graph[keys.CHARGES] = formal
        graph[keys.DIPOLES] = torch.cat(dipoles)
        return torch.cat(energies)
