"""Time to failure: the interval holds, replicas that live and replicas that fail are counted."""

import numpy as np
import pytest
from ase.build import bulk
from ase.calculators.emt import EMT

from mlip.evaluation.holes import Holes
from mlip.evaluation.survival import Survival, failure_interval

ATOMS = bulk("Cu", cubic=True)


class Refuses(EMT):
    """No answer for atoms that have moved by 0.15 Å."""

    def calculate(self, atoms=None, properties=("energy",), system_changes=()):
        if np.abs(atoms.positions - ATOMS.positions).max() > 0.15:
            raise ValueError("no answer")
        super().calculate(atoms, properties, system_changes)


def survival(folder, calculator):
    measured = Survival(ATOMS, folder, [300.0], factors=(0.1, 4.0), n_replicas=2, time_ps=0.3)
    return measured, measured.evaluate(calculator)


def test_replicas_that_end_give_a_bound_and_those_that_fail_a_time(tmp_path):
    measured, section = survival(tmp_path, Refuses())
    found = {(result.name, result.conditions["temperature_K"]): result for result in section.results}
    assert found["replicas_survived", 30.0].value == 1 and found["replicas_survived", 1200.0].value == 0
    assert found["time_to_failure", 30.0].low == pytest.approx(0.6 / -np.log(0.0455), rel=1e-3)
    assert str(found["time_to_failure", 30.0]).startswith("time_to_failure > 0.194 ps")
    failed = found["time_to_failure", 1200.0]
    assert 0 < failed.low < failed.value < failed.high and failed.value < 0.3
    assert sum("no answer" in note for note in section.notes) == 2
    assert measured.figures(section.data)["lives"].axes[0].lines


def test_the_interval_of_a_poisson_process_holds_the_true_time():
    rng = np.random.default_rng(0)
    seen = []
    for _ in range(2000):
        n = rng.poisson(50.0 / 20.0)
        low, high = failure_interval(50.0, n)
        seen.append(low <= 20.0 and (high is None or high >= 20.0))
    assert 0.95 < np.mean(seen) < 1.0


def test_a_calculator_without_holes_passes_and_one_that_attracts_is_caught():
    class Attracts(EMT):
        def calculate(self, atoms=None, properties=("energy",), system_changes=()):
            super().calculate(atoms, properties, system_changes)
            distance = atoms.get_all_distances(mic=bool(atoms.pbc.any()))[np.triu_indices(len(atoms), 1)]
            self.results["energy"] -= 1e4 * (np.clip(1.5 - distance, 0, None) ** 2).sum()

    falls = {}
    for calculator in (EMT(), Attracts()):
        section = Holes(ATOMS.repeat(2)).evaluate(calculator)
        falls[type(calculator).__name__] = {each.conditions["path"]: each.value for each in section.results}
        assert Holes.figures(section.data)["pairs"].axes[0].lines
    assert falls["Attracts"]["pair alone"] > 100 > 1 > falls["EMT"]["squeezed cell"], falls
