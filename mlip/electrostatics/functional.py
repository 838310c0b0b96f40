"""Functional F(q, mu) of charges and dipoles: its value, slopes and constraints.

It is quadratic,

    F = sum_i [ chi_i q_i + J_i q_i^2 / 2 + v_i . mu_i + mu_i^2 / (2 a_i) ] + 1/2 x A x,  x = (q, mu),

and stationary under C q = Q. With a compliance L the constraint is soft, C q = Q + L lambda, and F has the
further terms lambda.(C q - Q) - lambda L lambda / 2.
"""

from typing import NamedTuple

import torch
from torch import Tensor

from mlip.electrostatics.operator import CoulombOperator, apply_operator
from mlip.errors import InputError


class ChargeFunctional(NamedTuple):
    """Everything in F but the Coulomb energy; without dipoles their fields have no rows."""

    electronegativity: Tensor  # chi [n] V
    hardness: Tensor  # J [n] eV/e^2
    dipole_bias: Tensor  # v [n, 3] V/Å
    inverse_polarizability: Tensor  # 1 / a [n] eV/(e Å)^2
    constraint: Tensor  # C [n_groups, n], one where an atom belongs to the group; no rows: the charges are fixed
    target: Tensor  # Q [n_groups] e
    compliance: Tensor  # L [n, n] e^2/eV of n groups of one atom each; no rows: hard constraints


class ChargeState(NamedTuple):
    """charges [n] e, dipoles [n, 3] e Å, multipliers lambda [n_groups] eV/e"""

    charges: Tensor
    dipoles: Tensor
    multipliers: Tensor


def unconstrained(
    electronegativity: Tensor, hardness: Tensor, dipole_bias: Tensor, inverse_polarizability: Tensor
) -> ChargeFunctional:
    """Functional of charges that are fixed until `constraint` and `target` are replaced."""
    none = hardness[:0]
    rows = torch.zeros([0, hardness.shape[0]], dtype=hardness.dtype, device=hardness.device)
    return ChargeFunctional(electronegativity, hardness, dipole_bias, inverse_polarizability, rows, none, rows[:, :0])


def slopes(functional: ChargeFunctional, operator: CoulombOperator, state: ChargeState) -> tuple[Tensor, Tensor]:
    """dF/dq [n] and dF/dmu [n, 3] without constraints."""
    potential, gradient = apply_operator(operator, state.charges, state.dipoles)
    by_charge = functional.electronegativity + functional.hardness * state.charges + potential
    by_dipole = functional.dipole_bias + functional.inverse_polarizability[:, None] * state.dipoles + gradient
    return by_charge, by_dipole


def constraint_slope(functional: ChargeFunctional, state: ChargeState) -> Tensor:
    """C q - Q - L lambda, [n_groups] e."""
    missing = functional.constraint @ state.charges - functional.target
    if functional.compliance.shape[0] > 0:
        missing = missing - functional.compliance @ state.multipliers
    return missing


def energies(functional: ChargeFunctional, operator: CoulombOperator, state: ChargeState) -> Tensor:
    """F split among the atoms, [n] eV."""
    by_charge, by_dipole = slopes(functional, operator, state)
    return energies_of_slopes(functional, state, by_charge, by_dipole)


def energies_of_slopes(
    functional: ChargeFunctional, state: ChargeState, by_charge: Tensor, by_dipole: Tensor
) -> Tensor:
    """F split among the atoms, [n] eV, from its `slopes`."""
    energy = 0.5 * state.charges * (functional.electronegativity + by_charge)
    if state.dipoles.shape[0] > 0:
        energy = energy + 0.5 * (state.dipoles * (functional.dipole_bias + by_dipole)).sum(1)
    if functional.compliance.shape[0] > 0:  # one group per atom
        unmet = constraint_slope(functional, state) + functional.constraint @ state.charges - functional.target
        energy = energy + 0.5 * state.multipliers * unmet
    return energy


def stacked(charges: Tensor, dipoles: Tensor) -> Tensor:
    """One row per atom, [n, 1] or with dipoles [n, 4]."""
    if dipoles.shape[0] == 0:
        return charges[:, None]
    return torch.cat([charges[:, None], dipoles], 1)


def unstacked(x: Tensor) -> tuple[Tensor, Tensor]:
    """Charges [n] and dipoles [n, 3] (no rows if x is [n, 1]) of rows [n, 1 or 4]."""
    dipoles = x[:, 1:] if x.shape[1] == 4 else torch.zeros([0, 3], dtype=x.dtype, device=x.device)
    return x[:, 0].contiguous(), dipoles


def hessian_product(functional: ChargeFunctional, operator: CoulombOperator, x: Tensor) -> Tensor:
    """Second derivative of F times x, [n, 1] or [n, 4] (charge, dipole)."""
    charges, dipoles = unstacked(x)
    potential, gradient = apply_operator(operator, charges, dipoles)
    by_dipole = functional.inverse_polarizability[:, None] * dipoles + gradient
    return stacked(functional.hardness * charges + potential, by_dipole)


def single_precision_functional(functional: ChargeFunctional) -> ChargeFunctional:
    """The same in single precision."""
    return ChargeFunctional(
        functional.electronegativity.float(),
        functional.hardness.float(),
        functional.dipole_bias.float(),
        functional.inverse_polarizability.float(),
        functional.constraint.float(),
        functional.target.float(),
        functional.compliance.float(),
    )


def group_constraint(group: Tensor, group_charge: Tensor, first: int, last: int) -> tuple[Tensor, Tensor]:
    """Rows C [n_groups, n] and targets Q [n_groups] e of the groups of atoms first..last.

    group         [n_atoms] int64, index into group_charge of every atom of the batch
    group_charge  [n_groups of the batch] e
    Raises ValueError for an index that group_charge does not have, and for charge in a group without an atom.
    """
    n_groups = group_charge.shape[0]
    if int(group.min()) < 0 or int(group.max()) >= n_groups:
        raise InputError(
            f"charge_group must hold one index into group_charge (0..{n_groups - 1}) for every atom, "
            f"got {int(group.min())}..{int(group.max())}: give every atom a group"
        )
    counts = torch.bincount(group, minlength=n_groups)
    empty = torch.nonzero((counts == 0) & (group_charge != 0))
    if empty.shape[0] > 0:
        missing = int(empty[0])
        raise InputError(
            f"charge group {missing} has no atom and cannot hold {float(group_charge[missing])} e: leave it out"
        )
    present, index = torch.unique(group[first:last], return_inverse=True)
    rows = torch.arange(present.shape[0], device=group.device)[:, None] == index
    return rows.to(group_charge.dtype), group_charge[present]
