"""Paths and barriers of a landscape that is known."""

import numpy as np
import pytest
from ase.build import bulk
from ase.calculators.fd import calculate_numerical_forces
from cosine import BARRIER, SITE, Cosine, crystal

from mlip.calculator import calculate_many
from mlip.transitions.endpoints import empty_site_hops, empty_sites, interstitial_hops, vacancy_hops
from mlip.transitions.neb import neb
from mlip.transitions.paths import displacements, idpp, straight
from mlip.transitions.quench import quench, quench_ends


def hop(shift=(1, 0, 0), n=(3, 3, 3)):
    """Start and end of a hop between neighbouring sites, and their calculator."""
    start = crystal(n)
    end = start.copy()
    end.positions[0] += np.array(shift) * SITE
    return start, end


class Batched:
    """A calculator that answers for many, and counts."""

    def __init__(self, alone):
        self.alone, self.sizes = alone, []

    def calculate_many(self, structures):
        self.sizes.append(len(structures))
        return calculate_many(self.alone, structures)


def test_the_cosine_calculator_has_forces_that_are_derivatives():
    atoms = crystal((2, 2, 2), ions=((0, 0, 0), (1, 0, 1)))
    calculator = Cosine(atoms, bend=0.3)
    atoms.rattle(0.2, seed=1)
    atoms.positions += [0.4, 5.2, -17.0]
    atoms.calc = calculator
    np.testing.assert_allclose(atoms.get_forces(), calculate_numerical_forces(atoms, eps=1e-5), atol=1e-7)
    np.testing.assert_allclose(atoms.get_forces().sum(axis=0), 0, atol=1e-12)


def test_the_barrier_of_a_cosine_is_its_height():
    start, end = hop()
    path = neb(start, end, Cosine(start), fmax=0.01)
    assert path.converged and path.saddle_index == 3
    assert path.barrier == pytest.approx(BARRIER, abs=1e-3)
    assert path.reverse_barrier == pytest.approx(BARRIER, abs=1e-3)
    assert path.reaction_coordinate[-1] == pytest.approx(SITE, abs=0.05)


def test_the_saddle_of_a_bent_path_is_found_off_the_middle_of_a_line():
    bend, spring = 0.8, 5.0
    start, end = hop()
    path = neb(start, end, Cosine(start, bend=bend, spring=spring), fmax=0.005)
    n = 27  # u_0 = -c m / k with m = 1 - 1/n the reduced share of one framework atom
    assert path.barrier == pytest.approx(BARRIER - bend**2 / (2 * spring) * (1 - 1 / n), abs=1e-3)
    assert path.converged


def test_a_hop_in_two_steps_shows_its_minimum_and_climbs_to_a_saddle_that_a_plain_band_misses():
    start, end = hop(shift=(1, 1, 0))
    calculator = Cosine(start, axes=(1.0, 0.5, 1.0))
    with_climb = neb(start, end, calculator, n_images=7, fmax=0.01)
    assert with_climb.barrier == pytest.approx(1.5 * BARRIER, abs=1e-3)  # the symmetric line: a second-order saddle
    off = [image.copy() for image in neb(start, end, calculator, n_images=7, steps=0).images]
    for image, bump in zip(off, np.sin(np.linspace(0, np.pi, 7)), strict=True):
        image.positions[0] += [0.8 * bump, -0.8 * bump, 0]
    bent = neb(start, end, calculator, n_images=7, fmax=0.01, images=off)
    assert bent.barrier == pytest.approx(BARRIER, abs=1e-3)
    assert bent.intermediate_minima() == [3] and bent.saddle_index != 3
    plain = neb(start, end, calculator, n_images=7, fmax=0.01, climb=False, images=off)
    assert plain.barrier < BARRIER - 0.01


def test_a_shifted_and_wrapped_end_changes_nothing():
    start, end = hop()
    calculator = Cosine(start, bend=0.5)
    path = neb(start, end, calculator, fmax=0.01)
    drifted = end.copy()
    drifted.positions += [4.4, -2.2, 30.0]
    drifted.wrap()
    same = neb(start, drifted, calculator, fmax=0.01)
    np.testing.assert_allclose(same.energies - same.energies[0], path.energies - path.energies[0], atol=1e-6)
    np.testing.assert_allclose(displacements(start, drifted), displacements(start, end), atol=1e-9)


def test_all_images_are_one_call_per_step_and_a_band_goes_on_where_it_was():
    start, end = hop()
    calculator = Batched(Cosine(start, bend=0.8))
    first = neb(start, end, calculator, fmax=0.005, steps=20)
    assert not first.converged and first.steps == 20
    assert set(calculator.sizes) == {2, 5} and len(calculator.sizes) <= 23
    rest = neb(start, end, calculator, fmax=0.005, images=first.images)
    whole = neb(start, end, calculator, fmax=0.005)
    assert rest.converged and rest.steps < whole.steps
    assert rest.barrier == pytest.approx(whole.barrier, abs=1e-3)


def test_bad_ends_are_refused_with_the_reason():
    start, end = hop()
    calculator = Cosine(start)
    with pytest.raises(ValueError, match="odd and at least 5"):
        neb(start, end, calculator, n_images=6)
    with pytest.raises(ValueError, match="no atom moves more than"):
        neb(start, start.copy(), calculator)
    with pytest.raises(ValueError, match="one composition"):
        neb(start, end[1:], calculator)
    with pytest.raises(ValueError, match="one order"):
        neb(start, end[::-1], calculator)
    strained = end.copy()
    strained.set_cell(end.cell * 1.01, scale_atoms=True)
    with pytest.raises(ValueError, match="one cell"):
        neb(start, strained, calculator)
    end.positions[3, 1] = np.nan
    with pytest.raises(ValueError, match="not finite"):
        neb(start, end, calculator)


def test_a_path_that_runs_below_its_ends_is_told():
    start = crystal((3, 3, 3))
    calculator = Cosine(start)
    ends = []
    for side in (0.5, 1.5):  # saddles: no force, no minimum
        ends.append(start.copy())
        ends[-1].positions[0, 0] = side * SITE
    with pytest.warns(UserWarning, match=r"lies 0\.30 eV below both ends"):
        neb(*ends, calculator)


def test_ends_that_are_not_relaxed_are_told_with_their_force():
    start, end = hop()
    end.positions[0, 1] += 0.3
    with pytest.warns(UserWarning, match=r"end of the path is not relaxed: force 0\.\d+"):
        neb(start, end, Cosine(start), steps=2)


def test_quench_brings_both_ends_to_their_minima_and_sees_when_they_are_one():
    start, end = hop()
    calculator = Batched(Cosine(start))
    one, other = start.copy(), end.copy()
    one.rattle(0.2, seed=0)
    other.rattle(0.2, seed=1)
    a, b = quench_ends(one, other, calculator, fmax=0.001)
    assert a.get_potential_energy() == pytest.approx(0, abs=1e-5) == b.get_potential_energy()
    assert np.linalg.norm(displacements(a, b)[0]) == pytest.approx(SITE, abs=1e-2)
    assert max(calculator.sizes) == 2 and a.info["converged"]
    near = start.copy()
    near.positions[0, 0] += 1.2
    with pytest.raises(ValueError, match="after relaxation"):
        quench_ends(start, near, calculator)
    assert not quench([one], calculator, steps=0)[0].info["converged"]


def test_idpp_makes_way_between_atoms_and_keeps_ends():
    start, end = hop((1, 0, 0))
    start.positions[1] = [0.5 * SITE, 0.3, 0.0]  # in the way
    end.positions[1] = start.positions[1]
    line = straight(start, end, 5)
    better = idpp(line)
    distance = [images[2].get_distance(0, 1, mic=True) for images in (line, better)]
    assert distance[0] == pytest.approx(0.3) and distance[1] > 1.0
    np.testing.assert_array_equal(better[0].positions, start.positions)


def test_vacancy_hops_of_rock_salt_are_one_and_of_fluorite_cations_too():
    salt = bulk("LiCl", "rocksalt", a=5.1, cubic=True)
    (only,) = vacancy_hops(salt, "Li", 4.0)
    assert only.length == pytest.approx(5.1 / np.sqrt(2))
    assert only.multiplicity == 24  # 4 ions with 12 neighbours each, there and back once
    assert len(only.start) == 7 and only.start.symbols[only.ion] == "Li"
    np.testing.assert_allclose(displacements(only.start, only.end)[only.ion], only.vector, atol=1e-9)
    hops = vacancy_hops(salt.repeat(2), "Li", 5.2)
    np.testing.assert_allclose([hop.length for hop in hops], [5.1 / np.sqrt(2), 5.1])
    with pytest.raises(ValueError, match="within 2"):
        vacancy_hops(salt, "Li", 2.0)
    with pytest.raises(ValueError, match="no Na"):
        vacancy_hops(salt, "Na", 4.0)


def test_empty_and_interstitial_sites_take_part_when_given():
    atoms = crystal((3, 3, 3))
    sites = np.array([[i, j, k] for i in range(3) for j in range(3) for k in range(3)]) * SITE
    (hop,) = empty_site_hops(atoms, "Li", sites, 1.1 * SITE)
    assert hop.multiplicity == 6 and hop.ion == 0 and len(hop.start) == len(atoms)
    assert len(empty_sites(atoms, sites)) == 26  # not the place of the ion, though nothing lies between it and its site
    (hop,) = interstitial_hops(atoms[1:], "Li", sites, 1.1 * SITE)
    assert hop.start.symbols[hop.ion] == "Li" and len(hop.start) == len(atoms)
    assert hop.length == pytest.approx(SITE)
