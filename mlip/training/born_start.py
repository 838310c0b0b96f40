"""Start of what bonds transfer from Born charges as labels: Gauss and Newton's method, pair by pair."""

from collections.abc import Callable, Iterable

import torch
from torch import Tensor, nn

from mlip import keys
from mlip.electrostatics.bond_charges import BondCharges
from mlip.models.potential import Potential
from mlip.nn.edges import edge_vectors
from mlip.nn.scatter import segment_sum
from mlip.training.transfer_start import (
    ITERATIONS,
    cations_with_anions,
    drawn_to_zero,
    term_to_fit,
    transfers,
    with_transfer,
)

STEP = 1e-4  # Å, of the slope of a transfer


def with_born_start(
    build: Callable[[dict], nn.Module], statistics: dict, batches: Iterable[dict[str, Tensor]], max_structures: int = 8
) -> dict:
    """Statistics with `bond_transfer` if bond charges ask for it (`fit_transfer`) and structures have Born charges as labels.

        Z*_i - z_i ~ sum_j [p_ij + p'_ij r r^T / |r|],  p_ij = f_c tanh sum_n c_n b_n(r_ij),  r = r_j - r_i

    for c of every cation and anion, in ITERATIONS steps that take the right side as linear about the last, from at most
    `max_structures` structures. Forces see them divided by sqrt(eps_inf) only, and little of them in cells of some 10 Å.
    """
    potential, term = term_to_fit(build, statistics)
    if term is None:
        return statistics
    bonds, frames = cations_with_anions(term), []
    for graph in batches:
        if keys.REF_BORN_CHARGES not in graph:  # a label travels in every batch of a data set that has it, or in none
            return statistics
        known = torch.isfinite(graph[keys.REF_BORN_CHARGES]).flatten()
        if known.any():
            frames.append((graph, known))
        if sum(len(graph[keys.CELL]) for graph, _ in frames) >= max_structures:
            break
    if not frames:
        return statistics
    unknown = torch.zeros(len(bonds) * term.transfer.n_basis, dtype=torch.float64)
    for _ in range(ITERATIONS):
        columns, labels = [], []
        for graph, known in frames:
            born, slopes = linearised(potential, term, graph, bonds, unknown)
            columns.append(slopes[known])
            labels.append((graph[keys.REF_BORN_CHARGES].flatten() - born + slopes @ unknown)[known])
        unknown = drawn_to_zero(torch.cat(columns), torch.cat(labels), len(unknown))
    return with_transfer(statistics, bonds, unknown)


@torch.no_grad()
def linearised(
    potential: Potential, term: BondCharges, graph: dict[str, Tensor], bonds: list[tuple[int, int]], unknown: Tensor
) -> tuple[Tensor, Tensor]:
    """Born charges, flat [9 n_atoms] e, and their derivatives by the unknown c, a column each."""
    vector, centre = edge_vectors(graph), graph[keys.EDGE_INDEX][0]
    species = potential.lookup[graph[keys.ATOMIC_NUMBERS]]
    distance, ends = vector.norm(dim=1), species[graph[keys.EDGE_INDEX]]

    def columns(distance: Tensor) -> Tensor:  # transfers, and their derivatives by c, [n_edges, 1 + n_unknown]
        def value(c: Tensor) -> Tensor:
            return transfers(term.transfer, distance, ends, bonds, c)

        return torch.cat([value(unknown)[:, None], torch.func.jacfwd(value)(unknown)], 1)

    here = columns(distance)
    slope = (columns(distance + STEP) - columns(distance - STEP)) / (2 * STEP)
    unit = torch.eye(3, dtype=vector.dtype)
    along = vector[:, :, None] * vector[:, None, :] / distance[:, None, None]
    each = here[:, None, None, :] * unit[:, :, None] + slope[:, None, None, :] * along[..., None]
    each = segment_sum(each, centre, len(species))
    born = each[..., 0] + term.reference(graph)[:, None, None] * unit
    return born.flatten(), each[..., 1:].flatten(0, 2)
