"""The potential: features, then a sum of terms, then one derivative over positions and strain."""

from collections.abc import Callable

import torch
from torch import Tensor, nn

from mlip import keys
from mlip.models.atomic_energy import AtomicEnergy
from mlip.models.data_limits import DataLimits
from mlip.nn.edges import edge_vectors
from mlip.nn.scatter import segment_sum
from mlip.nn.species import species_lookup


def strainable(graph: dict[str, Tensor]) -> tuple[dict[str, Tensor], Tensor, Tensor]:
    """A copy of the graph that depends on positions [n_atoms, 3] and a strain [n_systems, 3, 3] of zero, and both."""
    n_systems = graph[keys.CELL].shape[0]
    batch = graph[keys.BATCH]
    strained = graph.copy()
    positions = graph[keys.POSITIONS].detach().clone().requires_grad_(True)
    strain = torch.zeros_like(graph[keys.CELL]).requires_grad_(True)
    # symmetric strain: an antisymmetric one is a rotation and must not change E
    symmetric = 0.5 * (strain + strain.transpose(1, 2))
    if n_systems == 1:
        strained[keys.POSITIONS] = positions + positions @ symmetric[0]
    else:
        strained[keys.POSITIONS] = positions + (positions.unsqueeze(1) @ symmetric[batch]).squeeze(1)
    strained[keys.CELL] = graph[keys.CELL] + graph[keys.CELL] @ symmetric
    if keys.LEVEL not in strained:
        strained[keys.LEVEL] = torch.zeros_like(batch[:1]).expand(n_systems)
    strained[keys.EDGE_VECTOR] = edge_vectors(strained)
    return strained, positions, strain


def stress_of(virial: Tensor, cell: Tensor) -> Tensor:
    """Stress [n_systems, 3, 3] eV/Å^3, the symmetric part of dE/d(strain) by volume; zero for a system without a volume.

    virial  dE/d(strain) [n_systems, 3, 3] eV
    """
    symmetric = 0.5 * (virial + virial.transpose(1, 2))
    volume = torch.linalg.det(cell).abs().reshape(-1, 1, 1)
    stress = symmetric / torch.where(volume > 0, volume, torch.ones_like(volume))
    return torch.where(volume > 0, stress, torch.zeros_like(symmetric))


class Potential(nn.Module):
    """E = sum_i sum_terms E_i,  F = -dE/dr,  sigma = (1/V) dE/d(strain).

    network     called with statistics=..., gives a module graph -> graph that adds node features
    terms       name -> callable; each, called with statistics=... (and in it n_features, the width of
                node_scalars, and the cutoff, Å), gives a module graph -> [n_atoms] eV. The lone atoms are always the
                first term. A term says whether it is `local`: an atom's energy depends on its own edges and features
                only. If not, it reads positions and features of all atoms, and no edges. One that does not say so
                still works, but not in stages (LAMMPS)
    statistics  elements, levels, atomic_energies, mean_neighbours, force_rms of the training set, and the limits of
                what it holds: shortest_distances, largest_crowding, least_crowding
    """

    def __init__(self, network: Callable, terms: dict[str, Callable], statistics: dict):
        super().__init__()
        self.statistics = statistics
        self.elements = list(statistics["elements"])
        self.levels = list(statistics["levels"])
        self.register_buffer("lookup", species_lookup(self.elements))
        self.network = network(statistics=statistics)
        self.cutoff: float = float(self.network.cutoff)
        self.limits = DataLimits(statistics, self.cutoff)
        modules = {"atomic_energy": AtomicEnergy(statistics=statistics)}
        described = {**statistics, "n_features": self.network.n_features, "cutoff": self.cutoff}
        for name, term in terms.items():
            if term is not None:  # `model.terms.repulsion=null` takes a term out
                modules[name] = term(statistics=described)
        self.term_names = list(modules)
        self.terms = nn.ModuleList(modules.values())

    def forward(self, graph: dict[str, Tensor]) -> dict[str, Tensor]:
        """Energy, forces, stress and energies per atom; charges and dipoles where a term makes them.

        The caller's graph is not changed. In training mode the results can be differentiated again.
        Gradients must be enabled where this is called: the forces are one.
        """
        strained, positions, strain = strainable(graph)
        strained, energies = self.described(strained)
        return self.derivatives(graph, strained, energies, positions, strain, self.training)

    def described(self, strained: dict[str, Tensor]) -> tuple[dict[str, Tensor], Tensor]:
        """The graph with what network and terms add to it, and the energy of every atom [n_atoms] eV."""
        strained = self.network(self.limits(strained))
        energies = self.terms[0].of_charge(strained)
        for term in self.terms:
            energies = energies + term(strained).to(energies.dtype)
        return strained, energies

    def begin(self, graph: dict[str, Tensor]) -> dict[str, Tensor]:
        """Adds the limits and the first features: `begin`, `proceed` for every further layer, and `finish` make stages.

        graph  rows of n_atoms, whose neighbours may be among n_ghosts more (`keys.ATOMIC_NUMBERS`), and edge_vector
        """
        return self.network.begin(self.limits(graph))

    def proceed(self, graph: dict[str, Tensor], features: Tensor, layer: int) -> dict[str, Tensor]:
        """Adds the features of one more layer from those of atoms and ghosts, [4, n_atoms + n_ghosts, K]."""
        return self.network.proceed(graph, features, layer)

    def finish(self, graph: dict[str, Tensor]) -> dict[str, Tensor]:
        """Adds node features, energies [n_atoms] eV of the local terms, and the ends of bonds that move charge."""
        graph = self.network.finish(graph)
        energies = torch.zeros_like(graph[keys.POSITIONS][:, 0])
        for term in self.terms:
            if term.local:
                energies = energies + term(graph).to(energies.dtype)
        graph[keys.ENERGIES] = energies
        return self.with_bond_ends(graph)

    def begin_bonds(self, graph: dict[str, Tensor]) -> dict[str, Tensor]:
        """Adds the limits and the ends of bonds that move charge to a graph with edge_vector and node_scalars."""
        return self.with_bond_ends(self.limits(graph))

    def with_bond_ends(self, graph: dict[str, Tensor]) -> dict[str, Tensor]:
        """Adds the ends of bonds, where a term moves charge along them."""
        for term in self.terms:
            if hasattr(term, "bond_ends"):
                graph[keys.BOND_ENDS] = term.bond_ends(graph)
        return graph

    def bond(self, graph: dict[str, Tensor], ends: Tensor) -> dict[str, Tensor]:
        """Adds the charge [n_atoms] e that bonds bring, from the ends of atoms and ghosts, [n_atoms + n_ghosts, w]."""
        for term in self.terms:
            if hasattr(term, "bond_ends"):
                graph[keys.TRANSFERRED] = term.transferred(graph, ends)
        return graph

    def on_site(self, graph: dict[str, Tensor]) -> dict[str, Tensor]:
        """Adds electronegativity [n_atoms] V and energies without charge [n_atoms] eV, where charge flows, of node_scalars."""
        for term in self.terms:
            if hasattr(term, "on_site"):
                graph[keys.ELECTRONEGATIVITY], graph[keys.ENERGIES] = term.on_site(graph)
        return graph

    def solve(self, graph: dict[str, Tensor]) -> dict[str, Tensor]:
        """Results of the terms that are not local, from positions and features of all atoms, without edges.

        Energies, forces, virial [1, 3, 3] eV = dE/d(strain), charges if there are, and the derivatives of the energy by
        node_scalars, node_vectors and, where bonds move charge, transferred, under these names.
        """
        strained, positions, strain = strainable(graph)
        scalars = graph[keys.NODE_SCALARS].detach().requires_grad_(True)
        vectors = graph[keys.NODE_VECTORS].detach().requires_grad_(True)
        strained[keys.NODE_SCALARS], strained[keys.NODE_VECTORS] = scalars, vectors
        inputs = [positions, strain, scalars, vectors]
        if keys.TRANSFERRED in graph:
            transferred = graph[keys.TRANSFERRED].detach().requires_grad_(True)
            strained[keys.TRANSFERRED] = transferred
            inputs.append(transferred)
        energies = self.terms[0].of_charge(strained)
        for term in self.terms:
            if not term.local:
                energies = energies + term(strained).to(energies.dtype)
        gradients = torch.autograd.grad([energies.sum()], inputs, allow_unused=True)
        derivatives: list[Tensor] = []
        for value, gradient in zip(inputs, gradients):
            found: Tensor | None = gradient
            derivatives.append(torch.zeros_like(value) if found is None else found)
        results = {keys.ENERGIES: energies.detach(), keys.FORCES: -derivatives[0], keys.VIRIAL: derivatives[1]}
        results[keys.NODE_SCALARS], results[keys.NODE_VECTORS] = derivatives[2], derivatives[3]
        if keys.TRANSFERRED in graph:
            results[keys.TRANSFERRED] = derivatives[4]
        for name in [keys.CHARGES, keys.DIPOLES, keys.ELECTRONEGATIVITY, keys.CHEMICAL_POTENTIAL]:
            if name in strained:
                results[name] = strained[name].detach()
        return results

    def derivatives(
        self,
        graph: dict[str, Tensor],
        strained: dict[str, Tensor],
        energies: Tensor,
        positions: Tensor,
        strain: Tensor,
        keep: bool,
    ) -> dict[str, Tensor]:
        """All results. keep: the graph of derivatives stays, for more of them."""
        energy = segment_sum(energies, graph[keys.BATCH], graph[keys.CELL].shape[0])
        gradients = torch.autograd.grad(
            [energy.sum()], [positions, strain], retain_graph=keep, create_graph=self.training, allow_unused=True
        )
        forces, virial = torch.zeros_like(positions), torch.zeros_like(strain)
        d_positions: Tensor | None = gradients[0]
        d_strain: Tensor | None = gradients[1]
        if d_positions is not None:
            forces = -d_positions
        if d_strain is not None:
            virial = d_strain
        results = {keys.ENERGY: energy, keys.ENERGIES: energies, keys.FORCES: forces}
        results[keys.STRESS] = stress_of(virial, graph[keys.CELL])
        for name in [keys.CHARGES, keys.DIPOLES, keys.ELECTRONEGATIVITY, keys.CHEMICAL_POTENTIAL]:
            if name in strained:
                results[name] = strained[name]
        if not self.training:
            for name in list(results.keys()):
                results[name] = results[name].detach()
        return results
