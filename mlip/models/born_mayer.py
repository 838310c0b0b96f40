"""Born-Mayer repulsion: the steep part of a pair's energy, so that a network of few radial functions need not learn it."""

import math
from typing import Any

import torch
from torch import Tensor, nn

from mlip import keys
from mlip.nn.scatter import gather_rows, segment_sum
from mlip.nn.species import species_lookup

UNFITTED = (0.1, 0.3)  # eV at the contact, Å


def contact_distances(statistics: dict[str, Any]) -> Tensor:
    """Shortest distance of every pair of elements in the training set, 2 Å without one, [n, n] Å."""
    rows = statistics.get("shortest_distances") or [[None] * len(statistics["elements"])] * len(statistics["elements"])
    return torch.tensor([[2.0 if d is None else float(d) for d in row] for row in rows], dtype=torch.float64)


class BornMayer(nn.Module):
    """E_i = 1/2 sum_j B_ab exp(-(r_ij - d_ab) / rho_ab) f_c(r_ij), with f_c the network's cutoff.

    d_ab is the shortest distance of the pair in the training set, and B_ab the energy there; A = B exp(d / rho) is
    the constant of M. Born and J. E. Mayer, Z. Phys. 75, 1 (1932). B and rho are learned for every pair of elements
    from `born_mayer` of the statistics, a fit to the training forces (`mlip.training.pair_start`).
    """

    def __init__(self, statistics: dict[str, Any]):
        super().__init__()
        elements = list(statistics["elements"])
        n = len(elements)
        pair, rows = torch.zeros(n, n, dtype=torch.int64), []
        start = statistics.get("born_mayer") or [[UNFITTED] * n] * n
        contact = contact_distances(statistics)
        distances = []
        for i in range(n):
            for j in range(i + 1):
                pair[i, j] = pair[j, i] = len(rows)
                rows.append([math.log(value) for value in start[i][j]])
                distances.append(float(contact[i, j]))
        self.register_buffer("lookup", species_lookup(elements))
        self.register_buffer("pair", pair)
        self.register_buffer("contact", torch.tensor(distances, dtype=torch.float64), persistent=False)
        self.logarithms = nn.Parameter(torch.tensor(rows, dtype=torch.float32))  # of B / eV and rho / Å, [n_pairs, 2]

    def forward(self, graph: dict[str, Tensor]) -> Tensor:  # [n_atoms] eV
        """Half of each pair's repulsion."""
        centre, neighbour = graph[keys.EDGE_INDEX][0], graph[keys.EDGE_INDEX][1]
        species = self.lookup[graph[keys.ATOMIC_NUMBERS]]
        pair = self.pair[species[centre], species[neighbour]]
        distance = torch.linalg.norm(graph[keys.EDGE_VECTOR], dim=1)
        strength, length = gather_rows(self.logarithms.to(distance.dtype).exp(), pair).unbind(1)
        energy = strength * torch.exp((self.contact.to(distance.dtype)[pair] - distance) / length)
        return segment_sum(0.5 * energy * graph[keys.EDGE_ENVELOPE], centre, species.shape[0])
