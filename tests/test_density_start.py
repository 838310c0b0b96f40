"""Features at the start of training are of order one in molecules too, and what solids have is left alone."""

import contract
import torch
from ase import Atoms
from ase.build import bulk, molecule
from test_contract import shrunk

from mlip import keys
from mlip.config import make
from mlip.data.graph import collate, to_graph
from mlip.models.potential import strainable
from mlip.training.density_start import with_density_start

CUTOFF = 5.0


def batches(*structures):
    return [collate([to_graph(atoms, CUTOFF) for atoms in structures])]


def statistics(elements, graphs):
    neighbours = sum(g[keys.EDGE_INDEX].shape[1] for g in graphs) / sum(len(g[keys.POSITIONS]) for g in graphs)
    n = len(elements)
    return {**contract.STATISTICS, "elements": elements, "levels": ["default"], "atomic_energies": [[0.0] * n],
            "mean_neighbours": neighbours, "shortest_distances": [[0.9] * n] * n, "largest_crowding": [50.0] * n}  # fmt: skip


def largest_feature(found, graph):
    torch.manual_seed(0)
    potential = make(shrunk("model=small"))(statistics=found)
    strained, _, _ = strainable(graph)
    return potential.network(potential.limits(strained))[keys.NODE_SCALARS].detach().abs().max().item()


def test_features_of_molecules_start_at_order_one():
    graphs = batches(*(molecule(name) for name in ("CH3CONH2", "C5H5N", "C6H6")))
    plain = statistics([1, 6, 7, 8], graphs)
    started = with_density_start(plain, graphs, CUTOFF)
    assert largest_feature(plain, graphs[0]) > 100
    assert 0.3 < largest_feature(started, graphs[0]) < 10


def test_a_crystal_and_a_lone_atom_keep_their_number_of_neighbours():
    for atoms in (bulk("LiF", "rocksalt", 4.03), bulk("C", "diamond", 3.57), Atoms("Li")):
        graphs = batches(atoms)
        plain = statistics(sorted(set(atoms.numbers.tolist())), graphs)
        assert with_density_start(plain, graphs, CUTOFF) == plain
