"""What each atom brings to the electrostatics: formal charge, electronegativity, hardness, width, polarizability."""

import torch
from torch import Tensor, nn

from mlip import units
from mlip.electrostatics.elements import FORMAL_CHARGE
from mlip.nn.species import SpeciesTable


class PositiveTable(nn.Module):
    """One learned positive number per element, floor + (initial - floor) exp(weight): forward(species [n]) -> [n] float64.

    The weight starts at zero, and a step of it changes the number by a share of itself: hardness can grow a hundredfold.
    """

    def __init__(self, elements: list[int], initial: float, floor: float, name: str):
        super().__init__()
        if not 0 <= floor < initial:
            raise ValueError(
                f"{name} starts at {initial} with the floor {floor}: it must start above it, and floor >= 0"
            )
        self.floor, self.start = float(floor), float(initial - floor)
        self.table = SpeciesTable(elements, torch.zeros(len(elements), 1))

    def forward(self, species: Tensor) -> Tensor:
        """[n], the unit of `initial`"""
        return self.floor + self.start * self.table(species)[:, 0].to(torch.float64).exp()


class Electronegativity(nn.Module):
    """chi_i = -J_i (formal charge + (shift of the element + MLP of the invariant features) e / 10), [n] V float64.

    chi q + J q^2 / 2 is then J (q - q0)^2 / 2 but for a constant, with q0 = -chi / J: training starts from formal charges,
    which fixes their sign (energies alone cannot), and a hardness that grows holds them there. The tenth lets them drift
    slowly from there, for forces hardly decide them (docs/charges.md).
    """

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
    """What dipoles need: v_i = sum_k w_k V_ik of the vector features, V/Å, and a learned polarizability."""

    def __init__(self, elements: list[int], n_features: int, polarizability: float):
        super().__init__()
        self.polarizability = PositiveTable(elements, polarizability, 0.0, "polarizability (Å^3)")
        self.source = nn.Linear(n_features, 1, bias=False)
        with torch.no_grad():
            self.source.weight.mul_(0.1)  # small, not zero: the source must be able to learn

    def forward(self, vectors: Tensor, species: Tensor) -> tuple[Tensor, Tensor]:
        """Source [n, 3] V/Å and stiffness 1 / a [n] eV/(e Å)^2, from the vectors [n, 3, n_features]."""
        return self.source(vectors)[:, :, 0].to(torch.float64), 1.0 / self.polarizability_of(species)

    @torch.jit.export
    def polarizability_of(self, species: Tensor) -> Tensor:
        """a [n] e^2 Å^2 / eV"""
        return self.polarizability(species) / units.COULOMB


def formal_charge_table(symbols: list[str], given: dict[str, float] | None) -> Tensor:
    """Usual oxidation states, or what is given instead, [n_elements] e."""
    known = {**FORMAL_CHARGE, **(given or {})}
    unknown = [symbol for symbol in symbols if symbol not in known]
    if unknown:
        raise ValueError(f"no formal charge for {unknown}: give it, e.g. formal_charges={{{unknown[0]}: 2}}")
    return torch.tensor([float(known[symbol]) for symbol in symbols], dtype=torch.float64)
