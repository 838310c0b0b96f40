"""Van Hove function, density and settled displacements of known motions."""

import numpy as np
import pytest
from ase.io.cube import read_cube_data
from walkers import crystal, hoppers

from mlip.evaluation.van_hove import settled_displacements, van_hove_self, write_density
from mlip.transitions.density import ion_density


def test_the_van_hove_function_of_brownian_ions_is_a_gaussian():
    ions = (0.1 * np.random.default_rng(0).normal(size=(2001, 50, 3))).cumsum(axis=0)
    r, lags, density = van_hove_self(ions, 0.5, [4.0], r_max=4.0, n_bins=40)
    variance = 0.01 * 8  # per axis after eight steps
    expected = 4 * np.pi * r**2 * np.exp(-(r**2) / (2 * variance)) / (2 * np.pi * variance) ** 1.5
    assert lags == pytest.approx([4.0])
    assert density[0] == pytest.approx(expected, abs=0.04)
    assert density[0].sum() * (r[1] - r[0]) == pytest.approx(1)
    with pytest.raises(ValueError, match="a lag of"):
        van_hove_self(ions, 0.5, [0.1])


def test_settled_displacements_are_counted_and_vibrations_are_not():
    rng = np.random.default_rng(1)
    path = np.repeat(np.arange(6), 40)[:, None, None] * np.array([2.0, 0, 0])  # five hops of 2 Å, 4 ps apart
    ions = np.concatenate([path, 0 * path], axis=1) + 0.25 * rng.normal(size=(240, 2, 3))
    assert settled_displacements(ions, 0.1, 1.0, window_ps=0.8).tolist() == [5, 0]


def test_the_density_holds_every_ion_once():
    ions = hoppers(np.random.default_rng(2), 1, 101, 7, 0.1)[0]
    trajectory = crystal(ions)
    density = ion_density(trajectory.ions, trajectory.mean_cell, spacing=0.5)
    assert density.mean() * trajectory.volume == pytest.approx(7)
    still = crystal(np.broadcast_to([3.1, 4.1, 5.1], (50, 1, 3)))
    peak = np.unravel_index(ion_density(still.ions, still.mean_cell, 0.5).argmax(), density.shape)
    assert np.array(peak) * 0.5 == pytest.approx([3.0, 4.0, 5.0], abs=0.5)


def test_the_cube_file_holds_the_density(tmp_path):
    trajectory = crystal(hoppers(np.random.default_rng(3), 1, 101, 7, 0.1)[0])
    density = ion_density(trajectory.ions, trajectory.mean_cell, spacing=1.0)
    write_density(tmp_path / "li.cube", trajectory, density)
    data, atoms = read_cube_data(str(tmp_path / "li.cube"))
    assert data == pytest.approx(density, abs=1e-5)
    assert len(atoms) == 8
