"""Start of the dielectric constant of bond charges: least squares to the training forces, beside pairs of any shape."""

import math
from collections.abc import Callable, Iterable
from itertools import combinations_with_replacement

import numpy as np
import torch
from torch import Tensor, nn

from mlip import keys
from mlip.data.statistics import fit_atomic_energies
from mlip.electrostatics.bond_charges import UNFITTED, BondCharges
from mlip.models.potential import Potential, strainable
from mlip.nn.radial import radial_basis
from mlip.training.pair_start import fixed_forces, pair_forces

N_RADIAL = 10
RIDGE = 1e-8  # of the mean square of a column: columns of pairs are nearly dependent
SPREAD = 0.1  # of 1 / eps_inf among insulators, about 1 / UNFITTED
LEAST, MOST = 1.2, 20.0  # eps_inf of insulators


def with_dielectric_start(
    build: Callable[[dict], nn.Module], statistics: dict, batches: Iterable[dict[str, Tensor]], max_structures: int = 20
) -> dict:
    """Statistics with `dielectric` and `coulomb_energies` [n_elements] eV if the potential has bond charges to learn.

        F_label - F_fixed ~ F_Coulomb / eps_inf + sum_ab sum_n c_abn F_abn

    F_fixed is that of terms that are not learned, F_Coulomb that of the charges at the start without screening, F_abn
    the force of the nth radial function between elements a and b; 1/eps_inf and c are solved for together, from at most
    `max_structures` structures with forces.
    1/eps_inf is drawn to that of insulators at large, 1/UNFITTED +- SPREAD, as far as its own standard error is large.
    coulomb_energies  sum_Z n_Z m_Z ~ eps_inf E_Coulomb, by least squares over the same structures
    """
    with torch.random.fork_rng(devices=[]):  # the weights of this one are thrown away: a seed gives the same training
        potential = build(statistics)
    terms = [term for term in potential.modules() if isinstance(term, BondCharges)]
    if not terms:
        return statistics
    columns, labels, counts, energies = [], [], [], []
    for graph in batches:
        energy, forces = unscreened(potential, terms[0], graph)
        pairs = pair_columns(potential, graph)
        rest = graph[keys.REF_FORCES] - fixed_forces(potential, graph, (BondCharges,))
        known = torch.isfinite(rest).flatten()
        columns.append(torch.cat([forces[:, :, None], pairs], 2).flatten(0, 1)[known])
        labels.append(rest.flatten()[known])
        count = torch.zeros(len(energy), len(statistics["elements"]), dtype=torch.float64)
        species = potential.lookup[graph[keys.ATOMIC_NUMBERS]]
        counts.append(count.index_put((graph[keys.BATCH], species), torch.ones(()).double(), accumulate=True))
        energies.append(energy)
        if sum(map(len, energies)) >= max_structures:
            break
    zero = fit_atomic_energies(torch.cat(counts).numpy(), torch.cat(energies).numpy())
    found = {"coulomb_energies": [float(value) for value in np.atleast_1d(zero)]}
    if terms[0].log_susceptibility.requires_grad:
        inverse, error = first_coefficient(torch.cat(columns), torch.cat(labels))
        share = SPREAD**2 / (SPREAD**2 + error**2)
        inverse = share * inverse + (1 - share) / UNFITTED
        found["dielectric"] = min(max(1.0 / max(inverse, 1e-9), LEAST), MOST)
    return {**statistics, **found}


def unscreened(potential: Potential, term: BondCharges, graph: dict[str, Tensor]) -> tuple[Tensor, Tensor]:
    """Energies [n_systems] eV and forces [n_atoms, 3] eV/Å of the term's charges in vacuum."""
    strained, positions, _ = strainable(graph)
    strained = potential.network(potential.limits(strained))
    energy = term(strained) * term.dielectric().detach()
    forces = -torch.autograd.grad(energy.sum(), positions)[0]
    return torch.zeros_like(graph[keys.CELL][:, 0, 0]).index_add(0, graph[keys.BATCH], energy.detach()), forces


def pair_columns(potential: Potential, graph: dict[str, Tensor]) -> Tensor:
    """Forces of every radial function between every two elements, [n_atoms, 3, n_pairs * N_RADIAL]."""
    pairs = list(combinations_with_replacement(range(len(potential.elements)), 2))
    return pair_forces(potential, graph, pairs, lambda r, i, j: radial_basis(r, potential.cutoff, N_RADIAL))


def first_coefficient(columns: Tensor, labels: Tensor) -> tuple[float, float]:
    """x_0 of the least squares sum_k columns_k x_k ~ labels, [n, n_columns] and [n], and its standard error."""
    spare = len(labels) - columns.shape[1]
    if spare <= 0:
        return 0.0, math.inf
    size = columns.square().mean(0).sqrt().clamp(min=1e-12)
    scaled = columns / size
    gram = scaled.T @ scaled
    gram.diagonal().add_(RIDGE * len(labels))
    inverse = torch.linalg.inv(gram)
    found = inverse @ (scaled.T @ labels)
    noise = (labels - scaled @ found).square().sum() / spare
    return float(found[0] / size[0]), float((noise * inverse[0, 0]).sqrt() / size[0])
