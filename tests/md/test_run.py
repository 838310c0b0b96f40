"""Dynamics: energy is conserved, temperature is held, a killed run ends as the unbroken one, the guard stops."""

import csv
import json
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from ase import Atoms, units
from ase.build import bulk
from ase.calculators.calculator import Calculator, all_changes
from ase.calculators.emt import EMT
from ase.io import Trajectory, read

from mlip.errors import GuardStop
from mlip.md.ensemble import NPT, NVE, Bussi, Langevin, NoseHoover, maxwell, temperature
from mlip.md.guard import Guard
from mlip.md.plots import plot
from mlip.md.run import run
from mlip.md.summary import read_thermo


class Springs(Calculator):
    """Every atom on its own spring k = 2 eV/Å^2, and a cell that resists strain with 0.5 eV/Å^3: all is known exactly."""

    implemented_properties = ["energy", "free_energy", "forces", "stress"]  # noqa: RUF012

    def __init__(self, sites: np.ndarray, cell: np.ndarray):
        super().__init__()
        self.scaled, self.cell0 = np.linalg.solve(cell.T, sites.T).T, cell

    def calculate(self, atoms=None, properties=("energy",), system_changes=all_changes):
        super().calculate(atoms, properties, system_changes)
        u = atoms.positions - self.scaled @ atoms.cell.array
        deform = np.linalg.solve(self.cell0, atoms.cell.array)
        strain = 0.5 * (deform @ deform.T - np.eye(3))
        volume0 = abs(np.linalg.det(self.cell0))
        # under strain u -> u (1 + e), deform -> deform (1 + e)
        virial = 2.0 * u.T @ u + volume0 * deform.T @ strain @ deform
        energy = (u**2).sum() + 0.5 * volume0 * (strain**2).sum()
        stress = virial / atoms.get_volume()
        self.results = {
            "energy": energy,
            "free_energy": energy,
            "forces": -2.0 * u,
            "stress": stress[[0, 1, 2, 1, 0, 0], [0, 1, 2, 2, 2, 1]],
        }


def solid(n: int = 2) -> tuple[Atoms, Springs]:
    atoms = bulk("LiCl", "rocksalt", a=5.1, cubic=True).repeat((n, 1, 1))
    return atoms, Springs(atoms.positions.copy(), atoms.cell.array.copy())


def rows(folder):
    with open(folder / "thermo.csv") as file:
        return list(csv.reader(file))


def test_constant_energy_conserves_it(tmp_path):
    atoms, springs = solid()
    before = atoms.copy()
    summary = run(atoms, springs, tmp_path, NVE(600), steps=2000, timestep_fs=1.0, progress=False)
    assert abs(summary["drift_eV_per_atom_ps"]) < 1e-6
    assert np.ptp(read_thermo(tmp_path)["total_energy_eV"]) / len(atoms) < 2e-3
    assert atoms == before and atoms.calc is None and "step" not in atoms.info


@pytest.mark.parametrize("ensemble", [NoseHoover(500), Bussi(500), Langevin(500)], ids=lambda e: type(e).__name__)
def test_thermostats_hold_the_temperature_of_the_true_degrees_of_freedom(tmp_path, ensemble):
    """8 atoms: counting 3 N instead of 3 N - 3 would be 14 % off, and shows in the potential energy too."""
    atoms, springs = solid(1)
    atoms.rattle(0.05, seed=0)
    run(
        atoms,
        springs,
        tmp_path,
        ensemble,
        steps=4000,
        timestep_fs=8.0,
        thermo_every=4,
        progress=False,
        frame_every=5000,
    )
    table = read_thermo(tmp_path)
    # rescaling keeps the centre of mass still: its three springs do not swing
    n_springs = 3 * len(atoms) - ensemble.removed
    assert table["temperature_K"][100:].mean() == pytest.approx(500, rel=0.06)
    if not isinstance(ensemble, NoseHoover):  # equal springs do not mix under a deterministic thermostat
        assert 2 * table["potential_energy_eV"][100:].mean() / units.kB / n_springs == pytest.approx(500, rel=0.10)


@pytest.mark.parametrize(
    "ensemble", [NoseHoover(400), Bussi(400), NPT(400, 1.0, isotropic=True), NPT(400, 1.0)], ids=repr
)
def test_the_conserved_quantity_is_conserved(tmp_path, ensemble):
    atoms, springs = solid()
    summary = run(atoms, springs, tmp_path, ensemble, steps=1500, timestep_fs=1.0, progress=False)
    conserved = read_thermo(tmp_path)["conserved_eV"]
    assert np.ptp(conserved) / len(atoms) < 2e-3
    assert abs(summary["drift_eV_per_atom_ps"]) < 2e-4


def test_constant_pressure_gives_the_volume_of_that_pressure(tmp_path):
    """Elastic cell: at P the strain e solves the isotropic (1 + 2 e)^(1/2) e = -P (E and P per reference volume)."""
    atoms, springs = solid()
    ensemble = NPT(50, pressure_GPa=3.0, pressure_damping_fs=200.0)
    run(atoms, springs, tmp_path, ensemble, steps=1500, timestep_fs=4.0, thermo_every=5, progress=False)
    table = read_thermo(tmp_path)
    stretch = np.cbrt(table["volume_A3"][100:].mean() / atoms.get_volume())
    # -dE/dV / 3 directions of E = V0 3 e^2 / 2, e = (s^2 - 1) / 2
    pressure = -0.5 * (stretch**2 - 1) / stretch / units.GPa
    assert pressure == pytest.approx(3.0, abs=0.3)


ENSEMBLES = [NVE(300), NoseHoover(300), Bussi(300), Langevin(300), NPT(300), NPT(300, isotropic=True)]


@pytest.mark.parametrize("ensemble", ENSEMBLES, ids=repr)
def test_a_continued_run_is_the_unbroken_one(tmp_path, ensemble):
    settings = {"ensemble": ensemble, "timestep_fs": 2.0, "frame_every": 7, "thermo_every": 3, "progress": False}
    atoms, springs = solid(1)
    run(atoms, springs, tmp_path / "whole", steps=60, **settings)
    run(atoms, springs, tmp_path / "parts", steps=25, **settings)
    run(atoms, solid(1)[1], tmp_path / "parts", steps=60, **settings)
    same_run(tmp_path / "whole", tmp_path / "parts")


def same_run(one, other):
    assert rows(one) == rows(other)
    frames, others = (read(folder / "trajectory.traj", ":") for folder in (one, other))
    assert [f.info["step"] for f in frames] == [f.info["step"] for f in others]
    for a, b in zip(frames, others, strict=True):
        np.testing.assert_array_equal(a.positions, b.positions)
        np.testing.assert_array_equal(a.get_momenta(), b.get_momenta())
        np.testing.assert_array_equal(a.cell.array, b.cell.array)
        np.testing.assert_array_equal(a.get_forces(), b.get_forces())


KILLED = """
import sys, time
sys.path.insert(0, {here!r})
from pathlib import Path
from test_run import Bussi, Springs, run, solid
atoms, springs = solid(1)
quick = springs.calculate
def slow(atoms=None, *rest):
    time.sleep(0.002)
    if Path({folder!r}, "thermo.csv").stat().st_size > {size}:
        Path({folder!r}, "now").touch()
    quick(atoms, *rest)
if {size}:
    springs.calculate = slow
run(atoms, springs, {folder!r}, Bussi(300), steps=400, timestep_fs=2.0, frame_every=7, thermo_every=3, state_every=40,
    progress=False)
"""


def test_a_killed_run_has_no_lost_and_no_doubled_frame(tmp_path):
    here = str(Path(__file__).parent)
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    atoms, springs = solid(1)
    settings = {"timestep_fs": 2.0, "frame_every": 7, "thermo_every": 3, "state_every": 40, "progress": False}
    run(atoms, springs, whole, Bussi(300), steps=400, **settings)
    for size in (4000, 8000):  # bytes in the table at which the process is killed
        code = KILLED.format(here=here, folder=str(parts), size=size)
        process = subprocess.Popen([sys.executable, "-c", code])
        while not (parts / "now").exists() and process.poll() is None:
            time.sleep(0.01)
        assert process.poll() is None, "the run ended before it could be killed"
        process.send_signal(signal.SIGKILL)
        process.wait()
        (parts / "now").unlink()
    assert len(rows(parts)) < 1 + 134
    run(atoms, springs, parts, Bussi(300), steps=400, **settings)
    same_run(whole, parts)


def test_a_folder_with_another_run_is_not_continued(tmp_path):
    atoms, springs = solid(1)
    run(atoms, springs, tmp_path, NVE(300), steps=5, progress=False)
    with pytest.raises(ValueError, match="holds a run with timestep_fs 1.0, asked is 2.0"):
        run(atoms, springs, tmp_path, NVE(300), steps=10, timestep_fs=2.0, progress=False)


def test_a_finished_run_answers_again_without_a_step(tmp_path):
    atoms, springs = solid(1)
    run(atoms, springs, tmp_path, NVE(300), steps=20, progress=False)
    before = rows(tmp_path)
    run(atoms, springs, tmp_path, NVE(300), steps=20, progress=False)
    assert rows(tmp_path) == before


@pytest.mark.parametrize(
    ("limits", "words"),
    [
        (Guard(max_temperature_K=350, every=1), "temperature .* above max_temperature_K 350"),
        (Guard(max_force_eV_A=0.5, every=1), "force .* above max_force_eV_A 0.5"),
        (Guard(min_distance_A=2.5, every=1), r"atoms \d+ .* less than min_distance_A 2.5"),
    ],
)
def test_the_guard_stops_and_keeps_the_last_good_frame(tmp_path, limits, words):
    atoms, springs = solid()
    ensemble = Langevin(1500)
    with pytest.raises(GuardStop, match=words):
        run(atoms, springs, tmp_path, ensemble, 500, initial_temperature_K=10, guard=limits, progress=False)
    good = read(tmp_path / "guard.xyz")
    good.calc = springs
    assert limits.complaint(good, temperature(good, 0)) is None
    bad = read(tmp_path / "guard_bad.xyz")
    assert np.abs(bad.positions - good.positions).max() > 0


def test_a_cell_that_is_torn_apart_stops_the_run(tmp_path):
    atoms = bulk("Cu", cubic=True).repeat(2)
    with pytest.raises(
        GuardStop, match="times the volume it started with, more of a change than max_volume_change 1.2"
    ):
        run(atoms, EMT(), tmp_path, NPT(300, pressure_GPa=-40), 500, guard=Guard(max_volume_change=1.2), progress=False)
    assert read(tmp_path / "guard.xyz").get_volume() < 1.2 * atoms.get_volume()


class Explodes(Springs):
    """Has no answer once an atom has moved 0.1 Å."""

    def calculate(self, atoms=None, properties=("energy",), system_changes=all_changes):
        super().calculate(atoms, properties, system_changes)
        if np.abs(self.results["forces"]).max() > 0.2:
            raise ValueError("atoms 0 and 1 overlap")


def test_a_calculator_without_an_answer_stops_the_run_like_the_guard(tmp_path):
    atoms, _ = solid()
    with pytest.raises(GuardStop, match="stopped at step .* overlap.*guard.xyz"):
        run(
            atoms,
            Explodes(atoms.positions, atoms.cell.array),
            tmp_path,
            NVE(800),
            500,
            guard=Guard(every=1),
            progress=False,
        )
    assert (tmp_path / "guard.xyz").exists()


def test_velocities_start_without_momentum_at_the_temperature():
    atoms, _ = solid()
    momenta = maxwell(atoms, 300.0, 3, np.random.default_rng(0))
    atoms.set_momenta(momenta)
    assert np.abs(momenta.sum(0)).max() < 1e-10
    assert temperature(atoms, 3) == pytest.approx(300.0)


def test_velocities_that_are_there_are_kept_less_their_momentum(tmp_path):
    atoms, springs = solid(1)
    atoms.set_momenta(np.random.default_rng(0).normal(size=(8, 3)))
    run(atoms, springs, tmp_path, NVE(900), steps=0, progress=False)
    velocities = read(tmp_path / "trajectory.traj").get_velocities()
    relative = atoms.get_velocities() - atoms.get_momenta().sum(0) / atoms.get_masses().sum()
    np.testing.assert_allclose(velocities, relative, atol=1e-12)


def test_supercell_and_masses_reach_the_trajectory(tmp_path):
    atoms, _ = solid(1)
    atoms.info["total_charge"] = -1
    large = atoms.repeat((1, 2, 1))
    springs = Springs(large.positions, large.cell.array)
    run(atoms, springs, tmp_path, NVE(300), steps=2, repeat=(1, 2, 1), masses={"Li": 6.015}, progress=False)
    frame = read(tmp_path / "trajectory.traj")
    assert len(frame) == 16 and frame.info["total_charge"] == -2
    assert set(frame.get_masses()[frame.symbols == "Li"]) == {6.015}
    with pytest.raises(ValueError, match="Na=23"):
        run(atoms, springs, tmp_path / "no", NVE(300), steps=2, masses={"Na": 23}, progress=False)


def test_summary_and_plots_are_written(tmp_path):
    atoms, springs = solid(1)
    summary = run(atoms, springs, tmp_path, NVE(300), steps=50, progress=True)
    assert json.loads((tmp_path / "summary.json").read_text()) == summary
    assert summary["kernel"] == "Springs" and summary["threads"] >= 1
    assert summary["ns_per_day"] > 0 and summary["us_per_atom_step"] > 0
    assert all(path.stat().st_size > 5000 for path in plot(tmp_path))
    with Trajectory(tmp_path / "trajectory.traj") as frames:
        assert frames[0].get_potential_energy() == pytest.approx(0.0, abs=1e-12)
