"""Energy of ions with cores and shells, as a function of the shells' displacements.

Dick and Overhauser, Phys. Rev. 112, 90 (1958): the shell, of charge Y, hangs on its core by a spring; neighbours repel
the shell, the charges of shells and cores act on all others but on each other within one ion. Point charges, by
Gaussians of width s in reciprocal space and the short-range correction erfc(r / 2s) / r.
"""

import math
from typing import NamedTuple

import torch
from torch import Tensor

from mlip import units
from mlip.electrostatics.kernels import point_correction, radial_kernels, smooth_cutoff
from mlip.electrostatics.operator import CoulombOperator, System, apply_operator, coulomb_operator
from mlip.models.classical.buckingham import buckingham


class CoreShellSystem(NamedTuple):
    """One system of ions. The outer charge of an ion is its shell's, or its own if it has none."""

    positions: Tensor  # [n, 3] Å, of the cores
    cell: Tensor  # [3, 3] Å
    pbc: Tensor  # [3]
    field: Tensor  # [3] V/Å
    outer: Tensor  # [n] e
    shelled: Tensor  # [m] the ions that have a shell
    core: Tensor  # [m] e
    spring: Tensor  # [m] eV/Å^2
    centre: Tensor  # [n_edges]
    neighbour: Tensor  # [n_edges]
    vector: Tensor  # [n_edges, 3] Å, between cores
    a: Tensor  # [n_edges] eV
    rho: Tensor  # [n_edges] Å
    c: Tensor  # [n_edges] eV Å^6
    width: float  # Å, s of the split
    cutoff: float  # Å
    stiffening: float  # Å, see `spring_energy`
    tolerance: float  # of the waves left out


def detached(ions: CoreShellSystem) -> CoreShellSystem:
    """The same without a graph."""
    return CoreShellSystem(
        ions.positions.detach(), ions.cell.detach(), ions.pbc, ions.field, ions.outer.detach(), ions.shelled,
        ions.core.detach(), ions.spring.detach(), ions.centre, ions.neighbour, ions.vector.detach(), ions.a.detach(),
        ions.rho.detach(), ions.c.detach(), ions.width, ions.cutoff, ions.stiffening, ions.tolerance,
    )  # fmt: skip


def spring_energy(k: Tensor, displacement2: Tensor, stiffening: float) -> Tensor:
    """k u^2 / 2 + k u^4 / (24 d^2), GULP's spring with a quartic part k_4 = k / d^2: no shell can leave its core.

    k [m] eV/Å^2, displacement2 u^2 [m] Å^2, stiffening d Å
    """
    return k * displacement2 * (0.5 + displacement2 / (24.0 * stiffening * stiffening))


def charge_sites(ions: CoreShellSystem, displacement: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Positions [n + m, 3] and charges [n + m] of everything outer and then of the cores, and u of every ion [n, 3]."""
    moved = torch.zeros_like(ions.positions).index_copy(0, ions.shelled, displacement)
    positions = torch.cat([ions.positions + moved, ions.positions[ions.shelled]])
    return positions, torch.cat([ions.outer, ions.core]), moved


def site_operator(ions: CoreShellSystem, positions: Tensor, dipoles: bool) -> CoulombOperator:
    """Coulomb operator of the sites as Gaussians; dipoles: with its blocks of dipoles, which are derivatives."""
    width = torch.full_like(positions[0, :1], ions.width)
    return coulomb_operator(System(positions, ions.cell, ions.pbc), width, ions.tolerance, dipoles, True)


def edges_from_cores(ions: CoreShellSystem) -> tuple[Tensor, Tensor]:
    """Edges whose centre has a shell, and the charges of their cores."""
    core = torch.zeros_like(ions.outer).index_copy(0, ions.shelled, ions.core)
    has = torch.zeros_like(ions.outer).index_fill(0, ions.shelled, 1.0)
    edges = torch.nonzero(has[ions.centre] > 0.0).squeeze(1)
    return edges, core[ions.centre[edges]]


def outer_pair(ions: CoreShellSystem, distance: Tensor) -> Tensor:
    """Energy of two outer parts at distances [n_edges] Å: Buckingham's, and the correction to point charges."""
    charges = units.COULOMB * ions.outer[ions.centre] * ions.outer[ions.neighbour]
    return buckingham(distance, ions.a, ions.rho, ions.c) + charges * point_correction(distance, ions.width)


def core_shell_energies(ions: CoreShellSystem, displacement: Tensor) -> Tensor:
    """Energy of every ion with the shells displaced by u [m, 3] Å from their cores; [n] eV.

    The smooth cutoff of pairs is that of the cores, between which the edges run: a shell crosses none of its own.
    """
    n = ions.positions.shape[0]
    positions, charges, moved = charge_sites(ions, displacement)
    potential, _ = apply_operator(site_operator(ions, positions, False), charges, charges.new_zeros(0, 3))
    itself = units.COULOMB / (ions.width * math.sqrt(math.pi))
    of_sites = charges * (0.5 * potential - 0.5 * itself * charges - positions @ ions.field)
    u2 = displacement.square().sum(1)
    inside = radial_kernels(u2, torch.full_like(u2, 0.5 / ions.width), 0)[0]  # a core does not feel its own shell
    within = of_sites[n:] - units.COULOMB * ions.core * ions.outer[ions.shelled] * inside
    energies = of_sites[:n].index_add(0, ions.shelled, within + spring_energy(ions.spring, u2, ions.stiffening))
    near = smooth_cutoff(ions.vector.square().sum(1), ions.cutoff, 0.81)
    vector = ions.vector + moved[ions.neighbour] - moved[ions.centre]
    energies = energies.index_add(0, ions.centre, 0.5 * near * outer_pair(ions, torch.linalg.norm(vector, dim=1)))
    edges, core = edges_from_cores(ions)
    centre, neighbour, near = ions.centre[edges], ions.neighbour[edges], near[edges]
    distance = torch.linalg.norm(ions.vector[edges] + moved[neighbour], dim=1)
    # the other way round, outer part to core, is the reversed edge: hence no half
    pair = core * ions.outer[neighbour] * point_correction(distance, ions.width)
    partner = torch.zeros_like(ions.outer).index_copy(0, ions.shelled, ions.core)[neighbour]
    rigid = 0.5 * core * partner * point_correction(torch.linalg.norm(ions.vector[edges], dim=1), ions.width)
    return energies.index_add(0, centre, units.COULOMB * near * (pair + rigid))
