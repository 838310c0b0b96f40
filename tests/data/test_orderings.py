"""Orderings of partially occupied crystals: counted by hand, neutral, apart, the same for the same seed."""

import math

import numpy as np
import pytest
from pymatgen.core import Lattice, Structure

from mlip.data.orderings import orderings
from mlip.data.sublattices import permutations, sublattices


def chain(occupancy=0.5):
    """A row of half-filled sites along x between anions: the ring of n beads once it is repeated."""
    return Structure(Lattice.orthorhombic(3, 6, 8), [{"Li": occupancy}, "F"], [[0, 0, 0], [0.5, 0.5, 0.5]])


def argyrodite(x=0.5):
    sites = [{"Li": 0.5}, "P", "S", {"S": x, "Cl": 1 - x}, {"S": 1 - x, "Cl": x}]
    places = [[0.183, 0.183, 0.024], [0, 0, 0.5], [0.12, 0.12, 0.62], [0, 0, 0], [0.25, 0.25, 0.25]]
    return Structure.from_spacegroup("F-43m", Lattice.cubic(9.86), sites, places)


CHARGES = {"Li": 1, "P": 5, "S": -2, "Cl": -1}


@pytest.mark.parametrize(("beads", "necklaces"), [(2, 1), (4, 2), (6, 3), (8, 8)])
def test_half_filled_rings_are_the_bracelets_that_burnside_counts(beads, necklaces):
    found = orderings(chain(), {"Li": 2, "F": -1}, 50, repeat=(beads, 1, 1))
    assert len(found) == necklaces
    assert sum(atoms.info["multiplicity"] for atoms in found) == math.comb(beads, beads // 2)


def test_equal_half_filled_sites_have_one_ordering_and_unequal_ones_are_rounded_to_the_nearest():
    cell = Lattice.orthorhombic(4, 4, 6)
    alike = Structure(cell, [{"Li": 0.5}, {"Li": 0.5}, "F"], [[0, 0, 0], [0.5, 0.5, 0], [0, 0.5, 0.5]])
    assert len(orderings(alike, {"Li": 1, "F": -1}, 9)) == 1
    unlike = Structure(cell, [{"Li": 0.1}, {"Li": 0.9}, "F"], [[0, 0, 0], [0.5, 0.5, 0], [0, 0.5, 0.5]])
    (found,) = orderings(unlike, {"Li": 1, "F": -1}, 9)
    np.testing.assert_allclose(found.positions[found.numbers == 3], [[2, 2, 0]], atol=1e-9)
    assert found.info["occupancy_error"] == pytest.approx(0.1)


def test_the_lowest_coulomb_energy_of_a_ring_alternates():
    lowest = orderings(chain(), {"Li": 2, "F": -1}, 1, repeat=(6, 1, 1))[0]
    x = np.sort(lowest.positions[np.array(lowest.get_chemical_symbols()) == "Li", 0])
    np.testing.assert_allclose(np.diff(x), 6.0)


def test_orderings_of_an_argyrodite_are_neutral_and_composed_as_the_cif_says():
    found = orderings(argyrodite(), CHARGES, 5, n_candidates=20, min_distance=2.0)
    assert len(found) == 5
    energies = [atoms.info["coulomb_energy"] for atoms in found]
    assert energies == sorted(energies)
    for atoms in found:
        symbols = atoms.get_chemical_symbols()
        assert atoms.get_chemical_formula() == "Cl4Li24P4S20"
        assert sum(CHARGES[symbol] for symbol in symbols) == 0
        distances = atoms.get_all_distances(mic=True) + 9 * np.eye(len(atoms))
        lithium = np.array(symbols) == "Li"
        assert distances[np.ix_(lithium, lithium)].min() > 2.0  # a site and its nearest are 1.87 Å apart
        assert atoms.info["occupancy_error"] == pytest.approx(0)


def test_the_same_seed_gives_the_same_orderings_and_another_seed_others():
    one, same, other = (orderings(argyrodite(), CHARGES, 3, n_candidates=3, seed=seed) for seed in (1, 1, 2))
    for a, b in zip(one, same, strict=True):
        np.testing.assert_array_equal(a.positions, b.positions)
    assert any(not np.array_equal(a.positions, b.positions) for a, b in zip(one, other, strict=True))


def test_symmetry_moves_sites_onto_sites_of_their_kind():
    parent = argyrodite()
    kinds = [{str(k): float(v) for k, v in site.species.items()} for site in parent]
    moves = permutations(parent.lattice.matrix, parent.frac_coords, kinds)
    assert len(moves) == 96  # 24 operations, four centrings
    assert (np.sort(moves, axis=1) == np.arange(len(parent))).all()
    # S and Cl in equal parts on both sites: F-43m keeps them two sublattices all the same
    assert sorted(len(lattice.sites) for lattice in sublattices(kinds, moves)) == [4, 4, 4, 16, 48]


def test_occupancies_round_to_what_is_neutral(tmp_path):
    path = tmp_path / "chain.cif"
    chain(0.45).to(filename=str(path))
    found = orderings(path, {"Li": 2, "F": -1}, 9, repeat=(4, 1, 1))  # 1.8 of 4 ions
    assert {str(atoms.symbols) for atoms in found} == {"F4Li2"}
    assert found[0].info["occupancy_error"] == pytest.approx(0.05)
    assert found[0].info["source"] == f"{path}:0"


def test_what_has_no_ordering_is_refused():
    with pytest.raises(ValueError, match="charge was given for F"):
        orderings(chain(), {"Li": 1}, 2)
    with pytest.raises(ValueError, match="e remain"):
        orderings(chain(), {"Li": 2, "F": -1}, 2, repeat=(3, 1, 1))
    with pytest.raises(ValueError, match="no partial occupancy"):
        orderings(chain(1.0), {"Li": 1, "F": -1}, 2)
    with pytest.raises(ValueError, match="keeps ions 3.5 Å apart"):
        orderings(chain(0.75), {"Li": 4 / 3, "F": -1}, 2, repeat=(4, 1, 1), min_distance=3.5)
    with pytest.raises(ValueError, match="n=0"):
        orderings(chain(), {"Li": 1, "F": -1}, 0)
