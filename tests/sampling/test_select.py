"""What is chosen is different from what is known and from each other, kept to its quotas, and the same every time."""

import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk

from mlip.sampling.candidate import Candidate, count_by_kind
from mlip.sampling.select import at_random, d_optimal, descriptors, farthest, select, shares

CHOICES = [farthest, d_optimal, at_random]


def clusters(sizes, rng, spread=0.05):
    """Points around the corners of a simplex; the first cluster holds nearly all."""
    return np.concatenate(
        [10 * np.eye(len(sizes))[n] + spread * rng.normal(size=(size, len(sizes))) for n, size in enumerate(sizes)]
    )


def owner(points):
    return np.argmax(points, axis=1)


@pytest.mark.parametrize("choose", [farthest, d_optimal])
def test_every_cluster_is_covered_where_a_random_draw_misses_some(choose):
    points = clusters([500, 3, 3, 3, 3, 3], np.random.default_rng(0))
    chosen = choose(points, points[:0], 6, 0.0)
    assert set(owner(points[chosen])) >= set(range(1, 6)), (
        "the large cluster is where the mean is: no direction of its own"
    )
    assert choose is d_optimal or 0 in owner(points[chosen])
    missed = [
        len(set(owner(points[at_random(points, points[:0], 6, 0.0, np.random.default_rng(s))]))) < 6 for s in range(20)
    ]
    assert all(missed)


@pytest.mark.parametrize("choose", [farthest, d_optimal])
def test_what_is_known_is_not_chosen_again(choose):
    points = clusters([5, 5, 5, 5], np.random.default_rng(1))
    known = points[owner(points) < 2] + 0.01
    assert set(owner(points[choose(points, known, 2, 0.0)])) == {2, 3}


@pytest.mark.parametrize("choose", CHOICES)
def test_near_duplicates_of_known_and_of_chosen_ones_are_refused(choose):
    rng = np.random.default_rng(2)
    points = np.repeat(rng.normal(size=(6, 4)), 3, axis=0) + 1e-6 * rng.normal(size=(18, 4))
    chosen = choose(points, points[:1], 18, 0.01, rng)
    assert len(chosen) == 5 and len({n // 3 for n in chosen}) == 5 and 0 not in {n // 3 for n in chosen}
    assert choose(points, points, 5, 0.01, rng) == []


def test_d_optimal_takes_the_largest_determinant_step_by_step():
    points = np.random.default_rng(3).normal(size=(30, 5))
    chosen = d_optimal(points, points[:0], 4, 0.0)
    centred = points - points.mean(axis=0)
    ridge = 1e-2 * (centred**2).mean() * np.eye(5)
    for step in range(4):
        gains = [
            np.linalg.slogdet(ridge + sum(np.outer(centred[k], centred[k]) for k in [*chosen[:step], n]))[1]
            for n in range(30)
        ]
        assert np.argmax(gains) == chosen[step]


def test_places_are_shared_by_weight_and_no_place_is_lost():
    assert shares(10, {"a": 0.5, "b": 0.3, "c": 0.2}, {"a": 99, "b": 99, "c": 99}) == {"a": 5, "b": 3, "c": 2}
    assert shares(10, {"a": 0.5, "b": 0.3, "c": 0.2}, {"a": 1, "b": 99, "c": 99}) == {"a": 1, "b": 5, "c": 4}
    assert shares(10, {"a": 1.0, "b": 0.0}, {"a": 3, "b": 9}) == {"a": 3, "b": 0}
    assert sum(shares(7, {"a": 1, "b": 1, "c": 1}, {"a": 9, "b": 9, "c": 9}).values()) == 7


def candidates(kinds_and_hops):
    return [Candidate(Atoms("LiO", [[0, 0, 0], [0, 0, 2.0]]), kind, hop) for kind, hop in kinds_and_hops]


def test_quotas_of_kinds_and_of_hops_are_kept():
    rng = np.random.default_rng(4)
    asked = candidates(
        [("hop", "h0")] * 40 + [("hop", "h1")] * 5 + [("saddle", "h0")] * 3 + [("saddle", "h1")] * 3 + [("md", "")] * 50
    )
    chosen = select(
        asked, rng.normal(size=(len(asked), 6)), np.zeros((0, 6)), 10, {"hop": 0.6, "saddle": 0.4}, min_distance=0.01
    )
    got = [(asked[n].kind, asked[n].hop) for n in chosen]
    assert len(set(chosen)) == 10 and {pair: got.count(pair) for pair in got} == {
        ("hop", "h0"): 3, ("hop", "h1"): 3, ("saddle", "h0"): 2, ("saddle", "h1"): 2,
    }  # fmt: skip


def test_places_of_a_kind_without_new_structures_go_to_the_others():
    rng = np.random.default_rng(5)
    asked = candidates([("saddle", "h0")] * 5 + [("hop", "h0")] * 20)
    features = rng.normal(size=(25, 6))
    features[:5] = features[0]
    chosen = select(asked, features, np.zeros((0, 6)), 8, {"saddle": 0.5, "hop": 0.5}, min_distance=0.01)
    assert len(chosen) == 8 and sum(asked[n].kind == "saddle" for n in chosen) == 1
    with pytest.raises(ValueError, match="at least one structure"):
        select(asked, features, features[:0], 0, {"hop": 1.0})


@pytest.mark.parametrize("choose", CHOICES)
def test_the_same_seed_chooses_the_same(choose):
    rng = np.random.default_rng(6)
    asked, features = candidates([("hop", "h0"), ("md", "")] * 20), rng.normal(size=(40, 5))
    one, two = (select(asked, features, features[:3], 9, {"hop": 1, "md": 1}, choose, 0.01, seed=3) for _ in range(2))
    assert one == two and len(one) == 9
    assert select([], np.zeros((0, 1)), features[:3, :1], 9, {"hop": 1}, choose) == []


def test_a_descriptor_sees_neither_rotation_nor_order_and_sees_an_ion_off_its_site():
    salt = bulk("NaCl", "rocksalt", a=5.6, cubic=True).repeat((2, 1, 1))
    salt.rattle(0.05, seed=0)
    turned = salt.copy()
    turned.rotate(40, (1, 2, 3), rotate_cell=True)
    shuffled = salt[np.random.default_rng(0).permutation(len(salt))]
    off = salt.copy()
    off.positions[0] += 1.0
    rows = descriptors([salt, turned, shuffled, off], [-1] * 4, "Na", [11, 17])
    np.testing.assert_allclose(rows[1:3], rows[[0, 0]], atol=1e-9)
    assert np.linalg.norm(rows[3] - rows[0]) > 1
    again = descriptors([off], [0], "Na", [11, 17])[0]
    np.testing.assert_allclose(rows[3], again, err_msg="the ion off its site is found without being named")


def test_a_candidate_is_the_same_after_a_file(tmp_path):
    from mlip.data.structures import read, write

    atoms = bulk("Cu", cubic=True)
    atoms.set_momenta(np.ones((4, 3)))
    made = [Candidate(atoms, "hop", "h3", 2, '900 K, frame "7"', {"sigma": 0.25}), Candidate(atoms, "md")]
    write(tmp_path / "a.xyz", [candidate.to_atoms() for candidate in made])
    for one, other in zip(made, map(Candidate.from_atoms, read(tmp_path / "a.xyz")), strict=True):
        assert (one.kind, one.hop, one.ion, one.parent, one.scores) == (
            other.kind,
            other.hop,
            other.ion,
            other.parent,
            other.scores,
        )
        assert not other.atoms.get_momenta().any() and (other.atoms.positions == one.atoms.positions).all()
    assert count_by_kind(made) == {"hop": 1, "md": 1}
    with pytest.raises(ValueError, match="kind of a candidate"):
        Candidate(atoms, "saddel")
    with pytest.raises(ValueError, match="no atom 9"):
        Candidate(atoms, "hop", ion=9)
