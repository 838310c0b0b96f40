"""A large system in blocks of atoms gives the numbers of one piece."""

import numpy as np
import pytest
import torch
from ase.build import bulk

from mlip import blocks, keys, load_calculator
from mlip.config import CONFIGS, compose, make
from mlip.data.graph import to_graph
from mlip.export import export

NETWORK = {"n_channels": 4, "l_max": 1, "n_basis": 3, "n_species": 2}
STATISTICS = {
    "elements": [3, 8, 17], "levels": ["default"], "atomic_energies": [[-1.5, -430.25, -20.125]], "mean_neighbours": 20.0,
    "force_rms": 0.7, "shortest_distances": [[2.4, 1.7, 2.1], [1.7, 2.3, None], [2.1, None, 2.9]],
    "largest_crowding": [4.0, 4.0, 5.0], "least_crowding": [5.0, 5.0, 6.0], "charge_energies": [4.7],
}  # fmt: skip


def crystal():
    """96 ions, some crowded, with an oxygen at either end."""
    atoms = bulk("LiCl", "rocksalt", a=5.0).repeat((4, 4, 3))
    atoms.numbers[[1, -1]] = 8
    atoms.rattle(0.15, seed=0)
    return atoms


@pytest.mark.parametrize(
    "head, n_layers",
    [("none", 1), ("none", 3), ("formal_charges", 2), ("qeq", 2), ("qeq_dipoles", 3), ("bond_charges", 2)],
)
def test_blocks_give_the_numbers_of_one_piece(head, n_layers, tmp_path, monkeypatch):
    torch.manual_seed(0)
    words = [f"model.network.{key}={value}" for key, value in {**NETWORK, "n_layers": n_layers}.items()]
    cfg = compose("train", ["model=small", f"model/head={head}", "data.files=none.xyz", *words], [CONFIGS])
    live = make(cfg.model)(statistics=STATISTICS).eval()
    for name, weight in live.terms.named_parameters():
        if "electronegativity.last" in name:
            torch.nn.init.normal_(weight)
    atoms = crystal()
    export(live, tmp_path / "model.pt", {}, [to_graph(atoms, live.cutoff)], dtype=torch.float64)
    if head in ("none", "qeq"):
        atoms.info[keys.TOTAL_CHARGE] = 1.0
    calls = []
    run = blocks.InBlocks.evaluate
    monkeypatch.setattr(blocks.InBlocks, "evaluate", lambda self, graph: calls.append(1) or run(self, graph))
    atoms.calc = load_calculator(tmp_path / "model.pt")
    atoms.get_stress()
    expected = dict(atoms.calc.results)
    if head == "none":
        charged = expected["energy"]
        atoms.info[keys.TOTAL_CHARGE] = 0.0
        assert charged - atoms.get_potential_energy() == pytest.approx(4.7, abs=1e-6)
        atoms.info[keys.TOTAL_CHARGE] = 1.0
    assert not calls
    monkeypatch.setattr(blocks, "ABOVE", 50)
    monkeypatch.setattr(blocks, "BLOCK", 17)
    atoms.calc = load_calculator(tmp_path / "model.pt")
    atoms.get_stress()
    found = atoms.calc.results
    assert len(calls) == (0 if head == "bond_charges" else 1)
    assert expected.keys() == found.keys()
    for name, value in expected.items():
        np.testing.assert_allclose(found[name], value, rtol=1e-9, atol=1e-8, err_msg=name)
