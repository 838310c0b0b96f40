"""Buckingham pairs and point charges against closed forms and an exact Ewald sum."""

import math

import numpy as np
import pytest
import torch
from ase import Atoms

from mlip import config, keys
from mlip.data.graph import to_graph
from mlip.electrostatics import coulomb_energy
from mlip.models.classical.buckingham import (
    Buckingham,
    buckingham,
    dispersion_damping,
    generic_parameters,
    published_parameters,
)
from mlip.models.classical.ion_energy import IonEnergy
from mlip.models.classical.point_charges import PointCharges
from mlip.nn.edges import edge_vectors

STATISTICS = {"elements": [3, 8, 17], "n_features": 0}


def graph(atoms, cutoff):
    graph = to_graph(atoms, cutoff)
    graph[keys.EDGE_VECTOR] = edge_vectors(graph)
    return graph


@pytest.mark.parametrize("pair", ["Li-O", "O-O", "O-Li"])
def test_energy_of_a_pair_is_the_published_formula(pair):
    """Hand formula; at 2.5 Å the damping of O-O, whose rho is 0.149 Å, differs from one by 0.003."""
    a, rho, c = published_parameters()["-".join(sorted(pair.split("-")))]
    atoms = Atoms(pair.replace("-", ""), [[0, 0, 0], [0, 2.5, 0]])
    energy = Buckingham(STATISTICS, 6.0).double()(graph(atoms, 6.0)).sum().item()
    assert energy == pytest.approx(a * math.exp(-2.5 / rho) - c / 2.5**6, rel=3e-3)


def test_damping_is_its_series():
    x = 1.7
    expected = 1 - math.exp(-x) * sum(x**k / math.factorial(k) for k in range(7))
    assert float(dispersion_damping(torch.tensor([x], dtype=torch.float64))) == pytest.approx(expected, rel=1e-12)


def test_anions_that_meet_do_not_fall_into_each_other():
    """The bare -C/r^6 of O-O turns attractive below 1.9 Å and reaches -2e5 eV at 0.23 Å; the damped one is repulsive."""
    a, rho, c = (torch.tensor([x], dtype=torch.float64) for x in published_parameters()["O-O"])
    r = torch.linspace(0.2, 1.5, 50).double()
    energy = buckingham(r, a, rho, c)
    assert float(energy.min()) > -2
    assert float((a * torch.exp(-r / rho) - c / r**6).min()) < -1e5


def test_generic_start_balances_the_coulomb_force_of_rock_salt():
    a, rho, c = generic_parameters(("Li", "Cl"), (1.0, -1.0))
    contact = 0.90 + 1.67  # Shannon's crystal radii, coordination 6
    force = a / rho * math.exp(-contact / rho)
    assert 6 * force == pytest.approx(1.74756 * 14.3996 / contact**2, rel=1e-3)
    assert c == 0 and generic_parameters(("Li", "La"), (1.0, 3.0))[0] == 0


def test_wrong_pairs_are_refused():
    with pytest.raises(ValueError, match="written Li-O"):
        Buckingham(STATISTICS, 6.0, {"LiO": [1, 1, 1]})
    with pytest.raises(ValueError, match="rho > 0"):
        Buckingham(STATISTICS, 6.0, {"Li-O": [100.0, 0.0, 0.0]})


@pytest.mark.parametrize("pbc", [True, False])
def test_point_charges_have_the_energy_of_an_exact_ewald_sum(pbc):
    rng = np.random.default_rng(0)
    positions = np.array([[0, 0, 0], [2, 0, 0], [0, 2.2, 0], [2, 2, 2], [0, 2, 2.1]]) + 0.1 * rng.normal(size=(5, 3))
    atoms = Atoms([3, 3, 8, 3, 17], positions, cell=4.4 * np.eye(3) + 0.3 * rng.normal(size=(3, 3)), pbc=pbc)
    charges = torch.tensor([1.0, 1.0, -2.0, 1.0, -1.0], dtype=torch.float64)
    exact = float(coulomb_energy(atoms.positions, atoms.cell.array, pbc, charges))
    for width in (0.6, 0.75):
        term = PointCharges(STATISTICS, 6.0, width, tolerance=1e-9).double().eval()
        assert float(term(graph(atoms, 6.0)).sum()) == pytest.approx(exact, abs=1e-5)
    with pytest.raises(ValueError, match="too wide"):
        PointCharges(STATISTICS, 6.0, 1.0)


def test_a_lone_ion_costs_its_start_and_what_was_learned():
    """4.4 eV z^2 and w: 17.6 + 0.5 eV for O2-."""
    term = IonEnergy(STATISTICS)
    term.learned.weight.data[1] = 0.5
    assert term(graph(Atoms("O", [[0, 0, 0]]), 6.0)).item() == pytest.approx(18.1)


def test_a_config_from_before_the_classes_moved_still_builds():
    point = {"_target_": "mlip.electrostatics.point.PointCharges", "_partial_": True, "cutoff": 6.0, "width": 0.85}
    network = {"_target_": "mlip.models.featureless.Featureless", "_partial_": True, "cutoff": 6.0}
    model = {"_target_": "mlip.models.potential.Potential", "_partial_": True, "network": network}
    statistics = {**STATISTICS, "levels": ["pbe"], "atomic_energies": [[0.0, 0.0, 0.0]]}
    potential = config.build({"model": {**model, "terms": {"electrostatics": point}}}, statistics)
    assert isinstance(potential.terms[1], PointCharges)
