"""Atomic charges at the start of training: found in the forces between molecules, whatever holds these together."""

import contract
import numpy as np
import pytest
import torch
from ase import Atoms
from ase.build import molecule
from test_contract import shrunk

from mlip import keys
from mlip.config import make
from mlip.data.graph import collate, to_graph
from mlip.electrostatics import AtomicCharges
from mlip.nn.edges import edge_vectors
from mlip.training import fragment_start
from mlip.training.finetune import carried
from mlip.training.fragment_start import molecules_of, motions_of, with_fragment_start
from mlip.units import COULOMB

CUTOFF, ELEMENTS = 5.0, [1, 7, 8]
pytestmark = pytest.mark.filterwarnings("ignore:Initializing zero-element tensors")  # no network, no features
STATISTICS = {
    **contract.STATISTICS, "elements": ELEMENTS, "levels": ["default"], "atomic_energies": [[0.0] * 3],
    "shortest_distances": [[0.9] * 3] * 3, "largest_crowding": [50.0] * 3,
}  # fmt: skip
CHARGES = {"NH4": [-0.2, 0.3, 0.3, 0.3, 0.3], "OH": [-1.2, 0.2], "H2O": [-0.8, 0.4, 0.4]}


def build(statistics):
    torch.manual_seed(0)
    return make(shrunk("model/network=none", "model/head=atomic_charges"))(statistics=statistics)


def ion(name):
    if name == "NH4":
        corners = np.array([[1, 1, 1], [1, -1, -1], [-1, 1, -1], [-1, -1, 1]]) / 3**0.5
        return Atoms("NH4", np.vstack([np.zeros(3), 1.02 * corners]))
    return molecule(name)


def labelled(one, two, distance, turn, rigid=False):
    """Two molecules with exact forces of point charges between them, and of anything inside, of the same if they are rigid."""
    rng = np.random.default_rng(int(10 * distance))
    first, second = ion(one), ion(two)
    second.rotate(turn, "y")
    second.positions += first.get_center_of_mass() + [distance, 0, 0] - second.get_center_of_mass()
    atoms, n = first + second, len(first)
    charges = np.array(CHARGES[one] + CHARGES[two])
    vectors = atoms.positions[:, None] - atoms.positions
    r = np.linalg.norm(vectors, axis=2) + np.eye(len(atoms))
    apart = np.arange(len(atoms)) < n
    pairs = COULOMB * np.outer(charges, charges) / r**3 * (apart[:, None] != apart)
    forces = (pairs[:, :, None] * vectors).sum(1)
    for i, j in ((0, 1), (n, n + 1)):  # along a bond: no net force, no torque
        pull = (1.0 if rigid else rng.normal()) * vectors[i, j]
        forces[i] += pull
        forces[j] -= pull
    atoms.info[keys.TOTAL_CHARGE] = float(round(charges.sum()))
    graph = collate([to_graph(atoms, CUTOFF)])
    graph[keys.REF_FORCES] = torch.from_numpy(forces)
    return graph


def charges_of(potential, graph):
    return potential(graph)["charges"].detach()


@pytest.mark.parametrize("pair", [("NH4", "OH"), ("NH4", "H2O")])
def test_charges_of_molecules_are_found_in_the_forces_between_them(pair, monkeypatch):
    """Without those inside, which are anything here."""
    monkeypatch.setattr(fragment_start, "MOST_INSIDE", 0)
    batches = [labelled(*pair, 5.0 + 0.6 * k, 40.0 * k) for k in range(9)]
    started = with_fragment_start(build, STATISTICS, batches)
    charges = charges_of(build(started).double().eval(), labelled(*pair, 15.0, 0.0))
    n = len(CHARGES[pair[0]])
    assert charges[:n].sum().item() == pytest.approx(1.0, abs=0.005)
    assert charges.sum().item() == pytest.approx(round(sum(CHARGES[pair[0]] + CHARGES[pair[1]])), abs=1e-9)


def test_forces_inside_rigid_molecules_decide_how_atoms_share_their_moments():
    """A dipole of water, between molecules, is that of many charges of O and H; their sum is found without."""
    batches = [labelled("NH4", "OH", 4.0 + 0.6 * k, 40.0 * k, rigid=True) for k in range(9)]
    started = with_fragment_start(build, STATISTICS, batches)
    charges = charges_of(build(started).double().eval(), labelled("NH4", "OH", 15.0, 0.0))
    assert charges.numpy() == pytest.approx(CHARGES["NH4"] + CHARGES["OH"], abs=0.05)


def test_structures_without_two_molecules_decide_nothing():
    graph = collate([to_graph(molecule("H2O"), CUTOFF)])
    graph[keys.REF_FORCES] = torch.zeros(3, 3, dtype=torch.float64)
    assert with_fragment_start(build, STATISTICS, [graph]) is STATISTICS
    start = build(STATISTICS).terms
    assert any(
        isinstance(term, AtomicCharges) and term.shift.weight.abs().min() > 0 for term in start
    )  # off the saddle


def test_rigid_motions_are_those_of_a_molecule_across_a_cell_wall_and_no_framework_has_them():
    atoms = molecule("H2O") + Atoms("N", [[4.0, 4.0, 4.0]])
    atoms.set_cell([8.0, 8.0, 8.0])
    atoms.pbc = True
    atoms.wrap()
    assert np.ptp(atoms.positions[:3], axis=0).max() > 4
    graph = to_graph(atoms, CUTOFF)

    molecule_of, places = molecules_of(graph[keys.ATOMIC_NUMBERS], graph[keys.EDGE_INDEX], edge_vectors(graph))
    numbers = graph[keys.ATOMIC_NUMBERS].numpy()
    motions, inside = motions_of(molecule_of, places, torch.zeros(4, 3), numbers, [])
    assert motions.shape == (12, 4, 3) and (inside < 0).sum() == 9
    gram = torch.einsum("kia,lia->kl", motions, motions)
    assert (gram - torch.eye(12)).abs().max() < 1e-12
    bond = graph[keys.POSITIONS][1] - graph[keys.POSITIONS][0]
    bond = bond - 8.0 * (bond / 8.0).round()
    stretched = (motions[inside < 0, 1] - motions[inside < 0, 0]) @ bond
    assert stretched.abs().max() < 1e-12  # rigid
    forces = torch.zeros(4, 3)
    forces[0] = torch.nan
    assert motions_of(molecule_of, places, forces, numbers, [])[0].shape == (3, 4, 3)
    chain = Atoms("O", cell=[1.4, 9, 9], pbc=True) + Atoms("N", [[0.0, 4.5, 4.5]])
    graph = to_graph(chain, CUTOFF)
    assert molecules_of(graph[keys.ATOMIC_NUMBERS], graph[keys.EDGE_INDEX], edge_vectors(graph))[1] is None


def test_fine_tuning_holds_charges_that_were_found_but_not_those_of_new_elements():
    old = {
        **STATISTICS,
        "atomic_charges": {
            "elements": [0.3, -0.4, -0.5],
            "neighbours": [[0.1] * 3] * 3,
            "second_neighbours": [[0.0] * 3] * 3,
        },
    }
    held, learned = (
        next(term for term in build(statistics).terms if isinstance(term, AtomicCharges))
        for statistics in (carried(old, STATISTICS), STATISTICS)
    )
    for name in ("shift", "giver", "taker", "far_giver", "far_taker"):
        assert not getattr(held, name).weight.requires_grad and getattr(learned, name).weight.requires_grad
    assert "atomic_charges" not in carried(old, {**STATISTICS, "elements": [1, 6, 7, 8]})
