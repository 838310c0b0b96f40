"""Atomic energies that follow the training: least squares to what the potential leaves of the energies it has just seen."""

from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor, nn

from mlip import keys
from mlip.data.statistics import TYPICAL_ATOM
from mlip.models.atomic_energy import AtomicEnergy

EVERY = 10  # steps


class EnergyShifts:
    """Running sums over the last 1 / (1 - decay) batches, and the atomic energies that minimise their energy error.

        min over e, mu of  sum_s w_s (E_s - E_s^label + sum_Z n_Z e_Z + Q_s mu)^2 / n_s^2,  w = decay^age

    Composition and total charge enter the energy linearly, so that no step of an optimizer is needed for them, and a
    network that a short training leaves eV off for a vacancy is not: forces do not decide such constants. The start
    (`with_fitted_atomic_energies`) comes from an untrained network, and errs by the thermal spread of energies.
    mu is there if the training set has charged cells (`charge_energies` of the statistics).
    """

    def __init__(self, potential: nn.Module, decay: float):
        self.decay, self.steps = decay, 0
        self.sums: Tensor | None = None  # [n_levels, n + 1, n + 1] of (x, r)(x, r)^T, x shares of atoms and of charge
        term = next(iter(atomic_energies(potential)), None)
        self.shape = None if term is None else (term.table_neV.shape[0], term.table_neV.shape[1] + 2)

    def observe(self, potential: nn.Module, results: dict[str, Tensor], graph: dict[str, Tensor]) -> None:
        """Adds the energies of a batch, but those of lone atoms."""
        if self.shape is None or keys.REF_ENERGY not in graph:
            return
        term = next(iter(atomic_energies(potential)))
        batch, energy = graph[keys.BATCH], results[keys.ENERGY].detach().to(torch.float64)
        n_atoms = torch.bincount(batch, minlength=len(energy)).to(torch.float64)
        residual = (graph[keys.REF_ENERGY].to(torch.float64) - energy) / n_atoms
        # a lone atom has no energy of the network's: its residual is the binding of the others, several eV, and would pull theirs
        n_edges = torch.bincount(batch[graph[keys.EDGE_INDEX][0]], minlength=len(energy))
        known = torch.isfinite(residual) & (n_edges > 0)
        rows = energy.new_zeros(len(energy), self.shape[1])
        species = term.lookup[graph[keys.ATOMIC_NUMBERS]]
        rows.index_put_((batch, species), 1.0 / n_atoms[batch], accumulate=True)
        if term.charged:
            rows[:, -2] = graph[keys.TOTAL_CHARGE].to(torch.float64) / n_atoms
        rows[:, -1] = torch.where(known, residual, 0.0)
        rows = rows * known[:, None]
        if self.sums is None:
            self.sums = energy.new_zeros(self.shape[0], self.shape[1], self.shape[1])
        # a first random network must not linger: as in WeightAverage
        self.sums *= min(self.decay, (1 + self.steps) / (10 + self.steps))
        level = graph[keys.LEVEL] if keys.LEVEL in graph else torch.zeros_like(batch[: len(energy)])
        self.sums.index_add_(0, level, rows[:, :, None] * rows[:, None, :])
        self.steps += 1

    def follow(self, potentials: Iterable[nn.Module], total: Callable[[Tensor], Tensor] = lambda sums: sums) -> None:
        """Moves the atomic energies of the potentials by what the sums ask for, every EVERY batches.

        total  of the sums over all processes
        """
        if self.sums is None or self.steps % EVERY:
            return
        sums = total(self.sums.clone())
        for level in range(self.sums.shape[0]):
            change = missing(sums[level])
            for potential in potentials:
                for term in atomic_energies(potential):
                    term.move(level, change)
            # residuals of the past, as they are after this
            left = torch.eye(self.shape[1], dtype=change.dtype, device=change.device)
            left[:-1, -1] = -change
            self.sums[level] = left.T @ self.sums[level] @ left

    def state_dict(self) -> dict[str, Any]:
        return {"steps": self.steps, "sums": self.sums}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.steps, self.sums = state["steps"], None if state["sums"] is None else state["sums"].clone()


def atomic_energies(potential: nn.Module) -> list[AtomicEnergy]:
    """Its tables of atomic energies; none in a potential of another kind."""
    return [term for term in potential.modules() if isinstance(term, AtomicEnergy)]


def with_followed(statistics: dict, potential: nn.Module) -> dict:
    """Statistics with the atomic energies, and energies of charge, that a potential has now."""
    for term in atomic_energies(potential)[:1]:
        statistics = {**statistics, "atomic_energies": (term.table_neV.double() * 1e-9).tolist()}
        if term.charged:
            statistics["charge_energies"] = (term.charge_neV.double() * 1e-9).tolist()
    return statistics


def missing(sums: Tensor) -> Tensor:
    """Energies of an atom of each element, and of a charge, eV [n - 1] that explain the residuals in sums [n, n].

    Ridge regression as in `fit_atomic_energies`: what the compositions do not decide stays.
    """
    gram, right, square = sums[:-1, :-1], sums[:-1, -1], sums[-1, -1]
    values, vectors = torch.linalg.eigh(gram)
    kept = (values > 1e-10 * values[-1].clamp(min=1e-30)).to(values.dtype)
    along = vectors.T @ right * kept
    exact = along / torch.where(kept > 0, values, 1.0)
    count = gram[:-1, :-1].sum().clamp(min=1.0)  # shares of a structure's atoms add up to one
    noise = ((square - along @ exact) / count).clamp(min=0.0)
    return vectors @ (along / (torch.where(kept > 0, values, 1.0) + noise / TYPICAL_ATOM**2))
