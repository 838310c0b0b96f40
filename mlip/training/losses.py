"""Losses: how far results are from labels, in units of an error that matters.

Every loss is called `loss(results, graph)` and returns one number without unit. Residuals are divided by
the penalty's `scale` (eV/atom, eV/Å, eV/Å^3...), so the parts are comparable and weights are of order one.
A missing label (NaN) adds nothing to value or gradient; an absent structure weight is one.
"""

from collections.abc import Callable, Mapping, Sequence

import torch
from ase.data import atomic_numbers, chemical_symbols
from torch import Tensor

from mlip import keys
from mlip.errors import InputError, UnknownNameError

Penalty = Callable[[Tensor], Tensor]
Weight = float | Sequence[float]


class Huber:
    """rho(r) = x^2 / 2 for |x| <= 1, |x| - 1/2 beyond, x = r / scale: outliers pull with a bounded force.

    scale: the residual where the penalty turns linear, in the label's unit.
    """

    def __init__(self, scale: float):
        self.scale = _positive(scale)

    def __call__(self, residual: Tensor) -> Tensor:
        x = residual.abs() / self.scale
        return torch.where(x <= 1, 0.5 * x * x, x - 0.5)


class Squared:
    """rho(r) = (r / scale)^2, scale in the label's unit."""

    def __init__(self, scale: float):
        self.scale = _positive(scale)

    def __call__(self, residual: Tensor) -> Tensor:
        return (residual / self.scale) ** 2


class EnergyLoss:
    """< w_s rho((E - E*) / n_atoms) >, mean over the structures that have a label; scale in eV/atom."""

    def __init__(self, penalty: Penalty):
        self.penalty = penalty

    def __call__(self, results: dict[str, Tensor], graph: dict[str, Tensor]) -> Tensor:
        n_atoms = torch.bincount(graph[keys.BATCH], minlength=results[keys.ENERGY].shape[0])
        label = _label(graph, keys.REF_ENERGY)
        return _mean(self.penalty, results[keys.ENERGY] / n_atoms, label / n_atoms, _structure_weight(graph))


class StressLoss:
    """< w_s rho(sigma_ab - sigma*_ab) >, mean over labelled components; scale in eV/Å^3 (1 GPa = 0.00624)."""

    def __init__(self, penalty: Penalty):
        self.penalty = penalty

    def __call__(self, results: dict[str, Tensor], graph: dict[str, Tensor]) -> Tensor:
        return _mean(self.penalty, results[keys.STRESS], _label(graph, keys.REF_STRESS), _structure_weight(graph))


class AtomLoss:
    """< w_s w_Z rho(x - x*) >, mean over labelled components of one quantity per atom.

    result, label: keys of what is compared: forces, charges, dipoles, born_charges and their ref_*
    element_weights: {symbol: weight}, one where not named; 2 for Li means that a Li residual counts twice
    """

    def __init__(self, result: str, label: str, penalty: Penalty, element_weights: Mapping[str, float] | None = None):
        self.result, self.label, self.penalty = result, label, penalty
        self.element_weight: Tensor | None = None
        if element_weights:
            table = torch.ones(len(chemical_symbols), dtype=torch.float64)
            for symbol, weight in element_weights.items():
                if symbol not in atomic_numbers:
                    raise InputError(f"element_weights names '{symbol}', which is no element; give symbols such as Li")
                table[atomic_numbers[symbol]] = weight
            self.element_weight = table

    def __call__(self, results: dict[str, Tensor], graph: dict[str, Tensor]) -> Tensor:
        if self.result not in results:
            raise UnknownNameError(
                f"the loss on '{self.result}' needs a potential that gives it; this one gives {sorted(results)}"
            )
        weight = _structure_weight(graph)[graph[keys.BATCH]]
        if self.element_weight is not None:
            self.element_weight = self.element_weight.to(weight.device)
            weight = weight * self.element_weight[graph[keys.ATOMIC_NUMBERS]]
        return _mean(self.penalty, results[self.result], _label(graph, self.label), weight)


class WeightedSum:
    """L = sum_k w_k(progress) L_k over named parts.

    parts    {name: loss}, e.g. energy, forces, stress
    weights  {name: w} or {name: [w_first, w_second]}; the second holds from `second_stage` on
    second_stage  fraction of the training; energies usually gain from a larger weight at the end, when the
                  learning rate is small (MACE's second stage does the same)
    """

    def __init__(self, parts: Mapping[str, Callable], weights: Mapping[str, Weight], second_stage: float = 0.7):
        if set(parts) != set(weights):
            raise InputError(f"every part of the loss needs a weight: parts {sorted(parts)}, weights {sorted(weights)}")
        pairs = {name: (w, w) if isinstance(w, (int, float)) else tuple(w) for name, w in weights.items()}
        for name, pair in pairs.items():
            if len(pair) != 2 or min(pair) < 0:
                raise InputError(f"weight of '{name}' must be one or two numbers >= 0, got {weights[name]}")
        self.weights: dict[str, tuple[float, float]] = {name: pair for name, pair in pairs.items() if max(pair) > 0}
        self.parts = {name: parts[name] for name in self.weights}
        self.asked = {part.result for part in self.parts.values() if isinstance(part, AtomLoss)}
        self.second_stage = second_stage

    def weight(self, name: str, progress: float) -> float:
        return self.weights[name][1 if progress >= self.second_stage else 0]

    def __call__(
        self, results: dict[str, Tensor], graph: dict[str, Tensor], progress: float = 0.0
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """Returns the loss and its unweighted parts (detached, for logs)."""
        values = {name: part(results, graph) for name, part in self.parts.items()}
        total = sum(self.weight(name, progress) * value for name, value in values.items())
        return total, {name: value.detach() for name, value in values.items()}


def _mean(penalty: Penalty, result: Tensor, label: Tensor, weight: Tensor) -> Tensor:
    """Mean penalty over the components that have a label.  result, label [n, ...], weight [n]."""
    # decided by the label alone: a result that is NaN must be heard, not ignored.
    # The label goes first through where(): masking only the penalty would leave a NaN in the gradient.
    present = ~label.isnan()
    penalties = penalty(torch.where(present, result - torch.where(present, label, 0.0), 0.0))
    return (penalties * weight.reshape(-1, *[1] * (label.dim() - 1))).sum() / present.sum().clamp(min=1)


def _label(graph: dict[str, Tensor], key: str) -> Tensor:
    if key not in graph:
        raise UnknownNameError(
            f"the loss needs the label '{key}', the graph has {sorted(graph)}; a missing label is NaN"
        )
    return graph[key]


def _structure_weight(graph: dict[str, Tensor]) -> Tensor:
    if keys.WEIGHT in graph:
        return graph[keys.WEIGHT]
    return torch.ones(graph[keys.CELL].shape[0], dtype=graph[keys.POSITIONS].dtype, device=graph[keys.POSITIONS].device)


def _positive(scale: float) -> float:
    if not scale > 0:
        raise InputError(f"the scale of a penalty must be positive, got {scale}")
    return scale
