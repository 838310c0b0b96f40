"""Born charges and eps_inf of shipped model configs, on crystals small enough for finite differences."""

from pathlib import Path

import pytest
import torch
from ase import Atoms
from charged_cells import random_cell
from hydra import compose, initialize_config_dir
from hydra.utils import instantiate

from mlip import keys
from mlip.data.graph import collate, to_graph
from mlip.electrostatics import model_born_charges, model_dielectric_tensor

STATISTICS = {
    "elements": [3, 8],
    "levels": ["default"],
    "atomic_energies": [[0.0, 0.0]],
    "mean_neighbours": 20.0,
    "force_rms": 1.0,
}


def model(name):
    with initialize_config_dir(str(Path(__file__).parents[2] / "configs"), version_base=None):
        config = compose("train", [f"model={name}"]).model
    config.network.n_channels = 4
    torch.manual_seed(0)
    potential = instantiate(config)(statistics=STATISTICS).double().eval()
    for parameter in potential.parameters():
        parameter.data += 0.05 * torch.randn_like(parameter)
    return potential


def crystal(seed=0, n=6):
    positions, cell, _, _ = random_cell(n, seed)
    return Atoms(["Li", "O"] * (n // 2), positions.numpy(), cell=cell.numpy(), pbc=True)


@pytest.mark.parametrize(
    "name",
    ["formal_charges", "formal_dipoles", "qeq", "qeq_dipoles", "split_charges", "bond_charges", "atomic_charges"],
)
def test_born_charges_of_a_batch_obey_the_sum_rule_and_see_no_image(name):
    potential, moved = model(name), crystal()
    moved.positions[2] += moved.cell[0] - moved.cell[1]
    one, other = to_graph(crystal(), 5.0), to_graph(moved, 5.0)
    born = model_born_charges(potential, collate([one, other]))
    assert (born[:6] - born[6:]).abs().max() < 1e-10
    results = potential(collate([one]))
    assert (born[:6].sum(0) - results[keys.CHARGES].sum() * torch.eye(3)).abs().max() < 1e-10
    assert not potential.training


def test_born_charges_of_formal_dipoles_are_the_change_of_the_dipoles():
    potential, step = model("formal_dipoles"), 1e-4
    born, moments = model_born_charges(potential, collate([to_graph(crystal(), 5.0)])), []
    for sign in (1, -1):
        atoms = crystal()
        atoms.positions[3, 1] += sign * step
        results = potential(collate([to_graph(atoms, 5.0)]))
        moments.append(results[keys.DIPOLES].sum(0))
        charge = results[keys.CHARGES][3]
    slow = (moments[0] - moments[1]) / (2 * step) + charge * torch.tensor([0.0, 1.0, 0.0])
    assert (born[3, :, 1] - slow).abs().max() < 1e-6


def test_born_charges_of_bond_charges_are_the_force_of_a_field_inside():
    potential, graph = model("bond_charges"), collate([to_graph(crystal(), 5.0)])
    field = torch.tensor([[0.01, 0.02, -0.03]], dtype=torch.float64)
    pull = potential({**graph, keys.FIELD: field})["forces"] - potential(graph)["forces"]
    born = model_born_charges(potential, graph)
    assert (born - potential(graph)[keys.CHARGES][:, None, None] * torch.eye(3)).abs().max() > 1e-5
    assert (pull - torch.einsum("a,iab->ib", field[0], born)).abs().max() < 1e-12


def test_eps_inf_needs_charges_that_do_not_flow():
    graph = collate([to_graph(crystal(), 5.0)])
    eps = model_dielectric_tensor(model("formal_dipoles"), graph)
    assert torch.linalg.eigvalsh(eps).min() > 1.0
    assert (model_dielectric_tensor(model("formal_charges"), graph) - torch.eye(3)).abs().max() == 0
    bonds = model("bond_charges")
    screening = bonds.terms[bonds.term_names.index("electrostatics")].dielectric()
    assert (model_dielectric_tensor(bonds, graph) - screening * torch.eye(3)).abs().max() == 0
    for name in ("qeq", "qeq_dipoles"):
        with pytest.raises(ValueError, match="respond as a metal"):
            model_dielectric_tensor(model(name), graph)
    with pytest.raises(ValueError, match="makes charges"):
        model_born_charges(model("short_range"), graph)
