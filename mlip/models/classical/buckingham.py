"""Buckingham pair potential, A exp(-r/rho) - C/r^6 per pair of elements."""

import csv
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import torch
from ase.data import chemical_symbols
from torch import Tensor, nn

from mlip import keys, units
from mlip.electrostatics.kernels import smooth_cutoff
from mlip.electrostatics.parameters import formal_charge_table
from mlip.errors import InputError
from mlip.nn.scatter import gather_rows, segment_sum
from mlip.nn.species import species_lookup

PUBLISHED = Path(__file__).with_name("buckingham.csv")  # with a source for each row


def dispersion_damping(x: Tensor) -> Tensor:
    """Damping f_6(x) = 1 - exp(-x) sum_{k=0..6} x^k / k!, x^7 / 7! at zero.

    Tang and Toennies, J. Chem. Phys. 80, 3741 (1984).
    """
    total = torch.ones_like(x)
    for step in range(6):
        total = 1.0 + total * x / (6.0 - step)
    return 1.0 - torch.exp(-x) * total


def buckingham(distance: Tensor, a: Tensor, rho: Tensor, c: Tensor) -> Tensor:
    """A exp(-r/rho) - f_6(r/rho) C / r^6, eV.

    Without the damping f_6 the energy falls to minus infinity where ions meet, the Buckingham catastrophe. The range
    of the damping is that of the repulsion, as Tang and Toennies have it: no parameter more.

    distance [n] Å, greater than zero; a [n] eV, rho [n] Å, c [n] eV Å^6
    """
    x = distance / rho
    return a * torch.exp(-x) - c * dispersion_damping(x) / distance.pow(6)


def published_parameters() -> dict[str, tuple[float, float, float]]:
    """(A eV, rho Å, C eV Å^6) of the pairs in buckingham.csv, which names their sources."""
    with PUBLISHED.open(encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    return {row["pair"]: (float(row["A_eV"]), float(row["rho_A"]), float(row["C_eV_A6"])) for row in rows}


def ionic_radius(symbol: str, charge: float) -> float:
    """Shannon's crystal radius of the nearest oxidation state, Å."""
    from pymatgen.core import Element

    radii = Element(symbol).ionic_radii
    if not radii:
        raise InputError(
            f"no ionic radius of {symbol} in pymatgen: give its pairs, e.g. pairs={{{symbol}-O: [A, rho, C]}}"
        )
    return float(radii[min(radii, key=lambda state: abs(state - charge))])


def generic_parameters(symbols: tuple[str, str], charges: tuple[float, float]) -> tuple[float, float, float]:
    """Generic start of a pair without published parameters: (A eV, rho Å, C eV Å^6), rho = 0.3 Å.

    Opposite charges: A balances the Coulomb force of rock salt, (alpha / 6) k_e |q q'| / r^2 per bond, at the sum
    of Shannon's radii; no dispersion. Two anions: 0.02 eV at the sum of radii, C = 20 eV Å^6. Two cations: nothing.
    """
    if min(charges) > 0:
        return 0.0, 1.0, 0.0
    contact, rho = sum(ionic_radius(symbol, charge) for symbol, charge in zip(symbols, charges, strict=True)), 0.3
    if max(charges) < 0:
        return 0.02 * math.exp(contact / rho), rho, 20.0
    bond = 1.74756 / 6 * units.COULOMB * abs(charges[0] * charges[1]) / contact**2
    return rho * bond * math.exp(contact / rho), rho, 0.0


class BuckinghamTable(nn.Module):
    """A, rho and C of every pair of elements, start times exp(learned).

    So signs stay, and a zero stays zero.
    pairs: {"Li-O": [A eV, rho Å, C eV Å^6]}, in place of the published or generic start
    """

    def __init__(self, elements: list[int], charges: list[float], pairs: Mapping[str, list[float]] | None = None):
        super().__init__()
        self.elements = list(elements)
        symbols = [chemical_symbols[z] for z in elements]
        parameters = {**published_parameters(), **(pairs or {})}
        start_of = {frozenset(name.split("-")): values for name, values in parameters.items()}
        if unknown := [name for name in pairs or {} if len(name.split("-")) != 2]:
            raise InputError(f"pairs names {unknown[0]!r}; a pair is written Li-O")
        rows, index = [], torch.zeros(len(elements), len(elements), dtype=torch.int64)
        for i, one in enumerate(symbols):
            for j, two in enumerate(symbols[: i + 1]):
                index[i, j] = index[j, i] = len(rows)
                values = start_of.get(frozenset((one, two)))
                rows.append(generic_parameters((one, two), (charges[i], charges[j])) if values is None else values)
        start = torch.tensor(rows, dtype=torch.float64)
        if bool((start < 0).any()) or bool((start[:, 1] == 0).any()):
            wrong = [list(row) for row in rows if min(row) < 0 or row[1] == 0]
            raise InputError(f"A and C must be >= 0 and rho > 0, got {wrong}")
        self.register_buffer("pair", index)
        self.register_buffer("start", start)
        self.learned = nn.Parameter(torch.zeros(len(rows), 3))

    def forward(self, species_i: Tensor, species_j: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """A [n] eV, rho [n] Å and C [n] eV Å^6, from rows of elements [n]."""
        table = self.start.to(torch.float64) * self.learned.to(torch.float64).exp()
        a, rho, c = gather_rows(table, self.pair[species_i, species_j]).unbind(1)
        return a, rho, c


class Buckingham(nn.Module):
    """Buckingham's potential between ions, smoothly zero over the last tenth of the cutoff (Å)."""

    local: Final[bool] = True

    def __init__(
        self,
        statistics: dict[str, Any],
        cutoff: float,
        pairs: dict[str, list[float]] | None = None,
        formal_charges: dict[str, float] | None = None,
    ):
        super().__init__()
        elements = list(statistics["elements"])
        charges = formal_charge_table([chemical_symbols[z] for z in elements], formal_charges)
        self.cutoff = float(cutoff)
        self.register_buffer("lookup", species_lookup(elements))
        self.table = BuckinghamTable(elements, charges.tolist(), pairs)

    def forward(self, graph: dict[str, Tensor]) -> Tensor:  # [n_atoms] eV
        """Half of each pair's energy."""
        centre, neighbour = graph[keys.EDGE_INDEX][0], graph[keys.EDGE_INDEX][1]
        species = self.lookup[graph[keys.ATOMIC_NUMBERS]]
        distance2 = graph[keys.EDGE_VECTOR].square().sum(1)
        a, rho, c = self.table(species[centre], species[neighbour])
        energy = 0.5 * smooth_cutoff(distance2, self.cutoff, 0.81) * buckingham(distance2.sqrt(), a, rho, c)
        return segment_sum(energy, centre, graph[keys.POSITIONS].shape[0])
