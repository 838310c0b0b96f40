"""Response: Born charges, dielectric tensor, force of a field, correction of a charged cell.

Of charges as tensors, and (`model_...`) of the structures of a whole potential.
"""

import math
from typing import Any

import torch
from torch import Tensor

from mlip import keys, units
from mlip.electrostatics.atomic_charges import AtomicCharges
from mlip.electrostatics.bond_charges import BondCharges
from mlip.electrostatics.charges import EquilibratedCharges, FormalCharges, SplitCharges
from mlip.electrostatics.ewald import Values, as_double, checked_system, coulomb_energy, coulomb_matrix
from mlip.electrostatics.slab import slab_normal
from mlip.electrostatics.solvers import solve_constrained
from mlip.errors import InputError
from mlip.nn.edges import edge_vectors

ChargeTerm = FormalCharges | EquilibratedCharges | SplitCharges | BondCharges | AtomicCharges

WHY_NO_DIELECTRIC = (
    "freely equilibrated charges respond as a metal: the dielectric function diverges as 1/k^2 and eps_inf does not "
    "exist; use dipoles at fixed charges (formal_dipoles), or keep the charge of compact groups (charge_group)"
)


def born_charges(
    positions: Tensor,
    cell: Tensor,
    pbc: Tensor,
    charges: Tensor,
    dipoles: Tensor | None = None,
    batch: Tensor | None = None,
    sum_rule: bool = True,
    n_harmonics: int = 3,
    create_graph: bool = False,
) -> Tensor:
    """Born effective charges Z*_i[a, b] = dP_a / dr_ib, [n, 3, 3] e.

    Z*_i[a, b] = q_i delta_ab + sum_j (dq_j / dr_ib) d_ij,a + sum_j dmu_ja / dr_ib
    d_ij is r_j - r_i made periodic: its fractional coordinates x become sum_h c_h sin(2 pi h x), the flattest such
    sum of n_harmonics with slope 1 (x to 1 % up to x = 0.16 with three). So no image is preferred, six derivatives
    per harmonic serve all pairs, and along open directions d_ij is exact. Charges that do not move need none of it.

    positions  [n, 3] Å, the tensor that charges [n] and dipoles [n, 3] were computed from (requires_grad)
    cell, pbc  [3, 3] and [3], or [n_systems, 3, 3] and [n_systems, 3] with batch [n]
    sum_rule   take the mean excess off, so that sum_i Z*_i = Q (rigid translation). Fixed charges fulfil it anyway
    create_graph   keep the result differentiable, for a loss on Born charges
    Fits to energies and forces of an insulator learn about Z* / sqrt(eps_inf), up to one sign when all cells are
    neutral: report both.
    """
    batch = torch.zeros(len(positions), dtype=torch.int64, device=positions.device) if batch is None else batch
    cell, pbc = cell.detach().view(-1, 3, 3), pbc.view(-1, 3)
    unit = torch.eye(3, dtype=positions.dtype, device=positions.device)
    born = charges[:, None, None] * unit
    if dipoles is not None:
        rows = [_derivative(dipoles[:, a].sum(), positions, create_graph) for a in range(3)]
        born = born + torch.stack(rows, dim=1)
    if charges.requires_grad:
        box = torch.stack([_box(c, p) for c, p in zip(cell, pbc, strict=True)])
        fraction = torch.linalg.solve(box[batch].mT, positions.detach())
        # sum_j dq_j/dr_ib x_ij for each lattice direction m, [n, b]
        along = [_along(positions, charges, fraction[:, m], pbc[batch, m], n_harmonics, create_graph) for m in range(3)]
        born = born + torch.einsum("ima,imb->iab", box[batch], torch.stack(along, dim=1))
    if sum_rule:
        excess = torch.zeros_like(cell).index_add(0, batch, born - charges[:, None, None] * unit)
        born = born - (excess / torch.bincount(batch, minlength=len(cell))[:, None, None])[batch]
    return born


def _along(
    positions: Tensor, charges: Tensor, fraction: Tensor, periodic: Tensor, n_harmonics: int, create_graph: bool
) -> Tensor:
    """sum_j (dq_j / dr_ib) x_ij along one direction of the box, [n, 3]."""
    total = torch.zeros_like(positions)
    if not bool(periodic.all()):
        total = _derivative((charges * fraction)[~periodic].sum(), positions, create_graph)
    if bool(periodic.any()):
        for h in range(1, n_harmonics + 1):
            angle = 2 * math.pi * h * fraction
            sine, cosine = angle.sin() * periodic, angle.cos() * periodic
            by_sine = _derivative((charges * sine).sum(), positions, create_graph)
            by_cosine = _derivative((charges * cosine).sum(), positions, create_graph)
            wave = cosine[:, None] * by_sine - sine[:, None] * by_cosine
            total = total + _flattest(h, n_harmonics) * wave
    return total


def _flattest(h: int, n_harmonics: int) -> float:
    """c_h of x = sum_h c_h sin(2 pi h x) + O(x^(2 n + 1)): those of the central difference of order 2 n."""
    ratio = math.factorial(n_harmonics) ** 2 / (math.factorial(n_harmonics - h) * math.factorial(n_harmonics + h))
    return (-1) ** (h + 1) * ratio / (math.pi * h)


def _derivative(value: Tensor, positions: Tensor, create_graph: bool) -> Tensor:
    if not value.requires_grad:
        return torch.zeros_like(positions)
    slope = torch.autograd.grad(value, positions, retain_graph=True, create_graph=create_graph, allow_unused=True)[0]
    return torch.zeros_like(positions) if slope is None else slope


def _box(cell: Tensor, pbc: Tensor) -> Tensor:
    """The cell with unit vectors, normal to the periodic ones, in place of its open directions."""
    if int(pbc.sum()) == 0:
        return torch.eye(3, dtype=torch.float64, device=cell.device)
    if int(pbc.sum()) == 2:
        return torch.where(pbc[:, None], cell, slab_normal(cell, pbc)).detach()
    return cell.detach()


def dielectric_tensor(
    positions: Tensor,
    cell: Tensor,
    width: Values,
    polarizability: Values,
    hardness: Values | None = None,
    charge_group: Tensor | None = None,
    tolerance: float = 1e-14,
) -> Tensor:
    """Electronic dielectric tensor of a bulk, ions fixed: eps_inf = 1 + (4 pi k_e / V) dP/dE, [3, 3].

    Dipoles of polarizability [n] e^2 Å^2/eV at fixed charges; with hardness [n] eV/e^2 and charge_group [n] also the
    charge that flows inside each group, which must be compact (less than half the cell across).
    Raises ValueError for charges that flow freely through the crystal: a metal has no eps_inf.
    """
    positions, cell, pbc, width = checked_system(positions, cell, True, width)
    n = len(positions)
    polarizability = as_double(polarizability, positions).expand(n)
    matrix = coulomb_matrix(positions, cell, pbc, width, tolerance, dipoles=True)
    push = torch.eye(3, dtype=positions.dtype).repeat(n, 1)  # -slope of each dipole for each field
    diagonal = torch.repeat_interleave(1 / polarizability, 3)
    if hardness is None:
        moved = torch.linalg.solve(matrix[n:, n:] + torch.diag(diagonal), push)
    else:
        if charge_group is None or int(charge_group.max()) == 0:
            raise InputError(WHY_NO_DIELECTRIC)
        push = torch.cat([_within_groups(positions, cell, charge_group), push])
        diagonal = torch.cat([as_double(hardness, positions).expand(n), diagonal])
        constraint = torch.zeros(int(charge_group.max()) + 1, 4 * n, dtype=positions.dtype)
        constraint[charge_group, torch.arange(n)] = 1.0
        still = torch.zeros(len(constraint), dtype=positions.dtype)
        whole = matrix + torch.diag(diagonal)
        moved = torch.stack([solve_constrained(whole, -push[:, b], constraint, still)[0] for b in range(3)], dim=1)
    unit = torch.eye(3, dtype=positions.dtype)
    return unit + 4 * math.pi * units.COULOMB / torch.linalg.det(cell).abs() * push.T @ moved


def _within_groups(positions: Tensor, cell: Tensor, group: Tensor) -> Tensor:
    """Positions relative to the first atom of each group, nearest images, [n, 3] Å."""
    first = torch.stack([(group == g).nonzero()[0, 0] for g in group.tolist()])
    fraction = (positions - positions[first]) @ torch.linalg.inv(cell)
    fraction = fraction - fraction.detach().round()
    if float(fraction.detach().abs().max()) > 0.25:
        worst = int(fraction.abs().amax(1).argmax())
        raise InputError(
            f"atom {worst} lies {float(fraction.abs().max()):.2f} cell vectors from the first atom of group "
            f"{int(group[worst])}; a group must be compact (0.25 at most): " + WHY_NO_DIELECTRIC
        )
    return fraction @ cell


def field_forces(born: Tensor, field: Tensor) -> Tensor:
    """Force of a static field [3] V/Å on the ions of a bulk, F_b = sum_a E_a Z*[a, b], [n, 3] eV/Å.

    Linear response about zero field. In a slab, along its normal, give the field to the model instead: it is part of
    the energy there.
    """
    return torch.einsum("a,iab->ib", field, born)


def makov_payne(cell: Values, total_charge: float, dielectric: Values = 1.0) -> Tensor:
    """Correction (eV) of a charged cell to the isolated charge, leading order, alpha k_e Q^2 / (2 eps L).

    Makov and Payne, PRB 51, 4014 (1995), for any cell, by the Ewald energy of a point charge and background;
    dielectric [3, 3] or a number is the static tensor (with ions) for relaxed, eps_inf for frozen ions.
    For a tensor the lattice is scaled by eps^(-1/2) (Rurali and Cartoixa, Nano Lett. 9, 975 (2009)).
    """
    cell = torch.as_tensor(cell, dtype=torch.float64)
    tensor = torch.as_tensor(dielectric, dtype=torch.float64)
    tensor = tensor * torch.eye(3, dtype=torch.float64) if tensor.ndim == 0 else tensor
    values, vectors = torch.linalg.eigh(0.5 * (tensor + tensor.T))
    if float(values.min()) <= 0:
        raise InputError(f"dielectric tensor must be positive, got eigenvalues {values.tolist()}")
    scaled = cell @ vectors @ torch.diag(values.rsqrt()) @ vectors.T
    one = torch.ones(1, dtype=torch.float64)
    return -coulomb_energy(torch.zeros(1, 3), scaled, True, one) * total_charge**2 / values.prod().sqrt()


def electrostatic_term(potential: Any) -> ChargeTerm:
    """The term that makes the charges. Raises ValueError if there is none."""
    for term in potential.terms:
        if isinstance(term, ChargeTerm):
            return term
    raise InputError(
        f"none of the terms {potential.term_names} makes charges: take a model with electrostatics, e.g. model/head=qeq"
    )


def model_born_charges(potential: Any, graph: dict[str, Tensor], create_graph: bool = False) -> Tensor:
    """Born charges Z* of every atom of a batch, [n_atoms, 3, 3] e.

    With create_graph differentiable, for a loss on them.
    See born_charges for the definition. The potential's mode and the graph are left as they were.
    """
    term, training = electrostatic_term(potential), potential.training
    positions = graph[keys.POSITIONS].detach().clone().requires_grad_(True)
    inputs = {**graph, keys.POSITIONS: positions}
    inputs[keys.EDGE_VECTOR] = edge_vectors(inputs)
    potential.train()  # charges with derivatives
    try:
        inputs = potential.network(potential.limits(inputs))
        term(inputs)
    finally:
        potential.train(training)
    born = graph_born_charges(inputs, positions, create_graph)
    return born if create_graph else born.detach()


def graph_born_charges(graph: dict[str, Tensor], positions: Tensor, create_graph: bool) -> Tensor:
    """Born charges [n_atoms, 3, 3] e of a graph to which a term has added charges, which depend on positions [n_atoms, 3]."""
    charges, dipoles = graph[keys.CHARGES], graph.get(keys.DIPOLES)
    if keys.BOND_DIPOLES in graph:  # p_ij r_ij says where the charge went: no image is to be guessed
        charges, dipoles = graph[keys.REFERENCE_CHARGES].detach(), graph[keys.BOND_DIPOLES]
    return born_charges(positions, graph[keys.CELL], graph[keys.PBC], charges, dipoles, graph[keys.BATCH],
                        create_graph=create_graph)  # fmt: skip


def model_dielectric_tensor(potential: Any, graph: dict[str, Tensor]) -> Tensor:
    """Electronic dielectric tensor eps_inf [3, 3] of one bulk structure.

    At fixed charges, with charges that stay in compact groups (charge_group), or the learned number of bond charges.
    Raises ValueError with the reason for charges that flow freely: a metal has none.
    """
    term = electrostatic_term(potential)
    if isinstance(term, BondCharges):
        return term.dielectric().detach() * torch.eye(3, dtype=torch.float64)
    species = term.lookup[graph[keys.ATOMIC_NUMBERS]]
    groups = graph.get(keys.CHARGE_GROUP)
    through_bonds = isinstance(term, SplitCharges)
    if through_bonds:
        raise InputError(
            "eps_inf of split charges is not offered: take model/head=formal_dipoles, or differentiate charges"
        )
    if isinstance(term, EquilibratedCharges) and (groups is None or not term.dipoles):
        raise InputError(WHY_NO_DIELECTRIC)
    if isinstance(term, AtomicCharges) or not term.dipoles:
        return torch.eye(3, dtype=torch.float64)  # nothing responds at fixed ions
    system = (graph[keys.POSITIONS], graph[keys.CELL][0])
    with torch.no_grad():
        head: Any = term.dipole_head
        polarizability = head.polarizability_of(species)
        if isinstance(term, FormalCharges):
            return dielectric_tensor(*system, term.width, polarizability)
        return dielectric_tensor(*system, term.width(species), polarizability, term.hardness(species), groups)
