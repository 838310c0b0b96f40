"""Lattice: lengths, angles and volume of the relaxed cell."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from ase import Atoms
from matplotlib.figure import Figure

from mlip import units
from mlip.errors import InputError, UnknownNameError
from mlip.evaluation.plots import BLUE, ORANGE, canvas
from mlip.evaluation.result import Result
from mlip.evaluation.section import Section
from mlip.evaluation.static.relaxation import conditions, plain_structure, relax, unconstrained, unconverged

UNITS = {"a": "Å", "b": "Å", "c": "Å", "alpha": "degree", "beta": "degree", "gamma": "degree", "volume": "Å^3"}
OTHER_CELL = 0.2  # a reference that differs more belongs to another cell of the same crystal


@dataclass(frozen=True)
class Lattice:
    """Lengths, angles and volume of the relaxed cell, each with its change against the input.

    reference   some of these names with a measured or DFT value, of the same cell (a supercell's own, not its unit's)
    The relaxed crystal is in data["structure"] (relaxation.structure reads it), for the properties that begin there.
    """

    atoms: Atoms
    reference: Mapping[str, float] | None = None
    fmax: float = 0.005
    max_stress_kbar: float = 0.1
    steps: int = 500

    def evaluate(self, calculator) -> Section:
        """Relax the cell and compare it with the input and the reference."""
        reference = dict(self.reference or {})
        check_reference(reference, self.atoms)
        before = parameters(unconstrained(self.atoms))
        relaxed = relax(
            self.atoms, calculator, fmax=self.fmax, max_stress=self.max_stress_kbar * units.KBAR, steps=self.steps
        )
        after, where = parameters(relaxed.atoms), conditions(relaxed.atoms)
        verdict, notes = ("", []) if relaxed.converged else ("warn", unconverged([relaxed], "the cell"))
        results = [
            Result(name, after[name], unit, verdict=verdict, notes=notes, conditions=where)
            for name, unit in UNITS.items()
        ]
        for against, values in (("input", before), ("reference", reference)):
            for name, value in values.items():
                change, unit = difference(name, after[name], value)
                results.append(Result(f"{name}_change", change, unit, conditions={**where, "against": against}))
        results += [
            Result("energy_per_atom", relaxed.energy / len(self.atoms), "eV", verdict=verdict, conditions=where),
            Result("density", density(relaxed.atoms), "g/cm3", conditions=where),
            Result("relaxation_steps", relaxed.steps, "", conditions=where),
        ]
        data = {"input": before, "relaxed": after, "reference": reference, "structure": plain_structure(relaxed.atoms)}
        return Section("lattice", results, data, notes)

    @staticmethod
    def figures(data: Mapping) -> dict[str, Figure]:
        """Plot the changes of lengths and volume."""
        return plot_lattice(data)


def parameters(atoms: Atoms) -> dict[str, float]:
    """Lengths (Å), angles (degree) and volume (Å^3) by name."""
    return dict(zip(UNITS, (*map(float, atoms.cell.cellpar()), atoms.get_volume()), strict=True))


def density(atoms: Atoms) -> float:
    """g/cm^3"""
    return 1.66053907 * float(atoms.get_masses().sum()) / atoms.get_volume()  # u/Å^3 to g/cm^3


def difference(name: str, value: float, reference: float) -> tuple[float, str]:
    """Of an angle in degrees, of anything else in %."""
    return (value - reference, "degree") if UNITS[name] == "degree" else (100 * (value / reference - 1), "%")


def check_reference(reference: Mapping[str, float], atoms: Atoms) -> None:
    """ValueError or KeyError for values that cannot belong to this cell."""
    own = parameters(unconstrained(atoms))
    for name, value in reference.items():
        if name not in UNITS:
            raise UnknownNameError(f"a lattice has no {name!r}; a reference may give {', '.join(UNITS)}")
        if not abs(value / own[name] - 1) < OTHER_CELL:
            raise InputError(
                f"reference {name} = {value:g} {UNITS[name]}, the cell has {own[name]:g}: give the reference of the "
                "same cell; that of a supercell is a multiple, that of a primitive cell another"
            )


def plot_lattice(data: Mapping) -> dict[str, Figure]:
    """lattice: the change of lengths and volume in %, against input and reference."""
    names = [name for name, unit in UNITS.items() if unit != "degree"]
    figure, axes = canvas("", "relaxed cell, difference (%)")
    places = np.arange(len(names))
    for shift, (against, colour, hatch) in enumerate((("input", BLUE, ""), ("reference", ORANGE, "//"))):
        values = data[against]
        heights = [difference(n, data["relaxed"][n], values[n])[0] if n in values else np.nan for n in names]
        if np.isfinite(heights).any():
            axes.bar(places + 0.38 * shift - 0.19, heights, 0.36, color=colour, hatch=hatch, label=f"against {against}")
    axes.axhline(0, color="0.4", linewidth=0.8)
    axes.set_xticks(places, names)
    axes.legend(frameon=False)
    return {"lattice": figure}
