"""Errors of structures that carry both: labels, and the results of a calculator."""

from collections.abc import Sequence

import numpy as np
import torch
from ase import Atoms

from mlip import keys
from mlip.data.graph import to_graph
from mlip.training.metrics import Errors


def errors(structures: Sequence[Atoms]) -> dict[str, dict]:
    """MAE and RMSE of each structure's calculator against its own labels, as `Errors.compute`; empty without labels."""
    config_types = sorted({atoms.info["config_type"] for atoms in structures})
    found = Errors(config_types)
    for atoms in structures:
        graph = to_graph(atoms, 1.0, [atoms.info["level"]], config_types)  # for its labels: neighbours do not matter
        results = {name: torch.as_tensor(np.array(value)) for name, value in atoms.calc.results.items()}
        results[keys.ENERGY] = results[keys.ENERGY].reshape(1)
        if keys.STRESS in results:
            results[keys.STRESS] = torch.as_tensor(atoms.get_stress(voigt=False))[None]
        found.update(results, graph)
    return found.compute()
