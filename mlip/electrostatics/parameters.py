"""Parameters of atoms: formal charge, electronegativity, hardness, width, polarizability."""

from typing import Final

import torch
from torch import Tensor, nn

from mlip import units
from mlip.errors import InputError
from mlip.nn.species import SpeciesTable

# e, the usual oxidation state in solid electrolytes, electrodes and their neighbours
FORMAL_CHARGE: Final[dict[str, float]] = {
    "H": 1.0, "Li": 1.0, "Na": 1.0, "K": 1.0, "Rb": 1.0, "Cs": 1.0, "Ag": 1.0, "Cu": 2.0, "Be": 2.0, "Mg": 2.0,
    "Ca": 2.0, "Sr": 2.0, "Ba": 2.0, "Zn": 2.0, "Cd": 2.0, "Pb": 2.0, "Ni": 2.0, "Mn": 2.0, "Fe": 3.0, "Co": 3.0,
    "Cr": 3.0, "B": 3.0, "Al": 3.0, "Ga": 3.0, "In": 3.0, "Sc": 3.0, "Y": 3.0, "La": 3.0, "Ce": 3.0, "Pr": 3.0,
    "Nd": 3.0, "Sm": 3.0, "Eu": 3.0, "Gd": 3.0, "Tb": 3.0, "Dy": 3.0, "Ho": 3.0, "Er": 3.0, "Tm": 3.0, "Yb": 3.0,
    "Lu": 3.0, "Bi": 3.0, "C": 4.0, "Si": 4.0, "Ge": 4.0, "Sn": 4.0, "Ti": 4.0, "Zr": 4.0, "Hf": 4.0, "P": 5.0,
    "As": 5.0, "Sb": 5.0, "V": 5.0, "Nb": 5.0, "Ta": 5.0, "Mo": 6.0, "W": 6.0, "N": -3.0, "O": -2.0, "S": -2.0,
    "Se": -2.0, "Te": -2.0, "F": -1.0, "Cl": -1.0, "Br": -1.0, "I": -1.0,
}  # fmt: skip


class PositiveTable(nn.Module):
    """Learned positive number per element, floor + (initial - floor) exp(weight), float64.

    The weight starts at zero, and a step of it changes the number by a share of itself: hardness can grow a
    hundredfold.
    """

    def __init__(self, elements: list[int], initial: float, floor: float, name: str):
        super().__init__()
        if not 0 <= floor < initial:
            raise InputError(
                f"{name} starts at {initial} with the floor {floor}: it must start above it, and floor >= 0"
            )
        self.floor, self.start = float(floor), float(initial - floor)
        self.table = SpeciesTable(elements, torch.zeros(len(elements), 1))

    def forward(self, species: Tensor) -> Tensor:
        """[n], the unit of `initial`"""
        return self.floor + self.start * self.table(species)[:, 0].to(torch.float64).exp()


class Electronegativity(nn.Module):
    """Electronegativity of every atom from its invariant features, [n] V float64.

    chi_i = -J_i (formal charge + (shift of the element + MLP of the features) e / 10)

    chi q + J q^2 / 2 is then J (q - q0)^2 / 2 but for a constant, with q0 = -chi / J: training starts from formal
    charges, which fixes their sign (energies alone cannot), and a hardness that grows holds them there. The tenth lets
    them drift slowly from there, for forces hardly decide them (docs/benchmarks/charges.md).
    """

    formal: Tensor

    def __init__(self, elements: list[int], formal: Tensor, n_features: int, n_hidden: int):
        super().__init__()
        self.register_buffer("formal", formal)
        self.shift = SpeciesTable(elements, torch.zeros(len(elements), 1))
        self.hidden = nn.Linear(n_features, n_hidden)
        self.last = nn.Linear(n_hidden, 1)
        nn.init.zeros_(self.last.weight)
        nn.init.zeros_(self.last.bias)

    def forward(self, scalars: Tensor, species: Tensor, hardness: Tensor) -> Tensor:
        """From the features [n, n_features], the row of each element [n] and the hardness [n] eV/e^2."""
        shift = self.shift(species) + self.last(nn.functional.silu(self.hidden(scalars)))
        return -hardness * (self.formal.to(torch.float64)[species] + 0.1 * shift[:, 0].to(torch.float64))


class DipoleHead(nn.Module):
    """Dipole bias v_i = sum_k w_k V_ik of the vector features, and a learned polarizability."""

    def __init__(self, elements: list[int], n_features: int, polarizability: float):
        super().__init__()
        self.polarizability = PositiveTable(elements, polarizability, 0.0, "polarizability (Å^3)")
        self.source = nn.Linear(n_features, 1, bias=False)
        with torch.no_grad():
            self.source.weight.mul_(0.1)  # small, not zero: the bias must be able to learn

    def forward(self, vectors: Tensor, species: Tensor) -> tuple[Tensor, Tensor]:
        """Bias [n, 3] V/Å and inverse polarizability 1 / a [n] eV/(e Å)^2, from the vectors [n, 3, n_features]."""
        return self.source(vectors)[:, :, 0].to(torch.float64), 1.0 / self.polarizability_of(species)

    @torch.jit.export
    def polarizability_of(self, species: Tensor) -> Tensor:
        """a [n] e^2 Å^2 / eV"""
        return self.polarizability(species) / units.COULOMB


def formal_charge_table(symbols: list[str], formal_charges: dict[str, float] | None) -> Tensor:
    """Usual oxidation states, or those of `formal_charges` (symbol -> e) instead, [n_elements] e."""
    known = {**FORMAL_CHARGE, **(formal_charges or {})}
    unknown = [symbol for symbol in symbols if symbol not in known]
    if unknown:
        raise InputError(f"no formal charge for {unknown}: give it, e.g. formal_charges={{{unknown[0]}: 2}}")
    return torch.tensor([float(known[symbol]) for symbol in symbols], dtype=torch.float64)


def check_not_all_zero(symbols: list[str], formal: Tensor) -> None:
    """Raise InputError if no element has a formal charge: energies are even in all charges, so none would ever grow."""
    if not formal.any():
        raise InputError(
            f"formal charges of {', '.join(symbols)} are all 0: they would have no energy and "
            "learn nothing. Give formal_charges={Li: 1, ...}, or choose model/head=none"
        )
