"""A committee: its mean, its scatter, and what both are in the exported file."""

from functools import partial

import contract
import numpy as np
import pytest
import torch
from scipy.spatial.transform import Rotation

import mlip
from mlip.data.graph import collate, to_graph
from mlip.export import export
from mlip.models.committee import Committee
from mlip.models.potential import Potential
from mlip.models.spherical import NetworkEnergy, SphericalNetwork


def small(seed, statistics=contract.STATISTICS, cutoff=4.0):
    torch.manual_seed(seed)
    network = partial(SphericalNetwork, cutoff=cutoff, n_channels=6, l_max=2, n_layers=2, n_basis=4, n_species=3)
    return Potential(network, {"network": partial(NetworkEnergy, n_hidden=5)}, statistics).double().eval()


@pytest.fixture(scope="module")
def committee():
    return Committee([small(seed) for seed in range(3)]).eval()


def test_identical_members_have_no_uncertainty_and_the_forces_of_one():
    member = small(0)
    alone, together = (
        contract.evaluate(member, contract.crystal()),
        contract.evaluate(Committee([member] * 4), contract.crystal()),
    )
    for name, value in alone.items():
        torch.testing.assert_close(together[name], value, rtol=0, atol=1e-12)
    assert float(together["energy_sigma"].max()) < 1e-9 and float(together["force_sigma"].max()) < 1e-9


def test_sigma_is_the_unbiased_scatter_of_the_members(committee):
    structures = [contract.crystal(), contract.crystal(6, 4.8, seed=3)]
    together = contract.evaluate(committee, structures)
    alone = [contract.evaluate(member, structures) for member in committee.members]
    energies, forces = (np.array([each[name].numpy() for each in alone]) for name in ("energy", "forces"))
    np.testing.assert_allclose(together["energy"], energies.mean(axis=0), rtol=1e-14)
    np.testing.assert_allclose(together["energy_sigma"], energies.std(axis=0, ddof=1), rtol=1e-9)
    np.testing.assert_allclose(together["force_sigma"], np.sqrt(forces.var(axis=0, ddof=1).sum(axis=1)), rtol=1e-9)


def test_what_members_agree_on_cancels_in_the_sigma_of_an_energy_difference(committee):
    structures = [contract.crystal(), contract.crystal(seed=3)]
    spread = contract.evaluate(committee, structures)["energy_spread"].numpy()
    energies = np.array([contract.evaluate(member, structures)["energy"].numpy() for member in committee.members])
    assert np.linalg.norm(spread[0] - spread[1]) == pytest.approx(
        (energies[:, 0] - energies[:, 1]).std(ddof=1), rel=1e-8
    )


def test_sigma_is_scaled_by_the_element_of_its_atom(committee):
    before = contract.evaluate(committee, contract.crystal())
    committee.force_scale.copy_(torch.tensor([1.0, 2.0, 3.0]))
    committee.energy_scale.fill_(5.0)
    after = contract.evaluate(committee, contract.crystal())
    committee.force_scale.fill_(1.0), committee.energy_scale.fill_(1.0)
    wanted = torch.tensor([{3: 1.0, 8: 2.0, 17: 3.0}[z] for z in contract.crystal().numbers])
    torch.testing.assert_close(after["force_sigma"], before["force_sigma"] * wanted)
    torch.testing.assert_close(after["energy_sigma"], 5 * before["energy_sigma"])


def uncertainty_does_not_depend_on_axes_or_order(potential):
    """sigma of the turned and reordered crystal is that of the crystal, atom by atom."""
    atoms = contract.crystal()
    before = contract.evaluate(potential, atoms)
    matrix = Rotation.from_rotvec([0.3, -1.1, 0.7]).as_matrix()
    order = np.random.default_rng(0).permutation(len(atoms))
    turned = atoms[order]
    turned.set_cell(atoms.cell.array @ matrix.T)
    turned.positions = atoms.positions[order] @ matrix.T
    after = contract.evaluate(potential, turned)
    contract.close(after["force_sigma"], before["force_sigma"][order], 1e-8, "force sigma")
    contract.close(after["energy_sigma"], before["energy_sigma"], 1e-8, "energy sigma")
    assert float(before["force_sigma"].min()) > 1e-3


def test_uncertainty_does_not_depend_on_axes_or_order(committee):
    uncertainty_does_not_depend_on_axes_or_order(committee)


def uncertainty_goes_through_the_file(potential, path):
    """The exported file gives the live sigmas, through the calculator too, one by one and many at once."""
    structures = [contract.crystal(), contract.crystal(6, 4.8, seed=3)]
    graphs = [to_graph(atoms, potential.cutoff, potential.levels) for atoms in structures]
    metadata = export(potential, path, {}, [graphs[0], collate(graphs)], level="pbe")
    assert {"energy_sigma", "force_sigma"} <= set(metadata["outputs"])
    live = contract.evaluate(potential, structures)
    calculator = mlip.load_calculator(path)
    many = calculator.calculate_many(structures)
    first = 0
    for system, atoms in enumerate(structures):
        n = len(atoms)
        atoms.calc = calculator
        atoms.get_forces()
        for results in (atoms.calc.results, many[system].calc.results):
            np.testing.assert_allclose(results["force_sigma"], live["force_sigma"][first : first + n], atol=1e-9)
            assert results["energy_sigma"] == pytest.approx(float(live["energy_sigma"][system]), abs=1e-9)
        first += n


def test_uncertainty_goes_through_the_file(committee, tmp_path):
    uncertainty_goes_through_the_file(committee, tmp_path / "committee.pt")


def test_members_that_differ_are_refused():
    with pytest.raises(ValueError, match="at least two"):
        Committee([small(0)])
    with pytest.raises(ValueError, match="cutoff.*4.0.*3.5"):
        Committee([small(0), small(1, cutoff=3.5)])
    other = {**contract.STATISTICS, "elements": [3, 9, 17]}
    with pytest.raises(ValueError, match="elements"):
        Committee([small(0), small(1, other)])
