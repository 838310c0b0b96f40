"""Intervals of barriers hold where the truth is known: landscapes drawn from a prior, learned from noisy forces."""

import math

import numpy as np
import pytest
from ase import Atoms
from ase.calculators.singlepoint import SinglePointCalculator
from scipy.optimize import root
from scipy.stats import t

from mlip import keys
from mlip.transitions.barrier_interval import INSIDE, difference_sigma, half_width, rate_factor
from mlip.transitions.neb import neb
from mlip.transitions.quench import quench_ends

EDGE, BARRIER = 6.0, 0.3  # Å, period of a landscape with a site at every half; eV
WAVES = np.array([(i, j, k) for i in range(-2, 3) for j in range(-2, 3) for k in range(3)
                  if (k > 0 or (k == 0 and (j > 0 or (j == 0 and i > 0)))) and i * i + j * j + k * k <= 4])  # fmt: skip
PRIOR, NOISE, SPRING = 0.015, 0.03, 5.0  # eV of a coefficient; eV/Å of a force; eV/Å^2
HOPS = 200


def features(x):
    """cos and sin of every wave [n, 2 n_waves], and their gradients [n, 3, 2 n_waves]."""
    k = 2 * np.pi / EDGE * WAVES
    phase = x @ k.T
    c, s = np.cos(phase), np.sin(phase)
    return np.hstack([c, s]), np.concatenate([-s[:, None] * k.T, c[:, None] * k.T], axis=2)


def mean_weights():
    """Of the bare lattice: sum over axes of BARRIER / 2 (1 - cos(4 pi x / EDGE))."""
    weights = np.zeros(2 * len(WAVES))
    for axis in np.eye(3, dtype=int):
        weights[np.flatnonzero((2 * axis == WAVES).all(1))] = -BARRIER / 2
    return weights


HOST = EDGE / 2 * np.array([(i, j, k) for i in (0.5, 1.5) for j in (0.5, 1.5) for k in (0.5, 1.5)])


def cell(x=0.0, y=0.0, z=0.0):
    """The ion between atoms on springs; wide, so that +x and -x differ."""
    return Atoms("LiO8", positions=[(x, y, z), *HOST], cell=[2 * EDGE] * 3, pbc=True)


class Landscape:
    """E = w . features of the ion, seen from the mean of its host, which hangs on springs; energy_spread = features . spread."""

    implemented_properties = ("energy", "forces")
    name = "landscape"

    def __init__(self, weights, spread=None, members=()):
        self.weights, self.spread = weights, spread
        self.metadata = {"uncertainty": {"members": members}} if members else {}

    def calculate_many(self, structures):
        moved = np.array([atoms.positions[1:] for atoms in structures]) - HOST
        means = moved.mean(axis=1)
        values, gradients = features(np.array([atoms.positions[0] for atoms in structures]) - means)
        out = []
        for atoms, value, gradient, u, mean in zip(structures, values, gradients, moved, means, strict=True):
            pull = -(gradient @ self.weights)
            energy = value @ self.weights + 0.5 * SPRING * ((u - mean) ** 2).sum()
            copy = atoms.copy()
            copy.calc = SinglePointCalculator(
                copy, energy=energy, forces=np.vstack([pull, -SPRING * (u - mean) - pull / len(HOST)])
            )
            if self.spread is not None:
                spread = value @ self.spread
                copy.calc.results.update({keys.ENERGY_SPREAD: spread, keys.ENERGY_SIGMA: np.linalg.norm(spread)})
            out.append(copy)
        return out


def learned(truth, rng, n=60):
    """Mean and root of the posterior of the weights after n noisy forces of the truth."""
    rows = features(rng.uniform(0, EDGE, (n, 3)))[1].reshape(3 * n, -1)
    seen = rows @ truth + NOISE * rng.normal(size=3 * n)
    precision = rows.T @ rows / NOISE**2 + np.eye(len(truth)) / PRIOR**2
    covariance = np.linalg.inv(precision)
    mean = covariance @ (rows.T @ seen / NOISE**2 + mean_weights() / PRIOR**2)
    return mean, np.linalg.cholesky(covariance)


def ends_and_saddle(weights):
    """Start and saddle of the hop along x, where the gradient is zero."""
    return [cell(*root(lambda x: features(x[None])[1][0] @ weights, (x, 0, 0), tol=1e-12).x) for x in (0, EDGE / 4)]


def energies(calculator, structures):
    return np.array([atoms.get_potential_energy() for atoms in calculator.calculate_many(structures)])


def test_95_percent_intervals_hold_of_hops_that_were_not_seen():
    rng = np.random.default_rng(0)
    inside, halved, errors = 0, 0, []
    for _ in range(HOPS):
        truth = mean_weights() + PRIOR * rng.normal(size=2 * len(WAVES))
        model = Landscape(*learned(truth, rng))
        own, true = ends_and_saddle(model.weights), ends_and_saddle(truth)
        error = np.diff(energies(model, own))[0] - np.diff(energies(Landscape(truth), true))[0]
        half = half_width(*own, model)
        inside, halved = inside + (abs(error) <= half), halved + (abs(error) <= half / 2)
        errors.append(error)
    assert 0.92 * HOPS <= inside <= 0.985 * HOPS
    assert halved < 0.8 * HOPS  # the errors fill their intervals
    assert np.std(errors) > 0.01  # eV


def test_a_band_finds_the_same_barrier_and_interval():
    rng = np.random.default_rng(1)
    model = Landscape(*learned(mean_weights() + PRIOR * rng.normal(size=2 * len(WAVES)), rng))
    start, end = quench_ends(cell(), cell(x=EDGE / 2), model, fmax=0.001, steps=300)
    found, own = neb(start, end, model, n_images=5, fmax=0.005), ends_and_saddle(model.weights)
    assert found.barrier == pytest.approx(np.diff(energies(model, own))[0], abs=1e-4)
    assert half_width(found.images[0], found.saddle, model) == pytest.approx(half_width(*own, model), rel=0.01)


def test_a_barrier_is_as_sure_as_what_its_ends_do_not_share():
    root = np.zeros((2 * len(WAVES), 2 * len(WAVES)))
    root[0, 0] = 0.1
    one, other = (cell(z=z) for z in (0.0, 1.0))
    k = 2 * np.pi / EDGE * WAVES[0, 2]
    sure = Landscape(mean_weights(), root)
    assert difference_sigma(one, other, sure) == pytest.approx(0.1 * abs(1 - np.cos(k)))
    assert difference_sigma(one, one, sure) == 0
    assert half_width(one, other, sure) == pytest.approx(2 * difference_sigma(one, other, sure), rel=1e-4)
    assert half_width(one, other, Landscape(mean_weights())) is None


def test_few_members_need_wider_intervals():
    one, other = (cell(z=z) for z in (0.0, 1.0))
    root = 0.1 * np.eye(2 * len(WAVES))
    committee = Landscape(mean_weights(), root, members=("a", "b", "c", "d"))
    sigma = difference_sigma(one, other, committee)
    assert half_width(one, other, committee) == pytest.approx(t(3).ppf(0.5 + INSIDE / 2) * sigma)
    assert half_width(one, other, committee) > 3.1 * sigma


def test_a_rate_is_known_to_the_exponential_of_the_interval():
    assert rate_factor(0.0517, 300.0) == pytest.approx(math.exp(2), rel=1e-3)  # 2 k_B T
    assert rate_factor(0.0, 300.0) == 1
