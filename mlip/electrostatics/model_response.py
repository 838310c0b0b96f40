"""Response of a whole potential: Born effective charges and electronic dielectric tensor of its structures."""

import torch
from torch import Tensor, nn

from mlip import keys
from mlip.electrostatics.charges import EquilibratedCharges, FormalCharges
from mlip.electrostatics.response import WHY_NO_DIELECTRIC, born_charges, dielectric_tensor
from mlip.electrostatics.split_charge import SplitCharges
from mlip.models.potential import edge_vectors

Term = FormalCharges | EquilibratedCharges | SplitCharges


def electrostatic_term(potential: nn.Module) -> Term:
    """The term that makes the charges. Raises ValueError where there is none."""
    for term in potential.terms:
        if isinstance(term, Term):
            return term
    raise ValueError(
        f"none of the terms {potential.term_names} makes charges: take a model with electrostatics, e.g. model=qeq"
    )


def model_born_charges(potential: nn.Module, graph: dict[str, Tensor], create_graph: bool = False) -> Tensor:
    """Z* of every atom of a batch, [n_atoms, 3, 3] e; with create_graph differentiable, for a loss on them.

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
    born = born_charges(
        positions,
        graph[keys.CELL],
        graph[keys.PBC],
        inputs[keys.CHARGES],
        inputs.get(keys.DIPOLES),
        graph[keys.BATCH],
        create_graph=create_graph,
    )
    return born if create_graph else born.detach()


def model_dielectric_tensor(potential: nn.Module, graph: dict[str, Tensor]) -> Tensor:
    """eps_inf [3, 3] of one bulk structure, at fixed charges, or at charges kept by compact groups (charge_group).

    Raises ValueError with the reason for charges that flow freely: a metal has none.
    """
    term = electrostatic_term(potential)
    species = term.lookup[graph[keys.ATOMIC_NUMBERS]]
    groups = graph.get(keys.CHARGE_GROUP)
    through_bonds = isinstance(term, SplitCharges)
    if through_bonds:
        raise ValueError("eps_inf of split charges is not offered: take model=formal_dipoles, or differentiate charges")
    if isinstance(term, EquilibratedCharges) and (groups is None or not term.dipoles):
        raise ValueError(WHY_NO_DIELECTRIC)
    if not term.dipoles:
        return torch.eye(3, dtype=torch.float64)  # nothing responds at fixed ions
    system = (graph[keys.POSITIONS], graph[keys.CELL][0])
    with torch.no_grad():
        polarizability = term.dipole_head.polarizability_of(species)
        if isinstance(term, FormalCharges):
            return dielectric_tensor(*system, term.width, polarizability)
        return dielectric_tensor(*system, term.width(species), polarizability, term.hardness(species), groups)
