"""An exported potential through the native kernel, with the arguments and results of the exported one."""

import ctypes
from threading import Lock

import numpy as np
import torch
from torch import Tensor, nn

from mlip import keys
from mlip.export import OPTIONAL, REQUIRED
from mlip.models.potential import stress_of
from mlip.native.beside import Beside
from mlip.native.build import library
from mlip.native.weights import Weights

LEAN_ABOVE = 100_000  # atoms from which nothing is kept for each edge: 15 % slower, a tenth of the memory
LEAN_BESIDE = 10_000  # the same with charges: the network keeps its memory while they take theirs, and most of the time


class Input(ctypes.Structure):
    """mlip_input of interface.h."""

    _fields_ = (
        *((name, ctypes.c_long) for name in ("n_own", "n_atoms", "n_edges", "n_systems")),
        *((name, ctypes.c_void_p) for name in ("positions", "cells", "numbers", "centres", "neighbours", "batch", "shifts")),
        ("lookup", ctypes.c_void_p), ("pull", ctypes.c_void_p), ("n_threads", ctypes.c_int), ("lean", ctypes.c_int),
    )  # fmt: skip


class Output(ctypes.Structure):
    """mlip_output of interface.h."""

    _fields_ = tuple((name, ctypes.c_void_p) for name in ("energies", "forces", "virial", "virials", "scalars"))


class NativeModel(nn.Module):
    """Results by a compiled kernel; called like `deployed.Deployed`.

    Above LEAN_ABOVE atoms, or with charges LEAN_BESIDE, the network holds a block of atoms, and a few kB for each atom.

    beside  terms that the kernel does not compute: the energy of charges; None: there are none
    """

    def __init__(self, weights: Weights, beside: Beside | None = None):
        super().__init__()
        self.beside = beside
        self.lock = Lock()  # a backward pass belongs to the forward pass before it
        self.kernel = library(weights.sizes)
        self.kernel.mlip_create.restype = ctypes.c_void_p
        self.kernel.mlip_evaluate.restype = ctypes.c_int
        self.kernel.mlip_destroy.argtypes = [ctypes.c_void_p]
        self.lookup, self.sizes, self.n_channels = weights.lookup, weights.sizes, weights.n_channels
        self.charge_energy = weights.charge_energy
        arrays = [np.ascontiguousarray(array) for array in weights.arrays]
        n = len(arrays)
        self.handle = self.kernel.mlip_create(
            ctypes.c_double(weights.cutoff), weights.n_elements, weights.n_points,
            (ctypes.c_void_p * n)(*(array.ctypes.data for array in arrays)),
            (ctypes.c_long * n)(*(array.nbytes for array in arrays)), n,
        )  # fmt: skip
        if self.handle is None:
            raise MemoryError("no memory for the weights of the native kernel")

    def __del__(self):
        if getattr(self, "handle", None) is not None:
            self.kernel.mlip_destroy(self.handle)

    def forward(self, *inputs: Tensor | None) -> dict[str, Tensor]:
        """Results of `deployed.Deployed.forward`, on the CPU."""
        graph = {key: value for key, value in zip(REQUIRED + OPTIONAL, inputs, strict=False) if value is not None}
        cell, batch = graph[keys.CELL].to(torch.float64), graph[keys.BATCH]
        with self.lock:
            if self.beside is None:
                results = self.evaluate(graph, True, True, None)
            else:
                scalars = self.real(self.evaluate(graph, True, False, None)[keys.NODE_SCALARS])
                added = self.beside.results(graph, scalars)
                results = self.evaluate(graph, False, True, self.filled(added.pop(keys.NODE_SCALARS)))
                for key in (keys.ENERGIES, keys.FORCES, keys.VIRIAL):
                    results[key] += added.pop(key)
                results |= added
        if self.charge_energy and keys.TOTAL_CHARGE in graph:
            counts = torch.bincount(batch, minlength=len(cell)).clamp(min=1)
            results[keys.ENERGIES] += (self.charge_energy * graph[keys.TOTAL_CHARGE].to(torch.float64) / counts)[batch]
        stress = stress_of(results.pop(keys.VIRIAL), cell)
        energy = torch.zeros(len(cell), dtype=torch.float64).index_add(0, batch, results[keys.ENERGIES])
        return {keys.ENERGY: energy, keys.STRESS: stress, **results}

    def evaluate(
        self, graph: dict[str, Tensor], forward: bool, backward: bool, pull: Tensor | None
    ) -> dict[str, Tensor]:
        """Energies, forces and virial; node_scalars [n_atoms, filled] of a forward pass alone.

        pull  [n_atoms, filled] derivatives of other energies by the scalars, or None
        """
        n_atoms, n_systems = len(graph[keys.POSITIONS]), len(graph[keys.CELL])
        as_double = (graph[key].to(torch.float64).contiguous() for key in (keys.POSITIONS, keys.CELL, keys.EDGE_SHIFT))
        positions, cell, shift = as_double
        numbers, index, batch = (graph[key].contiguous() for key in (keys.ATOMIC_NUMBERS, keys.EDGE_INDEX, keys.BATCH))
        if backward:
            results = {
                keys.ENERGIES: torch.empty(n_atoms, dtype=torch.float64),
                keys.FORCES: torch.empty(n_atoms, 3, dtype=torch.float64),
                keys.VIRIAL: torch.empty(n_systems, 3, 3, dtype=torch.float64),
            }
        else:
            n_scalars = self.sizes["LAYERS"] * self.sizes["CHANNELS"]
            results = {keys.NODE_SCALARS: torch.empty(n_atoms, n_scalars, dtype=torch.float32)}
        given = Input(
            n_atoms, n_atoms, index.shape[1], n_systems,
            *(tensor.data_ptr() for tensor in (positions, cell, numbers, index[0], index[1], batch, shift)),
            self.lookup.ctypes.data, None if pull is None else pull.data_ptr(), torch.get_num_threads(), n_atoms > self.lean_above(),
        )  # fmt: skip
        names = (keys.ENERGIES, keys.FORCES, keys.VIRIAL, "virials", keys.NODE_SCALARS)  # virials of atoms: not wanted
        wanted = (results.get(name) for name in names)
        written = Output(*(None if tensor is None else tensor.data_ptr() for tensor in wanted))
        n_layers = self.sizes["LAYERS"]
        failed = self.kernel.mlip_evaluate(
            ctypes.c_void_p(self.handle), ctypes.byref(given), 0 if forward else n_layers,
            2 * n_layers if backward else n_layers, ctypes.byref(written),
        )  # fmt: skip
        if failed:
            raise MemoryError(f"no memory for {n_atoms} atoms in the native kernel")
        return results

    def lean_above(self) -> int:
        """Atoms from which nothing is kept for each edge."""
        return LEAN_ABOVE if self.beside is None else LEAN_BESIDE

    def real(self, scalars: Tensor) -> Tensor:
        """Scalars without the channels that only fill up registers: [n, layers K] of [n, filled]."""
        return scalars.reshape(len(scalars), self.sizes["LAYERS"], -1)[:, :, : self.n_channels].flatten(1)

    def filled(self, scalars: Tensor) -> Tensor:
        """The way back from `real`, with zeros."""
        parts = scalars.float().reshape(len(scalars), self.sizes["LAYERS"], self.n_channels)
        return torch.nn.functional.pad(parts, [0, self.sizes["CHANNELS"] - self.n_channels]).flatten(1).contiguous()
