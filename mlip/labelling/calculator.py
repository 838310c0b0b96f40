"""Labels from any ASE calculator, in process."""

import copy
from collections.abc import Callable
from dataclasses import dataclass

from ase import Atoms
from ase.calculators.calculator import Calculator, PropertyNotImplementedError

from mlip.errors import LabellingError
from mlip.labelling.engine import plain_settings, with_labels


@dataclass
class CalculatorEngine:
    """Energy, forces, and stress if the calculator has it.

    calculator  makes the calculator: a class or a partial of one, so that another process can make its own
    """

    calculator: Callable[[], Calculator]

    def __post_init__(self):
        self._made = None

    def __getstate__(self):
        return {"calculator": self.calculator, "_made": None}  # a live calculator stays in its process

    def fresh(self) -> Calculator:
        """A calculator without a past: lists of neighbours kept from another structure would change the last digits."""
        if self._made is None:
            self._made = self.calculator()
        try:
            return copy.deepcopy(self._made)
        except Exception:  # noqa: BLE001  one that holds a process or a file
            made, self._made = self._made, None
            return made

    def settings(self) -> dict:
        """The calculator's name and its arguments; for a model's file, its content."""
        return {"engine": "calculator", "calculator": plain_settings(self.calculator)}

    def label(self, atoms: Atoms) -> Atoms:
        """See Engine. Whatever the calculator raises becomes the cause."""
        try:
            labelled = atoms.copy()
            labelled.calc = self.fresh()
            results = {"energy": labelled.get_potential_energy(), "forces": labelled.get_forces()}
            if labelled.cell.rank == 3:
                try:
                    results["stress"] = labelled.get_stress()
                except PropertyNotImplementedError:
                    pass
            results["free_energy"] = labelled.calc.results.get("free_energy")
        except Exception as error:
            raise LabellingError(f"{type(error).__name__}: {error}", retryable=True) from error
        return with_labels(atoms, results, str(atoms.info.get("source", "structure")))
