"""An exported file in stages, its atoms shared by processes that exchange features, gives the numbers of the whole."""

from functools import partial

import numpy as np
import pytest
import torch
from small import crystal, potential_of
from torch import nn

from mlip import keys
from mlip.data.graph import to_graph
from mlip.electrostatics import AtomicCharges, BondCharges, EquilibratedCharges, FormalCharges, SplitCharges
from mlip.export import arguments, export, load

HEADS = {
    "none": None,
    "formal_charges": FormalCharges,
    "formal_dipoles": partial(FormalCharges, dipoles=True),
    "atomic_charges": partial(AtomicCharges, n_channels=3),
    "bond_charges": partial(BondCharges, n_channels=3),
    "qeq": EquilibratedCharges,
    "qeq_dipoles": partial(EquilibratedCharges, dipoles=True),
}


def exported(potential, path):
    """The file's scripted module and its metadata."""
    graph = to_graph(crystal(), potential.cutoff, potential.levels)
    export(potential, path / "model.pt", {}, [graph], level=potential.levels[0])
    model, metadata = load(path / "model.pt")
    return model.module, metadata


def in_stages(module, graph: dict, owner: np.ndarray, n_layers: int, solve: bool) -> dict:
    """Energies, forces and virial of a graph of one system whose atoms belong to the processes in `owner`."""
    positions, cell = graph[keys.POSITIONS], graph[keys.CELL]
    centre, neighbour = graph[keys.EDGE_INDEX]
    vector = positions[neighbour] + graph[keys.EDGE_SHIFT] @ cell[0] - positions[centre]
    vector.requires_grad_(True)
    shares, n_atoms = [], len(positions)
    for process in range(owner.max() + 1):
        rows = np.flatnonzero(owner == process)
        ghosts = np.setdiff1d(neighbour.numpy()[owner[centre] == process], rows)
        atoms = torch.from_numpy(np.concatenate([rows, ghosts]))
        place = torch.full((n_atoms,), -1).index_copy(0, atoms, torch.arange(len(atoms)))
        mine = torch.from_numpy(owner == process)[centre]
        shares.append((rows, atoms, torch.stack([place[centre[mine]], place[neighbour[mine]]]), vector[mine]))
    graphs = [module.begin(v, e, graph[keys.ATOMIC_NUMBERS][a], len(r)) for r, a, e, v in shares]
    back = torch.from_numpy(np.argsort(np.concatenate([rows for rows, *_ in shares])))
    for layer in range(1, n_layers):
        features = torch.cat([g[keys.FEATURES] for g in graphs], dim=1)[:, back]
        graphs = [module.proceed(g, features[:, a], layer) for g, (_, a, _, _) in zip(graphs, shares, strict=True)]
    graphs = [module.finish(g) for g in graphs]
    energies, scalars, vectors = (
        torch.cat([g[key] for g in graphs])[back] for key in (keys.ENERGIES, keys.NODE_SCALARS, keys.NODE_VECTORS)
    )
    results = {keys.ENERGIES: energies, keys.FORCES: torch.zeros_like(positions), keys.VIRIAL: torch.zeros_like(cell)}
    outputs, slopes = [energies], [torch.ones_like(energies)]
    if solve:
        inputs = [
            positions,
            graph[keys.ATOMIC_NUMBERS],
            cell,
            graph[keys.PBC],
            scalars,
            vectors,
            torch.zeros(1).double(),
        ]
        transferred = None
        if keys.BOND_ENDS in graphs[0]:
            ends = torch.cat([g[keys.BOND_ENDS] for g in graphs])[back]
            graphs = [module.bond(g, ends[a]) for g, (_, a, _, _) in zip(graphs, shares, strict=True)]
            transferred = torch.cat([g[keys.TRANSFERRED] for g in graphs])[back]
        others = module.solve(*inputs, None, transferred)
        for key in results:
            results[key] = results[key] + others[key]
        outputs, slopes = (
            [energies, scalars, vectors],
            [slopes[0], others[keys.NODE_SCALARS], others[keys.NODE_VECTORS]],
        )
        if transferred is not None:
            outputs, slopes = [*outputs, transferred], [*slopes, others[keys.TRANSFERRED]]
    (slope,) = torch.autograd.grad(outputs, [vector], slopes)
    results[keys.FORCES] = results[keys.FORCES].index_add(0, centre, slope).index_add(0, neighbour, -slope)
    results[keys.VIRIAL] = results[keys.VIRIAL] + vector.detach().T @ slope
    return results


@pytest.fixture(autouse=True)
def interpreted():
    """As `load` runs a file: the profiling executor would compile for seconds."""
    with torch.jit.optimized_execution(False):
        yield


@pytest.mark.parametrize("head", list(HEADS))
def test_stages_shared_by_processes_are_the_whole(tmp_path, head):
    potential = potential_of(HEADS[head])
    module, metadata = exported(potential, tmp_path)
    owner = np.random.default_rng(1).permutation(np.arange(8) % 3)
    for length in (5.2, 3.4):  # inside the data, and beyond, where limits and walls act
        atoms = crystal(length=length)
        graph = to_graph(atoms, potential.cutoff, potential.levels)
        whole = module(*arguments(graph))
        results = in_stages(module, graph, owner, metadata["stages"]["n_layers"], head != "none")
        for key in (keys.ENERGIES, keys.FORCES):
            scale = max(1.0, float(whole[key].abs().max()))
            torch.testing.assert_close(results[key], whole[key], rtol=0, atol=1e-10 * scale)
        stress = results[keys.VIRIAL] / atoms.get_volume()
        torch.testing.assert_close(
            0.5 * (stress + stress.mT), whole[keys.STRESS], rtol=0, atol=1e-10 * max(1.0, float(stress.abs().max()))
        )


def test_bonds_take_scalars_that_another_code_computed(tmp_path):
    module, _ = exported(potential_of(HEADS["bond_charges"]), tmp_path)
    graph = to_graph(crystal(), 4.0, ["pbe"])
    centre, neighbour = graph[keys.EDGE_INDEX]
    vector = (
        graph[keys.POSITIONS][neighbour] + graph[keys.EDGE_SHIFT] @ graph[keys.CELL][0] - graph[keys.POSITIONS][centre]
    )
    share = (vector.requires_grad_(True), graph[keys.EDGE_INDEX], graph[keys.ATOMIC_NUMBERS])
    whole = module.begin(*share, 8)
    whole = module.finish(module.proceed(whole, whole[keys.FEATURES], 1))
    bonds = module.begin_bonds(*share, whole[keys.NODE_SCALARS])
    charges, slopes = [], []
    for one in (whole, bonds):
        moved = module.bond(one, one[keys.BOND_ENDS])[keys.TRANSFERRED]
        charges.append(moved)
        slopes.append(torch.autograd.grad(moved[0], vector, retain_graph=True)[0])
    assert charges[0].abs().max() > 0.01
    torch.testing.assert_close(charges[1], charges[0], rtol=0, atol=1e-12)
    torch.testing.assert_close(slopes[1], slopes[0], rtol=0, atol=1e-12)


def test_three_layers_exchange_twice(tmp_path):
    potential = potential_of(n_layers=3)
    module, metadata = exported(potential, tmp_path)
    graph = to_graph(crystal(), potential.cutoff, potential.levels)
    assert metadata["stages"]["n_layers"] == 3 and metadata["stages"]["n_channels"] == 4
    results = in_stages(module, graph, np.arange(8) % 2, 3, False)
    torch.testing.assert_close(results[keys.FORCES], module(*arguments(graph))[keys.FORCES], rtol=0, atol=1e-10)


def test_the_file_says_what_another_code_must_sum(tmp_path):
    _, metadata = exported(potential_of(partial(FormalCharges, width=1.1)), tmp_path)
    assert metadata["stages"]["global"] == ["electrostatics"]
    assert metadata["stages"]["fixed"] == {"charges": {"Li": 1.0, "O": -2.0, "Cl": -1.0}, "width": 1.1}


class OneStep(nn.Module):
    """A network without stages."""

    def __init__(self, network):
        super().__init__()
        self.network = network

    def forward(self, graph: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        return self.network(graph)


def test_a_potential_that_cannot_be_split_says_why(tmp_path):
    _, metadata = exported(potential_of(SplitCharges), tmp_path)
    assert "electrostatics (SplitCharges)" in metadata["stages"]["refused"]
    potential = potential_of()
    potential.network = OneStep(potential.network)
    graph = to_graph(crystal(), potential.cutoff, potential.levels)
    metadata = export(potential, tmp_path / "model.pt", {}, [graph], level="pbe")
    assert "OneStep" in metadata["stages"]["refused"]
