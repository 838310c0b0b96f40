"""The network: the atomic density as a function on the sphere, multiplied there, passed on once or more."""

import math
from typing import Final

import numpy as np
import torch
from torch import Tensor, nn

from mlip import keys
from mlip.errors import InputError
from mlip.nn.constants import joined, split
from mlip.nn.radial import bessel_basis
from mlip.nn.scatter import gather_rows
from mlip.nn.species import SpeciesTable, species_lookup
from mlip.nn.sphere import gaunt, harmonics_from_powers, quadrature, real_harmonics, spherical_harmonics


def degrees(l_max: int) -> Tensor:
    """l of each component (l, m): 0, 1, 1, 1, 2, ...; [(l_max + 1)^2] int64."""
    return torch.cat([torch.full((2 * l + 1,), l) for l in range(l_max + 1)])


class LinearPerDegree(nn.Module):
    """x[lm, atom, in] -> sum_in W_l[in, out] x[lm, atom, in]: mixes channels, the same way for each m."""

    def __init__(self, l_max: int, n_in: int, n_out: int):
        super().__init__()
        self.register_buffer("degree", degrees(l_max), persistent=False)
        self.weight = nn.Parameter(torch.randn(l_max + 1, n_in, n_out) / math.sqrt(n_in))

    def forward(self, x: Tensor) -> Tensor:
        """x [(l_max+1)^2, n_atoms, n_in] -> [(l_max+1)^2, n_atoms, n_out]."""
        return torch.bmm(x, self.weight[self.degree])


class Neighbourhood(nn.Module):
    """Edges of each atom laid out as rows [n_atoms, most neighbours], so that sums over them are matrix products."""

    def __init__(self, cutoff: float, n_basis: int, l_max: int):
        super().__init__()
        self.cutoff, self.n_basis, self.l_max = cutoff, n_basis, l_max
        self.register_buffer("powers", split(harmonics_from_powers(l_max)), persistent=False)

    def forward(self, graph: dict[str, Tensor], n_atoms: int, most: int) -> tuple[Tensor, Tensor, Tensor]:
        """Radial basis [n_atoms, most, n_basis], harmonics [n_atoms, most, (l_max+1)^2], neighbours [n_atoms, most]."""
        centre, neighbour = graph[keys.EDGE_INDEX][0], graph[keys.EDGE_INDEX][1]
        edge_vector = graph[keys.EDGE_VECTOR]
        n_neighbours = torch.zeros(n_atoms, dtype=torch.int64, device=centre.device).index_add(
            0, centre, torch.ones_like(centre)
        )
        if most == 0:
            most = max(int(n_neighbours.max()), 1) if n_atoms > 0 else 1
        first = torch.cumsum(n_neighbours, 0) - n_neighbours
        slot = centre * most + torch.arange(centre.shape[0], device=centre.device) - first[centre]
        # an empty place holds a unit vector along x at the cutoff: its basis is zero, its derivatives finite
        empty = torch.zeros(n_atoms * most, 3, dtype=edge_vector.dtype, device=edge_vector.device)
        empty[:, 0] = self.cutoff
        vector = empty.index_copy(0, slot, edge_vector)
        powers = joined(self.powers)
        unit = vector / torch.linalg.norm(vector, dim=1, keepdim=True)
        harmonics = spherical_harmonics(unit.to(powers.dtype), powers, self.l_max)
        distance = empty[:, 0].to(powers.dtype).index_copy(0, slot, graph[keys.EDGE_DISTANCE].to(powers.dtype))
        envelope = torch.zeros_like(distance).index_copy(0, slot, graph[keys.EDGE_ENVELOPE].to(powers.dtype))
        envelope = envelope.view(n_atoms, most) * graph[keys.DENSITY_SCALE].to(powers.dtype).unsqueeze(1)
        basis = bessel_basis(distance, self.cutoff, self.n_basis) * envelope.view(-1, 1)
        row = torch.zeros(n_atoms * most, dtype=torch.int64, device=centre.device).index_copy(0, slot, neighbour)
        return basis.view(n_atoms, most, -1), harmonics.view(n_atoms, most, -1), row.view(n_atoms, most)


class SphereProducts(nn.Module):
    """Products f g and f g h of functions on the sphere, projected to l <= 1 and added to f itself.

    A quadrature that integrates degree 3 l_max + 1 exactly makes the products exact: body order 4 per layer.
    Each element has its own gain on the two products.
    """

    def __init__(self, elements: list[int], l_max: int, n_channels: int):
        super().__init__()
        points, weights = quadrature(3 * l_max + 1)
        harmonics = real_harmonics(points, l_max)
        sample = harmonics / (l_max + 1)  # a function with unit coefficients then has unit mean square
        project = (weights[:, None] * harmonics[:, :4]).T
        # scale of the projected products for independent normal coefficients, so that training starts at order one
        functions = np.random.default_rng(0).normal(size=(3, 4096, (l_max + 1) ** 2)) @ sample.T
        pair, triple = functions[0] * functions[1] @ project.T, functions.prod(0) @ project.T
        self.register_buffer("sample", split(torch.from_numpy(sample)), persistent=False)
        self.register_buffer("project_pair", split(torch.from_numpy(project / pair.std())), persistent=False)
        self.register_buffer("project_triple", split(torch.from_numpy(project / triple.std())), persistent=False)
        self.second = LinearPerDegree(l_max, n_channels, n_channels)
        self.third = LinearPerDegree(l_max, n_channels, n_channels)
        self.gains = SpeciesTable(elements, torch.ones(len(elements), 2 * n_channels))
        self.out = LinearPerDegree(1, 3 * n_channels, n_channels)

    def forward(self, density: Tensor, species: Tensor) -> Tensor:
        """density [(l_max+1)^2, n_atoms, K] -> [4, n_atoms, K]."""
        n_lm, n_atoms, n_channels = density.shape
        sample = joined(self.sample)
        f = sample @ density.reshape(n_lm, -1)
        pair = f * (sample @ self.second(density).reshape(n_lm, -1))
        triple = pair * (sample @ self.third(density).reshape(n_lm, -1))
        gain_pair, gain_triple = self.gains(species).chunk(2, dim=1)
        pair = (joined(self.project_pair) @ pair).view(4, n_atoms, n_channels) * gain_pair
        triple = (joined(self.project_triple) @ triple).view(4, n_atoms, n_channels) * gain_triple
        return self.out(torch.cat([density[:4], pair, triple], dim=2))


class Messages(nn.Module):
    """T_i[l1 m1, lm] = n^(-1/2) sum_j R_l1(r_ij) h_j[l1 m1] Y_lm(r_ij), coupled to l' by Gaunt coefficients per atom.

    The sum over neighbours is one batched matrix product because R does not depend on l; the coupling
    commutes with it, so no edge ever holds K (l_max+1)^2 numbers. Paths have l1 + l + l' even: O(3).
    """

    def __init__(self, l_max: int, n_basis: int, n_channels: int, mean_neighbours: float):
        super().__init__()
        n_lm = (l_max + 1) ** 2
        paths = [
            [(a, l) for a in (0, 1) for l in range(l_max + 1) if abs(a - l) <= out <= a + l and (a + l + out) % 2 == 0]
            for out in range(l_max + 1)
        ]
        self.n_paths = max(len(p) for p in paths)
        coupling = np.zeros((n_lm, self.n_paths, n_lm, 4))
        for out in range(l_max + 1):
            for p, (a, l) in enumerate(paths[out]):
                block = gaunt(l, a, out)  # [2l+1, 2a+1, 2out+1]
                block = block / np.sqrt((block**2).sum() / (2 * out + 1))  # unit normal inputs give unit outputs
                coupling[out**2 : (out + 1) ** 2, p, l**2 : (l + 1) ** 2, a**2 : (a + 1) ** 2] = block.transpose(
                    2, 0, 1
                )
        coupling = torch.from_numpy(coupling.reshape(n_lm * self.n_paths, n_lm * 4))
        self.register_buffer("coupling", split(coupling), persistent=False)
        self.scale = 1.0 / math.sqrt(mean_neighbours)
        self.radial = nn.Parameter(torch.randn(n_basis, 2, n_channels) / math.sqrt(n_basis))
        self.register_buffer("component", degrees(1), persistent=False)
        self.mix = LinearPerDegree(l_max, self.n_paths * n_channels, n_channels)

    def forward(self, features: Tensor, basis: Tensor, harmonics: Tensor, neighbours: Tensor) -> Tensor:
        """features [4, n_atoms (+ n_ghosts), K] -> [(l_max+1)^2, n_atoms, K]."""
        n_atoms, most, n_lm = harmonics.shape
        n_channels = features.shape[2]
        rows = features.transpose(0, 1).flatten(1)
        # R_1 serves the three components of l1 = 1: as columns of the weight, so that no edge is sliced or copied
        radial = (basis * self.scale).view(-1, basis.shape[2]) @ self.radial[:, self.component].flatten(1)
        weighted = radial.view(n_atoms, most, -1) * gather_rows(rows, neighbours)
        moments = torch.bmm(harmonics.transpose(1, 2), weighted)  # [n_atoms, lm, l1m1 K]
        coupled = torch.matmul(joined(self.coupling), moments.view(n_atoms, n_lm * 4, n_channels))
        coupled = coupled.view(n_atoms, n_lm, -1).transpose(0, 1).contiguous()  # [lm, n_atoms, paths K]
        return self.mix(coupled)


class Layer(nn.Module):
    """One more round: the density again, what the neighbours say, products of both."""

    def __init__(
        self, elements: list[int], l_max: int, n_basis: int, n_species: int, n_channels: int, mean_neighbours: float
    ):
        super().__init__()
        self.density = LinearPerDegree(l_max, n_species * n_basis, n_channels)
        self.messages = Messages(l_max, n_basis, n_channels, mean_neighbours)
        self.sender = SpeciesTable(elements, torch.randn(len(elements), n_channels))
        self.products = SphereProducts(elements, l_max, n_channels)

    def forward(
        self, features: Tensor, density: Tensor, basis: Tensor, harmonics: Tensor, neighbours: Tensor, species: Tensor
    ) -> Tensor:
        """features and species of n_atoms (+ n_ghosts) -> features [4, n_atoms, K]."""
        # what an atom sends starts with what it is
        sent = torch.cat([features[:1] + self.sender(species), features[1:]], dim=0)
        message = self.messages(sent, basis, harmonics, neighbours)
        return self.products(math.sqrt(0.5) * (self.density(density) + message), species[: density.shape[1]])


class SphericalNetwork(nn.Module):
    """Features of each atom: node_scalars [n_atoms, n_layers K] and node_vectors [n_atoms, 3, n_layers K].

    All vanish for an atom without neighbours. n_species numbers describe an element, so that the cost does
    not grow with the number of elements. docs/theory/network.md derives the equations.

    `forward` is `begin`, n_layers - 1 times `proceed`, and `finish`. Between them an atom needs nothing of others but
    the features of its neighbours, so that processes which share a crystal exchange those only.
    """

    n_layers: Final[int]

    def __init__(
        self, statistics: dict, cutoff: float, n_channels: int, l_max: int, n_layers: int, n_basis: int, n_species: int
    ):
        super().__init__()
        if cutoff <= 0:
            raise InputError(f"cutoff must be positive, got {cutoff} Å")
        if min(n_channels, l_max, n_layers, n_basis, n_species) < 1:
            raise InputError(
                f"n_channels, l_max, n_layers, n_basis, n_species must be at least 1, "
                f"got {n_channels}, {l_max}, {n_layers}, {n_basis}, {n_species}"
            )
        elements, mean_neighbours = statistics["elements"], max(float(statistics["mean_neighbours"]), 1.0)
        self.cutoff = float(cutoff)
        self.n_features = n_layers * n_channels
        self.n_layers, self.n_channels = n_layers, n_channels
        self.scale = 1.0 / math.sqrt(mean_neighbours)
        self.register_buffer("lookup", species_lookup(elements))
        self.neighbourhood = Neighbourhood(self.cutoff, n_basis, l_max)
        self.embedding = SpeciesTable(elements, distinct_rows(len(elements), n_species))
        self.density = LinearPerDegree(l_max, n_species * n_basis, n_channels)
        self.products = SphereProducts(elements, l_max, n_channels)
        self.layers = nn.ModuleList(
            Layer(elements, l_max, n_basis, n_species, n_channels, mean_neighbours) for _ in range(n_layers - 1)
        )

    def forward(self, graph: dict[str, Tensor]) -> dict[str, Tensor]:
        """Adds node_scalars and node_vectors to the graph."""
        graph = self.begin(graph)
        for layer in range(1, self.n_layers):
            graph = self.proceed(graph, graph[keys.FEATURES], layer)
        return self.finish(graph)

    def begin(self, graph: dict[str, Tensor]) -> dict[str, Tensor]:
        """Adds the features of the first layer, and what the later ones need of the neighbourhood."""
        n_atoms = graph[keys.POSITIONS].shape[0]
        species = self.lookup[graph[keys.ATOMIC_NUMBERS]]
        # a compiler needs the row length as the length of an input: see mlip.aoti
        most = graph[keys.NEIGHBOUR_SLOTS].shape[0] if keys.NEIGHBOUR_SLOTS in graph else 0
        basis, harmonics, neighbours = self.neighbourhood(graph, n_atoms, most)
        identity = self.embedding(species[neighbours]) * self.scale
        described = (identity.unsqueeze(3) * basis.unsqueeze(2)).view(n_atoms, neighbours.shape[1], -1)
        density = torch.bmm(harmonics.transpose(1, 2), described).transpose(0, 1).contiguous()  # [lm, n_atoms, s n]
        features = self.products(self.density(density), species[:n_atoms])
        graph[keys.DENSITY], graph[keys.BASIS], graph[keys.HARMONICS], graph[keys.NEIGHBOURS] = (
            density,
            basis,
            harmonics,
            neighbours,
        )
        graph[keys.FEATURES], graph[keys.ALL_FEATURES] = features, features
        return graph

    def proceed(self, graph: dict[str, Tensor], features: Tensor, layer: int) -> dict[str, Tensor]:
        """Adds the features of one more layer, 1 to n_layers - 1.

        features  [4, n_atoms (+ n_ghosts), K] of the layer before, those of ghosts behind those of atoms
        """
        species = self.lookup[graph[keys.ATOMIC_NUMBERS]]
        described = graph[keys.FEATURES]
        for number, module in enumerate(self.layers, 1):
            if number == layer:  # TorchScript cannot take a module by its number
                described = module(
                    features,
                    graph[keys.DENSITY],
                    graph[keys.BASIS],
                    graph[keys.HARMONICS],
                    graph[keys.NEIGHBOURS],
                    species,
                )
        graph[keys.FEATURES] = described
        graph[keys.ALL_FEATURES] = torch.cat([graph[keys.ALL_FEATURES], described], dim=2)
        return graph

    def finish(self, graph: dict[str, Tensor]) -> dict[str, Tensor]:
        """Adds node_scalars and node_vectors from the features of all layers."""
        everything = graph[keys.ALL_FEATURES]
        graph[keys.NODE_SCALARS] = everything[0]
        # the order of l = 1 in `everything` is y, z, x
        graph[keys.NODE_VECTORS] = torch.stack([everything[3], everything[1], everything[2]], dim=1)
        return graph


def distinct_rows(n_elements: int, width: int) -> Tensor:
    """Start of the element embedding: orthogonal rows while there are few elements, [n_elements, width], mean square 1."""
    rows = torch.randn(n_elements, width)
    if n_elements <= width:
        rows = torch.linalg.qr(rows.T)[0].T * math.sqrt(width)
    return rows.contiguous()


class NetworkEnergy(nn.Module):
    """E_i = scale (w . s_i + MLP(W s_i + b_Z) - MLP(b_Z)): zero for a lone atom, whose energy is a table's.

    scale is the rms force of the training set times 1 Å.
    """

    local: Final[bool] = True

    def __init__(self, statistics: dict, n_hidden: int):
        super().__init__()
        n_features, elements = statistics["n_features"], statistics["elements"]
        self.scale = float(statistics["force_rms"])
        self.register_buffer("lookup", species_lookup(elements))
        self.linear = nn.Linear(n_features, 1, bias=False)
        self.hidden = nn.Linear(n_features, n_hidden, bias=False)
        self.bias = SpeciesTable(elements, torch.randn(len(elements), n_hidden))
        self.out = nn.Linear(n_hidden, 1, bias=False)

    def forward(self, graph: dict[str, Tensor]) -> Tensor:  # [n_atoms] eV
        """Energy of each atom in its neighbourhood; last_layer stays in the graph, the energy is linear in it."""
        scalars = graph[keys.NODE_SCALARS]
        bias = self.bias(self.lookup[graph[keys.ATOMIC_NUMBERS][: scalars.shape[0]]])
        silu = torch.nn.functional.silu
        hidden = silu(self.hidden(scalars) + bias) - silu(bias)
        graph[keys.LAST_LAYER] = self.scale * torch.cat([scalars, hidden], dim=1)
        return self.scale * (self.linear(scalars) + self.out(hidden)).squeeze(1)
