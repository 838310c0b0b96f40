"""i-PI: a driver for its `ffdirect`, all beads of a path integral in one call of the model.

    <ffdirect name='mlip'>
      <pes>custom</pes> <pes_path>PATH OF THIS FILE</pes_path> <batch_size>8</batch_size>
      <parameters>{model: model.pt, template: start.extxyz}</parameters>
    </ffdirect>

`python -m mlip.ipi_driver` prints the path. i-PI imports the file under its own name, which may not be `ipi`.
"""

import json
from collections.abc import Sequence

import ase.io
import numpy as np

from mlip import keys
from mlip.calculator import load_calculator
from mlip.errors import InputError
from mlip.replicas import Replicas
from mlip.units import BOHR, HARTREE

__DRIVER_NAME__ = "mlip"
__DRIVER_CLASS__ = "MlipDriver"


class MlipDriver:
    """Potential of i-PI, from a file written by `mlip export`.

    template    structure that ASE reads, its atoms in the order of the simulation: elements, pbc, total_charge
    device, dtype, skin, parameters   as for `mlip.load_calculator`; verbosity is i-PI's and of no use here
    """

    def __init__(self, model: str, template: str, device: str = "cpu", dtype: str | None = None, skin: float = 0.5,
                 verbosity=None, **parameters):  # fmt: skip
        self.template = ase.io.read(template)
        self.replicas = Replicas(load_calculator(model, device, dtype, skin, **parameters))

    def __call__(self, cell: np.ndarray | Sequence[np.ndarray], positions: np.ndarray | Sequence[np.ndarray]):
        """Energy, forces, virial and extras (JSON) of a structure, or a list of these for a list of structures.

        cell [3, 3] with lattice vectors as columns, positions [n_atoms, 3]; bohr and hartree, as all of i-PI.
        The virial is -dE/d(strain); the extras hold the charges, e, if the model has them.
        """
        if not isinstance(cell, list):
            return self([cell], [positions])[0]
        structures = [self.structure(*each) for each in zip(cell, positions, strict=True)]
        results = self.replicas.evaluate(structures)
        answers = []
        for system, atoms in enumerate(structures):
            rows = slice(system * len(atoms), (system + 1) * len(atoms))
            virial = -results[keys.STRESS][system] * atoms.get_volume()
            extras = {"charges": results[keys.CHARGES][rows].tolist()} if keys.CHARGES in results else {}
            energy, forces = results[keys.ENERGY][system], results[keys.FORCES][rows].astype(np.float64)
            answers.append((energy / HARTREE, forces * BOHR / HARTREE, virial / HARTREE, json.dumps(extras)))
        return answers

    def structure(self, cell: np.ndarray, positions: np.ndarray):
        """The template with this cell and these positions."""
        if len(positions) != len(self.template):
            raise InputError(
                f"the template has {len(self.template)} atoms, the simulation {len(positions)}; give template= the "
                "structure that <initialize> reads"
            )
        atoms = self.template.copy()
        atoms.set_cell(np.transpose(cell) * BOHR)
        atoms.positions = np.array(positions) * BOHR
        return atoms


if __name__ == "__main__":
    print(__file__)
