"""Reference energies for any set of compositions; what a model must know of its data."""

import numpy as np
import pytest
import torch

from mlip import keys
from mlip.data.statistics import fit_atomic_energies, statistics
from mlip.models.atomic_energy import AtomicEnergy

RNG = np.random.default_rng(0)
E0 = np.array([-1.9, -13.5, -300.0])


def test_additive_energies_are_recovered_exactly():
    counts = RNG.integers(1, 20, (40, 3))
    np.testing.assert_allclose(fit_atomic_energies(counts, counts @ E0), E0, rtol=1e-9)


def test_one_stoichiometry_shares_the_mean_energy_per_atom():
    counts = np.tile([3, 6, 1], (25, 1)) * RNG.integers(1, 4, 25)[:, None]
    energies = counts @ E0 + 0.1 * RNG.normal(size=25)
    fitted = fit_atomic_energies(counts, energies)
    np.testing.assert_allclose(fitted, np.mean(energies / counts.sum(1)), rtol=1e-12)


@pytest.mark.parametrize("kind", ["full", "one", "two", "vacancy"])
def test_the_mean_residual_per_atom_is_zero_whatever_the_rank(kind):
    counts = {"full": RNG.integers(1, 9, (50, 3)), "one": np.tile([8, 4, 2], (50, 1)),
              "two": np.array([[8, 4, 0], [4, 4, 0]])[RNG.integers(0, 2, 50)],
              "vacancy": np.array([[64, 32, 1], [63, 32, 1]])[RNG.integers(0, 2, 50)]}[kind]  # fmt: skip
    energies = counts @ E0 + RNG.normal(size=50)
    fitted = fit_atomic_energies(counts, energies)
    assert np.mean((energies - counts @ fitted) / counts.sum(1)) == pytest.approx(0, abs=1e-10)
    assert np.abs(fitted).max() < 1e3, "directions the data hardly determine do not grow"


def test_known_energies_are_kept_and_the_rest_is_fitted():
    counts = RNG.integers(1, 20, (40, 3))
    fitted = fit_atomic_energies(counts, counts @ E0, fixed={1: E0[1]})
    np.testing.assert_allclose(fitted, E0, rtol=1e-9)
    wrong = fit_atomic_energies(counts, counts @ E0, fixed={1: 5.0})
    assert wrong[1] == 5.0


def make(**changes):
    counts = np.array([[1, 0], [0, 1], [3, 1], [3, 1], [2, 2]])
    settings = {
        "elements": [3, 17], "levels": ["pbe", "scan"], "compositions": counts,
        "energies": np.array([-0.2, -0.3, -15.0, np.nan, -20.0]), "level": np.array([0, 0, 0, 0, 1]),
        "isolated": np.array([True, True, False, False, False]), "mean_neighbours": 12.5, "force_rms": 0.7, **changes,
    }  # fmt: skip
    return statistics(**settings)


def test_isolated_atoms_give_the_reference_energies_of_their_level():
    made = make()
    assert made == {"elements": [3, 17], "levels": ["pbe", "scan"], "mean_neighbours": 12.5, "force_rms": 0.7,
                    "atomic_energies": [[-0.2, -0.3], [-5.0, -5.0]],
                    "largest_crowding": [0.0, 0.0], "least_crowding": [0.0, 0.0], "shortest_distances": [[None, None], [None, None]]}  # fmt: skip
    assert make(atomic_energies="least_squares")["atomic_energies"][0] != [-0.2, -0.3]


def test_a_table_may_name_elements_or_levels():
    assert make(atomic_energies={"Li": 1.0, "Cl": 2.0})["atomic_energies"] == [[1.0, 2.0]] * 2
    made = make(atomic_energies={"scan": {"Li": 1.0}})["atomic_energies"]
    assert made[1][0] == 1.0 and made[1][1] == pytest.approx(-11.0)
    with pytest.raises(KeyError, match="'Lithium' is no element"):
        make(atomic_energies={"Lithium": 1.0})
    with pytest.raises(KeyError, match="no level 'hse'"):
        make(atomic_energies={"hse": {"Li": 1.0}})


def test_levels_without_energies_ask_for_a_table():
    with pytest.raises(ValueError, match="no energies at level 'scan' to fit atomic energies of Li, Cl"):
        make(energies=np.array([-0.2, -0.3, -15.0, -15.0, np.nan]))


def test_fine_tuning_keeps_what_the_model_knows_and_adds_the_new():
    previous = {"elements": [8, 17], "levels": ["pbe"], "atomic_energies": [[-1.0, -2.0]], "mean_neighbours": 30.0,
                "force_rms": 2.0}  # fmt: skip
    made = make(previous=previous)
    assert made["elements"] == [3, 8, 17] and made["levels"] == ["pbe", "scan"]
    assert made["atomic_energies"][0] == [-0.2, -1.0, -2.0], "Li is new, O and Cl stay"
    assert (made["mean_neighbours"], made["force_rms"]) == (30.0, 2.0)
    assert np.isfinite(made["atomic_energies"]).all()


def test_fine_tuning_widens_the_limits_of_the_data():
    previous = {"elements": [8, 17], "levels": ["pbe"], "atomic_energies": [[-1.0, -2.0]], "mean_neighbours": 30.0,
                "force_rms": 2.0, "shortest_distances": [[2.4, None], [None, 3.2]], "largest_crowding": [5.0, 7.0], "least_crowding": [2.0, 3.0]}  # fmt: skip
    made = make(
        previous=previous, extremes=({(3, 17): 2.2, (17, 17): 3.1, (3, 3): 2.5}, {3: 4.0, 17: 6.0}, {3: 1.5, 17: 3.5})
    )
    assert made["shortest_distances"] == [[2.5, None, 2.2], [None, 2.4, None], [2.2, None, 3.1]]
    assert made["largest_crowding"] == [4.0, 5.0, 7.0]
    assert made["least_crowding"] == [1.5, 2.0, 3.0]


def test_charged_cells_of_one_composition_give_the_energy_of_charge_and_neutral_ones_none():
    """The same cell with an electron more and less, on labels whose potential has its zero at 3 V."""
    compositions, charges = np.tile([8, 4], (30, 1)), np.tile([0.0, 1.0, -1.0], 10)
    energies = -40.0 + 3.0 * charges + 0.01 * np.random.default_rng(0).normal(size=30)
    found = fit_atomic_energies(compositions, energies, charges=charges)
    assert found[-1] == pytest.approx(3.0, abs=0.02)
    assert compositions[0] @ found[:-1] == pytest.approx(-40.0, abs=0.02)
    neutral = fit_atomic_energies(compositions, energies, charges=0 * charges)
    assert neutral[-1] == 0 and neutral[:-1] == pytest.approx(fit_atomic_energies(compositions, energies))
    table = {"elements": [3, 8], "levels": ["pbe"], "atomic_energies": [found[:-1].tolist()]}
    term = AtomicEnergy({**table, "charge_energies": [float(found[-1])]})
    graph = {
        keys.ATOMIC_NUMBERS: torch.tensor([3, 3, 8, 8]),
        keys.BATCH: torch.tensor([0, 0, 0, 1]),
        keys.LEVEL: torch.tensor([0, 0]),
        keys.TOTAL_CHARGE: torch.tensor([-1.0, 0.0]),
    }
    graph[keys.POSITIONS] = torch.zeros(4, 3, dtype=torch.float64)
    of_charge = term.of_charge(graph)
    assert not AtomicEnergy(table).of_charge(graph).any()
    assert of_charge[:3].sum().item() == pytest.approx(-found[-1], abs=1e-8) and of_charge[3] == 0
