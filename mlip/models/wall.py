"""Wall beyond the training data: energies that rise where the network has stopped, from the same limits.

Between the shortest distance in the data and screened nuclear repulsion (`mlip.models.repulsion`) nothing else keeps
two atoms apart; a good short-range prior also saves labels (Yan, Fan, Zhu, arXiv:2504.15925).
"""

from typing import Final

import torch
from ase.data import covalent_radii
from torch import Tensor, nn

from mlip import keys
from mlip.errors import InputError
from mlip.models.data_limits import CROWDING_MARGIN, DISTANCE_MARGIN, SPARSE_MARGIN
from mlip.nn.radial import soft_floor
from mlip.nn.scatter import segment_sum
from mlip.nn.species import species_lookup

LONELY = 2.25  # crowding: each of three atoms alone has 2 at most, below which soft_floor of 2.25 is flat


def rise(excess: Tensor, onset: float = 0.1) -> Tensor:
    """w(y) = y^4 / (y + onset)^2: three derivatives vanish at zero, quadratic from about `onset` on; y [n] >= 0."""
    return excess.pow(4) / (excess + onset).square()


class Wall(nn.Module):
    """Repulsion of atoms closer or more crowded than in the training set, cohesion of lonelier ones; zero inside the data.

        E_i = 1/2 sum_j A w(1 - r_ij / r_ab) + K w(c_i / c_a - 1) + L w(1 - p_a/l_a f(c_i / p_a))

    r_ab and c_a are 0.8 of the data's shortest distance of elements a, b and 1.1 of its largest crowding of a, where
    the network stops (`DataLimits`), or nearer to the data, see `mlip.training.walls`. A pair that the data lack starts
    at 0.9 of the sum of covalent radii. l_a is 0.6 of the least crowding: without a cohesion a crystal that no
    data show in pieces evaporates at constant pressure. It is flat (f, `soft_floor`) below p_a = max(l_a / 2, 2.25), so
    that lone molecules do not feel one another, nor the atoms of a triplet. Data with atoms that lonely have none.

    pair_strength       A, eV: the energy of a pair on top of each other is about 0.8 A
    crowding_strength   K, eV
    cohesion_strength   L, eV: a lone atom lies 0.2 L above what the network makes of it, if p_a is l_a / 2
    """

    local: Final[bool] = True

    def __init__(
        self,
        statistics: dict,
        pair_strength: float = 200.0,
        crowding_strength: float = 20.0,
        cohesion_strength: float = 20.0,
    ):
        super().__init__()
        if min(pair_strength, crowding_strength, cohesion_strength) <= 0:
            raise InputError(f"the strengths of the wall must be positive, got {pair_strength}, {crowding_strength} and "
                             f"{cohesion_strength} eV")  # fmt: skip
        elements = list(statistics["elements"])
        n = len(elements)
        self.n_elements = n
        shortest = statistics.get("shortest_distances") or [[0.0] * n] * n
        most = statistics.get("largest_crowding") or [float("inf")] * n
        least = statistics.get("least_crowding") or [0.0] * n
        radii = [[0.9 * float(covalent_radii[a] + covalent_radii[b]) if shortest[i][j] is None else DISTANCE_MARGIN * shortest[i][j]
                  for j, b in enumerate(elements)] for i, a in enumerate(elements)]  # fmt: skip
        self.register_buffer("lookup", species_lookup(elements), persistent=False)
        self.register_buffer("reach", torch.tensor(radii, dtype=torch.float64).flatten(), persistent=False)
        self.register_buffer("most", CROWDING_MARGIN * torch.tensor(most, dtype=torch.float64), persistent=False)
        self.register_buffer("data_least", torch.tensor(least, dtype=torch.float64), persistent=False)
        flat = (0.5 * SPARSE_MARGIN * self.data_least).clamp(min=LONELY)
        bound = SPARSE_MARGIN * self.data_least > LONELY
        self.register_buffer("flat", flat, persistent=False)
        self.register_buffer("least", torch.where(bound, SPARSE_MARGIN * self.data_least, 0.0), persistent=False)
        self.register_buffer(
            "pair_strength", torch.full((n * n,), pair_strength, dtype=torch.float64), persistent=False
        )
        self.register_buffer(
            "crowding_strength", torch.full((n,), crowding_strength, dtype=torch.float64), persistent=False
        )
        self.register_buffer(
            "cohesion_strength", torch.full((n,), cohesion_strength, dtype=torch.float64), persistent=False
        )

    def forward(self, graph: dict[str, Tensor]) -> Tensor:  # [n_atoms] eV
        """Energy of the wall, half of each pair's."""
        n_atoms = graph[keys.POSITIONS].shape[0]
        species = self.lookup[graph[keys.ATOMIC_NUMBERS]]
        centre, neighbour = graph[keys.EDGE_INDEX][0], graph[keys.EDGE_INDEX][1]
        vector = graph[keys.EDGE_VECTOR]
        pair = species[centre] * self.n_elements + species[neighbour]
        reach = self.reach.to(vector.dtype)[pair]
        near = torch.nonzero((vector * vector).sum(1) < reach * reach).squeeze(1)
        excess = 1.0 - torch.linalg.norm(vector[near], dim=1) / reach[near]
        pairs = 0.5 * self.pair_strength.to(vector.dtype)[pair[near]] * rise(excess)
        energy = segment_sum(pairs, centre[near], n_atoms)

        crowded, most = graph[keys.CROWDING], self.most.to(vector.dtype)[species[:n_atoms]]
        full = torch.nonzero(crowded > most).squeeze(1)
        strength = self.crowding_strength.to(vector.dtype)[species[full]]
        energy = energy.index_add(0, full, strength * rise(crowded[full] / most[full] - 1.0))

        least = self.least.to(vector.dtype)[species[:n_atoms]]
        lonely = torch.nonzero(crowded < least).squeeze(1)
        cohesion = self.cohesion_strength.to(vector.dtype)[species[lonely]]
        flat = self.flat.to(vector.dtype)[species[lonely]]
        seen = flat * soft_floor(crowded[lonely] / flat)
        return energy.index_add(0, lonely, cohesion * rise(1.0 - seen / least[lonely]))
