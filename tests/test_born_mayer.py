"""The Born-Mayer term, and its start from forces of known repulsions beside known charges."""

import math

import contract
import pytest
import torch
from test_contract import shrunk

from mlip import keys
from mlip.config import make
from mlip.data.graph import collate, to_graph
from mlip.models.born_mayer import BornMayer
from mlip.training.pair_start import RANGES, fixed_forces, one_range_each, with_pair_start


def build(statistics):
    torch.manual_seed(0)
    return make(shrunk("model/network=none", "model/head=formal_charges", "model/pair=born_mayer"))(
        statistics=statistics
    )


def test_the_energy_of_a_pair_is_a_exp_minus_r_over_rho():
    statistics = {"elements": [3, 17], "shortest_distances": [[2.0, 2.2], [2.2, 3.0]]}
    statistics["born_mayer"] = [[[0.3, 0.2], [0.5, 0.25]], [[0.5, 0.25], [0.7, 0.4]]]
    term = BornMayer(statistics).double()
    graph = {
        keys.POSITIONS: torch.tensor([[0.0, 0.0, 0.0], [0.0, 2.5, 0.0]], dtype=torch.float64),
        keys.ATOMIC_NUMBERS: torch.tensor([3, 17]),
        keys.EDGE_INDEX: torch.tensor([[0, 1], [1, 0]]),
        keys.EDGE_VECTOR: torch.tensor([[0.0, 2.5, 0.0], [0.0, -2.5, 0.0]], dtype=torch.float64),
        keys.EDGE_ENVELOPE: torch.full((2,), 0.9, dtype=torch.float64),
    }
    assert term(graph).sum().item() == pytest.approx(0.9 * 0.5 * math.exp(-0.3 / 0.25), rel=1e-6)


def test_the_start_finds_the_repulsion_beside_formal_charges():
    """Forces of charges and of pairs whose range is one of RANGES; the term explains what charges leave."""
    n = len(contract.ELEMENTS)
    exact = [[[0.2 + 0.1 * (i + j), float(RANGES[4 + i + j])] for j in range(n)] for i in range(n)]
    truth = build({**contract.STATISTICS, "born_mayer": exact}).double().eval()
    batches = []
    for seed in range(4):
        graph = collate([to_graph(contract.crystal(length=4.6, seed=seed), truth.cutoff, truth.levels)])
        graph[keys.REF_FORCES] = truth(graph)[keys.FORCES]
        batches.append(graph)
    batches[0][keys.REF_FORCES][2] = torch.nan  # an atom without a label
    started = with_pair_start(build, contract.STATISTICS, batches)
    for i, j in ((0, 1), (0, 2), (1, 2)):  # neighbours in this crystal
        assert started["born_mayer"][i][j] == pytest.approx(exact[i][j], rel=0.01)
    rest = batches[1][keys.REF_FORCES] - fixed_forces(truth, batches[1])
    left = batches[1][keys.REF_FORCES] - build(started).double().eval()(batches[1])[keys.FORCES]
    assert rest.abs().max() > 0.1 and left.abs().max() < 0.02 * rest.abs().max()
    plain = make(shrunk("model/network=none", "model/head=formal_charges"))
    assert with_pair_start(lambda s: plain(statistics=s), contract.STATISTICS, batches) is contract.STATISTICS


def test_a_pair_that_attracts_is_left_without_repulsion():
    columns = torch.tensor([[1.0, 0.5], [0.0, 0.4]], dtype=torch.float64)
    gram, right = columns.T @ columns, columns.T @ torch.tensor([-1.0, -0.2], dtype=torch.float64)
    strength, _ = one_range_each(gram, right, 1)
    assert strength.tolist() == [0.0]
