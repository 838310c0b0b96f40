"""Electrostatic terms of a potential: formal charges, equilibrated charges, and either with relaxed dipoles."""

import math
from typing import Final

import torch
from ase.data import chemical_symbols
from torch import Tensor, nn

from mlip import keys, units
from mlip.electrostatics.conjugate import solve_large
from mlip.electrostatics.equilibration import membership, open_field
from mlip.electrostatics.implicit import solve_large_differentiable
from mlip.electrostatics.interaction import carrier, constant, smooth_interaction
from mlip.electrostatics.parameters import DipoleHead, Electronegativity, PositiveTable, formal_charge_table
from mlip.electrostatics.problem import Problem, Relaxed, energies
from mlip.electrostatics.relaxation import relax
from mlip.nn.species import species_lookup


class FormalCharges(nn.Module):
    """Fixed charges per element, as Gaussians; with `dipoles` the polarisable-ion model.

    E = 1/2 x A x - self-energies + sum_i (v_i . mu_i + mu_i^2 / 2 a_i), minimal in mu. The self-energy of the
    Gaussians is left out, so that a lone ion has its reference energy. What the width changes at short range, the
    network learns; the cost grows as width^-3.

    formal_charges  symbol -> e, instead of the usual oxidation state
    width           Å, of all Gaussians          tolerance  of the waves left out; forces err by about as much, eV/Å
    polarizability  Å^3, where training starts   n_features of statistics is the width of the vector features
    mesh_above      atoms from which inference takes the particle mesh (below, it is slower)
    """

    dipoles: Final[bool]

    def __init__(
        self,
        statistics: dict,
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
            raise ValueError(f"width must be positive, got {width} Å")
        self.width, self.tolerance, self.dipoles, self.mesh_above = width, tolerance, dipoles, mesh_above
        self.register_buffer("lookup", species_lookup(elements))
        self.register_buffer("formal", formal_charge_table([chemical_symbols[z] for z in elements], formal_charges))
        if dipoles:
            self.dipole_head = DipoleHead(elements, statistics["n_features"], polarizability)

    def forward(self, graph: dict[str, Tensor]) -> Tensor:  # [n_atoms] eV
        """Energies; adds charges (and dipoles) to the graph."""
        species = self.lookup[graph[keys.ATOMIC_NUMBERS]]
        charges = self.formal.to(torch.float64)[species]
        width = torch.full_like(charges[:1], self.width)
        source, stiffness = charges.new_zeros(0, 3), charges.new_zeros(0)
        if self.dipoles:
            source, stiffness = self.dipole_head(graph[keys.NODE_VECTORS], species)
        positions, field = graph[keys.POSITIONS], system_field(graph)
        energy: list[Tensor] = []
        dipoles: list[Tensor] = []
        first = 0
        for s, n in enumerate(atoms_per_system(graph)):
            last = first + n
            q, r, cell, pbc = charges[first:last], positions[first:last], graph[keys.CELL][s], graph[keys.PBC][s]
            v = source[first:last] - field[s] if self.dipoles else source
            problem = Problem(-(r @ field[s]), torch.zeros_like(q), v, stiffness[first:last], q[None][:0], q[:0])
            start = starting(graph, first, last, q, self.dipoles)
            state, e = relaxed(r, cell, pbc, width, problem, start, self.tolerance, self.mesh_above, self.training)
            energy.append(e - 0.5 * units.COULOMB / (self.width * math.sqrt(math.pi)) * q.square())
            dipoles.append(state.dipoles)
            first = last
        graph[keys.CHARGES] = charges
        if self.dipoles:
            graph[keys.DIPOLES] = torch.cat(dipoles)
        return torch.cat(energy)


class EquilibratedCharges(nn.Module):
    """Charges that minimise sum_i (chi_i q_i + J_i q_i^2 / 2) + 1/2 x A x at given total charges; optional dipoles.

    chi from the invariant features; hardness J and width per element, learned above a floor (a larger hardness floor:
    less charge flows). Energies are counted from J (q - q0)^2 / 2 = 0, q0 = -chi / J, less the self-energy of a lone
    Gaussian of the formal charge.
    formal_charges  symbol -> e, where q0 starts, instead of the usual oxidation state
    Reads total_charge, charge_group and group_charge, field; adds charges, dipoles, electronegativity,
    chemical_potential. With groups, chemical_potential is for charge shared by the groups in proportion to atoms.
    """

    dipoles: Final[bool]

    def __init__(
        self,
        statistics: dict,
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
        self.electronegativity = Electronegativity(elements, formal, n_features, n_hidden)
        self.hardness = PositiveTable(elements, hardness, hardness_floor, "hardness (eV/e^2)")
        self.width = PositiveTable(elements, width, width_floor, "width (Å)")
        if dipoles:
            self.dipole_head = DipoleHead(elements, n_features, polarizability)

    def forward(self, graph: dict[str, Tensor]) -> Tensor:  # [n_atoms] eV
        """Energies; adds charges, electronegativity, chemical_potential (and dipoles) to the graph."""
        species = self.lookup[graph[keys.ATOMIC_NUMBERS]]
        hardness, width = self.hardness(species), self.width(species)
        chi = self.electronegativity(graph[keys.NODE_SCALARS], species, hardness)
        lone = self.electronegativity.formal.to(torch.float64)[species].square() / width
        zero = 0.5 * (chi.square() / hardness - units.COULOMB / math.sqrt(math.pi) * lone)
        source, stiffness = chi.new_zeros(0, 3), chi.new_zeros(0)
        if self.dipoles:
            source, stiffness = self.dipole_head(graph[keys.NODE_VECTORS], species)
        positions, field = graph[keys.POSITIONS], system_field(graph)
        energy: list[Tensor] = []
        charges: list[Tensor] = []
        dipoles: list[Tensor] = []
        potentials: list[Tensor] = []
        first = 0
        for s, n in enumerate(atoms_per_system(graph)):
            last = first + n
            r, cell, pbc = positions[first:last], graph[keys.CELL][s], graph[keys.PBC][s]
            w = width[first:last]
            along = open_field(field[s], cell, pbc)
            if bool((along - field[s]).abs().max() > 1e-9):
                raise ValueError(
                    "a field along a periodic direction has no energy -E.q r for charges that flow: "
                    "keep it along open directions, or apply F = Z* E (mlip.electrostatics.born_charges)"
                )
            v = source[first:last] - along if self.dipoles else source
            constraint, target = charge_constraint(graph, s, first, last)
            problem = Problem(
                chi[first:last] - r @ along, hardness[first:last], v, stiffness[first:last], constraint, target
            )
            start = starting(graph, first, last, chi[:0], self.dipoles)
            state, e = relaxed(r, cell, pbc, w, problem, start, self.tolerance, self.mesh_above, self.training)
            energy.append(e)
            charges.append(state.charges)
            dipoles.append(state.dipoles)
            potentials.append((constraint.sum(1) @ state.multipliers) / n)
            first = last
        graph[keys.CHARGES] = torch.cat(charges)
        graph[keys.ELECTRONEGATIVITY] = chi
        graph[keys.CHEMICAL_POTENTIAL] = torch.stack(potentials)
        if self.dipoles:
            graph[keys.DIPOLES] = torch.cat(dipoles)
        return torch.cat(energy) + zero


def relaxed(
    positions: Tensor,
    cell: Tensor,
    pbc: Tensor,
    width: Tensor,
    problem: Problem,
    start: Relaxed,
    tolerance: float,
    mesh_above: int,
    training: bool,
) -> tuple[Relaxed, Tensor]:
    """Charges, dipoles and multipliers of one system, and its energies [n] eV.

    Training: exact to second derivatives. Inference: the charges are constants and the energies have first
    derivatives, which are exact because the charges are a minimum. Many atoms go through the mesh.
    """
    polar, n = problem.stiffness.shape[0] > 0, positions.shape[0]
    on_mesh = n > mesh_above and int(pbc.sum()) > 1
    if training and on_mesh and not torch.jit.is_scripting():
        return solve_large_differentiable(positions, cell, pbc, width.expand(n), problem, start)
    if training:
        interaction = smooth_interaction(positions, cell, pbc, width, tolerance, polar)
        state = relax(interaction, problem, start, True)
        energy = energies(interaction, problem, state)
    elif on_mesh:
        state, energy, _ = solve_large(positions, cell, pbc, width.expand(n), problem, start)
    else:
        interaction = smooth_interaction(positions, cell, pbc, width, tolerance, polar, True)
        fixed = constant(interaction)
        state = relax(fixed, problem, start, False)
        energy = energies(fixed, problem, state) + carrier(interaction, positions, state.charges, state.dipoles)
    return state, energy


def starting(graph: dict[str, Tensor], first: int, last: int, given: Tensor, dipoles: bool) -> Relaxed:
    """Where the relaxation of one system begins: the graph's guess, or nothing; charges that are given stay.

    given  [n] e; no entries: charges flow
    """
    nothing = torch.zeros_like(graph[keys.POSITIONS][first:last])
    charges, moments = given, nothing if dipoles else nothing[:0]
    if charges.shape[0] == 0:
        charges = nothing[:, 0]
    if keys.GUESS in graph:
        guess = graph[keys.GUESS][first:last].to(torch.float64)
        charges = guess[:, 0] if given.shape[0] == 0 else given
        if dipoles and guess.shape[1] == 4:
            moments = guess[:, 1:]
    return Relaxed(charges, moments, nothing[:0, 0])


def atoms_per_system(graph: dict[str, Tensor]) -> list[int]:
    """Number of atoms of each system of the batch."""
    counts: list[int] = torch.bincount(graph[keys.BATCH], minlength=graph[keys.CELL].shape[0]).tolist()
    return counts


def system_field(graph: dict[str, Tensor]) -> Tensor:
    """Field of each system, [n_systems, 3] V/Å; zero where none is given."""
    if keys.FIELD in graph:
        return graph[keys.FIELD].to(torch.float64)
    return torch.zeros_like(graph[keys.CELL][:, 0])


def charge_constraint(graph: dict[str, Tensor], system: int, first: int, last: int) -> tuple[Tensor, Tensor]:
    """Rows [n_groups, n] and targets [n_groups] e of one system: its charge groups, or its total charge, or zero.

    Raises ValueError for an index without a group, and for a group of charge without an atom.
    """
    if keys.CHARGE_GROUP in graph:
        group_charge = graph[keys.GROUP_CHARGE].to(torch.float64)
        group, inverse = torch.unique(graph[keys.CHARGE_GROUP][first:last], return_inverse=True)
        if int(group.min()) < 0 or int(group.max()) >= group_charge.shape[0]:
            raise ValueError(
                f"charge_group must be an index into the {group_charge.shape[0]} entries of group_charge, "
                f"got {int(group.min())}..{int(group.max())}: give every atom a group"
            )
        counts = torch.bincount(graph[keys.CHARGE_GROUP], minlength=group_charge.shape[0])
        empty = torch.nonzero((counts == 0) & (group_charge != 0))
        if empty.shape[0] > 0:
            missing = int(empty[0])
            raise ValueError(
                f"charge group {missing} has no atom and cannot hold {float(group_charge[missing])} e: leave it out"
            )
        return membership(inverse, group.shape[0]), group_charge[group]
    rows = torch.ones([1, last - first], dtype=torch.float64, device=graph[keys.CELL].device)
    if keys.TOTAL_CHARGE in graph:
        return rows, graph[keys.TOTAL_CHARGE][system : system + 1].to(torch.float64)
    return rows, torch.zeros_like(rows[:, 0])
