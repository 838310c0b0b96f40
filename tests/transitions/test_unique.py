"""The same hop is one hop: after a symmetry operation, backwards, and in another corner of a glass."""

import numpy as np
import pytest
from ase.build import bulk
from cosine import SITE, crystal
from walk import lattice

from mlip.transitions.unique import by_environment, by_symmetry, hop_descriptor, symmetry_of


def test_hops_of_a_cubic_lattice_are_as_many_as_their_lengths():
    host = crystal((2, 2, 2))[1:]
    symmetry = symmetry_of(host)
    rng = np.random.default_rng(0)
    starts = lattice((2, 2, 2))[rng.integers(0, 8, 60)] * SITE + rng.integers(-1, 2, (60, 1)) * 2 * SITE
    kinds = [np.array(v) * SITE for v in ((1, 0, 0), (1, 1, 0), (1, 1, 1))]
    which = rng.integers(0, 3, 60)
    vectors = np.array([rng.permutation(kinds[w]) * rng.choice([-1, 1], 3) for w in which])
    labels = by_symmetry(starts + 0.03 * rng.normal(size=(60, 3)), vectors, symmetry, tolerance=0.5)
    assert len(set(zip(labels.tolist(), which.tolist(), strict=True))) == len(set(labels.tolist())) == 3


def test_a_tetragonal_lattice_tells_its_axes_apart():
    host = crystal((2, 2, 2))[1:]
    host.set_cell(host.cell.array @ np.diag([1, 1, 1.1]), scale_atoms=True)
    vectors = np.array([[SITE, 0, 0], [0, -SITE, 0], [0, 0, 1.1 * SITE], [0, 0, -1.1 * SITE]])
    labels = by_symmetry(np.zeros((4, 3)), vectors, symmetry_of(host))
    assert labels.tolist() == [0, 0, 1, 1]


def test_a_hop_and_its_way_back_are_one_where_no_operation_turns_them():
    host = crystal((2, 2, 2))[1:]
    host.rattle(0.3, seed=1)
    symmetry = symmetry_of(host, 0.01)
    assert len(symmetry.rotations) == 1
    there = np.array([SITE, 0, 0])
    labels = by_symmetry(np.array([[0, 0, 0], there, [0, SITE, 0]]), np.array([there, -there, there]), symmetry)
    assert labels.tolist() == [0, 0, 1]


def test_the_descriptor_of_a_hop_forgets_rotation_order_images_and_direction_and_nothing_else():
    host = bulk("NaCl", "rocksalt", a=5.6, cubic=True).repeat((2, 2, 1))
    host.rattle(0.2, seed=0)
    start, vector = np.array([1.4, 1.4, 1.4]), np.array([2.8, 0.1, 0.2])
    known = hop_descriptor(host, start, vector)
    turn = np.linalg.qr(np.random.default_rng(0).normal(size=(3, 3)))[0]
    turned = host[np.random.default_rng(1).permutation(len(host))]
    turned.set_cell(turned.cell.array @ turn.T)
    turned.positions = turned.positions @ turn.T + turned.cell.array[1]
    np.testing.assert_allclose(hop_descriptor(turned, turn @ start, turn @ vector), known, atol=1e-10)
    np.testing.assert_allclose(hop_descriptor(host, start + vector, -vector), known, atol=1e-10)
    other = host.copy()
    other.symbols[0], other.symbols[1] = other.symbols[1], other.symbols[0]
    assert np.linalg.norm(hop_descriptor(other, start, vector) - known) > 0.5


def test_hops_of_a_disordered_framework_are_grouped_by_what_surrounds_them():
    host = bulk("NaCl", "rocksalt", a=5.6, cubic=True).repeat((3, 3, 1))
    rng = np.random.default_rng(2)
    prints, lengths, kind = [], [], []
    for _ in range(20):
        shaken = host.copy()
        shaken.positions += 0.08 * rng.normal(size=shaken.positions.shape)
        corner = 5.6 * rng.integers(0, 3, 3)
        which = rng.integers(2)
        vector = np.array([2.8, 0, 0]) if which else np.array([0, 2.8, 2.8])
        prints.append(hop_descriptor(shaken, corner + 1.4, vector + 0.05 * rng.normal(size=3)))
        lengths.append(np.linalg.norm(vector))
        kind.append(which)
    labels = by_environment(prints, lengths, max_distance=2.0)
    assert len(set(zip(labels.tolist(), kind, strict=True))) == len(set(labels.tolist())) == 2


def test_a_cell_that_is_not_periodic_has_no_symmetry():
    host = crystal((2, 2, 2))[1:]
    host.pbc = [True, True, False]
    with pytest.raises(ValueError, match="three periodic directions"):
        symmetry_of(host)
    assert by_environment([np.zeros(3)], [1.0]).tolist() == [0]
