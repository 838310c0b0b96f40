"""Charge equilibration: the charges (and dipoles) that minimise a quadratic energy at given total charges.

E(q, mu) = sum_i [ chi_i q_i + J_i q_i^2 / 2 + v_i . mu_i + mu_i^2 / (2 a_i) ] + 1/2 x A x - E . sum_i (q_i r_i + mu_i)
with x = (q, mu); Rappe and Goddard, J. Phys. Chem. 95, 3358 (1991); Ghasemi et al., PRB 92, 045131 (2015).
Minimum under sum_group q = Q_group: one symmetric linear system with a multiplier lambda per group, dE/dQ = -lambda.
"""

from typing import NamedTuple

import torch
from torch import Tensor

from mlip.electrostatics.ewald import as_double, checked_system, coulomb_matrix


class Equilibrium(NamedTuple):
    """charges [n] e, dipoles [n, 3] e Å (zero rows without polarizability), energy eV, chemical_potential eV/e.

    chemical_potential is lambda = -dE/dQ, one number, or one per charge group [n_groups].
    """

    charges: Tensor
    dipoles: Tensor
    energy: Tensor
    chemical_potential: Tensor


def solve_constrained(matrix: Tensor, slope: Tensor, constraint: Tensor, target: Tensor) -> tuple[Tensor, Tensor]:
    """Minimum of slope.x + x matrix x / 2 under constraint x = target: x [n] and the multipliers [m].

    matrix [n, n] positive definite on the constraint, slope [n], constraint [m, n], target [m].
    """
    solution = torch.linalg.solve(bordered(matrix, constraint), torch.cat([-slope, target]))
    return solution[: slope.shape[0]], solution[slope.shape[0] :]


def bordered(matrix: Tensor, constraint: Tensor) -> Tensor:
    """[[matrix, C^T], [C, 0]], [n + m, n + m]."""
    corner = matrix.new_zeros(constraint.shape[0], constraint.shape[0])
    return torch.cat([torch.cat([matrix, constraint.t()], 1), torch.cat([constraint, corner], 1)], 0)


def membership(group: Tensor, n_groups: int) -> Tensor:
    """Constraint rows: 1 where the atom belongs to the group, [n_groups, n_atoms] float64. group [n_atoms] int64"""
    rows = torch.arange(n_groups, device=group.device)[:, None] == group
    return rows.to(torch.float64)


def open_field(field: Tensor, cell: Tensor, pbc: Tensor) -> Tensor:
    """The part of a field [3] along which a system is open: all of it, a slab's normal, or nothing in a bulk."""
    n_periodic = int(pbc.sum())
    if n_periodic == 0:
        return field
    if n_periodic == 2:
        plane = cell[pbc]
        normal = torch.linalg.cross(plane[0], plane[1])
        return normal * (normal @ field) / normal.square().sum()
    return torch.zeros_like(field)


def equilibrate(
    positions: Tensor,
    cell: Tensor | None,
    pbc,
    electronegativity: Tensor,
    hardness: Tensor,
    width: Tensor,
    total_charge: float | Tensor = 0.0,
    charge_group: Tensor | None = None,
    group_charge: Tensor | None = None,
    field: Tensor | None = None,
    polarizability: Tensor | None = None,
    dipole_source: Tensor | None = None,
    tolerance: float = 1e-14,
    eta: float | None = None,
) -> Equilibrium:
    """Charges, dipoles, energy and chemical potential of one system, exact (dense) and differentiable to any order.

    electronegativity  chi [n] V             hardness        J [n] eV/e^2 > 0; the Gaussian adds k_e / (s sqrt(pi))
    width              s [n] Å > 0           total_charge    Q, e (a tensor when you want dE/dQ)
    charge_group       [n] int64, group of each atom, and group_charge [n_groups] e: a charge kept by each fragment
    field              [3] V/Å, along open directions only: in a periodic one the energy -E.q r of charges that
                       flow is not defined (use response.born_charges and F = Z* E)
    polarizability     a [n] e^2 Å^2 / eV > 0 makes dipoles; dipole_source v [n, 3] V/Å is what the features add
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
        field = _refuse_periodic_field(as_double(field, positions), cell, pbc)
        slope = slope - positions @ field
    if polarizability is not None:
        polarizability = _per_atom(polarizability, positions)
        _require_positive("polarizability", polarizability, "e^2 Å^2/eV", "leave it out for atoms without dipoles")
        source = torch.zeros_like(positions) if dipole_source is None else as_double(dipole_source, positions)
        source = source if field is None else source - field
        slope = torch.cat([slope, source.flatten()])
        diagonal = torch.cat([diagonal, (1 / polarizability)[:, None].expand(n, 3).flatten()])
        constraint = torch.nn.functional.pad(constraint, (0, 3 * n))
    elif dipole_source is not None:
        raise ValueError("dipole_source without polarizability: give the polarizability [n] e^2 Å^2/eV of the atoms")
    matrix = matrix + torch.diag(diagonal)
    x, chemical_potential = solve_constrained(matrix, slope, constraint, target)
    energy = slope @ x + 0.5 * x @ matrix @ x
    chemical_potential = chemical_potential if charge_group is not None else chemical_potential[0]
    return Equilibrium(x[:n], x[n:].view(-1, 3), energy, chemical_potential)


def _per_atom(value, positions: Tensor) -> Tensor:
    return as_double(value, positions).expand(len(positions))


def _require_positive(name: str, value: Tensor, unit: str, reason: str) -> None:
    if not bool((value > 0).all()):
        worst = int(value.argmin())
        raise ValueError(f"{name} of atom {worst} is {float(value[worst])} {unit} and must be positive: {reason}")


def _refuse_periodic_field(field: Tensor, cell: Tensor, pbc: Tensor) -> Tensor:
    closed = field - open_field(field, cell, pbc)
    if float(closed.detach().abs().max()) > 1e-12:
        raise ValueError(
            f"field {field.tolist()} V/Å has a part {closed.tolist()} along periodic directions, where charges that "
            "flow have no energy -E.q r: keep the field along the open ones, or use F = Z* E (response.born_charges)"
        )
    return field


def _groups(positions: Tensor, total_charge, charge_group, group_charge) -> tuple[Tensor, Tensor]:
    """Constraint [m, n] and target [m], checked."""
    total = as_double(total_charge, positions)
    if (charge_group is None) != (group_charge is None):
        missing = "group_charge" if group_charge is None else "charge_group"
        raise ValueError(f"charge_group and group_charge come together; {missing} is missing")
    if charge_group is None:
        return torch.ones(1, len(positions), dtype=positions.dtype, device=positions.device), total[None]
    group = torch.as_tensor(charge_group, device=positions.device).long()
    target = as_double(group_charge, positions)
    if group.shape != (len(positions),) or int(group.min()) < 0 or int(group.max()) >= len(target):
        raise ValueError(
            f"charge_group must hold one index into group_charge (0..{len(target) - 1}) for each of "
            f"{len(positions)} atoms, got shape {list(group.shape)}, {int(group.min())}..{int(group.max())}"
        )
    counts = torch.bincount(group, minlength=len(target))
    if bool((counts == 0).any()):
        empty = int((counts == 0).nonzero()[0])
        raise ValueError(f"charge group {empty} has no atom and cannot hold {float(target[empty])} e: leave it out")
    if abs(float(target.detach().sum() - total.detach())) > 1e-9:
        raise ValueError(
            f"group_charge adds up to {float(target.sum())} e but total_charge is {float(total)} e: make them agree"
        )
    return membership(group, len(target)).to(positions), target
