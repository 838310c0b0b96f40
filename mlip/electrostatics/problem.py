"""The functional F(q, mu) of charges and dipoles, quadratic in both: what it costs, and its slopes."""

from typing import NamedTuple

import torch
from torch import Tensor

from mlip.electrostatics.interaction import Interaction, apply_interaction


class Problem(NamedTuple):
    """What a charge and a dipole cost besides the Coulomb energy; no rows in dipole fields: no dipoles."""

    electronegativity: Tensor  # [n] V
    hardness: Tensor  # [n] eV/e^2
    dipole_source: Tensor  # [n, 3] V/Å
    stiffness: Tensor  # [n] 1 / polarizability, eV/(e Å)^2
    constraint: Tensor  # [n_groups, n]; no rows: the charges are given and stay
    target: Tensor  # [n_groups] e


class Relaxed(NamedTuple):
    """charges [n] e, dipoles [n, 3] e Å, multipliers [n_groups] eV/e"""

    charges: Tensor
    dipoles: Tensor
    multipliers: Tensor


def slopes(interaction: Interaction, problem: Problem, state: Relaxed) -> tuple[Tensor, Tensor]:
    """dF/dq [n] and dF/dmu [n, 3] without constraints."""
    potential, gradient = apply_interaction(interaction, state.charges, state.dipoles)
    by_charge = problem.electronegativity + problem.hardness * state.charges + potential
    by_dipole = problem.dipole_source + problem.stiffness[:, None] * state.dipoles + gradient
    return by_charge, by_dipole


def energies(interaction: Interaction, problem: Problem, state: Relaxed) -> Tensor:
    """F split among the atoms, [n] eV."""
    by_charge, by_dipole = slopes(interaction, problem, state)
    energy = 0.5 * state.charges * (problem.electronegativity + by_charge)
    if state.dipoles.shape[0] > 0:
        energy = energy + 0.5 * (state.dipoles * (problem.dipole_source + by_dipole)).sum(1)
    return energy


def together(charges: Tensor, dipoles: Tensor) -> Tensor:
    """One row per atom, [n, 1] or with dipoles [n, 4]."""
    if dipoles.shape[0] == 0:
        return charges[:, None]
    return torch.cat([charges[:, None], dipoles], 1)


def dipoles_of(x: Tensor) -> Tensor:
    """The dipoles of rows [n, 4]; no rows where x [n, 1] has charges only."""
    return x[:, 1:] if x.shape[1] == 4 else x.new_zeros(0, 3)
