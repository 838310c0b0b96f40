"""Start of what bonds transfer: Gauss and Newton's method on the training forces, beside pairs of any shape."""

from collections.abc import Callable, Iterable

import torch
from torch import Tensor, nn

from mlip import keys
from mlip.electrostatics.bond_charges import BondCharges, ChargeTransfer
from mlip.models.potential import Potential
from mlip.nn.edges import edge_vectors
from mlip.nn.radial import bessel_basis, polynomial_cutoff
from mlip.nn.scatter import segment_sum
from mlip.training.dielectric_start import RIDGE, pair_columns
from mlip.training.pair_start import fixed_forces

PRIOR = 0.1  # of a coefficient of a transfer: about 0.1 e a bond
ITERATIONS = 4


def with_transfer_start(
    build: Callable[[dict], nn.Module], statistics: dict, batches: Iterable[dict[str, Tensor]], max_structures: int = 8
) -> dict:
    """Statistics with `bond_transfer` if bond charges ask for it (`fit_transfer`).

        F_label - F_fixed ~ F_Coulomb(q) / eps_inf + sum_ab sum_n d_abn F_abn,  p_ij = f_c tanh sum_n c_n b_n(r_ij)

    for c of every cation a and anion b, and d, together, in ITERATIONS steps that take F_Coulomb as linear about the
    last, from at most `max_structures` structures with forces. c is drawn to 0 +- PRIOR. Forces see Z*/sqrt(eps_inf) at
    a distance, so eps_inf is not free here: it is the one given, or what formal charges ask for (`dielectric_start`).
    """
    if statistics.get("bond_transfer"):  # found in Born charges
        return statistics
    potential, term = term_to_fit(build, statistics)
    if term is None:
        return statistics
    bonds, frames = cations_with_anions(term), []
    for graph in batches:
        known = torch.isfinite(graph[keys.REF_FORCES])
        rest = (graph[keys.REF_FORCES] - fixed_forces(potential, graph, (BondCharges,))).flatten()
        frames.append((graph, rest, pair_columns(potential, graph).flatten(0, 1), known.flatten()))
        if sum(len(graph[keys.CELL]) for graph, *_ in frames) >= max_structures:
            break
    unknown = torch.zeros(len(bonds) * term.transfer.n_basis, dtype=torch.float64)
    for _ in range(ITERATIONS):
        columns, labels = [], []
        for graph, rest, pairs, known in frames:
            forces, slopes = linearised(potential, term, graph, bonds, unknown)
            columns.append(torch.cat([slopes, pairs], 1)[known])
            labels.append((rest - forces + slopes @ unknown)[known])
        unknown = drawn_to_zero(torch.cat(columns), torch.cat(labels), len(unknown))[: len(unknown)]
    return with_transfer(statistics, bonds, unknown)


def term_to_fit(build: Callable[[dict], nn.Module], statistics: dict) -> tuple[Potential, BondCharges | None]:
    """A potential of these statistics, and its bond charges in training mode if they ask for a fit and have bonds to fit."""
    with torch.random.fork_rng(devices=[]):  # the weights of this one are thrown away: a seed gives the same training
        potential = build(statistics)
    terms = [term for term in potential.modules() if isinstance(term, BondCharges) and term.fit_transfer]
    return potential, terms[0].train() if terms and cations_with_anions(terms[0]) else None


def with_transfer(statistics: dict, bonds: list[tuple[int, int]], coefficients: Tensor) -> dict:
    """Statistics with `bond_transfer`: rows of elements a, b and the coefficients of what they transfer."""
    table = coefficients.reshape(len(bonds), -1).tolist()
    return {**statistics, "bond_transfer": [[i, j, row] for (i, j), row in zip(bonds, table, strict=True)]}


def cations_with_anions(term: BondCharges) -> list[tuple[int, int]]:
    """Rows of elements of opposite formal charge, as many as the transfer has channels."""
    formal = term.formal.tolist()
    pairs = [(i, j) for i, one in enumerate(formal) for j, other in enumerate(formal) if one > 0 > other]
    return pairs[: term.transfer.radial.shape[1]]


def linearised(
    potential: Potential, term: BondCharges, graph: dict[str, Tensor], bonds: list[tuple[int, int]], unknown: Tensor
) -> tuple[Tensor, Tensor]:
    """Forces of the charges, flat [3 n_atoms] eV/Å, and their derivatives by the unknown c, a column each."""
    unknown = unknown.clone().requires_grad_(True)
    graph = {**graph, keys.POSITIONS: graph[keys.POSITIONS].detach().clone().requires_grad_(True)}
    positions, centre = graph[keys.POSITIONS], graph[keys.EDGE_INDEX][0]
    species = potential.lookup[graph[keys.ATOMIC_NUMBERS]]
    distance = edge_vectors(graph).norm(dim=1)
    transfer = transfers(term.transfer, distance, species[graph[keys.EDGE_INDEX]], bonds, unknown)
    charges = term.reference(graph) + segment_sum(transfer, centre, len(species))
    energy = term.unscreened(graph, charges).sum() / term.dielectric().detach()[0]
    forces = -torch.autograd.grad(energy, positions, create_graph=True)[0].detach()
    by_unknown = torch.autograd.grad(energy, unknown, create_graph=True)[0]
    slopes = [-torch.autograd.grad(one, positions, retain_graph=True)[0].flatten() for one in by_unknown]
    return forces.flatten(), torch.stack(slopes, 1)


def transfers(
    transfer: ChargeTransfer, distance: Tensor, ends: Tensor, bonds: list[tuple[int, int]], coefficients: Tensor
) -> Tensor:
    """p_ij of every edge, [n_edges] e, as `ChargeTransfer.begin_with` makes it; ends [2, n_edges] rows of elements."""
    basis, argument = bessel_basis(distance, transfer.cutoff, transfer.n_basis), torch.zeros_like(distance)
    for (i, j), row in zip(bonds, coefficients.reshape(len(bonds), -1), strict=True):
        sign = ((ends[0] == i) & (ends[1] == j)).double() - ((ends[0] == j) & (ends[1] == i)).double()
        argument = argument + sign * (basis @ row)
    return polynomial_cutoff(distance, transfer.cutoff) * torch.tanh(argument)


def drawn_to_zero(columns: Tensor, labels: Tensor, n: int) -> Tensor:
    """Least squares with a normal prior, 0 +- PRIOR, of the first n unknowns, [n_columns].

    The noise of the labels is what the same fit without a prior leaves.
    """
    size = columns.square().mean(0).sqrt().clamp(min=1e-12)
    scaled = columns / size
    gram, right = scaled.T @ scaled, scaled.T @ labels
    gram.diagonal().add_(RIDGE * max(len(labels), 1))
    noise = (labels - scaled @ torch.linalg.solve(gram, right)).square().mean()
    gram.diagonal()[:n].add_(noise / (PRIOR * size[:n]).square())
    return torch.linalg.solve(gram, right) / size
