"""Born charges, eps_inf and LO-TO splitting from forces and energies in a field, for potentials that have them otherwise."""

import numpy as np
import pytest
import torch
from ase import Atoms
from ase.build import bulk
from ase.calculators.calculator import Calculator

from mlip import config, units
from mlip.data.graph import collate, to_graph
from mlip.electrostatics import model_born_charges, model_dielectric_tensor
from mlip.evaluation.static import phonons
from mlip.evaluation.static.field_response import field_response, polarisation_response

STATISTICS = {
    "elements": [3, 17],
    "levels": ["default"],
    "atomic_energies": [[0.0, 0.0]],
    "mean_neighbours": 20.0,
    "force_rms": 1.0,
}


class Direct(Calculator):
    """A potential that was not exported."""

    implemented_properties = ("energy", "forces")

    def __init__(self, potential):
        super().__init__()
        self.potential = potential

    def calculate(self, atoms=None, properties=None, system_changes=None):
        results = self.potential(collate([to_graph(atoms, self.potential.cutoff)]))
        self.results = {"energy": results["energy"].item(), "forces": results["forces"].numpy()}


def potential(*choice, noise=0.0):
    cfg = config.compose("train", list(choice), [config.CONFIGS]).model
    if "n_channels" in cfg.network:
        cfg.network.n_channels = 4
    torch.manual_seed(0)
    made = config.make(cfg)(statistics=STATISTICS).double().eval()
    for parameter in made.parameters():
        parameter.data += noise * torch.randn_like(parameter)
    return made


@pytest.mark.parametrize("head", ["bond_charges", "formal_dipoles"])
def test_born_charges_and_eps_inf_are_those_of_the_potential(head):
    model, rng = potential(f"model={head}", noise=0.05), np.random.default_rng(0)
    atoms = bulk("LiCl", "rocksalt", a=5.1).repeat((2, 1, 1))
    atoms.positions += 0.1 * rng.normal(size=(4, 3))
    graph = collate([to_graph(atoms, model.cutoff)])
    born, dielectric = field_response(Direct(model), atoms)
    np.testing.assert_allclose(born, model_born_charges(model, graph), atol=1e-5)
    np.testing.assert_allclose(dielectric, model_dielectric_tensor(model, graph), atol=1e-5)
    assert dielectric[0, 0] > 1.1
    with pytest.raises(ValueError, match="need a bulk"):
        field_response(Direct(model), Atoms("Li"))


@pytest.mark.parametrize("head", ["bond_charges", "formal_dipoles"])
def test_the_dipole_of_a_cell_changes_by_its_born_charges(head):
    """Along a path: P(1) - P(0) = int sum_i Z*_i dr_i, by Simpson's rule, and more than formal charges carry."""
    calculator, rng = Direct(potential(f"model={head}", noise=0.05)), np.random.default_rng(1)
    start, step = bulk("LiCl", "rocksalt", a=5.1).repeat((2, 1, 1)), 0.05 * rng.normal(size=(4, 3))
    start.positions += 0.1 * rng.normal(size=(4, 3))
    points = [start.copy() for _ in range(3)]
    for n, atoms in enumerate(points):
        atoms.positions += n * step
    answers = [polarisation_response(calculator, atoms) for atoms in points]
    slopes = [np.einsum("iab,ib->a", born, 2 * step) for born, _ in answers]
    moved = answers[2][1] - answers[0][1]
    np.testing.assert_allclose(moved, (slopes[0] + 4 * slopes[1] + slopes[2]) / 6, atol=2e-4)
    assert np.abs(moved - np.array([1.0, -1.0] * 2) @ (2 * step)).max() > 2e-3


def test_a_model_without_charges_has_no_born_charges():
    with pytest.raises(ValueError, match="no Born charges"):
        field_response(Direct(potential("model=short_range")), bulk("LiCl", "rocksalt", a=5.1))


@pytest.mark.filterwarnings("ignore:Initializing zero-element tensors")  # weights of no features
def test_the_longitudinal_mode_of_rock_salt_rises_by_the_plasma_frequency_of_its_ions():
    """w_LO^2 - w_TO^2 = 4 pi k_e Z^2 / (eps V mu), Z = 1 and eps = 4 as bond charges start."""
    atoms = bulk("LiCl", "rocksalt", a=5.1)
    calculator = Direct(potential("model/network=none", "model/head=bond_charges", "model/pair=born_mayer"))
    phonon = phonons.displaced(atoms, (2, 2, 2), 0.02)
    phonons.force_constants(phonon, calculator)
    born, dielectric = field_response(calculator, phonons.as_atoms(phonon.primitive))
    np.testing.assert_allclose(born, [np.eye(3), -np.eye(3)], atol=1e-8)
    phonon.nac_params = {"born": born, "dielectric": dielectric, "factor": units.COULOMB}
    phonon.run_qpoints([[0, 0, 0]])
    transverse = np.sort(phonon.qpoints.frequencies[0])[-1]
    longitudinal = transverse + phonons.lo_to_splitting(phonon)
    mass = 1 / (1 / atoms.get_masses()).sum()
    plasma = 4 * np.pi * units.COULOMB / (4.0 * atoms.get_volume() * mass) * 15.633302**2  # THz^2 of eV/(Å^2 u)
    signed = transverse * abs(transverse)
    assert longitudinal**2 - signed == pytest.approx(plasma, rel=1e-3)
