"""Activation energies: intervals that hold, curves, phase changes, too few temperatures."""

import numpy as np
import pytest

from mlip import units
from mlip.evaluation.arrhenius import activation_energy, extrapolate, fit, from_results
from mlip.evaluation.result import Result

T = np.array([600.0, 700.0, 800.0, 900.0, 1000.0])


def line(temperatures, energy=0.3, prefactor=1e-3):
    return prefactor * np.exp(-energy / (units.BOLTZMANN * np.asarray(temperatures)))


def test_five_points_of_ten_percent_give_the_published_interval():
    fitted = fit(T, line(T), np.full(5, 0.1))
    room = extrapolate(fitted, 300.0)
    assert fitted.energy == pytest.approx(0.3)
    # docs/theory/diffusion.md: +-16 meV, D(300 K) x/1.48
    assert np.sqrt(fitted.covariance[1, 1]) == pytest.approx(0.016, rel=0.25)
    assert np.sqrt(room.high / room.value) == pytest.approx(1.48, rel=0.2)
    assert room.value == pytest.approx(line(300.0))


def test_two_sigma_intervals_of_energy_and_extrapolation_hold_the_truth():
    rng = np.random.default_rng(0)
    # neighbouring temperatures started from one another: correlated errors
    c = 0.1**2 * 0.4 ** np.abs(np.subtract.outer(np.arange(5), np.arange(5)))
    noise = rng.multivariate_normal(np.zeros(5), c, size=1000)
    energies, rooms = [], []
    for n in noise:
        fitted = fit(T, line(T) * np.exp(n), c)
        e, room = activation_energy(fitted), extrapolate(fitted, 300.0)
        energies.append(e.low < 0.3 < e.high)
        rooms.append(room.low < line(300.0) < room.high)
    assert 0.93 <= np.mean(energies) <= 0.99
    assert 0.93 <= np.mean(rooms) <= 0.99


def test_correlated_points_are_not_counted_as_independent():
    same_way = 0.1**2 * (0.9 + 0.1 * np.eye(5))
    alone, together = fit(T, line(T), np.full(5, 0.1)), fit(T, line(T), same_way)
    assert together.covariance[1, 1] < alone.covariance[1, 1]  # a common factor does not tilt a line
    hot = np.log(line(800.0))
    assert alone.line(800.0)[0][0] == pytest.approx(hot)
    assert together.line(800.0)[1][0] > 1.5 * alone.line(800.0)[1][0]  # and is not averaged away


def test_three_temperatures_are_refused():
    with pytest.raises(ValueError, match=r"at least 4 temperatures, got \[600.0, 700.0, 800.0\]"):
        fit([600, 700, 800, 800], line([600, 700, 800, 800]), np.full(4, 0.1))


def test_a_curve_is_not_a_line():
    two_ways = line(T, 0.2, 1e-4) + line(T, 0.9, 10.0)
    e = activation_energy(fit(T, two_ways, np.full(5, 0.05)))
    assert e.verdict == "warn"
    assert "curved" in e.notes[0]
    assert activation_energy(fit(T, line(T), np.full(5, 0.05))).verdict == "pass"


def test_points_too_rough_for_an_energy_say_so():
    rough = fit(T, line(T), np.full(5, 1.2))
    e, room = activation_energy(rough), extrapolate(rough, 300.0)
    assert e.low < 0 and e.verdict == "warn" and "not distinguishable from zero" in e.notes[0]
    assert room.verdict == "warn" and "to a factor of" in room.notes[-1]
    assert extrapolate(fit(T, line(T), np.full(5, 0.1)), 300.0).verdict == "pass"


def test_points_that_scatter_more_than_they_say_widen_the_interval():
    noise = np.array([0.5, -0.5, 0.5, -0.5, 0.5])
    scattered, quiet = fit(T, line(T) * np.exp(noise), np.full(5, 0.1)), fit(T, line(T), np.full(5, 0.1))
    assert scattered.chi2_per_freedom > 10
    assert scattered.covariance[1, 1] == pytest.approx(scattered.chi2_per_freedom * quiet.covariance[1, 1])


def test_extrapolation_across_a_phase_change_is_refused_unless_told():
    fitted = fit(T, line(T), np.full(5, 0.1), phase_changes=[(600, 700, "a jumps by +1.4%")])
    with pytest.raises(ValueError, match="across the phase change between 600 and 700 K"):
        extrapolate(fitted, 300.0)
    told = extrapolate(fitted, 300.0, across_phase_change=True)
    assert told.verdict == "warn"
    below = fit(T + 200, line(T + 200), np.full(5, 0.1), phase_changes=[(500, 600, "melts")])
    assert extrapolate(below, 1500.0).value == pytest.approx(line(1500.0))


def test_conductivities_are_fitted_as_sigma_t_and_limits_are_left_out():
    def row(t, value, verdict="pass"):
        limits = (0.0, 1e-9) if value is None else (value / 1.2, value * 1.2)
        return Result("conductivity", value, "S/cm", *limits, verdict, ("no hop",), {"temperature_K": t})

    rows = [row(t, line(t) / t) for t in T] + [row(400.0, None, "limit"), row(1200.0, 5.0, "fail")]
    fitted, notes = from_results(rows)
    assert fitted.energy == pytest.approx(0.3)
    assert [note[:6] for note in notes] == ["400 K ", "1200 K"]
    assert extrapolate(fitted, 300.0).value == pytest.approx(line(300.0) / 300)
    assert extrapolate(fitted, 300.0).unit == "S/cm"


def test_values_without_a_logarithm_are_refused():
    with pytest.raises(ValueError, match="leave out temperatures that have only an upper limit"):
        fit(T, [*line(T[:4]), 0.0], np.full(5, 0.1))
    with pytest.raises(ValueError, match="must be positive"):
        fit(T, line(T), np.zeros(5))
