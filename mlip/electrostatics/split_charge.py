"""Split charges: charge flows through bonds that cost a bond hardness, so the model responds like an insulator.

q_i = q_i0 + sum_j p_ij; E = min over p of sum (chi q + J q^2 / 2) + 1/2 q A q + sum_bonds kappa_ij p_ij^2 / 2
(Nistor, Polihronov, Mueser, Mosey, J. Chem. Phys. 125, 094108 (2006)). With the bond conductance 1/kappa_ij =
f_c(r_ij) / (b_i + b_j), which fades as the bond breaks, and its graph Laplacian L, the minimum is the saddle point of

    F(q, u) = sum (chi q + J q^2 / 2) + 1/2 q A q + u.(q0 - q) - 1/2 u L u      (u: the potential that drives flow)

where no bond appears, nothing diverges when one breaks, and derivatives at constant (q, u) are exact.
"""

import math

import torch
from ase.data import chemical_symbols
from torch import Tensor, nn

from mlip import keys, units
from mlip.electrostatics.charges import atoms_per_system
from mlip.electrostatics.interaction import (
    Interaction,
    apply_interaction,
    matrix_of,
    smooth_interaction,
)
from mlip.electrostatics.parameters import Electronegativity, PositiveTable, formal_charge_table
from mlip.nn.radial import polynomial_cutoff
from mlip.nn.species import species_lookup


def laplacian(edge_index: Tensor, conductance: Tensor, n_atoms: int) -> Tensor:
    """L [n, n] e^2/eV of a full edge list: (L u)_i = sum_j c_ij (u_i - u_j). Rows add up to zero: charge is kept."""
    off = torch.zeros([n_atoms, n_atoms], dtype=conductance.dtype, device=conductance.device)
    off = off.index_put((edge_index[0], edge_index[1]), conductance, accumulate=True)
    off = 0.5 * (off + off.t())
    return torch.diag(off.sum(1)) - off


def saddle_slopes(
    interaction: Interaction, chi: Tensor, hardness: Tensor, bonds: Tensor, reference: Tensor, q: Tensor, u: Tensor
) -> tuple[Tensor, Tensor]:
    """dF/dq = chi + J q + A q - u and dF/du = q0 - q - L u, [n] each."""
    potential, _ = apply_interaction(interaction, q, q.new_zeros(0, 3))
    return chi + hardness * q + potential - u, reference - q - bonds @ u


def saddle_energies(
    interaction: Interaction, chi: Tensor, hardness: Tensor, bonds: Tensor, reference: Tensor, q: Tensor, u: Tensor
) -> Tensor:
    """F split among the atoms, [n] eV."""
    by_q, by_u = saddle_slopes(interaction, chi, hardness, bonds, reference, q, u)
    return 0.5 * (q * (by_q + chi) + u * (by_u + reference))


class SplitCharges(nn.Module):
    """Charges that leave their formal values only through bonds; electronegativity, hardness, width are learned.

    A bond is an edge of the graph; its conductance fades at `bond_cutoff`. `bond_hardness` is where each element's
    half of the bond hardness starts: large keeps the formal charges, zero would be charge equilibration.
    A total_charge other than the sum of formal charges is spread evenly over the references.
    """

    def __init__(
        self,
        statistics: dict,
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
            raise ValueError(f"bond_cutoff must be positive, got {bond_cutoff} Å")
        self.tolerance, self.bond_cutoff = tolerance, bond_cutoff
        self.register_buffer("lookup", species_lookup(elements))
        self.register_buffer("formal", formal_charge_table([chemical_symbols[z] for z in elements], formal_charges))
        self.electronegativity = Electronegativity(elements, self.formal, int(statistics["n_features"]), n_hidden)
        self.hardness = PositiveTable(elements, hardness, hardness_floor, "hardness (eV/e^2)")
        self.bond_hardness = PositiveTable(elements, bond_hardness, 0.0, "bond_hardness (eV/e^2)")
        self.width = PositiveTable(elements, width, width_floor, "width (Å)")

    def forward(self, graph: dict[str, Tensor]) -> Tensor:  # [n_atoms] eV
        """Energies; adds charges and electronegativity to the graph. Raises ValueError for a field or charge groups."""
        if keys.CHARGE_GROUP in graph:
            raise ValueError("split charges take no charge groups: the bonds decide where charge flows; use model=qeq for groups")
        if keys.FIELD in graph:
            strongest = float(graph[keys.FIELD].abs().max())
            if strongest > 0:
                raise ValueError(
                    f"split charges take no electric field, got {strongest} V/Å: use model=formal_dipoles, or F = Z* E"
                )
        species = self.lookup[graph[keys.ATOMIC_NUMBERS]]
        hardness, width, formal = self.hardness(species), self.width(species), self.formal.to(torch.float64)[species]
        chi = self.electronegativity(graph[keys.NODE_SCALARS], species, hardness)
        zero = 0.5 * (chi.square() / hardness - units.COULOMB / math.sqrt(math.pi) * formal.square() / width)
        edge_index, edge_vector = graph[keys.EDGE_INDEX], graph[keys.EDGE_VECTOR].to(torch.float64)
        half = self.bond_hardness(species)
        fade = polynomial_cutoff(torch.linalg.vector_norm(edge_vector, dim=1), self.bond_cutoff)
        conductance = fade / (half[edge_index[0]] + half[edge_index[1]])
        edge_system = graph[keys.BATCH][edge_index[0]]
        energy: list[Tensor] = []
        charges: list[Tensor] = []
        first = 0
        for s, n in enumerate(atoms_per_system(graph)):
            last = first + n
            r, w, x, j = graph[keys.POSITIONS][first:last], width[first:last], chi[first:last], hardness[first:last]
            reference = formal[first:last]
            if keys.TOTAL_CHARGE in graph:
                reference = reference + (graph[keys.TOTAL_CHARGE][s].to(torch.float64) - reference.sum()) / n
            mine = edge_system == s
            bonds = laplacian(edge_index[:, mine] - first, conductance[mine], n)
            interaction = smooth_interaction(r, graph[keys.CELL][s], graph[keys.PBC][s], w, self.tolerance, False)
            q, u = relax_split(interaction, x, j, bonds, reference, self.training)
            energy.append(saddle_energies(interaction, x, j, bonds, reference, q, u))
            charges.append(q)
            first = last
        graph[keys.CHARGES] = torch.cat(charges)
        graph[keys.ELECTRONEGATIVITY] = chi
        return torch.cat(energy) + zero


def relax_split(
    interaction: Interaction, chi: Tensor, hardness: Tensor, bonds: Tensor, reference: Tensor, differentiable: bool
) -> tuple[Tensor, Tensor]:
    """q and u at the saddle point: constants, or exact to second derivatives (Newton steps, see relaxation.py)."""
    with torch.no_grad():
        n = chi.shape[0]
        whole = torch.zeros([2 * n, 2 * n], dtype=chi.dtype, device=chi.device)
        whole[:n, :n] = matrix_of(interaction, True, False) + torch.diag(hardness)
        whole[:n, n:] = -torch.eye(n, dtype=chi.dtype, device=chi.device)
        whole[n:, :n] = whole[:n, n:]
        whole[n:, n:] = -bonds
        factors, pivots = torch.linalg.lu_factor(whole)
        solution = torch.linalg.lu_solve(factors, pivots, -torch.cat([chi, reference])[:, None])[:, 0]
    q, u = solution[:n], solution[n:]
    if differentiable:
        for _ in range(2):
            by_q, by_u = saddle_slopes(interaction, chi, hardness, bonds, reference, q, u)
            step = torch.linalg.lu_solve(factors, pivots, torch.cat([by_q, by_u])[:, None])[:, 0]
            q, u = q - step[:n], u - step[n:]
    return q, u
