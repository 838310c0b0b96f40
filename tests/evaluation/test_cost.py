"""Cost: the fit on times that follow a law, sizes, motion. Nothing is timed here."""

import numpy as np
import pytest
import torch
from ase.build import bulk

from mlip.evaluation.cost import Cost, fit, motion, sizes, summarised
from mlip.evaluation.cost_figures import plot_accuracy_cost
from mlip.evaluation.result import Result
from mlip.evaluation.section import Section, read_section, write_section
from mlip.units import BOLTZMANN


def test_a_power_law_with_an_offset_is_found_again():
    n = np.array([50, 100, 200, 400, 800, 1600])
    times = 0.004 + 3e-5 * n**1.2
    found = fit(n, times, 0.001 * times)
    assert (found.t0, found.c, found.p) == pytest.approx((0.004, 3e-5, 1.2), rel=1e-4)
    np.testing.assert_allclose(found(n), times, rtol=1e-6)
    rng = np.random.default_rng(0)
    drawn = [fit(n, times * (1 + 0.02 * rng.normal(size=6)), 0.02 * times) for _ in range(60)]
    scatter = np.std([each.p for each in drawn])
    assert np.mean([each.p for each in drawn]) == pytest.approx(1.2, abs=0.03)
    assert 0.5 < np.median([each.p_error for each in drawn]) / scatter < 2


def test_few_sizes_give_what_they_can():
    assert fit([100], [0.02], [0.0]).c == pytest.approx(2e-4)
    two = fit([100, 200], [0.03, 0.05], [0.0, 0.0])
    assert (two.t0, two.c, two.p) == pytest.approx((0.01, 2e-4, 1.0), rel=1e-4) and two.p_error is None
    flat = fit([100, 200, 400], [0.02, 0.04, 0.08], [1e-4] * 3)
    assert flat(800) == pytest.approx(0.16, rel=0.01)


def test_cells_are_doubled_along_their_shortest_vector():
    atoms = bulk("LiCl", "rocksalt", a=5.1, cubic=True)
    found = sizes(atoms, 70)
    assert [len(cell) for cell in found] == [8, 16, 32, 64]
    np.testing.assert_allclose(found[-1].cell.lengths(), [10.2] * 3)
    assert [len(cell) for cell in sizes(atoms, 3)] == [8]


def test_atoms_move_with_the_speed_of_their_temperature_and_do_not_leave():
    atoms = bulk("LiCl", "rocksalt", a=5.1, cubic=True).repeat(5)
    steps = motion(atoms, 1.0, 600.0)
    places = np.array([next(steps) for _ in range(301)])
    speed = np.diff(places, axis=0)
    kinetic = 0.5 * (atoms.get_masses() * 103.642696)[:, None] * speed**2  # eV, swings have half of it in the mean
    assert kinetic.mean() == pytest.approx(0.5 * BOLTZMANN * 600, rel=0.05)
    assert np.abs(places - atoms.positions).max() < 2.5


def test_time_speed_memory_and_reach_follow_from_the_rows(tmp_path):
    atoms = bulk("LiCl", "rocksalt", a=5.1, cubic=True)
    rows = [
        {"n_atoms": n, "seconds": 1e-4 * n, "error": 1e-6 * n, "memory_bytes": 10**8 + 102400 * n}
        for n in (100, 200, 400, 800)
    ]
    section = summarised(object(), atoms, rows, torch.device("cpu"), 2.0)
    values = {(r.name, r.conditions.get("n_atoms")): r.value for r in section.results}
    assert values["time_per_atom_step", 400] == pytest.approx(100)
    assert values["speed", 100] == pytest.approx(0.0864 * 2 / 0.01)
    assert values["scaling_exponent", None] == pytest.approx(1, abs=0.01)
    assert values["memory_per_atom", None] == pytest.approx(100)
    assert values["largest_system", None] > 1000
    assert any("not run" in note for r in section.results for note in r.notes)
    write_section(tmp_path / "cost.json", section)
    again = read_section(tmp_path / "cost.json")
    Cost.figures(again.data)["cost_scaling"].savefig(tmp_path / "cost.png")
    accuracy = Section("accuracy", [Result("force_rmse", 50.0, "meV/Å", 45, 55)])
    plot_accuracy_cost({"one": (accuracy, section), "two": (accuracy, again)}).savefig(tmp_path / "compare.png")
