"""The network: body order, cost, species."""

import itertools
from functools import partial

import numpy as np
import pytest
import torch
from ase import Atoms
from torch.utils.flop_counter import FlopCounterMode

from mlip import keys
from mlip.data.graph import to_graph
from mlip.models.data_limits import DataLimits
from mlip.models.potential import Potential
from mlip.models.spherical import NetworkEnergy, SphericalNetwork
from mlip.nn.edges import edge_vectors
from mlip.nn.species import check_elements, species_lookup


def network(elements=(3, 8), n_layers=1, **settings):
    torch.manual_seed(0)
    statistics = {"elements": list(elements), "mean_neighbours": 4.0}
    settings = {"cutoff": 5.0, "n_channels": 6, "l_max": 3, "n_basis": 6, "n_species": 4} | settings
    return SphericalNetwork(statistics, n_layers=n_layers, **settings).double()


def centre_scalars(model, neighbours: np.ndarray) -> torch.Tensor:
    """Scalars of an atom at the origin with these neighbours; they do not see each other's order."""
    atoms = Atoms([3] + [8] * len(neighbours), np.vstack([np.zeros((1, 3)), neighbours.reshape(-1, 3)]))
    graph = to_graph(atoms, model.cutoff)
    graph[keys.EDGE_VECTOR] = edge_vectors(graph)
    graph = DataLimits({"elements": [3, 8]}, model.cutoff)(graph)
    return model(graph)[keys.NODE_SCALARS][0].detach()


def many_body(model, n_neighbours: int) -> float:
    """Part of the scalars that needs all neighbours at once: alternating sum over subsets."""
    positions = np.random.default_rng(2).normal(size=(n_neighbours, 3)) * 1.5
    total = torch.zeros(model.n_features, dtype=torch.float64)
    for size in range(n_neighbours + 1):
        for subset in itertools.combinations(range(n_neighbours), size):
            total += (-1) ** (n_neighbours - size) * centre_scalars(model, positions[list(subset)])
    return float(total.abs().max())


def test_one_layer_has_body_order_four_exactly():
    model = network()
    assert many_body(model, 3) > 1e-4  # centre and three neighbours
    assert many_body(model, 4) < 1e-12


def test_two_layers_reach_higher_body_orders():
    assert many_body(network(n_layers=2), 4) > 1e-5


def test_features_of_a_lone_atom_vanish():
    model = network(n_layers=2)
    assert not centre_scalars(model, np.zeros((0, 3))).any()


def test_the_number_of_elements_does_not_change_the_work():
    flops = []
    for elements in ([3, 8], list(range(1, 90))):
        statistics = {"elements": elements, "levels": ["a"], "atomic_energies": [[0.0] * len(elements)],
                      "mean_neighbours": 4.0, "force_rms": 1.0}  # fmt: skip
        settings = {"cutoff": 5.0, "n_channels": 6, "l_max": 3, "n_layers": 2, "n_basis": 6, "n_species": 4}
        potential = Potential(
            partial(SphericalNetwork, **settings), {"e": partial(NetworkEnergy, n_hidden=8)}, statistics
        )
        atoms = Atoms([3, 8] * 4, np.random.default_rng(0).normal(size=(8, 3)) * 2)
        with FlopCounterMode(display=False) as counter:
            potential.eval()(to_graph(atoms, 5.0))
        flops.append(counter.get_total_flops())
    assert flops[0] == flops[1] > 0


def test_an_unknown_element_is_named():
    with pytest.raises(ValueError, match=r"\['Y'\].*\['Li', 'O'\]"):
        check_elements(torch.tensor([3, 39]), species_lookup([3, 8]))


def test_settings_out_of_range_are_named():
    with pytest.raises(ValueError, match="cutoff must be positive, got -1"):
        network(cutoff=-1)
    with pytest.raises(ValueError, match="at least 1"):
        network(n_layers=0)
    with pytest.raises(ValueError, match="ascending"):
        species_lookup([8, 3])
