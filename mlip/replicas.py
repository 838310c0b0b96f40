"""Many systems in one call of the model, each with the neighbour list and the charges of its own last steps."""

from collections.abc import Sequence

import numpy as np
import torch
from ase import Atoms

from mlip import keys
from mlip.calculator import ExportedCalculator, continued, extrapolated
from mlip.data.graph import collate
from mlip.data.verlet import VerletList


class Replica:
    """Neighbour list of one system, and the charges (and dipoles) of its last steps."""

    def __init__(self, cutoff: float, skin: float):
        self.verlet = VerletList(cutoff, skin)
        self.atoms = Atoms()
        self.relaxed: list[np.ndarray] = []

    def follow(self, atoms: Atoms) -> bool:
        """Take the next structure; False if it is the last one again. Another system, or a jump, ends the charges."""
        same = np.array_equal(atoms.numbers, self.atoms.numbers)
        moved = np.abs(atoms.positions - self.atoms.positions).max(initial=0.0) if same else np.inf
        if moved > self.verlet.skin:
            self.relaxed = []
        repeated = same and moved == 0.0 and np.array_equal(atoms.cell.array, self.atoms.cell.array)
        self.atoms = atoms
        return not repeated


class Replicas:
    """Results of many structures, step after step: beads of a path integral, replicas of a batched simulation.

    A structure continues the one that had its place in the last call, if it can. Any number of them, of any kind.
    """

    def __init__(self, calculator: ExportedCalculator):
        self.calculator = calculator
        self.replicas: list[Replica] = []

    def evaluate(self, structures: Sequence[Atoms]) -> dict[str, np.ndarray]:
        """The model's results as arrays, atoms and systems in the order of the structures (shapes in `mlip.keys`).

        Raises InputError for a structure that the model has no answer for, as the calculator does.
        """
        calculator = self.calculator
        while len(self.replicas) < len(structures):
            self.replicas.append(Replica(calculator.verlet.cutoff, calculator.skin))
        del self.replicas[len(structures) :]
        steps, graphs = [], []
        for replica, atoms in zip(self.replicas, structures, strict=True):
            steps.append(replica.follow(atoms))
            graphs.append(calculator.graph(atoms, replica.verlet))
        width = max((replica.relaxed[-1].shape[1] for replica in self.replicas if replica.relaxed), default=0)
        if width:
            for replica, graph in zip(self.replicas, graphs, strict=True):
                state = extrapolated(replica.relaxed) if replica.relaxed else np.zeros((len(replica.atoms), width))
                graph[keys.GUESS] = torch.as_tensor(state)
        results = calculator.evaluate(collate(graphs))
        first = 0
        for replica, is_step in zip(self.replicas, steps, strict=True):
            rows = slice(first, first + len(replica.atoms))
            own = {name: results[name][rows] for name in (keys.CHARGES, keys.DIPOLES) if name in results}
            calculator.check_charges(replica.atoms, own)
            replica.relaxed = continued(replica.relaxed if is_step else replica.relaxed[:-1], own)
            first = rows.stop
        return results
