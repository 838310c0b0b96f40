"""Scale of the density of neighbours at the start of training: atoms closer than those of solids count for more."""

from collections.abc import Iterable

from torch import Tensor

from mlip import keys
from mlip.nn.edges import edge_vectors
from mlip.nn.radial import radial_basis

N_RADIAL = 8
MOST = 0.5  # of the mean square that the radial functions have in a sphere; 0.23 to 0.36 in solids, 2.5 to 3.7 in molecules


def with_density_start(statistics: dict, batches: Iterable[dict[str, Tensor]], cutoff: float, most: int = 20) -> dict:
    """Statistics with `mean_neighbours` raised if neighbours are so near that the network's features would start large.

        mean_neighbours >= sum_i sum_j <b_n(r_ij)^2>_n / (MOST n_atoms)

    The radial functions b_n have unit mean square over the sphere within the cutoff, and grow as 1/r: a C-H bond
    weighs as much as twenty neighbours at random. The features are cubic in the density, and cubic again in the next
    layer, so that those of molecules would start at a thousand, and the training with them.

    batches  of the training set, of which the first `most` structures or a few more are read; cutoff Å
    """
    weight, n_atoms, n_structures = 0.0, 0, 0
    for graph in batches:
        distance = edge_vectors(graph).norm(dim=1)
        weight += float(radial_basis(distance, cutoff, N_RADIAL).square().mean(1).sum()) if len(distance) else 0.0
        n_atoms += len(graph[keys.POSITIONS])
        n_structures += len(graph[keys.CELL])
        if n_structures >= most:
            break
    needed = weight / (MOST * max(n_atoms, 1))
    return {**statistics, "mean_neighbours": max(float(statistics["mean_neighbours"]), needed)}
