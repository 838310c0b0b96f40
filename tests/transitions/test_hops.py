"""Hops are found and counted exactly, and vibrations are none."""

import numpy as np
import pytest
from ase import Atoms
from cosine import SITE
from walk import lattice, random_events, scripted

from mlip.evaluation.displacements import from_frames
from mlip.transitions.density import ion_density, smooth
from mlip.transitions.hops import frames_along, free_hops, progress_of, site_hops
from mlip.transitions.sites import arrived, density_sites, reference_sites, sites_at
from mlip.units import ATOMIC_MASS, BOLTZMANN

STEP = 0.05  # ps
N = (4, 4, 4)
CELL = np.diag(N) * SITE


def run(seed=0, n_frames=2000, n_ions=8, axes=3, **settings):
    rng = np.random.default_rng(seed)
    events = random_events(rng, n_frames, n_ions, stay=30, axes=axes)
    starts = lattice(N)[rng.permutation(64)[:n_ions]]
    return events, scripted(n_frames, events, starts, n_ions, SITE, rng, **settings)


def same_events(hops, events, slack=8):
    """Each hop is one event: the ion, the time and the way."""
    got = sorted((hop.ion, hop.middle_frame, *np.round(hop.vector / SITE).astype(int).tolist()) for hop in hops)
    true = sorted((ion, frame, *np.round(vector).astype(int).tolist()) for ion, frame, vector in events)
    assert len(got) == len(true)
    for one, other in zip(got, true, strict=True):
        assert one[0] == other[0] and one[2:] == other[2:] and abs(one[1] - other[1]) <= slack


@pytest.mark.parametrize("axes", [2, 3])
def test_every_hop_between_sites_is_found_once_and_no_other(axes):
    events, ions = run(axes=axes)
    assert len(events) > 100
    hops = site_hops(ions, STEP, sites_at(lattice(N) * SITE, CELL))
    same_events(hops, events)
    assert all(hop.start_frame < hop.middle_frame <= hop.end_frame for hop in hops)
    np.testing.assert_allclose([hop.length for hop in hops], SITE)
    assert all(hop.middle_ps == pytest.approx(hop.middle_frame * STEP) for hop in hops)


def test_hops_are_found_without_any_site():
    events, ions = run(seed=1)
    hops = free_hops(ions, CELL, STEP)
    same_events(hops, events)
    assert {hop.start_site for hop in hops} == {-1}
    # every ion's hops add up to where it went
    for ion in range(8):
        went = sum((hop.vector for hop in hops if hop.ion == ion), np.zeros(3))
        np.testing.assert_allclose(went, ions[-20:, ion].mean(axis=0) - ions[:20, ion].mean(axis=0), atol=1.2)


def test_vibrations_of_any_amplitude_are_no_hops():
    rng = np.random.default_rng(2)
    ions = scripted(20000, [], lattice(N)[:8], 8, SITE, rng, vibration=0.45)
    sites = sites_at(lattice(N) * SITE, CELL)
    own = arrived(ions, sites)[0]
    assert len(np.unique(own)) > 9, "the amplitude is large enough that ions touch other cores"
    assert site_hops(ions, STEP, sites) == []
    assert free_hops(ions, CELL, STEP) == []


def test_rattling_into_a_site_and_back_is_no_hop():
    rng = np.random.default_rng(3)
    there_and_back = [(0, 100, (1, 0, 0)), (0, 108, (-1, 0, 0))]
    ions = scripted(300, there_and_back, [(0, 0, 0)], 1, SITE, rng, vibration=0.15)
    sites = sites_at(lattice(N) * SITE, CELL)
    assert site_hops(ions, STEP, sites, residence_ps=0.5) == []
    assert len(site_hops(ions, STEP, sites, residence_ps=0.05)) == 2
    assert free_hops(ions, CELL, STEP, residence_ps=0.8) == []


def test_an_ion_that_flickers_between_two_sites_rests_at_neither():
    rng = np.random.default_rng(11)
    flicker = [(0, 100 + 8 * n, np.array([1, 1, 0]) * (-1) ** n) for n in range(10)]
    ions = scripted(300, flicker, [(0, 0, 0)], 1, SITE, rng, vibration=0.1, crossing=2)
    assert free_hops(ions, CELL, STEP, residence_ps=0.8) == []
    assert site_hops(ions, STEP, sites_at(lattice(N) * SITE, CELL), residence_ps=0.8) == []


def test_a_site_passed_on_the_way_is_no_stay():
    rng = np.random.default_rng(4)
    ions = scripted(300, [(0, 100, (1, 0, 0)), (0, 107, (0, 1, 0))], [(0, 0, 0)], 1, SITE, rng, vibration=0.1)
    (hop,) = site_hops(ions, STEP, sites_at(lattice(N) * SITE, CELL), residence_ps=0.5)
    np.testing.assert_allclose(hop.vector, [SITE, SITE, 0])


def test_ions_that_hop_together_are_one_event_and_far_or_later_ones_are_not():
    rng = np.random.default_rng(5)
    starts = [(0, 0, 0), (1, 0, 0), (2, 2, 2), (1, 1, 0)]
    events = [(0, 100, (1, 0, 0)), (1, 102, (1, 0, 0)), (2, 101, (0, 0, 1)), (3, 200, (1, 0, 0))]
    ions = scripted(300, events, starts, 4, SITE, rng, vibration=0.1)
    hops = site_hops(ions, STEP, sites_at(lattice(N) * SITE, CELL))
    group = {hop.ion: hop.group for hop in hops}
    assert group[0] == group[1]
    assert len({group[0], group[2], group[3]}) == 3


def test_a_hop_to_an_image_of_its_own_site_is_a_hop():
    rng = np.random.default_rng(6)
    ions = scripted(200, [(0, 100, (1, 0, 0))], [(0, 0, 0)], 1, SITE, rng, vibration=0.1)
    (hop,) = site_hops(ions, STEP, sites_at([[0, 0, 0]], np.eye(3) * SITE))
    assert hop.start_site == hop.end_site == 0
    np.testing.assert_allclose(hop.vector, [SITE, 0, 0])


def test_frames_along_a_hop_are_where_they_should_be():
    rng = np.random.default_rng(7)
    ions = scripted(300, [(0, 150, (0, 1, 0))], [(3, 3, 3)], 1, SITE, rng, vibration=0.02, crossing=20)
    (hop,) = site_hops(ions, STEP, sites_at(lattice(N) * SITE, CELL))
    frames = frames_along(hop, ions, (-0.3, 0.0, 0.3))
    at = progress_of(ions[frames, 0], hop.origin, hop.vector)
    np.testing.assert_allclose(at, [-0.3, 0, 0.3], atol=0.08)
    assert hop.middle_frame in frames


def frames_of(ions, drift=0.0, wrap=True, seed=0):
    """Atoms of a run in a vibrating framework, all drifting by `drift` Å per frame."""
    rng = np.random.default_rng(seed)
    host = (lattice((2, 2, 2)) * 2 + 0.5) * SITE
    out = []
    for n, frame in enumerate(ions):
        positions = np.vstack([frame, host + 0.1 * rng.normal(size=host.shape)]) + drift * n * np.array([1, 0.3, -0.5])
        atoms = Atoms(["Li"] * len(frame) + ["O"] * 8, positions=positions, cell=CELL, pbc=True)
        if wrap:
            atoms.wrap()
        out.append(atoms)
    return out


def test_drift_and_wrapping_change_nothing_and_a_shifted_reference_finds_its_place():
    events, ions = run(seed=8, n_frames=500, n_ions=4)
    still = from_frames(frames_of(ions, wrap=False), "Li", STEP * 1000)
    drifting = from_frames(frames_of(ions, drift=0.02), "Li", STEP * 1000)
    reference = Atoms(
        ["Li"] * 64 + ["O"] * 8, np.vstack([lattice(N), lattice((2, 2, 2)) * 2 + 0.5]) * SITE, cell=CELL, pbc=True
    )
    reference.positions += [1.3, -7.0, 4.4]
    found = []
    for trajectory in (still, drifting):
        host = Atoms(
            "O8", trajectory.positions[:, trajectory.framework].mean(axis=0), cell=trajectory.mean_cell, pbc=True
        )
        sites = reference_sites(reference, "Li", host)
        found.append(site_hops(trajectory.ions, trajectory.interval_ps, sites))
    same_events(found[0], events)
    assert [(h.ion, h.start_frame, h.end_frame) for h in found[0]] == [
        (h.ion, h.start_frame, h.end_frame) for h in found[1]
    ]
    with pytest.raises(ValueError, match="same atoms in the same order"):
        reference_sites(reference[:-1], "Li", host)
    with pytest.raises(ValueError, match="has no Na"):
        reference_sites(reference, "Na", host)


def test_the_density_of_a_run_shows_its_sites_in_a_skewed_cell_too():
    rng = np.random.default_rng(9)
    cell = np.array([[6.0, 0, 0], [3.0, 5.2, 0], [0.5, 0.7, 7.0]])
    places = np.array([[0.02, 0.98, 0.5], [0.52, 0.5, 0.5], [0.3, 0.1, 0.05]]) @ cell
    ions = places + 0.3 * rng.normal(size=(3000, 3, 3)) + rng.integers(-2, 3, (1, 3, 3)) @ cell
    density = ion_density(ions, cell)
    assert density.mean() * np.linalg.det(cell) == pytest.approx(3)
    assert smooth(density, cell, 0.4).mean() == pytest.approx(density.mean())
    sites = density_sites(ions, cell, STEP)
    assert len(sites) == 3
    away = np.linalg.solve(cell.T, (sites.positions[:, None] - places).reshape(-1, 3).T).T
    distance = np.linalg.norm((away - np.round(away)) @ cell, axis=1).reshape(3, 3)
    assert distance.min(axis=1).max() < 0.05
    assert (sites.core < 1.21).all()


def test_a_density_is_blurred_alike_in_all_directions_of_a_skewed_cell():
    cell = np.array([[8.0, 0, 0], [4.0, 7.0, 0], [1.0, 2.0, 8.0]])
    blurred = smooth(ion_density(np.full((1, 1, 3), 0.0), cell, 0.2), cell, 0.5)
    index = np.stack(np.meshgrid(*[np.arange(n) for n in blurred.shape], indexing="ij"), -1) / blurred.shape
    vectors = (index - np.round(index)) @ cell
    spread = np.einsum("abc,abci,abcj->ij", blurred / blurred.sum(), vectors, vectors)
    np.testing.assert_allclose(spread, 0.25 * np.eye(3), atol=1e-3)


def test_hops_between_sites_of_the_density_are_those_of_the_lattice():
    events, ions = run(seed=10, n_frames=4000, n_ions=12)
    sites = density_sites(ions, CELL, STEP)
    assert 40 < len(sites) <= 64
    same_events(site_hops(ions, STEP, sites), events)


@pytest.mark.parametrize("free", [False, True])
def test_ions_in_a_cosine_hop_as_often_as_kramers_says(free):
    """k = kappa sqrt(kT / 2 pi m) / integral of exp((U(top) - U) / kT) over a site; kappa of friction (Kramers 1940)."""
    rng = np.random.default_rng(0)
    barrier, heat, mass, dt, n_ions, n_steps = 0.25, BOLTZMANN * 600, 7 * ATOMIC_MASS, 10.0, 300, 4000
    k = 2 * np.pi / SITE
    omega = k * np.sqrt(barrier / 2 / mass)
    friction = omega
    keep = np.exp(-friction * dt)
    x = lattice((4, 4, 4))[rng.integers(0, 64, n_ions)] * SITE
    v = np.sqrt(heat / mass) * rng.normal(size=x.shape)
    frames = []
    for step in range(n_steps):  # BAOAB
        v -= 0.5 * dt / mass * 0.5 * barrier * k * np.sin(k * x)
        x = x + 0.5 * dt * v
        v = keep * v + np.sqrt((1 - keep**2) * heat / mass) * rng.normal(size=x.shape)
        x = x + 0.5 * dt * v
        v -= 0.5 * dt / mass * 0.5 * barrier * k * np.sin(k * x)
        if step % 3 == 0:
            frames.append(x)
    ions = np.array(frames)
    hops = free_hops(ions, CELL, 0.03) if free else site_hops(ions, 0.03, sites_at(lattice(N) * SITE, CELL))
    grid = np.linspace(-0.5, 0.5, 200, endpoint=False)
    well = np.exp((barrier - 0.5 * barrier * (1 - np.cos(2 * np.pi * grid))) / heat).mean() * SITE
    kappa = np.sqrt(1 + (friction / omega / 2) ** 2) - friction / omega / 2
    rate = 6 * kappa * np.sqrt(heat / (2 * np.pi * mass)) / well
    assert len(hops) == pytest.approx(rate * n_ions * n_steps * dt, rel=0.15)
    assert np.median([hop.length for hop in hops]) == pytest.approx(SITE, abs=0.1)


def test_what_is_no_trajectory_is_refused():
    sites = sites_at(lattice(N) * SITE, CELL)
    with pytest.raises(ValueError, match="no mobile ions"):
        site_hops(np.zeros((10, 0, 3)), STEP, sites)
    broken = np.zeros((100, 2, 3))
    broken[7, 1, 0] = np.nan
    with pytest.raises(ValueError, match="ion 1 of frame 7"):
        free_hops(broken, CELL, STEP)
    with pytest.raises(ValueError, match="cannot show a stay"):
        site_hops(np.zeros((10, 1, 3)), 1.0, sites)
    with pytest.raises(ValueError, match="n_frames, n_ions, 3"):
        site_hops(np.zeros((10, 3)), STEP, sites)
    with pytest.raises(ValueError, match="this near are one"):
        sites_at([[0, 0, 0], [0.1, 0, 0]], CELL)
    with pytest.raises(ValueError, match="at least two stays"):
        free_hops(np.zeros((5, 1, 3)), CELL, STEP)
