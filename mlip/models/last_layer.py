"""Last-layer uncertainty (LLPR) of a potential.

Bigi, Chong, Ceriotti, Grasselli, Mach. Learn.: Sci. Technol. 5, 045018 (2024).

The energy is linear in the last weights, E = w . f with f the sum of `last_layer` over the atoms. After a linear
fit the covariance of the weights is C = (sum of g g^T over what was fitted + zeta^2)^-1, g the derivative of a fitted
number (energy, force) by w over its error. `mlip.training.uncertainty` makes C; the scale of both sigmas is then
calibrated. Not included: errors of the features, and of charges, which act beside the last layer.
"""

import math

import torch
from torch import Tensor, nn

from mlip import keys
from mlip.errors import InputError
from mlip.models.potential import Potential, strainable
from mlip.nn.scatter import segment_sum
from mlip.nn.species import species_lookup


class LastLayer(nn.Module):
    """Potential with uncertainties from the covariance of its last weights.

    It adds energy_sigma [n_systems] eV and force_sigma [n_atoms] eV/Å:

    sigma_E^2   = s_E^2 f^T C f                                              exact
    sigma_F,i^2 = s_Z^2 sum_m |d(w_m . f) / dr_i|^2,  sum_m w_m w_m^T ~ C    one backward pass per w_m

    energy_spread [n_systems, n_last] eV is s_E f^T root: the length of the difference of two rows is the sigma of an
    energy difference (a barrier).

    root     [n_last, n_last] with root root^T = C
    n_draws  vectors w_m: a random orthogonal set in the metric of C. n_last of them are exact; with fewer the sum is
             right on average, and scatters by about sqrt(2 / (3 n_draws)) of itself from atom to atom
    """

    def __init__(self, potential: Potential, root: Tensor, n_draws: int, seed: int = 0):
        super().__init__()
        n_last = root.shape[0]
        if not 1 <= n_draws <= n_last:
            raise InputError(f"n_draws must be from 1 to the {n_last} numbers of the last layer, got {n_draws}")
        self.elements, self.levels = list(potential.elements), list(potential.levels)
        self.term_names = list(potential.term_names)
        self.cutoff: float = float(potential.cutoff)
        self.potential = potential
        self.spread_freedom = n_draws  # per component, of the estimated variance of a force
        self.energy_freedom = math.inf  # that of an energy is exact
        random = torch.randn(n_last, n_last, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))
        directions = torch.linalg.qr(random).Q[:, :n_draws] * (n_last / n_draws) ** 0.5
        self.register_buffer("root", root.double())
        self.register_buffer("draws", (root.double() @ directions).T.contiguous())
        self.register_buffer("lookup", species_lookup(self.elements))
        self.register_buffer("energy_scale", torch.ones((), dtype=torch.float64))
        self.register_buffer("force_scale", torch.ones(len(self.elements), dtype=torch.float64))

    def forward(self, graph: dict[str, Tensor]) -> dict[str, Tensor]:
        """Results of the potential, and the uncertainties."""
        strained, positions, strain = strainable(graph)
        strained, energies = self.potential.described(strained)
        results = self.potential.derivatives(graph, strained, energies, positions, strain, True)
        features = strained[keys.LAST_LAYER].to(positions.dtype)
        whole = segment_sum(features, graph[keys.BATCH], graph[keys.CELL].shape[0]).detach()
        results[keys.ENERGY_SPREAD] = self.energy_scale.to(whole.dtype) * whole @ self.root.to(whole.dtype)
        results[keys.ENERGY_SIGMA] = torch.linalg.norm(results[keys.ENERGY_SPREAD], dim=1)
        drawn = (features @ self.draws.to(features.dtype).T).sum(0)
        variance = torch.zeros_like(energies)
        for m in range(drawn.shape[0]):
            gradients = torch.autograd.grad([drawn[m]], [positions], retain_graph=True)
            gradient: Tensor | None = gradients[0]
            if gradient is not None:
                variance = variance + gradient.square().sum(1)
        species = self.lookup[graph[keys.ATOMIC_NUMBERS]]
        results[keys.FORCE_SIGMA] = self.force_scale.to(variance.dtype)[species] * variance.detach().sqrt()
        return results
