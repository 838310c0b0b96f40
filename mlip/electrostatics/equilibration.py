"""Charge equilibration, exact: minimum of a quadratic energy at constant total charge.

E(q, mu) = sum_i [ chi_i q_i + J_i q_i^2 / 2 + v_i . mu_i + mu_i^2 / (2 a_i) ] + 1/2 x A x - E . sum_i (q_i r_i + mu_i)
with x = (q, mu); Rappe and Goddard, J. Phys. Chem. 95, 3358 (1991); Ghasemi et al., PRB 92, 045131 (2015).
Minimum under sum_group q = Q_group: one symmetric linear system with a multiplier lambda per group, dE/dQ = -lambda.
"""

from typing import NamedTuple

import torch
from torch import Tensor

from mlip.electrostatics.ewald import Values, as_double, checked_system, coulomb_matrix
from mlip.electrostatics.functional import group_constraint
from mlip.electrostatics.slab import open_field, positions_in_field
from mlip.electrostatics.solvers import solve_constrained
from mlip.errors import InputError


class Equilibrium(NamedTuple):
    """Charges [n] e, dipoles [n, 3] e Å, energy eV and chemical potential eV/e of a minimum.

    dipoles has no rows without polarizability.
    chemical_potential is lambda = -dE/dQ, one number, or one per charge group [n_groups].
    """

    charges: Tensor
    dipoles: Tensor
    energy: Tensor
    chemical_potential: Tensor


def equilibrate(
    positions: Values,
    cell: Values | None,
    pbc: Values,
    electronegativity: Values,
    hardness: Values,
    width: Values,
    total_charge: Values = 0.0,
    charge_group: Values | None = None,
    group_charge: Values | None = None,
    field: Values | None = None,
    polarizability: Values | None = None,
    dipole_bias: Values | None = None,
    tolerance: float = 1e-14,
    eta: float | None = None,
) -> Equilibrium:
    """Equilibrate charges (and dipoles) of one system, exactly (dense) and differentiable to any order.

    electronegativity  chi [n] V             hardness        J [n] eV/e^2 > 0; the Gaussian adds k_e / (s sqrt(pi))
    width              s [n] Å > 0           total_charge    Q, e (a tensor for dE/dQ)
    charge_group       [n] int64, group of each atom, and group_charge [n_groups] e: a charge kept by each fragment
    field              [3] V/Å, along open directions only: in a periodic one the energy -E.q r of charges that
                       flow is not defined (use response.born_charges and F = Z* E)
    polarizability     a [n] e^2 Å^2 / eV > 0 makes dipoles; dipole_bias v [n, 3] V/Å, a linear term of theirs
    Of numbers or arrays; float64 inside. Raises ValueError on input without a minimum.
    """
    positions, cell, pbc, width = checked_system(positions, cell, pbc, width)
    n = len(positions)
    electronegativity = _per_atom(electronegativity, positions)
    hardness = _per_atom(hardness, positions)
    _require_positive("hardness", hardness, "eV/e^2", "charge equilibration has no minimum otherwise")
    _require_positive("width", width, "Å", "the charges of point ions collapse onto each other")
    constraint, target = _groups(positions, total_charge, charge_group, group_charge)
    matrix = coulomb_matrix(positions, cell, pbc, width, tolerance, eta, polarizability is not None)
    slope, diagonal = electronegativity, hardness
    if field is not None:
        field = open_field(as_double(field, positions), cell, pbc)
        slope = slope - positions_in_field(positions, cell, pbc) @ field
    if polarizability is not None:
        polarizability = _per_atom(polarizability, positions)
        _require_positive("polarizability", polarizability, "e^2 Å^2/eV", "leave it out for atoms without dipoles")
        bias = torch.zeros_like(positions) if dipole_bias is None else as_double(dipole_bias, positions)
        bias = bias if field is None else bias - field
        slope = torch.cat([slope, bias.flatten()])
        diagonal = torch.cat([diagonal, (1 / polarizability)[:, None].expand(n, 3).flatten()])
        constraint = torch.nn.functional.pad(constraint, (0, 3 * n))
    elif dipole_bias is not None:
        raise InputError("dipole_bias without polarizability: give the polarizability [n] e^2 Å^2/eV of the atoms")
    matrix = matrix + torch.diag(diagonal)
    x, chemical_potential = solve_constrained(matrix, slope, constraint, target)
    energy = slope @ x + 0.5 * x @ matrix @ x
    chemical_potential = chemical_potential if charge_group is not None else chemical_potential[0]
    return Equilibrium(x[:n], x[n:].view(-1, 3), energy, chemical_potential)


def _per_atom(value: Values, positions: Tensor) -> Tensor:
    return as_double(value, positions).expand(len(positions))


def _require_positive(name: str, value: Tensor, unit: str, reason: str) -> None:
    if not bool((value > 0).all()):
        worst = int(value.argmin())
        raise InputError(f"{name} of atom {worst} is {float(value[worst])} {unit} and must be positive: {reason}")


def _groups(
    positions: Tensor, total_charge: Values, charge_group: Values | None, group_charge: Values | None
) -> tuple[Tensor, Tensor]:
    """Constraint [m, n] and target [m], checked."""
    total = as_double(total_charge, positions)
    if (charge_group is None) != (group_charge is None):
        missing = "group_charge" if group_charge is None else "charge_group"
        raise InputError(f"charge_group and group_charge come together; {missing} is missing")
    if charge_group is None or group_charge is None:
        return torch.ones(1, len(positions), dtype=positions.dtype, device=positions.device), total[None]
    group = torch.as_tensor(charge_group, device=positions.device).long()
    if group.shape != (len(positions),):
        raise InputError(f"charge_group must be [n_atoms] = [{len(positions)}], got {list(group.shape)}")
    constraint, target = group_constraint(group, as_double(group_charge, positions), 0, len(positions))
    if abs(float(target.detach().sum() - total.detach())) > 1e-9:
        raise InputError(
            f"group_charge adds up to {float(target.sum())} e but total_charge is {float(total)} e: make them agree"
        )
    return constraint, target
