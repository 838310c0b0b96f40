"""The native kernel in stages, its atoms shared by processes that exchange features, gives the numbers of the whole."""

import ctypes
import os
import shutil

import numpy as np
import pytest
import torch
from small import crystal, potential_of

from mlip import keys
from mlip.data.graph import to_graph
from mlip.deployed import Deployed
from mlip.export import export
from mlip.lammps.kernel import kernel_name, say_kernel
from mlip.native.model import Input, NativeModel, Output
from mlip.native.weights import weights_of

pytestmark = pytest.mark.skipif(
    shutil.which((os.environ.get("CXX") or "g++").split()[0]) is None, reason="needs a C++ compiler: g++ or $CXX"
)
N_LAYERS = 3


class Process:
    """One process's rows, ghosts and calls of the kernel."""

    def __init__(self, weights, graph: dict, owner: np.ndarray, number: int, n_threads: int, lean: bool):
        centre, neighbour = (index.numpy() for index in graph[keys.EDGE_INDEX])
        mine = owner[centre] == number
        self.rows = np.flatnonzero(owner == number)
        # a ghost for each image, as in LAMMPS
        where = graph[keys.POSITIONS].numpy()[neighbour] + graph[keys.EDGE_SHIFT].numpy() @ graph[keys.CELL].numpy()[0]
        foreign = mine & ((owner[neighbour] != number) | (graph[keys.EDGE_SHIFT].numpy() != 0).any(1))
        place = np.searchsorted(self.rows, neighbour)
        place[foreign] = len(self.rows) + np.arange(foreign.sum())
        self.atoms = np.concatenate([self.rows, neighbour[foreign]])
        self.native, n, n_own = NativeModel(weights), len(self.atoms), len(self.rows)
        self.arrays = [
            np.concatenate([graph[keys.POSITIONS].numpy()[self.rows], where[foreign]]), np.zeros((3, 3)),
            graph[keys.ATOMIC_NUMBERS].numpy()[self.atoms], np.searchsorted(self.rows, centre[mine]), place[mine],
            np.zeros(n_own, dtype=np.int64),
        ]  # fmt: skip
        pointers = [array.ctypes.data for array in self.arrays]
        self.input = Input(
            n_own, n, int(mine.sum()), 1, *pointers, None, weights.lookup.ctypes.data, None, n_threads, lean
        )
        self.results = [np.zeros(n_own), np.zeros((n, 3)), np.zeros((3, 3)), np.zeros((n, 3, 3))]
        self.output = Output(*(array.ctypes.data for array in self.results), None)

    def run(self, stage: int) -> None:
        handle = ctypes.c_void_p(self.native.handle)
        given, written = ctypes.byref(self.input), ctypes.byref(self.output)
        assert self.native.kernel.mlip_evaluate(handle, given, stage, stage + 1, written) == 0

    def exchanged(self, name: str, layer: int) -> np.ndarray:
        """Rows of atoms and ghosts, those that the kernel holds."""
        function = getattr(self.native.kernel, name)
        function.restype = ctypes.POINTER(ctypes.c_float)
        shape = (len(self.atoms), 4 * self.native.sizes["CHANNELS"])
        if len(self.atoms) == 0:
            return np.zeros(shape, dtype=np.float32)
        return np.ctypeslib.as_array(function(ctypes.c_void_p(self.native.handle), layer), shape)


def in_stages(processes: list[Process], n_atoms: int) -> list[np.ndarray]:
    """Energies, forces, virial and virials of the crystal's atoms."""
    for stage in range(2 * N_LAYERS):
        for process in processes:
            process.run(stage)
        for process in processes if stage < N_LAYERS - 1 else []:
            rows = process.exchanged("mlip_features", stage)
            for other in processes:
                for ghost in range(len(process.rows), len(process.atoms)):
                    own = np.flatnonzero(other.rows == process.atoms[ghost])
                    rows[ghost] = other.exchanged("mlip_features", stage)[own[0]] if len(own) else rows[ghost]
        if N_LAYERS <= stage < 2 * N_LAYERS - 1:
            layer = 2 * N_LAYERS - 2 - stage
            parts = [process.exchanged("mlip_gradients", layer) for process in processes]
            total = np.zeros((n_atoms, parts[0].shape[1]), dtype=np.float32)
            for process, part in zip(processes, parts, strict=True):
                np.add.at(total, process.atoms, part)
            for process, part in zip(processes, parts, strict=True):
                part[: len(process.rows)] = total[process.rows]
    whole = [np.zeros(n_atoms), np.zeros((n_atoms, 3)), np.zeros((3, 3)), np.zeros((n_atoms, 3, 3))]
    for process in processes:
        energies, forces, virial, virials = process.results
        whole[0][process.rows] = energies
        whole[2] += virial
        np.add.at(whole[1], process.atoms, forces)
        np.add.at(whole[3], process.atoms, virials)
    return whole


@pytest.mark.parametrize("n_threads, lean", [(1, False), (2, False), (2, True)])
def test_stages_shared_by_processes_are_the_whole(n_threads, lean):
    live = potential_of(n_layers=N_LAYERS, born_mayer=None).float().eval()
    weights = weights_of(Deployed(live, 0))
    assert weights.sizes["LAYERS"] == N_LAYERS
    for length in (5.2, 3.4):  # inside the data, and beyond, where limits and walls act
        atoms = crystal(length=length, repeat=(5, 4, 2))
        graph = to_graph(atoms, live.cutoff, live.levels)
        expected = live.double()(graph)
        owner = 2 * (atoms.get_scaled_positions()[:, 0] % 1 > 0.5).astype(int)  # two halves and a process without atoms
        processes = [Process(weights, graph, owner, number, n_threads, lean) for number in range(3)]
        energies, forces, virial, virials = in_stages(processes, len(atoms))
        scale = max(1.0, float(expected[keys.FORCES].abs().max()))
        assert np.abs(energies - expected[keys.ENERGIES].numpy()).max() < 1e-5 * scale
        assert np.abs(forces - expected[keys.FORCES].numpy()).max() < 1e-5 * scale
        stress = 0.5 * (virial + virial.T) / atoms.get_volume()
        assert np.abs(stress - expected[keys.STRESS].numpy()).max() < 1e-6 * scale
        np.testing.assert_allclose(virials.sum(0), virial, rtol=1e-9, atol=1e-9)


def test_a_kernel_file_is_for_one_model_and_one_processor(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    potential = potential_of(n_layers=N_LAYERS, born_mayer=None)
    graphs = [to_graph(crystal(), potential.cutoff, potential.levels)]
    for name, dtype in (("single", torch.float32), ("double", torch.float64)):
        export(potential, tmp_path / f"{name}.pt", {}, graphs, level="pbe", dtype=dtype)
    single, double = tmp_path / "single.pt", tmp_path / "double.pt"
    said = say_kernel(single)
    name = kernel_name(single)
    assert said.endswith(name) and list(tmp_path.rglob("*.kernel")) == [tmp_path / said.split(": ")[1]]
    assert "float32" in say_kernel(double) and kernel_name(double) != name
    monkeypatch.setattr("mlip.lammps.kernel.processor", lambda: "another")
    assert kernel_name(single) != name
