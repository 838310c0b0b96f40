"""Neighbour lists equal a brute-force sum over images; batches do not mix systems."""

import itertools

import lennard_jones
import numpy as np
import pytest
import torch
from ase import Atoms

from mlip import keys
from mlip.data.graph import collate, neighbour_list, to_graph

CELLS = {
    "cubic": np.diag([6.0, 6.0, 6.0]),
    "tiny": np.diag([1.9, 2.1, 2.3]),
    "skewed": np.array([[3.0, 0, 0], [2.8, 1.2, 0], [-1.4, 0.9, 2.0]]),
    "left-handed": np.array([[0, 3.0, 0], [2.5, 0.4, 0], [0.3, 0.2, 4.0]]),
}


def brute_force(positions, cell, pbc, cutoff, reach=14):
    shifts = np.array(list(itertools.product(*(range(-reach, reach + 1) if p else (0,) for p in pbc))))
    moved = shifts @ cell
    found = set()
    for i, j in itertools.product(range(len(positions)), repeat=2):
        near = np.linalg.norm(positions[j] + moved - positions[i], axis=1) < cutoff
        found |= {(i, j, *shift) for shift in shifts[near].tolist() if i != j or any(shift)}
    return found


@pytest.mark.parametrize("name", CELLS)
@pytest.mark.parametrize("pbc", list(itertools.product([True, False], repeat=3)))
def test_neighbours_are_all_images_within_the_cutoff(name, pbc):
    rng = np.random.default_rng(1)
    positions = rng.uniform(-4, 7, (4, 3))  # also outside the cell
    cell = CELLS[name]
    index, shift = neighbour_list((positions, cell, np.array(pbc)), 3.0)
    found = [(*pair, *map(round, s)) for pair, s in zip(index.T.tolist(), shift.tolist(), strict=True)]
    assert len(found) == len(set(found))
    assert set(found) == brute_force(positions, cell, pbc, 3.0)
    assert (index[0].diff() >= 0).all(), "sorted by centre"
    assert index.dtype == torch.int64 and shift.dtype == torch.float64


def test_directions_that_are_not_periodic_may_have_no_lattice_vector():
    positions = np.array([[0.0, 0, 0], [1.5, 0, 0]])
    index, _ = neighbour_list(Atoms("H2", positions), 2.0)
    assert index.tolist() == [[0, 1], [1, 0]]
    cell = np.array([[3.0, 0, 0], [0, 3, 0], [0, 0, 0]])
    index, _ = neighbour_list((positions, cell, np.array([True, True, False])), 3.01)
    assert set(map(tuple, index.T.tolist())) == {(0, 0), (0, 1), (1, 0), (1, 1)}


def test_impossible_systems_are_refused_with_the_value():
    good = np.zeros((1, 3)), np.eye(3), np.ones(3, bool)
    with pytest.raises(ValueError, match="positive, got 0"):
        neighbour_list(good, 0)
    with pytest.raises(ValueError, match="independent lattice vectors"):
        neighbour_list((good[0], np.zeros((3, 3)), good[2]), 3.0)
    with pytest.raises(ValueError, match="atom 0 is not"):
        neighbour_list((np.full((1, 3), np.nan), *good[1:]), 3.0)


def test_a_batch_holds_its_systems_side_by_side_and_fills_missing_labels_with_nan():
    first, second = lennard_jones.crystals(2, repeat=1)
    first.arrays[keys.REF_CHARGES] = np.arange(4.0)
    del second.info[keys.REF_STRESS]
    graphs = [to_graph(atoms, 4.0) for atoms in (first, second)]
    batch = collate(graphs)
    edges = [g[keys.EDGE_INDEX].shape[1] for g in graphs]
    assert batch[keys.BATCH].tolist() == [0] * 4 + [1] * 4
    assert torch.equal(batch[keys.EDGE_INDEX][:, : edges[0]], graphs[0][keys.EDGE_INDEX])
    assert torch.equal(batch[keys.EDGE_INDEX][:, edges[0] :], graphs[1][keys.EDGE_INDEX] + 4)
    assert batch[keys.REF_CHARGES][:4].tolist() == [0, 1, 2, 3] and batch[keys.REF_CHARGES][4:].isnan().all()
    assert batch[keys.REF_STRESS].shape == (2, 3, 3) and batch[keys.REF_STRESS][1].isnan().all()
    assert batch[keys.POSITIONS].dtype == batch[keys.CELL].dtype == batch[keys.REF_FORCES].dtype == torch.float64


def test_the_graph_keeps_nothing_of_the_atoms_memory():
    atoms = lennard_jones.crystal(repeat=1)
    graph = to_graph(atoms, 4.0)
    graph[keys.POSITIONS] += 1.0
    graph[keys.REF_FORCES] += 1.0
    assert np.array_equal(atoms.positions, lennard_jones.crystal(repeat=1).positions)
    assert np.array_equal(atoms.arrays[keys.REF_FORCES], lennard_jones.crystal(repeat=1).arrays[keys.REF_FORCES])


def test_an_unknown_level_of_theory_is_named():
    atoms = lennard_jones.crystal(repeat=1)
    atoms.info["level"] = "r2scan"
    with pytest.raises(KeyError, match="r2scan"):
        to_graph(atoms, 4.0, levels=["pbe"])
    assert to_graph(atoms, 4.0, levels=["pbe", "r2scan"])[keys.LEVEL].tolist() == [1]
