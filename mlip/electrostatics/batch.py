"""Relaxation of the charges of every system of a batch."""

from typing import NamedTuple

import torch
from torch import Tensor

from mlip import keys
from mlip.electrostatics.functional import (
    ChargeFunctional,
    ChargeState,
    energies,
    energies_of_slopes,
    group_constraint,
    slopes,
)
from mlip.electrostatics.operator import CoulombOperator, System, coulomb_operator, detached, gradient_carrier
from mlip.electrostatics.slab import open_field, positions_in_field
from mlip.electrostatics.solvers import minimise, newton_correct
from mlip.electrostatics.structure_factors import ChargeEnergies


class BatchedSystem(NamedTuple):
    """One system with the rows of its atoms and edges in the graph."""

    system: System
    field: Tensor  # [3] V/Å
    first: int
    last: int
    first_edge: int
    last_edge: int


class RelaxationSettings(NamedTuple):
    """Tolerance of the waves left out, atoms from which the mesh is taken, and the mode."""

    tolerance: float
    mesh_above: int
    training: bool


def systems_of(graph: dict[str, Tensor]) -> list[BatchedSystem]:
    """Every system of the batch; no edges if the graph has none."""
    n_systems = graph[keys.CELL].shape[0]
    atoms: list[int] = torch.bincount(graph[keys.BATCH], minlength=n_systems).tolist()
    centre_system = graph[keys.BATCH][:0]
    if keys.EDGE_INDEX in graph:
        centre_system = graph[keys.BATCH][graph[keys.EDGE_INDEX][0]]
    edges: list[int] = torch.bincount(centre_system, minlength=n_systems).tolist()
    field = torch.zeros_like(graph[keys.CELL][:, 0])
    if keys.FIELD in graph:
        field = graph[keys.FIELD].to(torch.float64)
    systems: list[BatchedSystem] = []
    first, first_edge = 0, 0
    for s, n in enumerate(atoms):
        last, last_edge = first + n, first_edge + edges[s]
        system = System(graph[keys.POSITIONS][first:last], graph[keys.CELL][s], graph[keys.PBC][s])
        systems.append(BatchedSystem(system, field[s], first, last, first_edge, last_edge))
        first, first_edge = last, last_edge
    return systems


def charge_constraint(graph: dict[str, Tensor], index: int, first: int, last: int) -> tuple[Tensor, Tensor]:
    """Constraint of one system, rows [n_groups, n] and targets [n_groups] e.

    From its charge groups, or its total charge, or zero.
    """
    if keys.CHARGE_GROUP in graph:
        return group_constraint(graph[keys.CHARGE_GROUP], graph[keys.GROUP_CHARGE].to(torch.float64), first, last)
    rows = torch.ones([1, last - first], dtype=torch.float64, device=graph[keys.CELL].device)
    if keys.TOTAL_CHARGE in graph:
        return rows, graph[keys.TOTAL_CHARGE][index : index + 1].to(torch.float64)
    return rows, torch.zeros_like(rows[:, 0])


def initial_state(graph: dict[str, Tensor], first: int, last: int, fixed: Tensor, dipoles: bool) -> ChargeState:
    """Charges and dipoles from which the relaxation of one system starts: the graph's guess, or zero.

    fixed  [n] e, charges that stay; no entries: charges flow
    """
    zero = torch.zeros_like(graph[keys.POSITIONS][first:last])
    charges = zero[:, 0] if fixed.shape[0] == 0 else fixed
    moments = zero if dipoles else zero[:0]
    if keys.GUESS in graph:
        guess = graph[keys.GUESS][first:last].to(torch.float64)
        if fixed.shape[0] == 0:
            charges = guess[:, 0]
        if dipoles and guess.shape[1] == 4:
            moments = guess[:, 1:]
    return ChargeState(charges, moments, zero[:0, 0])


def relax_batch(
    graph: dict[str, Tensor], functional: ChargeFunctional, width: Tensor, fixed: Tensor, settings: RelaxationSettings
) -> tuple[ChargeState, Tensor]:
    """Relax every system of a batch: charges, dipoles, chemical potentials [n_systems] eV/e, energies [n_atoms] eV.

    functional  of all atoms, without constraints and field, which come from the graph
    width       [n_atoms] Å, or [1] for all
    fixed       [n_atoms] e, charges that stay; no entries: charges flow
    """
    flow, polar = fixed.shape[0] == 0, functional.inverse_polarizability.shape[0] > 0
    charges: list[Tensor] = []
    dipoles: list[Tensor] = []
    potentials: list[Tensor] = []
    energy: list[Tensor] = []
    for index, (system, field, first, last, _, _) in enumerate(systems_of(graph)):
        constraint, target = functional.constraint[:, first:last], functional.target
        if flow:
            field = open_field(field, system.cell, system.pbc)
            constraint, target = charge_constraint(graph, index, first, last)
        slope = functional.electronegativity[first:last]
        if keys.FIELD in graph:
            slope = slope - positions_in_field(system.positions, system.cell, system.pbc) @ field
        of_system = ChargeFunctional(
            slope,
            functional.hardness[first:last],
            functional.dipole_bias[first:last] - field if polar else functional.dipole_bias,
            functional.inverse_polarizability[first:last],
            constraint,
            target,
            functional.compliance,
        )
        start = initial_state(graph, first, last, fixed[first:last], polar)
        w = width[first:last] if width.shape[0] > 1 else width
        state, e = relaxed(of_system, system, w, start, settings)
        charges.append(state.charges)
        dipoles.append(state.dipoles)
        potentials.append((constraint.sum(1) @ state.multipliers) / (last - first))
        energy.append(e)
    return ChargeState(torch.cat(charges), torch.cat(dipoles), torch.stack(potentials)), torch.cat(energy)


def relaxed(
    functional: ChargeFunctional, system: System, width: Tensor, start: ChargeState, settings: RelaxationSettings
) -> tuple[ChargeState, Tensor]:
    """Charges, dipoles and multipliers of one system, and its energies [n] eV.

    Training: exact to second derivatives. Inference: the charges are constants and the energies have first
    derivatives, which are exact because the charges are a minimum, or fixed ones whose own derivatives are added.
    Many atoms go through the mesh.
    """
    tolerance, mesh_above, training = settings
    mesh = system.positions.shape[0] > mesh_above and int(system.pbc.sum()) > 1
    if training and torch.jit.is_scripting():
        mesh = False  # its correction is a Python function
    dipoles = functional.inverse_polarizability.shape[0] > 0
    operator = coulomb_operator(system, width, tolerance, dipoles, training, mesh)
    if training:
        state = newton_correct(functional, operator, start)
        if not torch.jit.is_scripting():  # noqa: SIM102  nested, so that TorchScript leaves it out
            if not dipoles and functional.constraint.shape[0] == 0 and width.shape[0] == 1:
                return state, fixed_charge_energies(functional, operator, system.positions, state.charges)
        return state, energies(functional, operator, state)
    constant = detached(operator)
    still = ChargeState(start.charges.detach(), start.dipoles, start.multipliers)
    state = minimise(functional, constant, still)
    by_charge, by_dipole = slopes(functional, constant, state)
    energy = energies_of_slopes(functional, state, by_charge, by_dipole)
    if start.charges.requires_grad:  # fixed, but a function of the positions: dE = (dF/dq) dq
        energy = energy + by_charge.detach() * (start.charges - still.charges)
    return state, energy + gradient_carrier(operator, system.positions, state.charges, state.dipoles)


@torch.jit.unused
def fixed_charge_energies(
    functional: ChargeFunctional, operator: CoulombOperator, positions: Tensor, charges: Tensor
) -> Tensor:
    """Energies [n] eV of charges of one width that stay, for training: `energies`, at less cost for structure factors."""
    state = ChargeState(charges, positions[:0], functional.target)
    if operator.factors is None:
        return energies(functional, operator, state)
    waves = ChargeEnergies.apply(charges, positions, *operator.factors)
    return energies(functional, operator._replace(factors=None), state) + waves
