"""torch-sim: an exported model that answers for all systems of a state in one call."""

from pathlib import Path

import numpy as np
import torch
from ase import Atoms
from torch import Tensor
from torch_sim.models.interface import ModelInterface

from mlip import keys
from mlip.calculator import load_calculator
from mlip.replicas import Replicas


class MlipModel(ModelInterface):
    """torch-sim model of a file written by `mlip export`.

    path, device, dtype, skin, parameters   as for `mlip.load_calculator`
    Results: energy [n_systems] eV, forces [n_atoms, 3] eV/Å, stress [n_systems, 3, 3] eV/Å^3, and what else the model
    has (energies, charges, ...), in the precision of the state. Positions are float64 whatever the network's dtype,
    as everywhere in mlip; so `model.dtype`, from which torch-sim makes its states, is float64.
    A state may carry total_charge [n_systems] e. Neighbour lists are made on the CPU and kept while they hold, and
    charges start from those of the system's last steps.
    Raises InputError for an element that the model was not trained on, and for overlapping atoms.
    """

    def __init__(
        self,
        path: str | Path,
        device: str | torch.device = "cpu",
        dtype: str | torch.dtype | None = None,
        skin: float = 0.5,
        **parameters,
    ):
        super().__init__()
        self.replicas = Replicas(load_calculator(path, str(device), dtype, skin, **parameters))
        self._device, self._dtype = torch.device(device), torch.float64
        self._compute_forces = self._compute_stress = True

    def forward(self, state, **kwargs) -> dict[str, Tensor]:
        """Results of a SimState."""
        results = self.replicas.evaluate(structures(state))
        to_state = {"device": state.positions.device, "dtype": state.positions.dtype}
        return {name: torch.as_tensor(value).to(**to_state) for name, value in results.items()}


def structures(state) -> list[Atoms]:
    """The systems of a SimState."""
    positions = state.positions.detach().double().cpu().numpy()
    cells = state.row_vector_cell.detach().double().cpu().numpy()
    numbers = state.atomic_numbers.cpu().numpy()
    ends = np.searchsorted(state.system_idx.cpu().numpy(), np.arange(len(cells)), side="right")
    pbc = np.broadcast_to(torch.as_tensor(state.pbc).cpu().numpy(), 3)  # a bool in torch-sim 0.3
    charges = getattr(state, keys.TOTAL_CHARGE, None)
    systems = []
    for system, (first, last) in enumerate(zip([0, *ends[:-1]], ends, strict=True)):
        atoms = Atoms(numbers[first:last], positions[first:last], cell=cells[system], pbc=pbc)
        if charges is not None:
            atoms.info[keys.TOTAL_CHARGE] = float(charges[system])
        systems.append(atoms)
    return systems
