"""Radial distribution functions: an ideal gas, crystals that agree, crystals that do not."""

import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk

from mlip.evaluation import rdf


def gas(n_frames, seed, n=60, length=9.0):
    rng = np.random.default_rng(seed)
    return [Atoms(f"Li{n // 2}Cl{n // 2}", positions=rng.random((n, 3)) * length, cell=[length] * 3, pbc=True)
            for _ in range(n_frames)]  # fmt: skip


def vibrating(a, n_frames, seed):
    frames = [bulk("NaCl", "rocksalt", a=a, cubic=True).repeat(2) for _ in range(n_frames)]
    for k, atoms in enumerate(frames):
        atoms.rattle(0.15, seed=seed + k)
    return frames


def test_an_ideal_gas_has_no_structure_beyond_half_the_cell_too():
    section = rdf.RadialDistribution(gas(80, 0), cutoff=8.0, width=0.5).evaluate(None)
    for pair in ("Li-Li", "Li-Cl", "Cl-Cl"):
        g = np.array(section.data["pairs"][pair]["g"])
        assert g[4:].mean() == pytest.approx(1, abs=0.01)
        np.testing.assert_allclose(g[4:], 1, atol=0.08)


def test_an_alloy_counts_its_neighbours():
    g = rdf.partial_rdfs(bulk("NaCl", "rocksalt", a=5.6, cubic=True).repeat(2), 3.5, 0.05)
    shells = 4 / 3 * np.pi * np.diff((0.05 * np.arange(71)) ** 3)
    assert (g["Na-Cl"] * shells).sum() * 32 / (11.2**3) == pytest.approx(6)  # chlorines around a sodium
    assert g["Na-Na"].sum() == 0


def test_a_trajectory_overlaps_with_itself_and_not_with_another_crystal():
    frames = vibrating(5.6, 10, 0)
    same = rdf.RadialDistribution(frames, frames, cutoff=5.0).evaluate(None)
    assert [r.value for r in same.results if r.name == "rdf_overlap"] == pytest.approx([1, 1, 1])
    cold, swollen = [bulk("NaCl", "rocksalt", a=a, cubic=True) for a in (5.6, 6.5)]
    other = rdf.RadialDistribution([cold], [swollen], cutoff=4.5).evaluate(None)
    assert [r.value for r in other.results if r.name == "rdf_overlap"] == pytest.approx([0, 0, 0])


def test_the_interval_of_the_overlap_covers_what_an_endless_trajectory_says():
    truth = rdf.overlap(*(rdf.blocks(vibrating(a, 60, 1000), 5.0, 0.25)["Na-Cl"].mean(0) for a in (5.6, 5.75)))
    section = rdf.RadialDistribution(vibrating(5.6, 15, 0), vibrating(5.75, 15, 500), cutoff=5.0, width=0.25).evaluate(
        None
    )
    result = next(r for r in section.results if r.name == "rdf_overlap" and r.conditions["pair"] == "Na-Cl")
    assert result.low < truth < result.high
    assert 0.5 < truth < 0.95
    assert list(rdf.RadialDistribution.figures(section.data)) == ["rdf"]


def test_pairs_that_never_meet_agree_in_nothing():
    frames = [bulk("NaCl", "rocksalt", a=5.6, cubic=True)]
    section = rdf.RadialDistribution(frames, frames, cutoff=3.5).evaluate(None)
    assert [r.conditions["pair"] for r in section.results if r.name == "rdf_overlap"] == ["Na-Cl"]
    assert list(section.data["pairs"]) == ["Na-Cl"]


def test_what_cannot_be_compared_is_refused():
    with pytest.raises(ValueError, match="not the same crystal"):
        rdf.RadialDistribution(vibrating(5.6, 2, 0), gas(2, 0), cutoff=4.0).evaluate(None)
    with pytest.raises(ValueError, match="periodic in three directions"):
        rdf.RadialDistribution([Atoms("NaCl", positions=[[0, 0, 0], [0, 0, 2.5]])]).evaluate(None)
    with pytest.raises(ValueError, match="one structure"):
        rdf.RadialDistribution(vibrating(5.6, 1, 0)[0]).evaluate(None)
    with pytest.raises(ValueError, match="positive width"):
        rdf.RadialDistribution(gas(1, 0), width=0.0).evaluate(None)
