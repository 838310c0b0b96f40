"""Committee of potentials: their mean as the result, their scatter as the uncertainty."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from mlip import keys
from mlip.errors import InputError
from mlip.nn.species import species_lookup


class Committee(nn.Module):
    """Mean of K potentials, with energy_sigma [n_systems] eV and force_sigma [n_atoms] eV/Å.

    sigma_E^2   = s_E^2 sum_k (E_k - <E>)^2 / (K - 1)
    sigma_F,i^2 = s_Z^2 sum_k |F_ik - <F_i>|^2 / (K - 1),  |.| of the vector: three variances

    energy_spread [n_systems, K] eV holds s_E (E_k - <E>) / sqrt(K - 1): a deviation common to both structures cancels
    in the length of the difference of two rows, the sigma of an energy difference (a barrier). The scales s are 1 until
    `mlip.training.calibrate` fits them on held-out frames, s_Z by element Z of the atom.
    Members have the same elements, levels and cutoff; trained on the same data from other random numbers.
    """

    def __init__(self, members: Sequence[nn.Module]):
        super().__init__()
        if len(members) < 2:
            raise InputError(f"a committee needs at least two members, got {len(members)}")
        for number, member in enumerate(members[1:], 1):
            for name in ("elements", "levels", "cutoff"):
                one, other = getattr(members[0], name), getattr(member, name)
                if one != other:
                    raise InputError(
                        f"members of a committee share their {name}; member 0 has {one}, member {number} has {other}"
                    )
        first = members[0]
        self.elements, self.levels, self.term_names = list(first.elements), list(first.levels), list(first.term_names)
        self.cutoff: float = float(first.cutoff)
        self.members = nn.ModuleList(members)
        self.spread_freedom = self.energy_freedom = len(members) - 1  # per component, of the estimated variances
        self.register_buffer("lookup", species_lookup(self.elements))
        self.register_buffer("energy_scale", torch.ones((), dtype=torch.float64))
        self.register_buffer("force_scale", torch.ones(len(self.elements), dtype=torch.float64))

    def forward(self, graph: dict[str, Tensor]) -> dict[str, Tensor]:
        """Results averaged over the members, and the uncertainties."""
        member_results: list[dict[str, Tensor]] = []
        for member in self.members:
            member_results.append(member(graph))
        results: dict[str, Tensor] = {}
        for name in member_results[0].keys():  # noqa: SIM118  TorchScript
            results[name] = torch.stack([one[name] for one in member_results]).mean(0)
        energies = torch.stack([one[keys.ENERGY] for one in member_results])
        forces = torch.stack([one[keys.FORCES] for one in member_results])
        freedom = len(member_results) - 1
        spread = self.energy_scale.to(energies.dtype) * (energies - results[keys.ENERGY]).T / freedom**0.5
        force_variance = (forces - results[keys.FORCES]).square().sum(2).sum(0) / freedom
        species = self.lookup[graph[keys.ATOMIC_NUMBERS]]
        results[keys.ENERGY_SPREAD] = spread
        results[keys.ENERGY_SIGMA] = torch.linalg.norm(spread, dim=1)
        results[keys.FORCE_SIGMA] = self.force_scale.to(forces.dtype)[species] * force_variance.sqrt()
        return results
