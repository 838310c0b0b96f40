"""A potential whose answer is a textbook formula: Morse pairs in the shape of every potential of ours."""

from functools import partial

import numpy as np
import torch
from torch import Tensor, nn

from mlip import keys
from mlip.models.potential import Potential

DEPTH, STEEPNESS, REST = 0.5, 1.6, 2.2  # eV, 1/Å, Å


class NoNetwork(nn.Module):
    """Adds no feature."""

    def __init__(self, statistics: dict, cutoff: float):
        super().__init__()
        self.cutoff, self.n_features = cutoff, 0

    def forward(self, graph: dict[str, Tensor]) -> dict[str, Tensor]:
        return graph


class Morse(nn.Module):
    """Half of D ((1 - exp(-a (r - r0)))^2 - 1) (1 - (r / cutoff)^2)^3 per pair."""

    def __init__(self, statistics: dict, cutoff: float):
        super().__init__()
        self.cutoff = cutoff
        self.steepness, self.rest = STEEPNESS, REST
        self.depth = nn.Parameter(torch.tensor(DEPTH, dtype=torch.float64))

    def forward(self, graph: dict[str, Tensor]) -> Tensor:
        r = torch.linalg.norm(graph[keys.EDGE_VECTOR], dim=1)
        well = (1.0 - torch.exp(-self.steepness * (r - self.rest))).square() - 1.0
        energy = 0.5 * self.depth * well * (1.0 - (r / self.cutoff).square()).clamp(min=0.0).pow(3)
        per_atom = torch.zeros(graph[keys.POSITIONS].shape[0], dtype=r.dtype, device=r.device)
        return per_atom.index_add(0, graph[keys.EDGE_INDEX][0], energy)


def morse_potential(elements=(3, 17), cutoff: float = 4.0) -> Potential:
    """Elements differ by their lone atoms' energies only: -Z eV."""
    statistics = {
        "elements": list(elements),
        "levels": ["default"],
        "atomic_energies": [[-float(z) for z in elements]],
        "mean_neighbours": 12.0,
        "force_rms": 1.0,
    }
    return Potential(partial(NoNetwork, cutoff=cutoff), {"morse": partial(Morse, cutoff=cutoff)}, statistics)


def morse_by_brute_force(atoms, cutoff: float = 4.0, images: int = 6) -> float:
    """Energy in eV by a plain loop over every image; needs `images` cells to reach the cutoff."""
    energy = -float(atoms.numbers.sum())
    reach = [range(-images, images + 1) if periodic else (0,) for periodic in atoms.pbc]
    shifts = np.array(np.meshgrid(*reach, indexing="ij")).reshape(3, -1).T @ atoms.cell.array
    for i, centre in enumerate(atoms.positions):
        for j, other in enumerate(atoms.positions):
            r = np.linalg.norm(other + shifts - centre, axis=1)
            r = r[(r < cutoff) & ((r > 1e-9) if i == j else True)]
            well = (1 - np.exp(-STEEPNESS * (r - REST))) ** 2 - 1
            energy += (0.5 * DEPTH * well * (1 - (r / cutoff) ** 2) ** 3).sum()
    return energy
