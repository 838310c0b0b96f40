"""Infrared spectra of ions on springs, of ions in a viscous medium, and of what has no Born charges."""

import numpy as np
import pytest
from ase.build import bulk
from ase.calculators.emt import EMT
from ionic_springs import Springs, fluorite
from scipy.constants import c

from mlip import units
from mlip.evaluation.infrared import Infrared, conductivities, currents, spectrum

LIGHT = 1e-10 * c  # cm/ps
PER_PS2 = 1e6 / units.ATOMIC_MASS  # of eV/(Å^2 u)


def formal(atoms):
    return np.where(atoms.numbers == 3, 1.0, -2.0)


@pytest.fixture(scope="module")
def lithia(tmp_path_factory):
    atoms = fluorite()
    infrared = Infrared(atoms, tmp_path_factory.mktemp("infrared"), 300.0, equilibration_ps=0.5, time_ps=6.0, n_replicas=2,
                        resolution_per_cm=20.0)  # fmt: skip
    return atoms, infrared.evaluate(Springs(atoms, formal(atoms)))


def test_the_line_is_the_transverse_mode_at_gamma_and_no_other_mode_absorbs(lithia):
    """w^2 = 4 k (1/m_Li + 2/m_O), k = (k_along + 2 k_across) / 3; Raman's w^2 = 4 k / m_Li and all of q > 0 carry no dipole."""
    atoms, section = lithia
    mean, lithium, oxygen = (3.0 + 2 * 0.6) / 3, atoms.get_masses()[atoms.numbers == 3][0], atoms.get_masses()[0]
    active, silent = (np.sqrt(4 * mean * inverse * PER_PS2) / (2 * np.pi * LIGHT)
                      for inverse in (1 / lithium + 2 / oxygen, 1 / lithium))  # fmt: skip
    (line,) = [result for result in section.results if result.name == "infrared_line"]
    assert line.value == pytest.approx(active, abs=10.0)
    wave, absorption = (np.array(section.data[name]) for name in ("wavenumber_per_cm", "absorption_per_cm"))
    assert absorption[np.abs(wave - silent) < 30].max() < 1e-3 * absorption.max()


def test_fixed_charges_have_the_spectrum_of_formal_ones(lithia):
    data = lithia[1].data
    np.testing.assert_allclose(data["absorption_per_cm"], data["absorption_formal_per_cm"], rtol=1e-6, atol=1e-6)


def test_a_rigid_translation_carries_no_current():
    atoms = fluorite()
    atoms.set_velocities(np.tile([0.3, -0.2, 0.1], (len(atoms), 1)))
    calculator = Springs(atoms, np.where(atoms.numbers == 3, 1.3, -2.0))  # do not add up: the excess is taken off
    born, _ = currents(calculator, atoms, None)
    assert np.abs(born).max() < 1e-10


def test_ions_in_a_viscous_medium_absorb_as_drude_says():
    """<J(0).J(t)> = <J^2> exp(-t / tau): Re sigma = <J^2> tau / (3 V k T) / (1 + w^2 tau^2)."""
    rng, interval, tau, square, volume, heat = np.random.default_rng(0), 0.01, 0.2, 3.0, 500.0, 0.05
    kept = np.exp(-interval / tau)
    current = np.zeros((400_000, 3))
    kicks = np.sqrt(square / 3 * (1 - kept**2)) * rng.normal(size=current.shape)
    current[0] = np.sqrt(square / 3) * rng.normal(size=3)
    for t in range(1, len(current)):
        current[t] = kept * current[t - 1] + kicks[t]
    segments = conductivities(current, interval, 4000, volume, heat)
    wave, absorption, error = spectrum(segments, 4000, interval)
    omega = 2 * np.pi * LIGHT * wave
    exact = 4 * np.pi * units.COULOMB / LIGHT * square * tau / (3 * volume * heat) / (1 + (omega * tau) ** 2)
    chosen = (omega * tau > 0.1) & (omega * tau < 3)
    away = (absorption - exact)[chosen] / error[chosen]
    assert np.sqrt(np.mean(away**2)) == pytest.approx(1.0, abs=0.2)
    assert absorption[chosen].mean() == pytest.approx(exact[chosen].mean(), rel=0.03)


def test_a_calculator_without_born_charges_is_refused_before_dynamics(tmp_path):
    with pytest.raises(ValueError, match="no Born charges"):
        Infrared(bulk("Cu", cubic=True), tmp_path, 300.0).evaluate(EMT())
    assert not any(tmp_path.iterdir())
    with pytest.raises(ValueError, match=r"segments of 48 ps"):
        Infrared(fluorite(), tmp_path, 300.0, resolution_per_cm=1.0).evaluate(Springs(fluorite(), formal(fluorite())))
