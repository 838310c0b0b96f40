"""Formal point charges: smooth charges in waves, and at short range what points have more than they."""

import torch
from torch import Tensor, nn

from mlip import keys, units
from mlip.electrostatics.charges import FormalCharges
from mlip.electrostatics.kspace import fade
from mlip.nn.scatter import segment_sum


def point_excess(distance: Tensor, width: float) -> Tensor:
    """erfc(r / 2 s) / r: what two unit points feel more than two Gaussians of width s, Å^-1; times k_e q q' an energy.

    distance [n] Å, greater than zero; width Å
    """
    return torch.erfc(distance / (2.0 * width)) / distance


class PointCharges(nn.Module):
    """Ewald's sum of formal point charges: FormalCharges and the excess of points over its Gaussians within the cutoff.

    Nothing depends on the width (Å) while the excess has ended at the cutoff: with a cutoff of 7 widths forces err by
    about 1e-4 eV/Å, with 8 by 1e-5.
    """

    def __init__(
        self,
        statistics: dict,
        cutoff: float,
        width: float,
        formal_charges: dict[str, float] | None = None,
        tolerance: float = 1e-5,
        mesh_above: int = 1500,
    ):
        super().__init__()
        if cutoff < 7 * width:
            raise ValueError(f"width={width} Å is too wide for the cutoff of {cutoff} Å: at most cutoff / 7")
        self.cutoff, self.width = float(cutoff), float(width)
        self.gaussians = FormalCharges(statistics, formal_charges, width, tolerance, mesh_above=mesh_above)

    def forward(self, graph: dict[str, Tensor]) -> Tensor:  # [n_atoms] eV
        """Energies; adds charges to the graph."""
        energies = self.gaussians(graph)
        charges = graph[keys.CHARGES]
        centre, neighbour = graph[keys.EDGE_INDEX][0], graph[keys.EDGE_INDEX][1]
        distance2 = graph[keys.EDGE_VECTOR].square().sum(1)
        pair = units.COULOMB * charges[centre] * charges[neighbour] * point_excess(distance2.sqrt(), self.width)
        return energies + segment_sum(0.5 * fade(distance2, self.cutoff, 0.81) * pair, centre, charges.shape[0])
