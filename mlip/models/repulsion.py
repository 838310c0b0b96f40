"""Nuclear repulsion at short distance, so that dynamics never falls into a hole of the network."""

from typing import Final

import torch
from ase.data import covalent_radii
from torch import Tensor, nn

from mlip import keys, units
from mlip.errors import InputError
from mlip.nn.radial import polynomial_cutoff
from mlip.nn.scatter import segment_sum


def zbl(distance: Tensor, z_i: Tensor, z_j: Tensor) -> Tensor:
    """Universal screened repulsion  k_e Z_i Z_j / r phi(r / a)  of Ziegler, Biersack and Littmark (1985), eV.

    distance  [n] Å, greater than zero;  z_i, z_j  [n] atomic numbers as floats
    """
    x = distance * (z_i.pow(0.23) + z_j.pow(0.23)) / (0.8854 * units.BOHR)  # a = 0.8854 a_0 / (Z_i^0.23 + Z_j^0.23)
    screening = (
        0.18175 * torch.exp(-3.19980 * x)
        + 0.50986 * torch.exp(-0.94229 * x)
        + 0.28022 * torch.exp(-0.40290 * x)
        + 0.02817 * torch.exp(-0.20162 * x)
    )
    return units.COULOMB * z_i * z_j / distance * screening


class ZBL(nn.Module):
    """ZBL repulsion between atoms closer than the sum of their covalent radii, switched off smoothly there.

    `radius_scale` moves the switching distance r_s = scale (R_i + R_j); energy, force and curvature vanish
    at r_s, so bonds longer than r_s do not feel the term and the network need not unlearn it.
    """

    local: Final[bool] = True

    def __init__(self, statistics: dict, radius_scale: float = 0.9):
        super().__init__()
        if radius_scale <= 0:
            raise InputError(f"radius_scale must be positive, got {radius_scale}")
        radii = torch.tensor(covalent_radii.copy())
        self.register_buffer("radii", radius_scale * radii.to(torch.float64))

    def forward(self, graph: dict[str, Tensor]) -> Tensor:  # [n_atoms] eV
        """Half of each pair's repulsion."""
        centre, neighbour = graph[keys.EDGE_INDEX][0], graph[keys.EDGE_INDEX][1]
        numbers = graph[keys.ATOMIC_NUMBERS]
        vector = graph[keys.EDGE_VECTOR]
        reach = self.radii[numbers[centre]].to(vector.dtype) + self.radii[numbers[neighbour]].to(vector.dtype)
        # only the few pairs that close: most steps have none, and the term is free
        near = torch.nonzero((vector * vector).sum(1) < reach * reach).squeeze(1)
        centre, neighbour, vector, reach = centre[near], neighbour[near], vector[near], reach[near]
        distance = torch.linalg.norm(vector, dim=1)
        z_i, z_j = numbers[centre].to(vector.dtype), numbers[neighbour].to(vector.dtype)
        energy = 0.5 * zbl(distance, z_i, z_j) * polynomial_cutoff(distance / reach, 1.0)
        return segment_sum(energy, centre, graph[keys.POSITIONS].shape[0])
