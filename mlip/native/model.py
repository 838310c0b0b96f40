"""An exported potential through the native kernel, with the arguments and results of the exported one."""

import ctypes

import numpy as np
import torch
from torch import Tensor, nn

from mlip import keys
from mlip.native.build import library
from mlip.native.weights import Weights

OUTPUTS = {keys.ENERGY, keys.ENERGIES, keys.FORCES, keys.STRESS}


class NativeModel(nn.Module):
    """Energies, forces and stress by a compiled kernel; called like `export.Deployed`, without its optional arguments."""

    def __init__(self, weights: Weights):
        super().__init__()
        self.kernel = library(weights.sizes)
        self.kernel.mlip_create.restype = ctypes.c_void_p
        self.kernel.mlip_evaluate.restype = ctypes.c_int
        self.kernel.mlip_destroy.argtypes = [ctypes.c_void_p]
        self.lookup = weights.lookup
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

    def forward(
        self,
        positions: Tensor,
        atomic_numbers: Tensor,
        cell: Tensor,
        pbc: Tensor,
        edge_index: Tensor,
        edge_shift: Tensor,
        batch: Tensor,
        *_: Tensor | None,
    ) -> dict[str, Tensor]:
        """Results of `export.Deployed.forward` but charges, on the CPU."""
        n_atoms, n_systems = len(positions), len(cell)
        inputs = [
            positions.to(torch.float64), cell.to(torch.float64), atomic_numbers, edge_index, edge_shift.to(torch.float64),
            batch,
        ]  # fmt: skip
        inputs = [tensor.contiguous() for tensor in inputs]
        energies = torch.empty(n_atoms, dtype=torch.float64)
        forces = torch.empty(n_atoms, 3, dtype=torch.float64)
        virial = torch.empty(n_systems, 3, 3, dtype=torch.float64)
        addresses = [ctypes.c_void_p(tensor.data_ptr()) for tensor in inputs]
        failed = self.kernel.mlip_evaluate(
            ctypes.c_void_p(self.handle), ctypes.c_long(n_atoms), ctypes.c_long(edge_index.shape[1]),
            ctypes.c_long(n_systems), *addresses, ctypes.c_void_p(self.lookup.ctypes.data), torch.get_num_threads(),
            *(ctypes.c_void_p(tensor.data_ptr()) for tensor in (energies, forces, virial)),
        )  # fmt: skip
        if failed:
            raise MemoryError(f"no memory for {n_atoms} atoms in the native kernel")
        energy = torch.zeros(n_systems, dtype=torch.float64).index_add(0, batch, energies)
        volume = torch.linalg.det(inputs[1]).abs().reshape(-1, 1, 1)
        symmetric = 0.5 * (virial + virial.transpose(1, 2))
        stress = torch.where(volume > 0, symmetric / volume.clamp(min=1e-300), torch.zeros_like(symmetric))
        return {keys.ENERGY: energy, keys.ENERGIES: energies, keys.FORCES: forces, keys.STRESS: stress}
