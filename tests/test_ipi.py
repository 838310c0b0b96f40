"""i-PI: its driver answers for all beads in one call, and a path integral has the quantum energy of a crystal."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import ase.io
import numpy as np
import pytest
from ase.build import bulk
from ase.optimize import BFGS
from morse import morse_potential

from mlip import keys, load_calculator
from mlip.data.graph import to_graph
from mlip.export import export
from mlip.ipi_driver import MlipDriver
from mlip.units import BOHR, HARTREE

CHECKOUT = Path(__file__).resolve().parents[1]


@pytest.fixture
def crystal(tmp_path):
    """Rattled LiCl and its model, in tmp_path."""
    atoms = bulk("LiCl", "rocksalt", a=4.6, cubic=True)
    export(morse_potential(), tmp_path / "model.pt", {}, [to_graph(atoms, 4.0)])
    atoms.rattle(0.05, seed=0)
    ase.io.write(tmp_path / "start.extxyz", atoms)
    return atoms


def test_the_driver_has_i_pis_units_and_signs(crystal, tmp_path):
    driver = MlipDriver(str(tmp_path / "model.pt"), str(tmp_path / "start.extxyz"))
    cell, positions = crystal.cell.array.T / BOHR, crystal.positions / BOHR
    energy, forces, virial, extras = driver(cell, positions)
    step = 1e-5
    slope = np.zeros((3, 3))
    for a, b in np.ndindex(3, 3):
        for sign in (1, -1):
            deform = np.eye(3)
            deform[a, b] += sign * step
            slope[a, b] += sign * driver(deform @ cell, positions @ deform.T)[0] / (2 * step)
    np.testing.assert_allclose(virial, -slope, atol=1e-6)
    moved = positions.copy()
    moved[2, 1] += step
    assert (driver(cell, moved)[0] - energy) / step == pytest.approx(-forces[2, 1], abs=1e-5)
    assert energy * HARTREE == pytest.approx(load_calculator(tmp_path / "model.pt").get_potential_energy(crystal))
    assert json.loads(extras) == {}


def test_all_beads_are_one_call_of_the_model(crystal, tmp_path):
    driver = MlipDriver(str(tmp_path / "model.pt"), str(tmp_path / "start.extxyz"))
    sizes = []
    evaluate = driver.replicas.calculator.evaluate
    driver.replicas.calculator.evaluate = lambda graph: sizes.append(len(graph[keys.CELL])) or evaluate(graph)
    rng = np.random.default_rng(0)
    beads = [(crystal.positions + 0.02 * rng.normal(size=crystal.positions.shape)) / BOHR for _ in range(8)]
    cells = [crystal.cell.array.T / BOHR] * 8
    together = driver(cells, beads)
    assert sizes == [8]
    for (energy, forces, _, _), bead in zip(together, beads, strict=True):
        alone = driver(cells[0], bead)
        assert energy == pytest.approx(alone[0], abs=1e-12)
        np.testing.assert_allclose(forces, alone[1], atol=1e-12)
    assert sizes[1:] == [1] * 8


def test_a_template_of_another_size_is_refused(crystal, tmp_path):
    driver = MlipDriver(str(tmp_path / "model.pt"), str(tmp_path / "start.extxyz"))
    with pytest.raises(ValueError, match="the template has 8 atoms, the simulation 7"):
        driver(crystal.cell.array.T, crystal.positions[:7])


INPUT = re.search(r"```xml\n(.*?)```", (CHECKOUT / "docs/howto/engines.md").read_text(), re.DOTALL).group(1)


def harmonic_kinetic_energy(atoms, temperature_K: float, n_beads: int) -> float:
    """Kinetic energy, eV, of the path integral of n_beads over the normal modes: what a finite ring polymer converges to.

    Virial estimator of a harmonic mode: 1/2 omega^2 <x^2>, with <x^2> the mean of 1 / (beta (omega^2 + omega_k^2)) over
    the modes k of the ring, omega_k = 2 omega_P sin(k pi / P), omega_P = P / (beta hbar), beta = 1 / kT.
    """
    kT, hbar = temperature_K * 8.617333262e-5, 0.6582119569  # eV, eV fs
    force_constants = np.zeros((3 * len(atoms), 3 * len(atoms)))
    step = 1e-3
    for column in range(3 * len(atoms)):
        for sign in (1, -1):
            moved = atoms.copy()
            moved.positions.flat[column] += sign * step
            moved.calc = atoms.calc
            force_constants[column] -= sign * moved.get_forces().ravel() / (2 * step)
    masses = np.repeat(atoms.get_masses(), 3) * 103.642696  # eV fs^2 / Å^2
    squares = np.linalg.eigvalsh(0.5 * (force_constants + force_constants.T) / np.sqrt(np.outer(masses, masses)))
    assert squares[3] > 0  # the three translations, then a stable crystal
    ring = (2 * n_beads * kT / hbar * np.sin(np.pi * np.arange(n_beads) / n_beads)) ** 2
    omega2 = squares[3:, None]
    return float((0.5 * kT * omega2 / (omega2 + ring)).sum()) + 1.5 * kT


@pytest.mark.slow
def test_eight_beads_of_a_crystal_have_its_quantum_kinetic_energy(crystal, tmp_path):
    pytest.importorskip("ipi", reason="i-PI is not installed: pip install mlip-electrolytes[ipi]")
    crystal.calc = load_calculator(tmp_path / "model.pt")
    BFGS(crystal, logfile=None).run(fmax=1e-4, steps=200)
    temperature, steps = 100, 1500
    expected = harmonic_kinetic_energy(crystal, temperature, 8)
    ase.io.write(tmp_path / "start.extxyz", crystal)
    path = CHECKOUT / "mlip/ipi_driver.py"
    assert f">{temperature}</" in INPUT and "nbeads='8'" in INPUT
    (tmp_path / "input.xml").write_text(INPUT.replace("PATH", str(path)).replace("1000</total", f"{steps}</total"))
    done = subprocess.run(
        [Path(sys.executable).with_name("i-pi"), "input.xml"],
        cwd=tmp_path, capture_output=True, text=True, check=False,
        env={**os.environ, "PYTHONPATH": str(CHECKOUT), "OMP_NUM_THREADS": "1"},
    )  # fmt: skip
    assert done.returncode == 0, done.stdout[-1000:] + done.stderr[-2000:]
    step, _, kinetic, conserved = np.loadtxt(tmp_path / "run.out").T
    assert len(step) == steps + 1
    classical = 1.5 * len(crystal) * temperature * 8.617e-5
    assert kinetic[300:].mean() == pytest.approx(expected, rel=0.1) and expected > 1.5 * classical
    assert np.ptp(conserved) < 0.05
