"""Curvatures at saddles and minima, the dimer, and structures around a saddle."""

import numpy as np
import pytest
from cosine import BARRIER, SITE, Cosine, crystal

from mlip.transitions.dimer import both_sides, dimer
from mlip.transitions.modes import hessian_modes, lowest_modes
from mlip.transitions.neb import neb
from mlip.transitions.paths import displacements
from mlip.transitions.perturbations import along_modes, compressed, rattled, strained, without_overlaps
from mlip.transitions.quench import quench
from mlip.transitions.saddle import around, check_saddle

CURVATURE = 2 * np.pi**2 * BARRIER / SITE**2  # at the sites; minus this along the hop at the saddle
REDUCED = 1 + 1 / 27  # the framework of 27 moves against the ion: 1/m + 1/M in equal masses


def at(shift, **settings):
    """The ion displaced from its site by a part of the spacing, and the calculator."""
    atoms = crystal((3, 3, 3))
    calculator = Cosine(atoms, **settings)
    atoms.positions[0] += np.array(shift) * SITE
    return atoms, calculator


def test_a_saddle_has_one_negative_curvature_a_minimum_none_and_a_hilltop_more():
    for shift, count in (((0, 0, 0), 0), ((0.5, 0, 0), 1), ((0.5, 0.5, 0), 2)):
        atoms, calculator = at(shift)
        full = check_saddle(atoms, calculator)
        near = check_saddle(atoms, calculator, ion=0)
        assert full.n_negative == near.n_negative == count
        assert full.is_first_order == (count == 1)
        assert full.force < 1e-9


def test_the_curvature_along_the_hop_is_that_of_the_cosine_and_rigid_shifts_are_none():
    atoms, calculator = at((0.5, 0, 0))
    tangent = np.zeros((len(atoms), 3))
    tangent[0, 0] = 1
    found = check_saddle(atoms, calculator, tangent)
    assert found.modes.curvatures[0] == pytest.approx(-CURVATURE * REDUCED, rel=2e-3)
    assert found.overlap > 0.97
    np.testing.assert_allclose(found.modes.vectors[0].mean(axis=0), 0, atol=1e-12)
    np.testing.assert_allclose(found.modes.curvatures[1:], CURVATURE * REDUCED, rtol=2e-3)


def test_lanczos_finds_the_lowest_modes_of_the_whole_hessian():
    atoms, calculator = at((0.5, 0, 0), bend=0.8)
    atoms.rattle(0.05, seed=0)
    dense = hessian_modes(atoms, calculator, range(len(atoms)))
    rigid = np.abs(dense.curvatures) < 1e-6
    assert rigid.sum() == 3
    found = lowest_modes(atoms, calculator, n=3, tolerance=0.01)
    np.testing.assert_allclose(found.curvatures, dense.curvatures[~rigid][:3], atol=2e-3)
    assert (found.residuals <= 0.01).all()


def test_a_dimer_from_the_middle_of_a_hop_finds_the_saddle_of_the_band_with_fewer_forces():
    bend = 0.8
    start, calculator = at((0, 0, 0), bend=bend)
    end = start.copy()
    end.positions[0, 0] += SITE
    path = neb(start, end, calculator, fmax=0.005)
    band_calls = 5 * path.steps
    middle = start.copy()
    middle.positions[0] += [0.35 * SITE, 0.2, -0.15]
    climb = dimer(middle, calculator, displacements(start, end), fmax=0.005)
    assert climb.converged and climb.curvature < 0
    assert climb.atoms.get_potential_energy() == pytest.approx(path.saddle.get_potential_energy(), abs=1e-3)
    assert check_saddle(climb.atoms, calculator).is_first_order
    assert climb.calls < band_calls
    sides = quench(both_sides(climb), calculator, fmax=0.005)
    assert np.linalg.norm(displacements(*sides)[0]) == pytest.approx(SITE, abs=0.02)


def test_a_dimer_climbs_out_of_the_bottom_of_a_valley():
    atoms, calculator = at((0, 0, 0))
    direction = np.zeros((len(atoms), 3))
    direction[0, 0] = 1
    climb = dimer(atoms, calculator, direction, fmax=0.01)
    assert climb.converged
    assert climb.atoms.get_potential_energy() == pytest.approx(BARRIER, abs=1e-3)


def test_a_dimer_without_a_direction_is_refused_and_one_without_steps_has_not_converged():
    atoms, calculator = at((0.4, 0, 0))
    with pytest.raises(ValueError, match="not zero"):
        dimer(atoms, calculator, np.zeros((len(atoms), 3)))
    direction = np.zeros((len(atoms), 3))
    direction[0, 0] = 1
    assert not dimer(atoms, calculator, direction, steps=1).converged
    with pytest.raises(ValueError, match="no atom 99"):
        around(atoms, 99)


def test_modes_are_followed_as_far_as_heat_goes():
    atoms, calculator = at((0.5, 0, 0))
    modes = lowest_modes(atoms, calculator, n=2)
    energies = []
    for structure in along_modes(atoms, modes, temperature_K=100):
        structure.calc = calculator
        energies.append(structure.get_potential_energy() - BARRIER)
    np.testing.assert_allclose(energies, [-0.00862, -0.00862, 0.00862, 0.00862], rtol=0.03)


def test_structures_around_a_saddle_are_different_reproducible_and_not_overlapping():
    atoms, _ = at((0.5, 0, 0))
    first = rattled(atoms, 3, np.random.default_rng(0), 0.1, among=[0, 5])
    again = rattled(atoms, 3, np.random.default_rng(0), 0.1, among=[0, 5])
    np.testing.assert_array_equal(first[2].positions, again[2].positions)
    moved = np.flatnonzero((first[0].positions != atoms.positions).any(axis=1))
    assert moved.tolist() == [0, 5]
    (bent,) = strained(atoms, 1, np.random.default_rng(1))
    np.testing.assert_allclose(bent.get_scaled_positions(), atoms.get_scaled_positions(), atol=1e-12)
    strain = atoms.cell.reciprocal().T @ bent.cell.array
    np.testing.assert_allclose(strain, strain.T, atol=1e-12)
    assert [round(a.get_volume() / atoms.get_volume(), 6) for a in compressed(atoms)] == [0.92, 0.96, 1.04, 1.08]
    crushed = atoms.copy()
    crushed.positions[0] = crushed.positions[1] + 0.3
    assert without_overlaps([atoms, crushed]) == [atoms]
    assert "perturbation" not in atoms.info
