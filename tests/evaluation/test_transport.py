"""Diffusion as a part of a report: from walkers, from files, from dynamics of our own."""

import json
from functools import partial

import numpy as np
import pytest
from ase import units
from ase.build import bulk
from ase.calculators.calculator import Calculator, all_changes
from ase.calculators.emt import EMT
from ase.calculators.lj import LennardJones
from ase.io import write
from walkers import crystal, exact, hoppers

from mlip.evaluation import dynamics, hopping, stability, transport
from mlip.evaluation.result import plain
from mlip.evaluation.transport import TransportAnalysis
from mlip.md.ensemble import Langevin
from mlip.md.guard import Guard
from mlip.md.summary import read_thermo

TEMPERATURES = (600.0, 700.0, 800.0, 900.0)


def alloy():
    atoms = bulk("Cu", cubic=True).repeat((2, 2, 1))
    atoms.symbols[::8] = "Au"
    return atoms


def diffusion(atoms, temperatures_K, folder, **settings):
    """Diffusion of gold in an alloy, from short dynamics."""
    return dynamics.Diffusion(atoms, TransportAnalysis("Au", 1), temperatures_K, folder, dynamics.Dynamics(**settings))


def axes_of(figures):
    return [axis for figure in figures.values() for axis in figure.axes]


def vibrating(rng, ions):
    """The ions in a framework whose vibrations are those of a crystal."""
    return crystal(ions, framework_motion=0.1 * rng.normal(size=(len(ions), 8, 3)))


def has_unit(label):
    return "(" in label and ")" in label


@pytest.fixture(scope="module")
def arrhenius():
    rng = np.random.default_rng(1)
    runs = [(t, vibrating(rng, hoppers(rng, 1, 801, 12, 3 * np.exp(-3000 / t), hop=2.0)[0])) for t in TEMPERATURES]
    return TransportAnalysis("Li", 1, 2.0, literature="c-LLZO").section(runs)


def test_walkers_at_four_temperatures_give_their_activation_energy_and_a_value_at_300_K(arrhenius):
    found = {result.name: result for result in arrhenius.results}
    energy = next(
        r for r in arrhenius.results if r.name == "activation_energy" and r.conditions["of"] == "tracer_diffusivity"
    )
    assert energy.low < 3000 * 8.617333e-5 < energy.high
    d = found["diffusivity_extrapolated"]
    assert d.conditions["temperature_K"] == 300 and d.low < exact(3 * np.exp(-10), 2.0) * 1e-4 < d.high
    assert not arrhenius.notes


def test_the_figures_come_from_json_alone_and_have_units_on_every_axis(arrhenius):
    figures = transport.TrajectoryDiffusion.figures(json.loads(json.dumps(plain(arrhenius.data), allow_nan=False)))
    assert {
        "msd",
        "plateau",
        "arrhenius_tracer_diffusivity",
        "arrhenius_conductivity",
        "van_hove_600K",
        "density_900K",
    } <= set(figures)
    for axis in axes_of(figures):
        labels = [label for label in (axis.get_xlabel(), axis.get_ylabel()) if label]
        assert labels and all(map(has_unit, labels)), labels


def test_walkers_on_a_lattice_hop_as_often_and_as_far_as_they_were_told():
    rng = np.random.default_rng(6)
    # a hop every 20 steps of 0.05 ps
    ions = np.repeat(hoppers(rng, 1, 300, 12, 0.05, hop=3.0, vibration=0.0)[0], 20, axis=0)
    ions += 0.15 * rng.normal(size=ions.shape) + 1.0
    cell = np.diag([9.0, 9.0, 9.0])
    results, data = hopping.hopping(crystal(ions, cell, interval_ps=0.05))
    found = {result.name: result for result in results}
    assert found["hop_rate"].low < 0.05 < found["hop_rate"].high
    assert (
        found["hop_length"].value == pytest.approx(3.0, abs=0.1) and "peaks of the ions" in found["hop_rate"].notes[0]
    )
    assert found["diffusivity_of_hops"].value == pytest.approx(found["hop_rate"].value * 9 / 6 * 1e-4, rel=0.02)
    assert hopping.plot_hop_lengths([{"temperature_K": 300, "hopping": data}]) is not None


def test_ions_that_never_hop_give_a_limit_and_a_note_instead_of_a_line():
    rng = np.random.default_rng(2)
    runs = [(t, vibrating(rng, 5 + 0.1 * rng.normal(size=(60, 6, 3)))) for t in TEMPERATURES]
    section = TransportAnalysis("Li", 1, 2.5).section(runs)
    assert [r.verdict for r in section.results if r.name == "tracer_diffusivity"] == ["limit"] * 4
    assert any("at least 4 temperatures" in note for note in section.notes)
    figures = transport.TrajectoryDiffusion.figures(json.loads(json.dumps(plain(section.data))))
    assert "plateau" not in figures and "arrhenius_tracer_diffusivity" in figures


def test_the_density_in_the_plane_adds_up_to_the_number_of_ions():
    rng = np.random.default_rng(3)
    found = transport.projected(crystal(rng.uniform(0, 12, (7, 3)) + rng.normal(size=(50, 7, 3))))
    cell = np.array(found["cell"])
    area = np.linalg.norm(np.cross(cell[0], cell[1]))
    assert np.mean(found["projected"]) * area == pytest.approx(7, rel=1e-3)
    still = transport.projected(crystal(np.array([3.1, 9.3, 2.0]) + 0.01 * rng.normal(size=(50, 1, 3))))
    place = np.unravel_index(np.argmax(still["projected"]), np.shape(still["projected"]))
    assert (np.array(place) + 0.5) / np.shape(still["projected"]) * [12, 13] == pytest.approx([3.1, 9.3], abs=0.3)


def test_a_host_that_melts_fails_and_is_left_out_of_the_line():
    rng = np.random.default_rng(4)
    ions = hoppers(rng, 1, 201, 10, 0.1, hop=2.0)[0]
    wander = (0.3 * rng.normal(size=(201, 8, 3))).cumsum(axis=0)
    section = TransportAnalysis("Li", 1, 2.0).section(
        [(1500.0, crystal(ions, framework_motion=wander - wander.mean(axis=1, keepdims=True)))]
    )
    verdicts = {result.name: result.verdict for result in section.results}
    assert (
        verdicts["framework_shift"] == "fail"
        and verdicts["tracer_diffusivity"] == "fail"
        and verdicts["conductivity"] == "fail"
    )


def frames_of(n_frames, **changes):
    rng = np.random.default_rng(5)
    frames = [alloy() for _ in range(n_frames)]
    for atoms in frames:
        atoms.positions += 0.05 * rng.normal(size=(len(atoms), 3))
    return frames


def broken(kind):
    frames = frames_of(1 if kind == "one frame" else 50)
    if kind == "composition":
        frames[20].symbols[3] = "Au"
    if kind == "NaN":
        frames[20].positions[3, 0] = np.nan
    return frames


@pytest.mark.parametrize(
    "kind, said",
    [("one frame", "got 1"), ("composition", "must not change"), ("NaN", "must be finite"), ("no time", "give frame_interval_fs"),
     ("typo", "a trajectory has files, temperature_K"), ("all skipped", "nothing is left")],
)  # fmt: skip
def test_what_is_wrong_with_a_trajectory_is_told(kind, said, tmp_path):
    write(tmp_path / "run.traj", broken(kind))
    entry = {"files": str(tmp_path / "run.traj"), "temperature_K": 600, "frame_interval_fs": 20}
    entry |= {"no time": {"frame_interval_fs": None}, "typo": {"step": 2}, "all skipped": {"skip_ps": 5}}.get(kind, {})
    with pytest.raises(ValueError, match=said):
        transport.TrajectoryDiffusion([entry], TransportAnalysis("Au", 1)).evaluate(None)


def test_a_charge_is_never_guessed(tmp_path):
    write(tmp_path / "run.traj", frames_of(50))
    entry = {"files": str(tmp_path / "run.traj"), "temperature_K": 600, "frame_interval_fs": 20}
    with pytest.raises(ValueError, match="charge of the mobile ion must be given"):
        transport.TrajectoryDiffusion([entry], TransportAnalysis("Au", None)).evaluate(None)


def test_dynamics_at_two_temperatures_goes_on_where_it_was_and_equilibration_is_left_out(tmp_path):
    settings = {"timestep_fs": 4, "npt_ps": 0.08, "equilibration_ps": 0.08, "frame_interval_fs": 8}
    short = {**settings, "production_ps": 1.12}
    first = diffusion(alloy(), [300, 400], tmp_path, **short).evaluate(EMT())
    assert [r.value for r in first.results if r.name == "md_time"] == pytest.approx([1.12, 1.12])
    before = (tmp_path / "300K" / "npt" / "state.npz").stat().st_mtime_ns
    long = diffusion(alloy(), [300], tmp_path, **{**settings, "production_ps": 1.2}).evaluate(EMT())
    assert long.data["runs"][0]["duration_ps"] == pytest.approx(1.2)
    table = read_thermo(tmp_path / "300K" / "nvt")
    assert table["step"][-1] == 320 and len(set(table["step"])) == len(table["step"])
    assert table["volume_A3"].std() < 1e-9 and abs(table["volume_A3"][0] - alloy().get_volume()) > 1e-3
    assert (tmp_path / "300K" / "npt" / "state.npz").stat().st_mtime_ns >= before


class Tethered(Calculator):
    """Copper on springs and gold that is free; fails for good after some calls, as a job that is killed."""

    implemented_properties = ("energy", "forces")

    def __init__(self, calls=10**9):
        super().__init__()
        self.left, self.sites = calls, brownian().positions

    def calculate(self, atoms=None, properties=("energy",), system_changes=all_changes):
        super().calculate(atoms, properties, system_changes)
        self.left -= 1
        if self.left < 0:
            raise KeyboardInterrupt
        pull = (self.sites - atoms.positions) * (atoms.numbers == 29)[:, None]
        self.results = {"energy": 0.5 * (pull**2).sum(), "forces": pull}


def brownian():
    atoms = bulk("Cu", cubic=True).repeat((2, 2, 1))
    atoms.symbols[::2] = "Au"
    return atoms


def grown(folder, calculator=None, temperatures_K=(1000,), **settings):
    """Brownian gold, D = k_B T damping / m; production of 1.0, 1.25, 1.5625 and at most 1.6 ps."""
    settings = {"timestep_fs": 4, "equilibration_ps": 0.4, "frame_interval_fs": 8, "production_ps": 1.0, "longest_ps": 1.6,
                "thermostat": partial(Langevin, damping_fs=50), "guard": Guard(min_distance_A=None)} | settings  # fmt: skip
    analysis = TransportAnalysis("Au", 1, hop_length_A=0.5)
    section = dynamics.Diffusion(brownian(), analysis, temperatures_K, folder, dynamics.Dynamics(**settings)).evaluate(
        calculator or Tethered())  # fmt: skip
    return section, {r.name: r for r in section.results}


def test_production_ends_when_d_is_as_precise_as_asked_or_at_the_longest_which_is_told(tmp_path):
    section, found = grown(tmp_path, relative_interval=50, effective_hops=0.01)
    assert found["md_time"].value == pytest.approx(1.0) and found["md_time"].verdict == ""
    assert "production until D is known to 5000% from 0.01 effective hops, 1 to 1.6 ps" in section.notes[0]
    d = found["tracer_diffusivity"]
    assert d.low < 1e-4 * units.kB * 1000 * 0.05 / (197 * 1.0364e-4) < d.high
    _, found = grown(tmp_path, relative_interval=50, effective_hops=1e5)
    time = found["md_time"]
    assert time.value == pytest.approx(1.6) and time.verdict == "warn"
    assert "asked are 100000; give longest_ps more than 1.6" in time.notes[0]
    _, found = grown(tmp_path, effective_hops=0, relative_interval=1e-3)
    assert "only, asked are 0%" in found["md_time"].notes[0]
    _, found = grown(tmp_path / "fixed", longest_ps=None, effective_hops=1e5)
    assert found["md_time"].value == pytest.approx(1.0) and found["md_time"].verdict == ""
    with pytest.raises(ValueError, match="longest_ps is 0.5, production_ps 1"):
        grown(tmp_path / "short", longest_ps=0.5)
    assert not (tmp_path / "short").exists()


def test_production_killed_anywhere_ends_at_the_length_at_which_it_would_have_ended(tmp_path):
    one, other = (grown(tmp_path / "looked", effective_hops=0, relative_interval=50, production_ps=time)[1]["effective_hops"].value
                  for time in (1.0, 1.25))  # fmt: skip
    asked = {"effective_hops": (one + other) / 2, "relative_interval": 50}
    whole, found = grown(tmp_path / "whole", **asked)
    assert one < other and found["md_time"].value == pytest.approx(1.25, abs=0.01)
    for calls in (120, 360, 400):  # in equilibration, soon after the first look, later
        with pytest.raises(KeyboardInterrupt):
            grown(tmp_path / f"{calls}", Tethered(calls), **asked)
        assert grown(tmp_path / f"{calls}", **asked)[0].results == whole.results


def test_what_cannot_be_analysed_is_refused_before_dynamics(tmp_path):
    for analysis in (
        TransportAnalysis("Li", 1),
        TransportAnalysis("Au", 1, framework=["Cl"]),
        TransportAnalysis("Au", None),
    ):
        with pytest.raises(ValueError, match="no Li in|no Cl in|charge of the mobile ion"):
            dynamics.Diffusion(alloy(), analysis, [300], tmp_path).evaluate(EMT())
    assert not list(tmp_path.iterdir())


def test_dynamics_of_another_potential_or_start_is_not_continued(tmp_path):
    settings = {"timestep_fs": 4, "equilibration_ps": 0, "production_ps": 1.12, "frame_interval_fs": 8}
    diffusion(alloy(), [300], tmp_path, **settings).evaluate(EMT())
    with pytest.raises(ValueError, match="another potential"):
        diffusion(alloy(), [300], tmp_path, **settings).evaluate(LennardJones(sigma=2.3, epsilon=0.1, rc=5.0))
    moved = alloy()
    moved.positions[0] += 0.01
    with pytest.raises(ValueError, match="another start"):
        diffusion(moved, [300], tmp_path, **settings).evaluate(EMT())


def test_a_temperature_that_the_guard_stops_is_told_and_the_others_count(tmp_path):
    found = diffusion(alloy(), [300, 2000], tmp_path, timestep_fs=4, equilibration_ps=0, production_ps=1.12,
                      frame_interval_fs=8, guard=Guard(max_temperature_K=800, every=1)).evaluate(EMT())  # fmt: skip
    times = {r.conditions["temperature_K"]: r for r in found.results if r.name == "md_time"}
    assert times[2000].verdict == "fail" and "max_temperature_K" in times[2000].notes[0]
    assert times[300].verdict == "" and [run["temperature_K"] for run in found.data["runs"]] == [300]


def test_energy_is_kept_without_a_thermostat_and_a_drift_is_seen(tmp_path):
    found = stability.Stability(
        alloy(), tmp_path, temperature_K=300, time_ps=0.3, timestep_fs=2, settle_ps=0.1
    ).evaluate(EMT())
    drift = found.results[0]
    assert abs(drift.value) < 1e-3 and drift.low < drift.value < drift.high and drift.unit == "eV/atom/ps"
    axis = stability.Stability.figures(found.data)["energy"].axes[0]
    assert has_unit(axis.get_xlabel()) and has_unit(axis.get_ylabel())
    t = np.linspace(0, 10, 400)
    value, error = stability.slope(t, 2e-4 * t + 1e-3 * np.sin(9 * t))
    assert abs(value - 2e-4) < 2 * error < 1e-4
