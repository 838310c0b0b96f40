"""Electrostatic terms of a potential: formal, equilibrated, split charges; dipoles."""

import math
from typing import Any, Final

import torch
from ase.data import chemical_symbols
from torch import Tensor, nn

from mlip import keys, units
from mlip.electrostatics.batch import RelaxationSettings, relax_batch, systems_of
from mlip.electrostatics.functional import ChargeFunctional, ChargeState, energies, unconstrained
from mlip.electrostatics.operator import coulomb_operator
from mlip.electrostatics.parameters import (
    DipoleHead,
    Electronegativity,
    PositiveTable,
    check_not_all_zero,
    formal_charge_table,
)
from mlip.electrostatics.solvers import newton_correct, stationary_state
from mlip.errors import InputError
from mlip.nn.radial import polynomial_cutoff
from mlip.nn.species import species_lookup


class FormalCharges(nn.Module):
    """Fixed charges per element, as Gaussians; with `dipoles` the polarisable-ion model.

    E = 1/2 x A x - self-energies + sum_i (v_i . mu_i + mu_i^2 / 2 a_i), minimal in mu. The self-energy of the
    Gaussians is left out, so that a lone ion has its reference energy. What the width changes at short range, the
    network learns; the cost grows as width^-3.

    formal_charges  symbol -> e, instead of the usual oxidation state
    width           Å, of all Gaussians          tolerance  of the waves left out; forces err by about as much, eV/Å
    polarizability  Å^3, start of training       n_features of statistics is the width of the vector features
    mesh_above      atoms from which the particle mesh is taken (below, it is slower)
    """

    local: Final[bool] = False
    dipoles: Final[bool]
    lookup: Tensor
    formal: Tensor

    def __init__(
        self,
        statistics: dict[str, Any],
        formal_charges: dict[str, float] | None = None,
        width: float = 1.2,
        tolerance: float = 1e-5,
        dipoles: bool = False,
        polarizability: float = 1.0,
        mesh_above: int = 2000,
    ):
        super().__init__()
        elements = list(statistics["elements"])
        if width <= 0:
            raise InputError(f"width must be positive, got {width} Å")
        self.width, self.tolerance, self.dipoles, self.mesh_above = width, tolerance, dipoles, mesh_above
        self.register_buffer("lookup", species_lookup(elements))
        formal = formal_charge_table([chemical_symbols[z] for z in elements], formal_charges)
        if not dipoles:
            check_not_all_zero([chemical_symbols[z] for z in elements], formal)
        self.register_buffer("formal", formal)
        if dipoles:
            self.dipole_head = DipoleHead(elements, statistics["n_features"], polarizability)

    def forward(self, graph: dict[str, Tensor]) -> Tensor:  # [n_atoms] eV
        """Energies; adds charges (and dipoles) to the graph."""
        species = self.lookup[graph[keys.ATOMIC_NUMBERS]]
        charges = self.formal.to(torch.float64)[species]
        bias, inverse_polarizability = charges.new_zeros(0, 3), charges.new_zeros(0)
        if self.dipoles:
            bias, inverse_polarizability = self.dipole_head(graph[keys.NODE_VECTORS], species)
        zero = torch.zeros_like(charges)
        functional = unconstrained(zero, zero, bias, inverse_polarizability)
        width = torch.full_like(charges[:1], self.width)
        settings = RelaxationSettings(self.tolerance, self.mesh_above, self.training)
        state, energy = relax_batch(graph, functional, width, charges, settings)
        graph[keys.CHARGES] = charges
        if self.dipoles:
            graph[keys.DIPOLES] = state.dipoles
        return energy - 0.5 * units.COULOMB / (self.width * math.sqrt(math.pi)) * charges.square()


class EquilibratedCharges(nn.Module):
    """Equilibrated charges, the minimum of an energy at constant total charge; optional dipoles.

    E = sum_i (chi_i q_i + J_i q_i^2 / 2) + 1/2 x A x, with dipoles their terms as in FormalCharges.
    chi from the invariant features; hardness J and width per element, learned above a floor (a larger hardness floor:
    less charge flows). Energies are counted from J (q - q0)^2 / 2 = 0, q0 = -chi / J, less the self-energy of a lone
    Gaussian of the formal charge.
    formal_charges  symbol -> e, start of q0, instead of the usual oxidation state
    Reads total_charge, charge_group and group_charge, field; adds charges, dipoles, electronegativity,
    chemical_potential. With groups, chemical_potential is for charge shared by the groups in proportion to atoms.
    """

    local: Final[bool] = False
    dipoles: Final[bool]
    lookup: Tensor

    def __init__(
        self,
        statistics: dict[str, Any],
        formal_charges: dict[str, float] | None = None,
        n_hidden: int = 32,
        hardness: float = 6.0,
        hardness_floor: float = 1.0,
        width: float = 1.2,
        width_floor: float = 1.0,
        tolerance: float = 1e-5,
        dipoles: bool = False,
        polarizability: float = 1.0,
        mesh_above: int = 2000,
    ):
        super().__init__()
        elements, n_features = list(statistics["elements"]), int(statistics["n_features"])
        self.tolerance, self.dipoles, self.mesh_above = tolerance, dipoles, mesh_above
        self.register_buffer("lookup", species_lookup(elements))
        formal = formal_charge_table([chemical_symbols[z] for z in elements], formal_charges)
        if not dipoles:
            check_not_all_zero([chemical_symbols[z] for z in elements], formal)
        self.electronegativity = Electronegativity(elements, formal, n_features, n_hidden)
        self.hardness = PositiveTable(elements, hardness, hardness_floor, "hardness (eV/e^2)")
        self.width = PositiveTable(elements, width, width_floor, "width (Å)")
        if dipoles:
            self.dipole_head = DipoleHead(elements, n_features, polarizability)

    @torch.jit.export
    def on_site(self, graph: dict[str, Tensor]) -> tuple[Tensor, Tensor]:
        """chi [n_atoms] V of the features, and the energy of no charge [n_atoms] eV, where another code equilibrates."""
        species = self.lookup[graph[keys.ATOMIC_NUMBERS]]
        hardness, width = self.hardness(species), self.width(species)
        chi = self.electronegativity(graph[keys.NODE_SCALARS], species, hardness)
        return chi, energy_of_no_charge(chi, hardness, width, self.electronegativity.formal.to(torch.float64)[species])

    def forward(self, graph: dict[str, Tensor]) -> Tensor:  # [n_atoms] eV
        """Energies; adds charges, electronegativity, chemical_potential (and dipoles) to the graph."""
        species = self.lookup[graph[keys.ATOMIC_NUMBERS]]
        hardness, width = self.hardness(species), self.width(species)
        chi = self.electronegativity(graph[keys.NODE_SCALARS], species, hardness)
        zero = energy_of_no_charge(chi, hardness, width, self.electronegativity.formal.to(torch.float64)[species])
        bias, inverse_polarizability = chi.new_zeros(0, 3), chi.new_zeros(0)
        if self.dipoles:
            bias, inverse_polarizability = self.dipole_head(graph[keys.NODE_VECTORS], species)
        functional = unconstrained(chi, hardness, bias, inverse_polarizability)
        settings = RelaxationSettings(self.tolerance, self.mesh_above, self.training)
        state, energy = relax_batch(graph, functional, width, chi[:0], settings)
        graph[keys.CHARGES] = state.charges
        graph[keys.ELECTRONEGATIVITY] = chi
        graph[keys.CHEMICAL_POTENTIAL] = state.multipliers
        if self.dipoles:
            graph[keys.DIPOLES] = state.dipoles
        return energy + zero


def energy_of_no_charge(electronegativity: Tensor, hardness: Tensor, width: Tensor, formal: Tensor) -> Tensor:
    """chi^2 / (2 J) - k_e z^2 / (2 s sqrt(pi)) [n] eV: energies count from q = -chi / J, less a lone Gaussian of charge z."""
    return 0.5 * (electronegativity.square() / hardness - units.COULOMB / math.sqrt(math.pi) * formal.square() / width)


def laplacian(edge_index: Tensor, conductance: Tensor, n_atoms: int) -> Tensor:
    """Graph Laplacian L [n, n] e^2/eV of a full edge list, (L u)_i = sum_j c_ij (u_i - u_j).

    Rows add up to zero: charge is conserved.
    """
    off = torch.zeros([n_atoms, n_atoms], dtype=conductance.dtype, device=conductance.device)
    off = off.index_put((edge_index[0], edge_index[1]), conductance, accumulate=True)
    off = 0.5 * (off + off.t())
    return torch.diag(off.sum(1)) - off


class SplitCharges(nn.Module):
    """Split charges: they flow through bonds only, which gives the response of an insulator.

    Electronegativity, hardness and width are learned.
    q_i = q_i0 + sum_j p_ij; E = min over p of sum (chi q + J q^2 / 2) + 1/2 q A q + sum_bonds kappa_ij p_ij^2 / 2
    (Nistor, Polihronov, Mueser, Mosey, J. Chem. Phys. 125, 094108 (2006)). With the bond conductance 1/kappa_ij =
    f_c(r_ij) / (b_i + b_j), which vanishes smoothly as the bond breaks, and its graph Laplacian L, the minimum is the
    saddle point of

        F(q, u) = sum (chi q + J q^2 / 2) + 1/2 q A q + u.(q0 - q) - 1/2 u L u      (u: the potential that drives flow)

    in which no bond appears: nothing diverges when one breaks, and derivatives at constant (q, u) are exact. It is the
    functional of soft constraints q = q0 + L lambda, lambda = -u, with one group per atom.

    A bond is an edge of the graph; its conductance vanishes smoothly at `bond_cutoff`. `bond_hardness` is the start of
    each element's half of the bond hardness: large keeps the formal charges, zero would be charge equilibration.
    A total_charge other than the sum of formal charges is shared evenly by the references.
    """

    lookup: Tensor
    formal: Tensor

    def __init__(
        self,
        statistics: dict[str, Any],
        formal_charges: dict[str, float] | None = None,
        n_hidden: int = 32,
        hardness: float = 6.0,
        hardness_floor: float = 1.0,
        bond_hardness: float = 4.0,
        bond_cutoff: float = 4.0,
        width: float = 1.2,
        width_floor: float = 1.0,
        tolerance: float = 1e-5,
    ):
        super().__init__()
        elements = list(statistics["elements"])
        if bond_cutoff <= 0:
            raise InputError(f"bond_cutoff must be positive, got {bond_cutoff} Å")
        self.tolerance, self.bond_cutoff = tolerance, bond_cutoff
        self.register_buffer("lookup", species_lookup(elements))
        self.register_buffer("formal", formal_charge_table([chemical_symbols[z] for z in elements], formal_charges))
        check_not_all_zero([chemical_symbols[z] for z in elements], self.formal)
        self.electronegativity = Electronegativity(elements, self.formal, int(statistics["n_features"]), n_hidden)
        self.hardness = PositiveTable(elements, hardness, hardness_floor, "hardness (eV/e^2)")
        self.bond_hardness = PositiveTable(elements, bond_hardness, 0.0, "bond_hardness (eV/e^2)")
        self.width = PositiveTable(elements, width, width_floor, "width (Å)")

    def forward(self, graph: dict[str, Tensor]) -> Tensor:  # [n_atoms] eV
        """Energies; adds charges and electronegativity to the graph.

        Raises ValueError for a field or charge groups.
        """
        if keys.CHARGE_GROUP in graph:
            raise InputError(
                "split charges take no charge groups: charge flows along bonds only; use model/head=qeq for groups"
            )
        if keys.FIELD in graph:
            strongest = float(graph[keys.FIELD].abs().max())
            if strongest > 0:
                raise InputError(
                    f"split charges take no electric field, got {strongest} V/Å: use model/head=formal_dipoles, or F = Z* E"
                )
        species = self.lookup[graph[keys.ATOMIC_NUMBERS]]
        hardness, width, formal = self.hardness(species), self.width(species), self.formal.to(torch.float64)[species]
        chi = self.electronegativity(graph[keys.NODE_SCALARS], species, hardness)
        zero = 0.5 * (chi.square() / hardness - units.COULOMB / math.sqrt(math.pi) * formal.square() / width)
        edge_index, edge_vector = graph[keys.EDGE_INDEX], graph[keys.EDGE_VECTOR].to(torch.float64)
        half = self.bond_hardness(species)
        smooth = polynomial_cutoff(torch.linalg.vector_norm(edge_vector, dim=1), self.bond_cutoff)
        conductance = smooth / (half[edge_index[0]] + half[edge_index[1]])
        energy: list[Tensor] = []
        charges: list[Tensor] = []
        for s, (system, _, first, last, first_edge, last_edge) in enumerate(systems_of(graph)):
            n, reference = last - first, formal[first:last]
            if keys.TOTAL_CHARGE in graph:
                reference = reference + (graph[keys.TOTAL_CHARGE][s].to(torch.float64) - reference.sum()) / n
            bonds = laplacian(edge_index[:, first_edge:last_edge] - first, conductance[first_edge:last_edge], n)
            unit, none = torch.eye(n, dtype=chi.dtype, device=chi.device), chi.new_zeros(0, 3)
            chi_, hardness_ = chi[first:last], hardness[first:last]
            functional = ChargeFunctional(chi_, hardness_, none, none[:, 0], unit, reference, bonds)
            operator = coulomb_operator(system, width[first:last], self.tolerance, False, True)
            start = ChargeState(reference.detach(), none, torch.zeros_like(reference))
            if self.training:
                state = newton_correct(functional, operator, start)
            else:
                state = stationary_state(functional, operator, start)
            energy.append(energies(functional, operator, state))
            charges.append(state.charges)
        graph[keys.CHARGES] = torch.cat(charges)
        graph[keys.ELECTRONEGATIVITY] = chi
        return torch.cat(energy) + zero
