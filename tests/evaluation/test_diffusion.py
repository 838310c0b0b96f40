"""Diffusion coefficients, their intervals, Haven ratio, conductivity: walkers with known answers."""

import numpy as np
import pytest
from lattice_gas import LatticeGas, long_run_diffusivity
from walkers import crystal, exact, hoppers

from mlip.evaluation import increments
from mlip.evaluation.conductivity import effective_hops, hop_count_error, nernst_einstein, upper_limit
from mlip.evaluation.diffusion import analyse, haven_ratio, mean_square_displacement, together
from mlip.evaluation.increments import estimate, interval


def by_name(diffusion):
    return {result.name: result for result in diffusion.results}


def coverage(estimates, d):
    return np.mean([e.low < d < e.high for e in estimates])


@pytest.mark.parametrize(("n_frames", "n_ions", "rate"), [(401, 40, 0.01), (401, 8, 0.05), (801, 25, 0.05)])
def test_two_sigma_intervals_of_hopping_ions_hold_the_true_value(n_frames, n_ions, rate):
    runs = hoppers(np.random.default_rng(7), 240, n_frames, n_ions, rate)  # 160 to 1000 hops in a run
    estimates = [estimate(run, 1.0) for run in runs]
    values = np.array([e.value for e in estimates])
    assert values.mean() == pytest.approx(exact(rate), rel=0.04)  # the strict plateau follows noise down
    assert coverage(estimates, exact(rate)) >= 0.92
    assert np.mean([e.error for e in estimates]) == pytest.approx(values.std(), rel=0.3)


def test_intervals_at_thirty_hops_are_wide_and_still_hold_the_true_value():
    estimates = [estimate(run, 1.0) for run in hoppers(np.random.default_rng(8), 240, 201, 20, 0.0075)]
    assert np.mean([e.value for e in estimates]) == pytest.approx(exact(0.0075), rel=0.05)
    assert coverage(estimates, exact(0.0075)) >= 0.90


def test_back_jumps_within_a_cage_do_not_count_as_diffusion():
    rate, back = 0.05, 0.5  # D at one frame is three times too large
    runs = hoppers(np.random.default_rng(9), 200, 1601, 15, rate, back=back)
    estimates = [estimate(run, 1.0) for run in runs]
    d = exact(rate, back=back)
    assert np.mean([e.values[0] for e in estimates]) > 2.5 * d
    assert np.mean([e.value for e in estimates]) == pytest.approx(d, rel=0.05)
    assert coverage(estimates, d) >= 0.90
    assert np.median([e.tau_ps for e in estimates]) > 20


@pytest.mark.parametrize(
    ("family", "attempts"),
    [
        ({"size": 4, "n_ions": 16, "disorder_kT": 1.5}, 32),
        ({"size": 4, "n_ions": 51, "disorder_kT": 1, "string": 4}, 13),
    ],
    ids=["disordered sites", "strings"],
)
def test_intervals_hold_for_ions_that_hinder_each_other(family, attempts):
    gas = LatticeGas(np.random.default_rng(21), 120, **family)
    for _ in range(40 * family["n_ions"]):  # to equilibrium
        gas.attempt()
    runs = gas.run(401, attempts, vibration=0.1)
    d, error = long_run_diffusivity(gas, 1000, attempts)
    assert error < 0.02 * d
    estimates = [estimate(run, 1.0) for run in runs.astype(float)]
    assert coverage(estimates, d) >= 0.92
    assert np.mean([e.value for e in estimates]) == pytest.approx(d, rel=0.05)


def test_a_run_too_short_for_its_plateau_says_so_and_widens_its_interval():
    run = hoppers(np.random.default_rng(10), 1, 401, 60, 0.02, back=0.9)[0]
    e = estimate(run, 1.0)
    assert not e.reached
    assert e.error > 1.5 * e.errors[list(e.taus_ps).index(e.tau_ps)]


def test_vibrations_do_not_diffuse():
    rng = np.random.default_rng(11)
    runs = [estimate(0.5 * rng.normal(size=(401, 20, 3)), 1.0) for _ in range(40)]
    # 0.25 Å^2 in a frame would be 0.25 Å^2/ps through the origin
    assert np.mean([abs(still.value) < 2 * still.error for still in runs]) >= 0.9
    assert abs(np.mean([still.value for still in runs])) < 0.25 / 200
    assert interval(0.9, 1.0) == (0.0, 2.9, 0.0)


def test_the_scan_is_the_slope_of_the_msd_between_tau_and_two_tau():
    positions = hoppers(np.random.default_rng(12), 1, 201, 5, 0.1)[0]

    def msd(lag):
        return ((positions[lag:] - positions[:-lag]) ** 2).sum(-1).mean()

    at = increments.point(positions, 4, 0.5)
    # origins at the ends differ: MSD(tau) here uses the two halves of each 2 tau
    assert at.value == pytest.approx((msd(8) - msd(4)) / (6 * 4 * 0.5), rel=0.05)
    lags, curve, error = mean_square_displacement(positions, 0.5)
    assert curve[1] == pytest.approx(msd(round(lags[1] / 0.5)))
    assert (error > 0).all()


def test_an_ion_that_never_moves_has_a_plateau_at_zero():
    e = estimate(np.zeros((101, 3, 3)), 1.0)
    assert (e.value, e.error, e.reached, e.tau_ps) == (0.0, 0.0, True, 1.0)


def test_the_tensor_is_of_the_same_two_plateaus_as_the_value():
    runs = hoppers(np.random.default_rng(20), 20, 401, 15, 0.05, back=0.5)
    assert all(np.trace(e.tensor) / 3 == pytest.approx(e.value) for e in (estimate(run, 1.0) for run in runs))


def test_the_tensor_tells_a_channel_conductor():
    rng = np.random.default_rng(13)
    steps = np.zeros((1001, 30, 3))
    steps[..., 2] = rng.normal(size=(1001, 30)) * 0.2
    e = estimate(steps.cumsum(axis=0), 1.0)
    assert e.tensor[2, 2] == pytest.approx(0.02, abs=3 * e.tensor_error[2, 2])
    assert np.trace(e.tensor) / 3 == pytest.approx(e.value)
    assert e.tensor[0, 0] == e.tensor[0, 1] == 0


def test_the_haven_ratio_of_correlated_ions_lies_in_its_interval():
    rng = np.random.default_rng(14)
    n_ions, shared = 16, 0.2
    inside = []
    for _ in range(200):
        # each step is sqrt(1 - c) own + sqrt(c) shared: D_sigma = D (1 + (N - 1) c)
        own, common = rng.normal(size=(401, n_ions, 3)), rng.normal(size=(401, 1, 3))
        ions = (0.2 * (np.sqrt(1 - shared) * own + np.sqrt(shared) * common)).cumsum(axis=0)
        tracer = estimate(ions, 1.0)
        h = haven_ratio(tracer, estimate(together(ions), 1.0, tracer.tau_ps), {})
        if h.value is not None:  # a few have a collective D within its error of zero: no ratio then, and a warning
            inside.append(h.low < 1 / (1 + (n_ions - 1) * shared) < h.high)
    assert len(inside) >= 185
    assert np.mean(inside) >= 0.92


def test_ions_that_move_together_have_the_error_of_few():
    rng = np.random.default_rng(15)
    common = (0.2 * rng.normal(size=(801, 1, 3))).cumsum(axis=0)
    e = estimate(np.repeat(common, 30, axis=1), 1.0)  # thirty ions, one walker
    alone = estimate(common, 1.0)
    assert e.error > 0.5 * alone.error


def test_zero_hops_give_an_upper_limit_and_no_number():
    ions = 5 + 0.1 * np.random.default_rng(16).normal(size=(200, 10, 3))
    d = by_name(analyse(crystal(ions), charge=1, temperature_K=300, hop_length_A=3.0))["tracer_diffusivity"]
    assert d.value is None
    assert d.verdict == "limit"
    assert d.high == pytest.approx(3 * 9 / (6 * 10 * 199) * 1e-4)  # rule of three
    assert d.high == pytest.approx(1e-4 * upper_limit(10, 199, 3.0))
    assert "no hop" in d.notes[0]


def test_the_conductivity_formula_is_that_of_si_by_hand():
    e, k_b = 1.602176634e-19, 1.380649e-23
    density, d, t = 0.0256, 9.7e-6, 1000.0  # c-LLZO: 56 Li in 13^3 Å^3
    si = (density * 1e30) * 4 * e**2 * (d * 1e-4) / (k_b * t)  # S/m
    assert nernst_einstein(d, density, 2, t) == pytest.approx(si / 100, rel=1e-9)
    assert nernst_einstein(1.0, 1e-24, 1, 1.0) == pytest.approx(1.8592e-15, rel=1e-4)
    # the published tutorial: 0.448 S/cm from 9.70e-6 cm^2/s, 56 Li per 12.97^3 Å^3
    assert nernst_einstein(9.70e-6, 56 / 12.97**3, 1, 1000.0) == pytest.approx(0.448, rel=0.05)


@pytest.mark.parametrize("charge", [None, 0, float("nan")])
def test_the_charge_is_never_guessed(charge):
    ions = hoppers(np.random.default_rng(17), 1, 50, 4, 0.1)[0]
    with pytest.raises(ValueError, match="charge of the mobile ion must be given"):
        analyse(crystal(ions), charge=charge, temperature_K=600, hop_length_A=1.0)
    with pytest.raises(TypeError, match="charge"):
        analyse(crystal(ions), temperature_K=600, hop_length_A=1.0)


def test_a_whole_analysis_agrees_with_what_was_put_in():
    ions = hoppers(np.random.default_rng(18), 1, 2001, 24, 0.05, hop=2.0, vibration=0.15)[0]
    diffusion = analyse(crystal(ions), charge=1, temperature_K=600, hop_length_A=2.0)
    rows = by_name(diffusion)
    d = rows["tracer_diffusivity"]
    assert d.low < exact(0.05, 2.0) * 1e-4 < d.high
    assert d.verdict == "pass"
    assert rows["haven_ratio"].low < 1 < rows["haven_ratio"].high
    sigma, haven = rows["conductivity_nernst_einstein"], rows["haven_ratio"]
    assert rows["conductivity"].value == pytest.approx(sigma.value / haven.value)
    assert sigma.conditions["charge_e"] == 1
    # displacements within one window of 0.5 ps (here one frame) are all seen
    assert rows["settled_displacements"].value == pytest.approx(0.05 * 2000 * 24, rel=0.05)
    assert rows["effective_hops"].value == effective_hops(diffusion.msd.max(), 24, 2.0)
    assert hop_count_error(400) == pytest.approx(3.43 / 20 + 0.04)


def test_few_hops_and_few_frames_are_named():
    ions = hoppers(np.random.default_rng(19), 1, 201, 8, 0.01, hop=2.0)[0]
    d = by_name(analyse(crystal(ions), charge=1, temperature_K=600, hop_length_A=2.0))["tracer_diffusivity"]
    assert any("effective hops" in note for note in d.notes)
    with pytest.raises(ValueError, match="at least 41 frames, got 30"):
        estimate(ions[:30], 1.0)
