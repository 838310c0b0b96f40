"""ZBL repulsion against the textbook formula, and its reach."""

import numpy as np
import torch
from ase import Atoms
from ase.data import covalent_radii

from mlip.data.graph import to_graph
from mlip.models.repulsion import ZBL, zbl
from mlip.nn.edges import edge_vectors


def test_repulsion_of_two_silicon_atoms_follows_the_published_screening():
    """Hand computation with a = 0.8854 x 0.529177 / (2 x 14^0.23) Å at 0.5 Å."""
    a = 0.8854 * 0.529177210903 / (2 * 14**0.23)
    x = 0.5 / a
    phi = (0.18175 * np.exp(-3.1998 * x) + 0.50986 * np.exp(-0.94229 * x)
           + 0.28022 * np.exp(-0.4029 * x) + 0.02817 * np.exp(-0.20162 * x))  # fmt: skip
    z = torch.tensor([14.0], dtype=torch.float64)
    assert abs(float(zbl(torch.tensor([0.5], dtype=torch.float64), z, z)) - 14.3996454784255 * 196 / 0.5 * phi) < 1e-9


def test_bare_coulomb_is_reached_at_zero_distance():
    z = torch.tensor([3.0], dtype=torch.float64)
    r = torch.tensor([1e-7], dtype=torch.float64)
    assert abs(float(zbl(r, z, z) * r / (9 * 14.3996454784255)) - 1) < 1e-4


def pair_energy(distance: float) -> float:
    graph = to_graph(Atoms([3, 8], [[0, 0, 0], [distance, 0, 0]]), 5.0)
    graph["edge_vector"] = edge_vectors(graph)
    return float(ZBL(statistics={}).double()(graph).sum())


def test_repulsion_ends_at_the_scaled_sum_of_covalent_radii():
    reach = 0.9 * (covalent_radii[3] + covalent_radii[8])
    assert pair_energy(reach + 1e-6) == 0
    assert 0 < pair_energy(reach - 0.01) < 1e-3
    assert pair_energy(0.3) > 100
