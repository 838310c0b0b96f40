"""Uncertainties are counted where they are, and sampling ends for reasons that hold."""

import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from ase import Atoms
from ase.calculators.calculator import Calculator, all_changes

sys.path.insert(0, str(Path(__file__).parent))
from oracle import SITE, Cosine, crystal

from mlip import keys
from mlip.data.diagnosis import ERROR
from mlip.labelling.checks import check_together
from mlip.labelling.engine import with_labels
from mlip.sampling.candidate import Candidate
from mlip.sampling.context import PathRecord
from mlip.sampling.convergence import Limits, criteria, decide
from mlip.sampling.errors import ValidationErrors, validation_errors
from mlip.sampling.labels import shifted, validation_indices
from mlip.sampling.store import RoundRecord
from mlip.sampling.uncertainty import UncertaintyCounts, UncertaintyWindow, count_uncertain, in_window, score


class Uncertain(Calculator):
    """Uncertainty of each atom from its z coordinate, in eV/Å; refuses structures below zero."""

    implemented_properties = ("energy", "forces")

    def calculate(self, atoms=None, properties=("energy",), system_changes=all_changes):
        super().calculate(atoms, properties, system_changes)
        z = self.atoms.positions[:, 2]
        if (z < 0).any():
            raise ValueError("atoms overlap")
        self.results = {
            "energy": 0.0,
            "forces": np.zeros((len(z), 3)),
            keys.FORCE_SIGMA: z / 100,
            keys.ENERGY_SIGMA: 0.1,
        }


def candidate(kind, z, ion=-1):
    return Candidate(
        Atoms("Li2O", [[0, 0, z], [30, 0, 8.0], [60, 0, 50.0]], cell=[90, 90, 90], pbc=True), kind, ion=ion
    )


class Flat(Calculator):
    """No forces."""

    implemented_properties = ("energy", "forces")

    def calculate(self, atoms=None, properties=("energy",), system_changes=all_changes):
        super().calculate(atoms, properties, system_changes)
        self.results = {"energy": 0.0, "forces": np.zeros((len(atoms), 3))}


def test_uncertainty_is_that_of_the_hopping_ion_or_of_all_mobile_ones_and_refused_structures_are_left_out():
    given = [candidate("hop", 3.0, ion=0), candidate("md", 3.0), candidate("md", 20.0), candidate("md", -1.0)]
    scored = score(given, Uncertain(), "Li")
    assert [c.scores["sigma"] for c in scored] == pytest.approx([0.03, 0.08, 0.2]), "never that of the oxygen far away"
    assert [c.scores["energy_sigma"] for c in scored] == pytest.approx([0.1] * 3)
    assert score([], Uncertain(), "Li") == []


def test_the_window_follows_the_validation_error_and_everything_is_counted():
    window = UncertaintyWindow(min_uncertainty=0.05, rmse_factor=1.5, upper_factor=4.0)
    assert window.bounds(0.01) == (0.05, 0.2) and window.bounds(0.1) == pytest.approx((0.15, 0.6))
    scored = score(
        [candidate("md", z) for z in (9, 12, 30, 70)] + [candidate("check", 9), candidate("hop", 1, 0)],
        Uncertain(),
        "Li",
    )
    counts = count_uncertain(scored, 0.1, 0.4)
    assert counts.below == {"md": 1, "check": 1, "hop": 1} and counts.inside == {"md": 2} and counts.above == {"md": 1}
    assert counts.uncertain_fraction == pytest.approx(3 / 5)
    assert [(c.kind, round(c.scores["sigma"], 2)) for c in in_window(scored, 0.1, 0.4)] == [
        ("md", 0.12),
        ("md", 0.3),
        ("check", 0.09),
    ]
    assert count_uncertain(scored[-1:], 0.1, 0.4).uncertain_fraction is None
    # 0.12 and 0.3 are in the window; one label asks for three candidates, so 0.09 of md is looked at, and none below it
    assert (
        window.eligible_from(scored, 0.1, 0.4, 1) == pytest.approx(0.09)
        and window.eligible_from(scored, 0.05, 0.4, 1) == 0.05
    )
    assert (
        UncertaintyWindow(min_candidates_per_label=0).eligible_from(scored, 0.1, 0.4, 1) == 0.1
        and window.eligible_from([], 0.1, 0.4, 5) == 0.1
    )
    with pytest.raises(ValueError, match="upper_factor > 1"):
        UncertaintyWindow(upper_factor=0.5)


def test_broken_structures_among_those_that_validate_do_not_move_the_typical_error():
    frames = [Atoms("Cu2", [[0, 0, 0], [2, 2, 2]], cell=[4, 4, 4], pbc=True) for _ in range(5)]
    for n, atoms in enumerate(frames):
        atoms.set_array(keys.REF_FORCES, np.full((2, 3), 0.1 if n else 9.0))
    found = validation_errors(Flat(), frames)
    assert found.median_force_vector_rmse == pytest.approx(0.1 * np.sqrt(3)) and found.force_vector_rmse > 6.0
    for atoms in frames[1:4]:
        atoms.info["kind"] = "start"  # strained: most of those that validate, and not what dynamics sees
    frames[4].set_array(keys.REF_FORCES, np.full((2, 3), 0.2))
    frames[0].info["kind"] = "start"
    assert validation_errors(Flat(), frames).median_force_vector_rmse == pytest.approx(0.2 * np.sqrt(3))
    assert validation_errors(Flat(), frames[:4]).median_force_vector_rmse == pytest.approx(0.1 * np.sqrt(3))
    assert validation_errors(Flat(), []) == ValidationErrors(0.0, 0.0)


def made(barriers=(0.3,), sigma=0.001, error=0.001, share=0.01, labels=50, **more):
    paths = [PathRecord(f"h{n}", value, sigma=sigma) for n, value in enumerate(barriers)]
    errors = {path.hop: error for path in paths}
    counts = UncertaintyCounts({}, {}, {}, share, 0.05, 0.2)
    return RoundRecord(1, labels, 0, {}, 1, ValidationErrors(0.0, 0.0), None, {}, errors, errors, paths, counts, **more)


def test_it_has_converged_only_when_every_criterion_of_every_hop_is_met():
    before, limits = made(), Limits()
    assert decide([before, made()], limits)[1]
    for name, last in {
        "sigma of a barrier 0.02": made(sigma=0.02), "change of a barrier 0.02": made([0.32]), "error at a saddle 0.03": made(error=-0.03),
        "fraction of uncertain frames 0.1": made(share=0.1),
    }.items():  # fmt: skip
        assert decide([before, last], limits) == (None, False)
        assert name in "; ".join(str(each) for each in criteria([before, last], limits) if not each.is_met)


def test_what_is_not_known_yet_is_not_met():
    limits = Limits()
    assert not decide([made()], limits)[1], "a first barrier has no change"
    assert not decide([made(), made([0.3, 0.4])], limits)[1], "nor has a new hop"
    unlabelled = replace(made(), saddle_errors={})
    assert not decide([made(), unlabelled], limits)[1]
    assert not decide([made([]), made([])], limits)[1], "no hop was found"
    assert decide([replace(made(), paths=None)], limits)[1], "a sampler that looks for none is judged by its dynamics"


def test_budgets_and_dead_ends_end_it_without_convergence():
    rough = made(sigma=1.0)
    assert decide([rough], Limits(labels=50)) == ("the budget of 50 labels is used up", False)
    assert decide([rough] * 4, Limits(rounds=3)) == ("3 rounds are done", False)
    assert decide([rough] * 3, Limits(rounds=3)) == (None, False)
    assert decide([made(sigma=1.0, ended="nothing to label")], Limits()) == ("nothing to label", False)
    assert decide([made(), made(ended="nothing to label")], Limits())[1], "nothing to label, and all is well"


def test_checks_validate_first_and_every_round_leaves_something_to_train_on():
    def labelled(kinds):
        return [Atoms("H", info={"kind": kind}) for kind in kinds]

    assert validation_indices(labelled(["hop"] * 8 + ["check"] * 2), 0.2) == [8, 9]
    assert validation_indices(labelled(["check"] * 2), 0.5) == [0] and validation_indices(labelled(["hop"]), 0.5) == []
    assert (
        len(validation_indices(labelled(["hop"] * 20), 0.1)) == 2
        and validation_indices(labelled(["hop"] * 5), 0.0) == []
    )


def test_a_shifted_crystal_is_the_same_crystal_in_another_place():
    atoms = Atoms("LiO", [[0, 0, 0], [0, 0, 2.0]], cell=[4, 4, 4], pbc=True)
    moved = shifted(atoms, 3)
    np.testing.assert_allclose(moved.get_all_distances(mic=True), atoms.get_all_distances(mic=True))
    assert np.abs(moved.positions - atoms.positions).min() > 1e-3


def test_labels_along_a_hop_are_not_taken_for_a_wrong_unit():
    """Force times way is not the rise from a site to near the saddle: no sign of a unit."""
    whole = crystal((3, 3, 3))
    landscape, labelled = Cosine(whole), []
    for n, x in enumerate([0, 0.35 * SITE] * 3):
        atoms = whole.copy()
        atoms.rattle(0.002, seed=n)
        atoms.positions[0, 0] += x
        landscape.calculate(atoms)
        labelled.append(with_labels(atoms, landscape.results, str(n)))
    assert not [
        found
        for found in check_together(labelled, "labels/*.xyz")
        if found.check == "work of forces" and found.severity == ERROR
    ]
