"""Dynamics that drifts, that freezes, or of which the model is uncertain is noticed."""

import ase.io
import numpy as np
import pytest
from ase.build import bulk
from ase.calculators.calculator import Calculator
from ase.calculators.emt import EMT

from mlip.data.structures import read
from mlip.errors import GuardStop, InputError
from mlip.md.ensemble import NVE, Bussi
from mlip.md.guard import Guard
from mlip.md.run import run
from mlip.md.summary import COLUMNS, warnings


def table(conserved, temperature):
    """Columns of 5 ps, 100 rows."""
    ps = np.linspace(0, 5, 100)
    columns = dict.fromkeys(COLUMNS, np.full(100, np.nan))
    return {**columns, "time_fs": 1e3 * ps, "conserved_eV": conserved(ps), "temperature_K": temperature(ps)}


def noise(size):
    return lambda ps: size * np.random.default_rng(0).normal(size=len(ps))


def test_a_sound_run_has_no_warning():
    sound = table(noise(0.01), lambda ps: 300 + noise(30)(ps))
    assert warnings(sound, 64, 1.0, Bussi(300)) == [] == warnings(sound, 64, 1.0, NVE(300))


def test_a_drift_is_named_with_what_helps():
    (said,) = warnings(table(lambda ps: 64 * 1e-3 * ps, lambda ps: 300 + 0 * ps), 64, 2.0, NVE(300))
    assert said == (
        "the conserved quantity drifts by 0.001 eV/atom/ps (more than 0.0001): a timestep_fs below 2, or dtype=float64"
    )


@pytest.mark.parametrize("mean", [4.0, 150.0, 400.0])
def test_a_thermostat_that_does_not_hold_its_temperature_is_named(mean):
    (said,) = warnings(table(noise(0.01), lambda ps: mean + 0 * ps), 64, 1.0, Bussi(300))
    assert f"second half is {mean:.0f} K, temperature_K=300 was asked for" in said
    assert warnings(table(noise(0.01), lambda ps: mean + 0 * ps), 64, 1.0, NVE(300)) == []


def test_too_long_a_step_is_reported_by_the_run(tmp_path):
    atoms = bulk("Cu", a=3.6, cubic=True)
    summary = run(atoms, EMT(), tmp_path, NVE(1500), 400, timestep_fs=22.0, repeat=(2, 2, 2), thermo_every=1, progress=False,
                  guard=Guard(max_force_eV_A=None, max_temperature_K=None, min_distance_A=None))  # fmt: skip
    assert any("conserved quantity drifts" in said for said in summary["warnings"]), summary


class Uncertain(Calculator):
    """EMT with an uncertainty that grows from step to step."""

    implemented_properties = ("energy", "forces", "force_sigma")
    calls = 0

    def calculate(self, atoms=None, properties=("energy",), system_changes=()):
        super().calculate(atoms, properties, system_changes)
        copy = atoms.copy()
        copy.calc = EMT()
        self.calls += 1
        sigma = np.full(len(atoms), 0.01 * self.calls)
        self.results = {"energy": copy.get_potential_energy(), "forces": copy.get_forces(), "force_sigma": sigma}


def test_the_guard_watches_the_uncertainty(tmp_path):
    guard = Guard(max_force_sigma_eV_A=0.1)
    with pytest.raises(
        GuardStop, match=r"the force on atom 0 \(Cu\) is uncertain by 0.11 eV/Å, more than max_force_sigma_eV_A 0.1"
    ):
        run(bulk("Cu", a=3.6, cubic=True), Uncertain(), tmp_path, Bussi(300), 50, guard=guard, progress=False)
    assert (tmp_path / "guard.xyz").exists()


def salt():
    atoms = bulk("Cu", a=3.6, cubic=True)
    atoms.numbers[1] = 47  # silver, the second atom
    return atoms


class UncertainSilver(Uncertain):
    """Copper is always uncertain, silver only later."""

    def calculate(self, atoms=None, properties=("energy",), system_changes=()):
        super().calculate(atoms, properties, system_changes)
        self.results["force_sigma"][atoms.numbers == 29] = 5.0


def test_an_uncertain_ion_stops_dynamics_that_go_on_from_the_last_good_frame(tmp_path):
    guard = Guard(max_force_sigma_eV_A=0.155, uncertain_of=["Ag"], every=5)
    with pytest.raises(GuardStop, match=r"atom 1 \(Ag\) is uncertain by 0.16 eV/Å.*to_label.xyz is to be labelled"):
        run(salt(), UncertainSilver(), tmp_path / "first", NVE(300), 50, guard=guard, progress=False)
    (frame,) = read(tmp_path / "first" / "to_label.xyz")
    bad = ase.io.read(tmp_path / "first" / "guard_bad.xyz")
    np.testing.assert_allclose(frame.positions, bad.positions, atol=1e-8)
    assert frame.info["kind"] == "md"

    # another model (here: a sure one) goes on as if nothing had stopped
    good = ase.io.read(tmp_path / "first" / "guard.xyz")
    stopped = int(good.info["step"])
    assert stopped % guard.every == 0 and 0 < stopped < int(frame.info["step"])
    run(good, EMT(), tmp_path / "second", NVE(300), 30 - stopped, frame_every=30 - stopped, progress=False)
    run(salt(), EMT(), tmp_path / "whole", NVE(300), 30, frame_every=30, progress=False)
    ends = [ase.io.read(tmp_path / name / "trajectory.traj", "-1") for name in ("second", "whole")]
    np.testing.assert_allclose(ends[0].positions, ends[1].positions, atol=1e-5)


def test_a_wreck_is_not_handed_out_for_a_label(tmp_path):
    guard = Guard(max_force_sigma_eV_A=0.05, max_temperature_K=1.0, every=1)
    atoms = salt()
    atoms.calc = UncertainSilver()
    atoms.get_forces()
    assert guard.uncertain_atom(atoms) == 0
    assert guard.is_worth_a_label(atoms, 0.5) and not guard.is_worth_a_label(atoms, 2.0)


def test_an_uncertainty_that_the_model_lacks_is_refused(tmp_path):
    with pytest.raises(InputError, match="uncertainty=last_layer"):
        run(bulk("Cu", cubic=True), EMT(), tmp_path / "md", Bussi(300), 5, guard=Guard(max_force_sigma_eV_A=0.1))
    assert not (tmp_path / "md").exists()


@pytest.mark.parametrize(
    ("guard", "words"),
    [
        (Guard(max_force_sigma_eV_A=0.1, uncertain_of=["Na"]), "has none of them"),
        (Guard(uncertain_of=["Cu"]), "needs its limit"),
    ],
)
def test_an_uncertainty_that_could_never_stop_dynamics_is_refused(tmp_path, guard, words):
    calculator = EMT()
    calculator.implemented_properties = [*calculator.implemented_properties, "force_sigma"]
    with pytest.raises(InputError, match=words):
        run(bulk("Cu", cubic=True), calculator, tmp_path / "md", Bussi(300), 5, guard=guard)
