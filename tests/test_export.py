"""An exported file gives the live potential's numbers, anywhere, or is not written."""

import json
import shutil
import subprocess
import sys

import pytest
import torch
from ase import Atoms
from ase.build import bulk
from morse import morse_potential

from mlip import keys
from mlip.data.graph import collate, to_graph
from mlip.export import arguments, export, load


@pytest.fixture
def graphs():
    salt = bulk("LiCl", "rocksalt", a=5.1)
    salt.rattle(0.1, seed=1)
    large = salt.repeat((2, 1, 1))
    large.rattle(0.1, seed=2)
    return [to_graph(salt, 4.0), collate([to_graph(salt, 4.0), to_graph(large, 4.0)])]


def test_a_saved_model_gives_the_live_energies_forces_and_stress(tmp_path, graphs):
    potential = morse_potential()
    metadata = export(potential, tmp_path / "model.pt", {"training_set": "abc"}, graphs)
    model, found = load(tmp_path / "model.pt")
    for graph in graphs:
        live, results = potential.eval()(graph), model(*arguments(graph))
        for name in live:
            torch.testing.assert_close(results[name], live[name], rtol=0, atol=1e-10)
    assert found["elements"] == [3, 17] and found["cutoff"] == 4.0 and found["dtype"] == "float64"
    assert found["training_set"] == "abc" and found["terms"] == ["atomic_energy", "morse"]
    assert max(metadata["parity"].values()) <= 1e-10


def test_the_file_runs_where_mlip_cannot_be_imported(tmp_path, graphs):
    potential = morse_potential().eval()
    export(potential, tmp_path / "model.pt", {}, graphs)
    torch.save(arguments(graphs[1]), tmp_path / "inputs.pt")
    code = """
import json, sys, torch
sys.modules["mlip"] = None  # importing it is an error from here on
extra = {"metadata.json": ""}
model = torch.jit.load("model.pt", _extra_files=extra)
results = model(*torch.load("inputs.pt", weights_only=True))
print(json.dumps({"cutoff": json.loads(extra["metadata.json"])["cutoff"],
                  "energy": results["energy"].tolist(), "forces": results["forces"].tolist()}))
"""
    bare = [sys.executable, "-W", "ignore", "-c", code]
    answer = json.loads(subprocess.run(bare, cwd=tmp_path, check=True, capture_output=True, text=True).stdout)
    live = potential(graphs[1])
    assert answer["cutoff"] == 4.0
    torch.testing.assert_close(torch.tensor(answer["energy"], dtype=torch.float64), live["energy"], rtol=0, atol=1e-10)
    torch.testing.assert_close(torch.tensor(answer["forces"], dtype=torch.float64), live["forces"], rtol=0, atol=1e-10)


class LiesInTorchScript(torch.nn.Module):
    """A term that is lost once it is scripted."""

    def forward(self, graph: dict[str, torch.Tensor]) -> torch.Tensor:
        per_atom = graph[keys.POSITIONS][:, 0] * 0.0
        if not torch.jit.is_scripting():
            per_atom = per_atom + 1e-3 * graph[keys.POSITIONS].square().sum(1)
        return per_atom


def test_a_file_that_differs_is_refused_and_nothing_is_left(tmp_path, graphs):
    potential = morse_potential()
    potential.terms.append(LiesInTorchScript())
    potential.term_names.append("lies")
    with pytest.raises(ValueError, match="differs from the live potential"):
        export(potential, tmp_path / "model.pt", {}, graphs)
    assert list(tmp_path.iterdir()) == []


def test_a_refused_export_keeps_the_older_file(tmp_path, graphs):
    potential = morse_potential()
    export(potential, tmp_path / "model.pt", {}, graphs)
    before = (tmp_path / "model.pt").read_bytes()
    potential.terms.append(LiesInTorchScript())
    potential.term_names.append("lies")
    with pytest.raises(ValueError, match="differs"):
        export(potential, tmp_path / "model.pt", {}, graphs)
    assert (tmp_path / "model.pt").read_bytes() == before


def test_export_does_not_change_the_potential(tmp_path, graphs):
    potential = morse_potential().train()
    export(potential, tmp_path / "model.pt", {}, graphs, dtype=torch.float32)
    assert potential.training and all(p.requires_grad and p.dtype == torch.float64 for p in potential.parameters())


def test_unusable_requests_are_answered_with_the_choice(tmp_path, graphs):
    potential = morse_potential()
    with pytest.raises(ValueError, match="torchscript.*aoti"):
        export(potential, tmp_path / "model.pt", {}, graphs, format="onnx")
    with pytest.raises(ValueError, match="writes a .pt file"):
        export(potential, tmp_path / "model.pth", {}, graphs)
    with pytest.raises(ValueError, match="has .*default"):
        export(potential, tmp_path / "model.pt", {}, graphs, level="r2scan")
    with pytest.raises(ValueError, match="at least one example"):
        export(potential, tmp_path / "model.pt", {}, [])
    with pytest.raises(FileNotFoundError, match="mlip export"):
        load(tmp_path / "none.pt")


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("g++") is None, reason="AOTInductor needs g++")
def test_a_compiled_package_gives_the_live_numbers_at_other_sizes(tmp_path, graphs):
    potential = morse_potential().eval()
    metadata = export(potential, tmp_path / "model.pt2", {"training_set": "abc"}, graphs[:1], format="aoti")
    model, found = load(tmp_path / "model.pt2")
    for graph in graphs:  # the second has two systems, one of them larger than what was traced
        live, results = potential(graph), model(*arguments(graph))
        for name in live:
            torch.testing.assert_close(results[name], live[name], rtol=0, atol=1e-10)
    assert found["training_set"] == "abc" and max(metadata["parity"].values()) <= 1e-10
    lone = to_graph(Atoms("Li"), 4.0)
    with pytest.raises(ValueError, match="at least two atoms"):
        model(*arguments(lone))
    with pytest.raises(ValueError, match="compiled for float64"):
        load(tmp_path / "model.pt2", dtype=torch.float32)


def test_compiling_without_a_compiler_names_the_remedy(tmp_path, graphs, monkeypatch):
    monkeypatch.setenv("CXX", "no-such-compiler")
    with pytest.raises(ValueError, match="install g.. or set CXX"):
        export(morse_potential(), tmp_path / "model.pt2", {}, graphs, format="aoti")
    assert list(tmp_path.iterdir()) == []
