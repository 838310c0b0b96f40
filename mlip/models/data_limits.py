"""Limits of the training data: the network sees no pair closer and no atom more crowded than its data show.

Beyond them a product of densities grows without bound, and an atom falls into a hole. So distances and densities
saturate there, and `mlip.models.wall` takes over with energies that rise from the same limits.
"""

import torch
from torch import Tensor, nn

from mlip import keys
from mlip.nn.radial import crowding, polynomial_cutoff, soft_floor
from mlip.nn.species import species_lookup

DISTANCE_MARGIN = 0.8  # of the shortest distance: frames at 1200 K go to 0.83 of those at 600 K, and a network follows
CROWDING_MARGIN = 1.1  # of the largest crowding
SPARSE_MARGIN = 0.6  # of the least crowding: atoms in the face of a slab, or of a melt, have more


class DataLimits(nn.Module):
    """Distances and crowding that the network may see: the extremes of the training set, and a margin.

    statistics  shortest_distances [n_elements, n_elements] Å, None for a pair that no frame holds within the cutoff;
                largest_crowding [n_elements]. Without them nothing is limited (potentials of before)

    Adds edge_distance (never below 0.95 of the pair's limit), edge_envelope, crowding and density_scale to the graph.
    A pair that the data lack stays at the cutoff: the network cannot have an opinion on it. Inside the data nothing
    changes, to the last bit. The search for holes may take the margin of a pair or element back (`mlip.training.walls`).
    """

    def __init__(self, statistics: dict, cutoff: float):
        super().__init__()
        elements = list(statistics["elements"])
        self.cutoff = float(cutoff)
        self.n_elements = len(elements)
        shortest = statistics.get("shortest_distances") or [[0.0] * len(elements)] * len(elements)
        rows = [
            [self.cutoff if distance is None else min(distance, self.cutoff) for distance in row] for row in shortest
        ]
        most = statistics.get("largest_crowding") or [float("inf")] * len(elements)
        of_data = torch.tensor(rows, dtype=torch.float64).flatten()
        known = of_data < self.cutoff
        self.register_buffer("lookup", species_lookup(elements), persistent=False)
        self.register_buffer("data_shortest", of_data, persistent=False)
        self.register_buffer("data_most", torch.tensor(most, dtype=torch.float64), persistent=False)
        self.register_buffer("shortest", torch.where(known, DISTANCE_MARGIN * of_data, of_data), persistent=False)
        self.register_buffer("most", CROWDING_MARGIN * self.data_most, persistent=False)

    def forward(self, graph: dict[str, Tensor]) -> dict[str, Tensor]:
        """The graph with what may be seen of it."""
        n_atoms = graph[keys.POSITIONS].shape[0]
        species = self.lookup[graph[keys.ATOMIC_NUMBERS]]
        centre, neighbour = graph[keys.EDGE_INDEX][0], graph[keys.EDGE_INDEX][1]
        distance = torch.linalg.norm(graph[keys.EDGE_VECTOR], dim=1)
        shortest = self.shortest.to(distance.dtype)[species[centre] * self.n_elements + species[neighbour]]
        # most steps have no pair and no atom beyond its limit: only those that are cost anything
        near = torch.nonzero(distance < shortest).squeeze(1)
        limit = shortest[near]
        seen = distance.index_copy(0, near, limit * soft_floor(distance[near] / limit))
        envelope = polynomial_cutoff(seen, self.cutoff)
        crowded = crowding(envelope, centre, n_atoms)
        most = self.most.to(distance.dtype)[species[:n_atoms]]
        full = torch.nonzero(crowded > most).squeeze(1)
        ratio = crowded[full] / most[full]
        # the mirror image of a floor: 2 - f(2 - x) follows x up to 1 and stays below 1.05
        scale = torch.ones_like(crowded).index_copy(0, full, (2.0 - soft_floor(2.0 - ratio)) / ratio)
        graph[keys.EDGE_DISTANCE] = seen
        graph[keys.EDGE_ENVELOPE] = envelope
        graph[keys.CROWDING] = crowded
        graph[keys.DENSITY_SCALE] = scale
        return graph
