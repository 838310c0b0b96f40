"""Streaming MAE and RMSE per component (mlip/error_metrics.py): total, by element, by config_type.

Only sums are kept (count, sum |e|, sum e^2, in float64), so batches and processes add up to the same
numbers as one pass over everything. Units are in the names.
"""

from collections.abc import Callable, Sequence

import numpy as np
import torch
from ase.data import chemical_symbols
from torch import Tensor

from mlip import keys
from mlip.error_metrics import rmse_of_sums
from mlip.units import EV_PER_A3_IN_GPA

UNITS = {  # quantity: (unit in the name, factor from eV, Å, e)
    "energy": ("meV_per_atom", 1e3),
    "force": ("meV_per_A", 1e3),
    "stress": ("GPa", EV_PER_A3_IN_GPA),
    "charge": ("e", 1.0),
    "dipole": ("e_A", 1.0),
    "born_charge": ("e", 1.0),
}
PER_STRUCTURE = {"stress": (keys.STRESS, keys.REF_STRESS)}
PER_ATOM = {
    "force": (keys.FORCES, keys.REF_FORCES),
    "charge": (keys.CHARGES, keys.REF_CHARGES),
    "dipole": (keys.DIPOLES, keys.REF_DIPOLES),
    "born_charge": (keys.BORN_CHARGES, keys.REF_BORN_CHARGES),
}


class Errors:
    """Streaming errors: `update(results, graph)` for each batch, `reduce()` over processes, `compute()` at the end.

    Energies per atom; forces, stresses and Born charges by component; structures without a label do not count.
    A charge model fitted to neutral systems without charge labels has its charges up to one global sign, so
    charges are also compared with the opposite sign, and the better of the two is reported.
    config_types: names that `graph["config_type"]` indexes; -1 there counts as "other"
    """

    def __init__(self, config_types: Sequence[str] = ("default",)):
        self.config_types = [*config_types, "other"]
        self.sums: dict[str, Tensor] = {}  # "quantity": [n_elements, n_config_types, 3]; element 0 for whole structures

    def update(self, results: dict[str, Tensor], graph: dict[str, Tensor]) -> None:
        batch, numbers = graph[keys.BATCH], graph[keys.ATOMIC_NUMBERS]
        n_systems = graph[keys.CELL].shape[0]
        config = graph.get(keys.CONFIG_TYPE)
        config = batch.new_full((n_systems,), -1) if config is None else config
        config = config % len(self.config_types)  # -1 is the last
        n_atoms = torch.bincount(batch, minlength=n_systems)
        whole = torch.zeros_like(config)
        energy, ref_energy = results[keys.ENERGY], graph.get(keys.REF_ENERGY)
        if ref_energy is not None:
            self._add("energy", energy / n_atoms, ref_energy / n_atoms, whole, config)
        for name, (result, label) in PER_STRUCTURE.items():
            if result in results and label in graph:
                self._add(name, results[result], graph[label], whole, config)
        for name, (result, label) in PER_ATOM.items():
            if result in results and label in graph:
                self._add(name, results[result], graph[label], numbers, config[batch])
        if keys.CHARGES in results and keys.REF_CHARGES in graph:
            self._add("charge_flipped", -results[keys.CHARGES], graph[keys.REF_CHARGES], numbers, config[batch])

    def reduce(self) -> None:
        """Adds the sums of all processes (does nothing with one)."""
        if not (torch.distributed.is_available() and torch.distributed.is_initialized()):
            return
        # a process may not have met a quantity: agree on the names first
        gathered: list = [None] * torch.distributed.get_world_size()
        torch.distributed.all_gather_object(gathered, sorted(self.sums))
        device = next(iter(self.sums.values())).device if self.sums else torch.device("cpu")
        for name in sorted({name for names in gathered for name in names}):
            self.sums[name] = self.sums.get(name, self._zeros(device))
            torch.distributed.all_reduce(self.sums[name])

    def total(self) -> dict[str, float]:
        """{"force_rmse_meV_per_A": ..., "force_mae_meV_per_A": ..., ...}; quantities without labels are absent."""
        return self._table(lambda sums: sums.sum((0, 1)))

    def compute(self) -> dict[str, dict]:
        """{"total": errors, "by_element": {symbol: errors}, "by_config_type": {name: errors}}."""
        by_element = {z: self._table(lambda sums, z=z: sums.sum(1)[z]) for z in range(1, len(chemical_symbols))}
        by_config = {name: self._table(lambda sums, i=i: sums.sum(0)[i]) for i, name in enumerate(self.config_types)}
        return {
            "total": self.total(),
            "by_element": {chemical_symbols[z]: errors for z, errors in by_element.items() if errors},
            "by_config_type": {name: errors for name, errors in by_config.items() if errors},
        }

    def _zeros(self, device: torch.device) -> Tensor:
        return torch.zeros(len(chemical_symbols), len(self.config_types), 3, dtype=torch.float64, device=device)

    def _add(self, name: str, result: Tensor, label: Tensor, element: Tensor, config: Tensor) -> None:
        error = (result.detach().double() - label.double()).reshape(len(label), -1)
        present = ~label.reshape(len(label), -1).isnan()
        error = torch.where(present, error, 0.0)
        if name not in self.sums:
            self.sums[name] = self._zeros(error.device)
        rows = torch.stack([present.sum(1).double(), error.abs().sum(1), (error**2).sum(1)], dim=1)
        self.sums[name].view(-1, 3).index_add_(0, element * len(self.config_types) + config, rows)

    def _table(self, select: Callable[[Tensor], Tensor]) -> dict[str, float]:
        selected = {name: select(sums).tolist() for name, sums in self.sums.items()}
        flipped = selected.pop("charge_flipped", None)
        if flipped is not None and flipped[2] < selected["charge"][2]:
            selected["charge"] = flipped
        errors = {}
        for name, (count, absolute, square) in selected.items():
            unit, factor = UNITS[name]
            if count > 0:
                errors[f"{name}_mae_{unit}"] = factor * absolute / count
                errors[f"{name}_rmse_{unit}"] = factor * rmse_of_sums(square, count)
        return errors


class Pairs:
    """Labels and results side by side for parity plots: energies per atom eV, force and stress components.

    limit: numbers kept of each; a plot shows no more, and a large test set must not fill the memory
    """

    def __init__(self, limit: int = 100_000):
        self.limit = limit
        self.pairs: dict[str, list[Tensor]] = {}

    def update(self, results: dict[str, Tensor], graph: dict[str, Tensor]) -> None:
        n_atoms = torch.bincount(graph[keys.BATCH], minlength=graph[keys.CELL].shape[0])
        for name, (result, label) in {"energy": (keys.ENERGY, keys.REF_ENERGY), **PER_STRUCTURE, **PER_ATOM}.items():
            kept = self.pairs.setdefault(name, [])
            if result in results and label in graph and sum(map(len, kept)) < self.limit:
                pair = torch.stack([graph[label].double(), results[result].detach().double()], dim=-1)
                pair = pair / n_atoms[:, None] if name == "energy" else pair
                kept.append(pair[~graph[label].isnan()].cpu())

    def arrays(self) -> dict[str, np.ndarray]:
        """{"force": [n, 2] label and result in eV/Å, "energy": eV/atom, "stress": eV/Å^3, ...}."""
        joined = {name: torch.cat(kept).numpy() for name, kept in self.pairs.items() if kept}
        return {name: array for name, array in joined.items() if len(array)}
