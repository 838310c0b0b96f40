"""OpenMM: the potential `mlip` of openmm-ml, found through the entry point `openmmml.potentials`.

`MLPotential("mlip", modelPath="model.pt").createSystem(topology)` is all that a user writes.
"""

from openmmml.mlpotential import MLPotentialImplFactory
from openmmml.models.asepotential import ASEPotentialImpl

from mlip import keys
from mlip.calculator import load_calculator
from mlip.errors import InputError


class MlipPotentialFactory(MLPotentialImplFactory):
    """Makes the potential that `MLPotential("mlip", modelPath=...)` asks for."""

    def createImpl(self, name: str, modelPath: str | None = None, **settings) -> "MlipPotential":
        """settings are those of `mlip.load_calculator`: device, dtype, skin, ..."""
        if modelPath is None:
            raise InputError('no modelPath: MLPotential("mlip", modelPath="model.pt") names the file of `mlip export`')
        return MlipPotential(name, modelPath, settings)


class MlipPotential(ASEPotentialImpl):
    """Forces of an exported model as an openmm.PythonForce. `createSystem(topology, charge=1)` sets the total charge, e."""

    def __init__(self, name: str, path: str, settings: dict):
        super().__init__(name)
        self.path, self.settings = path, settings

    def addForces(self, topology, system, atoms, forceGroup, charge: float | None = None, **args) -> None:
        """Add the force to the system; the other arguments are those of openmm-ml."""
        info = {} if charge is None else {keys.TOTAL_CHARGE: float(charge)}
        calculator = load_calculator(self.path, **self.settings)
        super().addForces(topology, system, atoms, forceGroup, calculator=calculator, info=info)
