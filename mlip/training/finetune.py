"""What a training starts from: fresh weights, or those of an earlier one for new data, elements, levels of theory."""

from collections.abc import Callable, Iterable
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from mlip import keys
from mlip.data.statistics import fit_atomic_energies
from mlip.errors import InputError
from mlip.training.checkpoint import averaged_weights, read_run

OTHER_ZERO = 0.02  # eV/atom between labels and old weights, on average: energies are counted from another zero


def fine_tune(
    path: str | Path,
    build: Callable[[dict], nn.Module],
    statistics: dict,
    batches: Iterable[dict[str, Tensor]],
    max_structures: int = 500,
) -> tuple[nn.Module, dict]:
    """A potential with the weights of a run's folder or checkpoint, and the statistics that belong to it.

    build       build(statistics) -> untrained potential of the same config
    statistics  of the new data, made with those of the old run (`DataModule(statistics=...)`): old elements and
                levels keep their place, new ones are added
    batches     of the new training set: a level of theory that the old run did not know, or whose labels lie more than
                OTHER_ZERO beside the old weights (another code, a teacher), gets its energy shifts from what the old
                weights leave unexplained, at most of `max_structures` structures. A fit to total energies would count
                binding energies twice, and the first steps would destroy what was learned.
    Raises ValueError when elements are missing or the networks differ.
    """
    checkpoint = read_run(path)
    old = checkpoint["mlip"]["statistics"]
    if lost := set(old["elements"]) - set(statistics["elements"]):
        raise InputError(f"elements {sorted(lost)} of {path} are missing: make the statistics with those of that run")
    weights = averaged_weights(checkpoint)
    statistics = carried(old, statistics)
    potential = build(statistics)
    cutoff = checkpoint["mlip"].get("config", {}).get("model", {}).get("network", {}).get("cutoff")
    if cutoff is not None and cutoff != potential.cutoff:
        raise InputError(
            f"the cutoff of {path} is {cutoff} Å, here it is {potential.cutoff} Å: its weights mean other distances. "
            f"Give model.network.cutoff={cutoff}"
        )
    potential = copy_weights(weights, old["elements"], potential)
    every = range(len(statistics["levels"]))
    compositions, charges, residuals, levels = unexplained(
        potential, statistics["elements"], batches, every, max_structures
    )
    other = [i for i in every if statistics["levels"][i] not in old["levels"]
             or mean_size(residuals[levels == i] / compositions[levels == i].sum(axis=1)) > OTHER_ZERO]  # fmt: skip
    if not other:
        return potential, statistics
    statistics = shifted(statistics, other, compositions, charges, residuals, levels)
    return copy_weights(weights, old["elements"], build(statistics)), statistics


def carried(old: dict, statistics: dict) -> dict:
    """Statistics with what the old weights are counted from: dielectric constant, energies of charges and of charge."""
    found = {name: old[name] for name in ("dielectric",) if name in old}
    if "atomic_charges" in old and statistics["elements"] == old["elements"]:
        found["atomic_charges"] = old["atomic_charges"]  # they stay held; those of new elements are to be learned
    for name, rows in (("coulomb_energies", "elements"), ("charge_energies", "levels")):
        if name in old:
            known = dict(zip(old[rows], old[name], strict=True))
            found[name] = [known.get(row, 0.0) for row in statistics[rows]]
    return {**statistics, **found}


def mean_size(residuals: np.ndarray) -> float:
    """|mean| of residuals [n]; 0 if there are none."""
    return float(abs(residuals.mean())) if len(residuals) else 0.0


def with_fitted_atomic_energies(
    build: Callable[[dict], nn.Module],
    statistics: dict,
    batches: Iterable[dict[str, Tensor]],
    max_structures: int = 500,
) -> tuple[nn.Module, dict]:
    """An untrained potential, with atomic energies that explain what its terms do not, and its statistics.

    Formal charges alone bind a crystal by 10 eV per atom: without this, training would begin by unlearning them.
    Arguments as in `fine_tune`; atomic energies of levels without labels stay.
    """
    potential = build(statistics)
    found = unexplained(potential, statistics["elements"], batches, range(len(statistics["levels"])), max_structures)
    statistics = shifted(statistics, range(len(statistics["levels"])), *found)
    return copy_weights(potential.state_dict(), statistics["elements"], build(statistics)), statistics


def shifted(
    statistics: dict,
    chosen: Iterable[int],
    compositions: np.ndarray,
    charges: np.ndarray,
    residuals: np.ndarray,
    levels: np.ndarray,
) -> dict:
    """Statistics whose atomic energies, and energies of charge, explain the residuals [n] eV of the chosen levels too."""
    energies = np.array(statistics["atomic_energies"], dtype=np.float64)
    of_charge = np.array(statistics.get("charge_energies") or [0.0] * len(energies))
    for level in chosen:
        mine = levels == level
        if mine.any():
            found = fit_atomic_energies(compositions[mine], residuals[mine], charges=charges[mine])
            energies[level] += found[:-1]
            of_charge[level] += found[-1]
    made = {**statistics, "atomic_energies": energies.tolist()}
    return {**made, "charge_energies": of_charge.tolist()} if of_charge.any() else made


def copy_weights(weights: dict[str, Tensor], old_elements: list[int], potential: nn.Module) -> nn.Module:
    """Copies learned numbers into `potential`: rows of known elements, everything else whole.

    weights       state_dict of the earlier potential
    old_elements  its elements, the order of rows in its tables
    New elements keep their fresh rows. A table of elements is a parameter [n_elements, ...] of a module that names its
    `elements`. Buffers (shifts, scales) are left alone: they come from the statistics.
    """
    with torch.no_grad():
        for prefix, module in potential.named_modules():
            elements = getattr(module, "elements", None)
            for name, parameter in module.named_parameters(recurse=False):
                full_name = f"{prefix}.{name}" if prefix else name
                if full_name not in weights:
                    raise InputError(
                        f"the checkpoint has no '{full_name}': fine-tuning needs the model it was trained with"
                    )
                value = weights[full_name].to(parameter.dtype)
                if value.shape == parameter.shape:
                    parameter.copy_(value)
                elif (
                    elements
                    and _rows(parameter, elements)
                    and _rows(value, old_elements)
                    and parameter[0].shape == value[0].shape
                ):
                    parameter[[list(elements).index(z) for z in old_elements]] = value
                else:
                    raise InputError(
                        f"'{full_name}' is {list(parameter.shape)}, in the checkpoint {list(value.shape)}: "
                        "fine-tuning needs the model it was trained with"
                    )
    return potential


def unexplained(
    potential: nn.Module,
    elements: list[int],
    batches: Iterable[dict[str, Tensor]],
    levels: Iterable[int],
    max_structures: int,
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Compositions [n, n_elements], total charges e, E_label - E eV and level [n] of labelled structures of some levels."""
    was_training = potential.training
    potential.eval()
    columns = {z: i for i, z in enumerate(elements)}
    compositions, charges, residuals, found = [], [], [], []
    for graph in batches:
        residual = (graph[keys.REF_ENERGY] - potential(graph)[keys.ENERGY].detach()).numpy()
        owner = graph[keys.BATCH].numpy()
        counts = np.zeros((len(residual), len(elements)))
        np.add.at(counts, (owner, [columns[z] for z in graph[keys.ATOMIC_NUMBERS].tolist()]), 1)
        level = graph[keys.LEVEL].numpy()
        chosen = np.isin(level, list(levels)) & np.isfinite(residual)
        compositions.append(counts[chosen])
        charges.append(graph[keys.TOTAL_CHARGE].double().numpy()[chosen])
        residuals.append(residual[chosen])
        found.append(level[chosen])
        if sum(map(len, found)) >= max_structures:
            break
    potential.train(was_training)
    return np.concatenate(compositions), np.concatenate(charges), np.concatenate(residuals), np.concatenate(found)


def _rows(table: Tensor, elements: list[int]) -> bool:
    return table.dim() > 0 and len(table) == len(elements)
