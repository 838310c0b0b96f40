"""Every physical key of a config carries its unit, unless its name has one meaning and one unit in the field."""

import re

import pytest

from mlip import config
from mlip.commands import VERBS

UNITS = ("_K", "_GPa", "_fs", "_ps", "_A", "_eV", "_eV_A", "_GB", "_s", "_seconds")
PHYSICAL = re.compile(
    r"temperature|pressure|distance|length|barrier|energy|force|time|interval|damping|saddle|residence|equilibration|production"
)
# what ASE, LAMMPS and the neural potentials call so, in eV, Å, e; and numbers without a unit
CONVENTIONAL = {"times", "force_relative_rmse", "forces", "energy", "interval"}
WITHOUT_UNIT = {
    "relative_interval",
    "min_descriptor_distance",
    "barrier_repeats",
    "remove_net_force",
    "barriers",
    "barriers_large",
    "saddle",
    "saddles",
}


@pytest.mark.parametrize("verb", list(VERBS))
def test_a_physical_key_ends_with_its_unit(verb):
    cfg = config.compose(verb, [], [config.CONFIGS])
    keys = {key for key in config.leaves(cfg) if ".thresholds." not in key and ".loss." not in f".{key}"}
    last = {re.sub(r"\.\d+$", "", key).rsplit(".", 1)[-1] for key in keys}
    bare = {key for key in last if PHYSICAL.search(key) and not key.endswith(UNITS)}
    assert not bare - CONVENTIONAL - WITHOUT_UNIT
