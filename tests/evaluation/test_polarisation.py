"""Conductivity of the polarisation current: constant charges, and charges that depend on where an ion is."""

import json

import numpy as np
import pytest
from ionic_springs import Breathing
from walkers import crystal, hoppers

from mlip.evaluation.dynamics import Dynamics
from mlip.evaluation.polarisation import BORN, FORMAL, PolarisationConductivity, every_nth, polarisation
from mlip.evaluation.result import plain


def transport(tmp_path="", **settings):
    return PolarisationConductivity(tmp_path, Dynamics(), [600.0], "Li", 1.0, hop_length_A=2.0, **settings)


def walking(seed=0, n_frames=601):
    """Li that hops on a lattice of edge 2 Å in a framework that stands still."""
    return crystal(hoppers(np.random.default_rng(seed), 1, n_frames, 12, 0.1, hop=2.0)[0], np.diag([12.0, 14.0, 16.0]))


def named(results, name):
    return {r.conditions["current"]: r for r in results if r.name == name}


def test_constant_charges_give_the_conductivity_of_formal_charges_to_the_last_digit():
    results, curves, notes = transport().at_temperature(Breathing(3, depth=0.0), 600.0, walking())
    for name in ("conductivity", "haven_ratio"):
        found = named(results, name)
        for end in ("value", "low", "high"):
            assert getattr(found[BORN], end) == pytest.approx(getattr(found[FORMAL], end), rel=1e-9)
    assert {r.conditions["species"]: r.value for r in results if r.name == "born_charge"}["Li"] == pytest.approx(1.0)
    assert not notes
    np.testing.assert_allclose(curves[BORN]["values"], curves[FORMAL]["values"], rtol=1e-9)


def test_the_dc_limit_does_not_depend_on_what_charges_are_between_sites():
    """Z* of 1.5 on the sites and 0.5 halfway between them: a hop still carries one electron (Grasselli and Baroni 2019)."""
    results, curves, _ = transport().at_temperature(Breathing(3, depth=0.5), 600.0, walking())
    sigma = named(results, "conductivity")
    assert sigma[BORN].value == pytest.approx(sigma[FORMAL].value, rel=0.02)
    charge = next(r.value for r in results if r.name == "born_charge" and r.conditions["species"] == "Li")
    assert charge > 1.4  # and its square is not what counts
    figure = PolarisationConductivity.figures(json.loads(json.dumps(plain({"runs": [curves]}))))["conductivity"]
    assert "S/cm" in figure.axes[0].get_ylabel()


def test_frames_are_thinned_and_nothing_that_hops_has_no_conductivity(tmp_path):
    trajectory = walking(n_frames=101)
    thin = every_nth(trajectory, 4)
    assert len(thin.positions) == 26 and thin.interval_ps == 4 * trajectory.interval_ps
    dipole, _ = polarisation(Breathing(3, depth=0.0), thin)
    assert dipole.shape == (26, 3)
    still = crystal(hoppers(np.random.default_rng(0), 1, 101, 12, 0.0, hop=2.0)[0])
    results, curves, (note,) = transport().at_temperature(Breathing(3), 600.0, still)
    assert "nothing hops" in note and curves[BORN] is None and {r.name for r in results} == {"born_charge"}
    with pytest.raises(FileNotFoundError, match="evaluate `diffusion` first"):
        transport(tmp_path).evaluate(None)
