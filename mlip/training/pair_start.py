"""Start of the Born-Mayer term: least squares to the training forces that no fixed term explains."""

from collections.abc import Callable, Iterable
from itertools import combinations_with_replacement

import torch
from torch import Tensor, nn

from mlip import keys
from mlip.models.born_mayer import BornMayer, contact_distances
from mlip.models.potential import Potential, strainable
from mlip.models.spherical import NetworkEnergy
from mlip.nn.radial import polynomial_cutoff

RANGES = torch.logspace(-1, -0.2, 17, dtype=torch.float64)  # Å, 0.1 to 0.63
LEAST = 1e-4  # eV, of a pair that the forces do not show to repel


def with_pair_start(
    build: Callable[[dict], nn.Module], statistics: dict, batches: Iterable[dict[str, Tensor]], max_structures: int = 20
) -> dict:
    """Statistics with `born_mayer` [n, n] pairs (B eV, rho Å) if the potential has such a term, else as they are.

    One range for each pair of elements out of RANGES, and B >= 0, by coordinate descent on the squared error of the
    forces less those of every other term but the network's; at most `max_structures` structures with forces.
    """
    with torch.random.fork_rng(devices=[]):  # the weights of this one are thrown away: a seed gives the same training
        potential = build(statistics)
    if not any(isinstance(term, BornMayer) for term in potential.modules()):
        return statistics
    elements = statistics["elements"]
    pairs = list(combinations_with_replacement(range(len(elements)), 2))
    gram = torch.zeros(len(pairs) * len(RANGES), len(pairs) * len(RANGES), dtype=torch.float64)
    right, count = torch.zeros(len(gram), dtype=torch.float64), 0
    contact = contact_distances(statistics)

    def decays(r: Tensor, i: Tensor, j: Tensor) -> Tensor:
        return torch.exp((contact[i, j] - r)[:, None] / RANGES) * polynomial_cutoff(r, potential.cutoff)[:, None]

    for graph in batches:
        rest = graph[keys.REF_FORCES] - fixed_forces(potential, graph)
        rest = rest - rest.nan_to_num().mean(0)
        columns = pair_forces(potential, graph, pairs, decays)
        known = torch.isfinite(rest).flatten()
        columns = columns.flatten(0, 1)[known]
        gram += columns.T @ columns
        right += columns.T @ rest.flatten()[known]
        count += len(graph[keys.CELL])
        if count >= max_structures:
            break
    strength, chosen = one_range_each(gram, right, len(pairs))
    table = [[(LEAST, 0.3)] * len(elements) for _ in elements]
    for (i, j), b, k in zip(pairs, strength.tolist(), chosen, strict=True):
        table[i][j] = table[j][i] = (max(b, LEAST), float(RANGES[k]))
    return {**statistics, "born_mayer": [[list(each) for each in row] for row in table]}


def fixed_forces(potential: Potential, graph: dict[str, Tensor], without: tuple[type, ...] = ()) -> Tensor:
    """Forces of every term but the network's, Born and Mayer's, and those of more classes, [n_atoms, 3] eV/Å."""
    strained, positions, _ = strainable(graph)
    strained = potential.network(potential.limits(strained))
    total = positions.new_zeros(()) + 0.0 * positions.sum()
    for term in potential.terms:
        if not isinstance(term, (NetworkEnergy, BornMayer, *without)):
            total = total + term(strained).sum()
    return -torch.autograd.grad(total, positions)[0]


def pair_forces(
    potential: Potential,
    graph: dict[str, Tensor],
    pairs: list[tuple[int, int]],
    functions: Callable[[Tensor, Tensor, Tensor], Tensor],
) -> Tensor:
    """Forces of an energy of one for every pair of elements and function, [n_atoms, 3, n_pairs * n_functions].

    functions  of the distances [n_edges] and the rows of both elements [n_edges] in `potential.elements`, energies
               [n_edges, n_functions] of a pair
    """
    strained, _, _ = strainable(graph)
    vector = strained[keys.EDGE_VECTOR].detach()
    r = vector.norm(dim=1).requires_grad_(True)
    centre, neighbour = graph[keys.EDGE_INDEX]
    species = potential.lookup[graph[keys.ATOMIC_NUMBERS]]
    low, high = torch.minimum(species[centre], species[neighbour]), torch.maximum(species[centre], species[neighbour])
    energies = functions(r, low, high)
    slope = torch.stack([torch.autograd.grad(one.sum(), r, retain_graph=True)[0] for one in energies.unbind(1)], 1)
    forces = torch.zeros(len(species), 3, len(pairs), slope.shape[1], dtype=torch.float64)
    for place, (i, j) in enumerate(pairs):
        mine = ((low == i) & (high == j)).nonzero()[:, 0]
        push = (vector[mine] / r[mine, None].detach())[:, :, None] * slope[mine, None, :]
        forces[:, :, place].index_add_(0, centre[mine], push)
    return forces.flatten(2)


def one_range_each(gram: Tensor, right: Tensor, n_pairs: int, sweeps: int = 50) -> tuple[Tensor, list[int]]:
    """Strength [n_pairs] >= 0 and index of the range of every pair that minimise |columns x - y|^2.

    gram  columns^T columns [n_pairs * n_ranges, ...];  right  columns^T y
    """
    n_ranges = len(right) // n_pairs
    strength, chosen = torch.zeros(n_pairs, dtype=torch.float64), [0] * n_pairs
    solution = torch.zeros_like(right)
    diagonal = gram.diagonal().clamp(min=1e-30)
    for _ in range(sweeps):
        for pair in range(n_pairs):
            own = slice(pair * n_ranges, (pair + 1) * n_ranges)
            solution[own] = 0.0
            best = ((right - gram @ solution)[own] / diagonal[own]).clamp(min=0.0)
            chosen[pair] = int((best.square() * diagonal[own]).argmax())
            strength[pair] = best[chosen[pair]]
            solution[pair * n_ranges + chosen[pair]] = strength[pair]
    return strength, chosen
