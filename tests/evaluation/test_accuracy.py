"""Errors of calculators whose error is known, and intervals that hold what they claim."""

from itertools import pairwise

import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk
from ase.calculators.singlepoint import SinglePointCalculator
from scipy.spatial.transform import Rotation

from mlip import keys
from mlip.evaluation import calibration, error_statistics
from mlip.evaluation.accuracy import Accuracy
from mlip.evaluation.bootstrap import blocks, interval
from mlip.evaluation.migrating import migrating_ions
from mlip.evaluation.section import read_section, write_section


class Prepared:
    """Answers each structure with what its info and arrays hold under answer_*."""

    def calculate_many(self, structures):
        answered = []
        for atoms in structures:
            copy = atoms.copy()
            copy.calc = SinglePointCalculator(copy, energy=atoms.info["answer_energy"], forces=atoms.arrays["answer_forces"],
                                              stress=atoms.info["answer_stress"].ravel()[[0, 4, 8, 5, 2, 1]])  # fmt: skip
            if "answer_sigma" in atoms.arrays:
                copy.calc.results[keys.FORCE_SIGMA] = atoms.arrays["answer_sigma"]
            answered.append(copy)
        return answered


def labelled(n_frames=24, slope=0.9, noise=0.05, seed=0, shift=None):
    """Frames in four trajectories whose answers are slope times the forces, plus normal noise on every component."""
    rng = np.random.default_rng(seed)
    frames = []
    for i in range(n_frames):
        atoms = bulk("LiCl", "rocksalt", a=5.1, cubic=True)
        atoms.rattle(0.1, rng=rng)
        label, stress = rng.normal(size=(8, 3)), rng.normal(size=(3, 3)) * 0.01
        stress = stress + stress.T
        atoms.arrays[keys.REF_FORCES] = label
        atoms.arrays["answer_forces"] = slope * label + rng.normal(size=(8, 3)) * noise
        atoms.info[keys.REF_ENERGY] = rng.normal() * 0.1 - 40
        atoms.info["answer_energy"] = atoms.info[keys.REF_ENERGY] + 8 * 0.002 * rng.normal() + (shift or 0.0)
        atoms.info[keys.REF_STRESS] = stress
        atoms.info["answer_stress"] = stress * 1.1
        atoms.info |= {
            "trajectory": i % 4,
            "config_type": "hot" if i % 2 else "cold",
            "temperature": 300.0 + 300 * (i % 2),
        }
        frames.append(atoms)
    return frames


def found(section, name, **where):
    """The one result of this name and these conditions."""
    (result,) = [r for r in section.results if r.name == name and r.conditions == where]
    return result


def test_a_constructed_error_is_found_again():
    slope, noise = 0.9, 0.05
    section = Accuracy(labelled(200, slope, noise)).evaluate(Prepared())
    rmse = 1e3 * np.hypot((1 - slope), noise)  # labels are unit normal
    assert found(section, "force_rmse").value == pytest.approx(rmse, rel=0.02)
    assert found(section, "force_relative_rmse").value == pytest.approx(rmse / 1e3, rel=0.02)
    assert found(section, "softening_slope").value == pytest.approx(slope, abs=0.003)
    assert found(section, "energy_rmse").value == pytest.approx(2.0, rel=0.15)
    assert found(section, "energy_rmse", temperature_K=600.0).value == pytest.approx(2.0, rel=0.25)
    for element in ("Li", "Cl"):
        assert found(section, "force_rmse", element=element).value == pytest.approx(rmse, rel=0.05)
    for result in section.results:
        if "sigma" not in result.name and not result.name.endswith("_max"):
            assert result.low <= result.value <= result.high, result


def test_quantiles_are_those_of_numpy():
    rng = np.random.default_rng(0)
    for n in (7, 500, 30000):
        values = rng.exponential(size=n)
        statistic = error_statistics.quantile(values, np.zeros(n, dtype=int), 1, q=0.9)
        assert statistic(np.ones((1, 1)))[0] == pytest.approx(np.quantile(values, 0.9, method="inverted_cdf"), rel=2e-3)


def test_small_and_straight_angles_are_exact():
    label = np.array([[1.0, 0, 0], [0, 2, 0], [1, 1, 0]])
    turned = np.array([[np.cos(1e-7), np.sin(1e-7), 0], [0, -1, 0], [0, 3, 0]])
    np.testing.assert_allclose(error_statistics.angles(turned, label), [np.degrees(1e-7), 180, 45], rtol=1e-7)
    np.testing.assert_allclose(error_statistics.cosines(turned, label), [1, -1, np.sqrt(0.5)], rtol=1e-12)
    assert error_statistics.cosines(np.zeros((1, 3)), label[:1]) == 0


def test_intervals_cover_the_truth_when_frames_of_a_trajectory_share_their_error():
    rng = np.random.default_rng(1)
    n_trajectories, n_frames, truth = 14, 6, np.sqrt(0.8**2 + 0.6**2)
    covered = {"by trajectory": 0, "by frame": 0}
    frames = np.repeat(np.arange(n_trajectories), n_frames)
    n_sets = 300
    for _ in range(n_sets):
        # the variance of the error differs from one trajectory to the next, its mean square is 1
        values = rng.normal(size=len(frames)) * 0.6 + rng.normal(size=n_trajectories)[frames] * 0.8
        for name, drawn in (("by trajectory", blocks(frames)), ("by frame", blocks(np.arange(len(frames))))):
            _, low, high = interval(error_statistics.rms(values, drawn.of_frame, len(drawn)), drawn)
            covered[name] += low <= truth <= high
    assert 0.90 <= covered["by trajectory"] / n_sets <= 0.99, covered
    assert covered["by frame"] / n_sets < 0.85, covered  # what drawing single frames would claim


def test_intervals_from_stretches_of_one_correlated_trajectory_cover_the_truth():
    rng = np.random.default_rng(2)
    n_sets, n_frames, memory = 300, 400, 0.7  # the memory of 3 frames is much shorter than a stretch of 20
    covered = 0
    drawn = blocks(["only"] * n_frames)
    for _ in range(n_sets):
        kicks = rng.normal(size=n_frames + 50) * np.sqrt(1 - memory**2)
        values = np.empty(n_frames + 50)
        values[0] = kicks[0]
        for i in range(1, len(values)):
            values[i] = memory * values[i - 1] + kicks[i]
        _, low, high = interval(error_statistics.mean(np.abs(values[50:]), drawn.of_frame, len(drawn)), drawn)
        covered += low <= np.sqrt(2 / np.pi) <= high
    assert 0.90 <= covered / n_sets <= 0.99, covered / n_sets


def test_a_single_frame_has_a_value_and_no_interval():
    section = Accuracy(labelled(1)).evaluate(Prepared())
    result = found(section, "force_rmse")
    assert result.value > 0 and result.low is None and result.high is None


def test_every_measure_but_component_means_is_the_same_in_rotated_axes():
    frames = labelled(12)
    matrix = Rotation.from_rotvec([0.3, -1.1, 0.7]).as_matrix()
    turned = []
    for atoms in frames:
        other = atoms.copy()
        other.set_cell(atoms.cell.array @ matrix.T)
        other.positions = atoms.positions @ matrix.T
        for name in (keys.REF_FORCES, "answer_forces"):
            other.arrays[name] = atoms.arrays[name] @ matrix.T
        for name in (keys.REF_STRESS, "answer_stress"):
            other.info[name] = matrix @ atoms.info[name] @ matrix.T
        turned.append(other)
    before, after = Accuracy(frames).evaluate(Prepared()).results, Accuracy(turned).evaluate(Prepared()).results
    for one, other in zip(before, after, strict=True):
        assert (one.name, one.conditions) == (other.name, other.conditions)
        if one.name not in ("force_mae", "stress_mae"):
            np.testing.assert_allclose(
                [other.value, other.low or 0], [one.value, one.low or 0], rtol=1e-9, err_msg=str(one)
            )


def test_a_constant_per_element_is_taken_out_when_asked_and_told_of_when_not():
    frames = labelled(30, shift=17.0)
    told = Accuracy(frames).evaluate(Prepared())
    assert found(told, "energy_rmse").value == pytest.approx(17e3 / 8, rel=0.01)
    assert any("fit_atomic_energies" in note for note in told.notes)
    fitted = Accuracy(frames, fit_atomic_energies=True).evaluate(Prepared())
    assert found(fitted, "energy_rmse").value == pytest.approx(2.0, rel=0.3)
    assert any("fitted constant per element" in note for note in fitted.notes)


def test_an_ion_between_sites_migrates_and_a_vibrating_or_shifted_one_does_not():
    lattice = bulk("LiCl", "rocksalt", a=5.1, cubic=True)
    atoms = lattice.repeat((2, 1, 1))
    atoms.rattle(0.1, seed=1)
    atoms.positions += [0.9, 0, 0]  # the crystal drifted
    atoms.wrap()
    ion = np.flatnonzero(atoms.symbols == "Li")[2]
    atoms.positions[ion] += [1.3, 0.9, 0]
    (mask,), how = migrating_ions([atoms], "Li", lattice)
    assert np.flatnonzero(mask).tolist() == [ion] and "reference" in how
    after = atoms.copy()
    after.positions += [0.4, 2.0, 0]
    after.positions[ion] += [0, 1.2, 0]
    masks, how = migrating_ions([atoms, after], "Li")
    assert [np.flatnonzero(mask).tolist() for mask in masks] == [[ion], [ion]] and "frame before" in how
    masks, how = migrating_ions([atoms, after], "Li", trajectories=["a", "b"])
    assert not np.any(masks) and how == ""
    named = np.zeros(len(atoms), dtype=bool)
    named[0] = True
    atoms.arrays["migrating"] = named
    assert np.array_equal(migrating_ions([atoms], "Li", lattice)[0][0], named)


def test_errors_of_migrating_ions_stand_apart():
    frames = labelled(20, slope=1.0, noise=0.01)
    for atoms in frames:
        atoms.arrays["migrating"] = np.arange(8) == 0
        atoms.arrays["answer_forces"][0] = 1.5 * atoms.arrays[keys.REF_FORCES][0]
    section = Accuracy(frames, mobile="Li").evaluate(Prepared())
    assert found(section, "force_rmse", ions="migrating").value == pytest.approx(500, rel=0.25)
    assert found(section, "force_rmse", ions="same element, not migrating").value == pytest.approx(10, rel=0.15)
    assert found(section, "force_angle_q50", ions="migrating").value < 1e-5
    sizes = np.sort([np.linalg.norm(atoms.arrays[keys.REF_FORCES][0]) for atoms in frames])
    assert found(section, "force_magnitude_error_q50", ions="migrating").value == pytest.approx(
        500 * sizes[9], rel=1e-9
    )


def test_a_true_spread_is_calibrated_and_a_wrong_one_is_scaled_by_species():
    rng = np.random.default_rng(3)
    n = 20000
    sigma, kind = rng.uniform(0.05, 0.5, size=n), rng.integers(0, 2, size=n)
    error = rng.normal(size=(n, 3)) * sigma[:, None] / np.sqrt(3)
    true = calibration.summary(sigma, error)
    assert true["alpha"] == pytest.approx(1, abs=0.01) and true["area"] < 0.005 and true["spearman"] > 0.7
    np.testing.assert_allclose(true["sigma"], true["rmse"], rtol=0.05)
    wrong = sigma / np.where(kind == 1, 4.0, 0.5)
    assert calibration.scales(wrong, error, kind) == {0: pytest.approx(0.5, rel=0.02), 1: pytest.approx(4, rel=0.02)}
    assert calibration.summary(wrong, error)["area"] > 0.05
    mended = calibration.cross_fitted(wrong, error, kind, np.arange(n) % 10)
    assert calibration.summary(mended, error)["area"] < 0.01


def test_a_calculator_with_a_spread_gets_its_calibration_and_all_figures_come_back_from_json(tmp_path):
    frames = labelled(20, slope=1.0, noise=0.05)
    for atoms in frames:
        atoms.arrays["answer_sigma"] = np.full(8, 0.05 * np.sqrt(3) / 2)  # half of what it should be
    section = Accuracy(frames, mobile="Li").evaluate(Prepared())
    assert found(section, "force_sigma_rms_error_over_sigma", sigma="as given").value == pytest.approx(2, rel=0.1)
    assert found(section, "force_sigma_rms_error_over_sigma", sigma="rescaled").value == pytest.approx(1, rel=0.1)
    write_section(tmp_path / "accuracy.json", section)
    again = read_section(tmp_path / "accuracy.json")
    figures = Accuracy.figures(again.data)
    assert set(figures) == {"parity", "force_errors", "calibration_force"}
    for name, figure in figures.items():
        figure.savefig(tmp_path / f"{name}.png")


@pytest.mark.parametrize("factor", [1.0, 30.0, 1e4])
def test_labels_of_the_axes_of_force_errors_do_not_touch(factor):
    steps = np.linspace(0, 1, 101)
    curve = {
        "n": 100,
        "part": steps.tolist(),
        "magnitude_meV_per_A": (10 * factor**steps).tolist(),
        "angle_degree": (1 + 3 * factor**steps).tolist(),
    }
    figure = Accuracy.figures({"cumulative": {"all atoms": curve}})["force_errors"]
    figure.canvas.draw()
    for axis in figure.axes:
        labels = [label for label in axis.get_xticklabels(which="both") if label.get_text()]
        low, high = axis.get_xlim()
        boxes = sorted(
            (label.get_window_extent().x0, label.get_window_extent().x1)
            for label in labels
            if low <= label.get_position()[0] <= high
        )
        assert all(left[1] < right[0] for left, right in pairwise(boxes)), boxes
        assert boxes or factor == 1.0


def test_structures_without_labels_are_refused():
    frames = [Atoms("Li", cell=[3, 3, 3], pbc=True)]
    frames[0].info |= {"answer_energy": 0.0, "answer_stress": np.zeros((3, 3))}
    frames[0].arrays["answer_forces"] = np.zeros((1, 3))
    with pytest.raises(ValueError, match="ref_forces"):
        Accuracy(frames).evaluate(Prepared())
    with pytest.raises(ValueError, match="got none"):
        Accuracy([]).evaluate(Prepared())


def test_an_answer_that_is_not_finite_names_the_structure():
    frames = labelled(4)
    frames[2].arrays["answer_forces"][1, 0] = np.nan
    frames[2].info["source"] = "some.xyz:7"
    with pytest.raises(ValueError, match="structure 2 .some.xyz:7."):
        Accuracy(frames).evaluate(Prepared())
