"""Terms of a potential that the native kernel does not compute, evaluated beside it on the features that it made."""

import torch
from torch import Tensor, nn

from mlip import keys
from mlip.electrostatics.charges import EquilibratedCharges, FormalCharges
from mlip.models.potential import strainable

ADDED = (keys.CHARGES, keys.ELECTRONEGATIVITY, keys.CHEMICAL_POTENTIAL)
# terms that read no edges, with their formula: of Python, a mesh of many atoms is summed by compiled functions
WITHOUT_EDGES = {"FormalCharges": FormalCharges.forward, "EquilibratedCharges": EquilibratedCharges.forward}


class Sum(nn.Module):
    """Energy of some terms, and what they add to the graph; scripted, for a scripted term keeps what it adds."""

    def __init__(self, limits: nn.Module, terms: list[nn.Module]):
        super().__init__()
        self.limits, self.terms = limits, nn.ModuleList(terms)

    def forward(self, graph: dict[str, Tensor], with_edges: bool) -> tuple[Tensor, dict[str, Tensor]]:
        """Energies [n_atoms] eV and the graph."""
        if with_edges:
            graph = self.limits(graph)
        energies = torch.zeros_like(graph[keys.POSITIONS][:, 0])
        for term in self.terms:
            energies = energies + term(graph).to(energies.dtype)
        return energies, graph


class Beside:
    """Results of some terms, and the derivatives by the features.

    terms  {kind: term}; none reads vector features, and some read no edges
    """

    def __init__(self, limits: nn.Module, terms: dict[str, nn.Module]):
        self.total = torch.jit.script(Sum(limits, list(terms.values())))
        self.terms, self.with_edges = terms, not set(WITHOUT_EDGES).issuperset(terms)

    def energies(self, graph: dict[str, Tensor]) -> tuple[Tensor, dict[str, Tensor]]:
        """Energies [n_atoms] eV and the graph, to which terms add."""
        n_atoms = len(graph[keys.POSITIONS])
        if self.with_edges or any(n_atoms <= term.mesh_above for term in self.terms.values()):
            return self.total(graph, self.with_edges)
        return sum(WITHOUT_EDGES[kind](term, graph) for kind, term in self.terms.items()), graph

    def results(self, graph: dict[str, Tensor], scalars: Tensor) -> dict[str, Tensor]:
        """Energies, forces, virial [n_systems, 3, 3] eV = dE/d(strain), charges; under node_scalars dE/d(scalars).

        graph    of `export.REQUIRED` and of what there is of `export.OPTIONAL`
        scalars  [n_atoms, layers K]
        """
        graph = {key: value.to(torch.float64) if value.is_floating_point() else value for key, value in graph.items()}
        if not self.with_edges:
            graph |= {keys.EDGE_INDEX: graph[keys.EDGE_INDEX][:, :0], keys.EDGE_SHIFT: graph[keys.EDGE_SHIFT][:0]}
        with torch.enable_grad(), torch.jit.optimized_execution(False):
            strained, positions, strain = strainable(graph)
            scalars = scalars.detach().requires_grad_(True)
            energies, strained = self.energies(strained | {keys.NODE_SCALARS: scalars})
            inputs = [positions, strain, scalars]
            gradients = torch.autograd.grad(energies.sum(), inputs, allow_unused=True, materialize_grads=True)
        results = {name: strained[name].detach() for name in ADDED if name in strained}
        results |= {keys.ENERGIES: energies.detach(), keys.FORCES: -gradients[0]}
        return results | {keys.VIRIAL: gradients[1], keys.NODE_SCALARS: gradients[2]}
