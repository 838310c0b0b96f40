"""Formation energies of vacancies, interstitials and Frenkel pairs with relaxed ions."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from ase import Atoms
from matplotlib.figure import Figure

from mlip import keys
from mlip.electrostatics.response import makov_payne
from mlip.errors import InputError
from mlip.evaluation.plots import BLUE, ORANGE, canvas
from mlip.evaluation.result import Result
from mlip.evaluation.section import Section
from mlip.evaluation.static.relaxation import calculate, conditions, relax, relax_many, repeats, unconverged
from mlip.evaluation.static.voids import distinct_sites, largest_voids


@dataclass(frozen=True)
class Defects:
    """Formation energies of vacancies, interstitials and Frenkel pairs, eV.

    chemical_potential  mu of the species, eV per atom on the calculator's scale; or `metal`, the element whose relaxed
                        energy per atom is mu. Without either only the Frenkel energy, which needs none, is given
    charge              formal charge of the ion (Li: 1): vacancies carry -charge, interstitials +charge. Only for a
                        calculator with charges; None keeps every cell as neutral as the bulk
    dielectric          static dielectric constant or tensor for the Makov-Payne correction of charged cells
    interstitials       [n, 3] fractional positions in `atoms`; None takes the largest voids
    n_sites             of all distinct sites, so many of lowest unrelaxed energy are relaxed; the lowest is the result
    """

    atoms: Atoms
    species: str
    chemical_potential: float | None = None
    metal: Atoms | None = None
    charge: float | None = None
    dielectric: float | Sequence[Sequence[float]] | None = None
    interstitials: Sequence[Sequence[float]] | None = None
    n_sites: int = 3
    width: float = 10.0
    fmax: float = 0.01
    steps: int = 500

    def evaluate(self, calculator) -> Section:
        """Relax the ions around every defect."""
        start = relax(self.atoms, calculator, fmax=min(self.fmax, 0.005), steps=self.steps)
        repeat = repeats(start.atoms.cell.array, self.width)
        bulk = start.atoms.repeat(repeat)
        bulk.info[keys.TOTAL_CHARGE] = float(self.atoms.info.get(keys.TOTAL_CHARGE, 0.0)) * int(np.prod(repeat))
        charge, dielectric, notes = usable_charge(calculator, self.charge, self.dielectric)
        notes = unconverged([start], "the cell") + notes
        mu = potential(calculator, self.species, self.chemical_potential, self.metal, self.steps)
        if self.interstitials is None:
            voids = largest_voids(start.atoms, self.n_sites)
        else:
            voids = np.atleast_2d(self.interstitials) @ start.atoms.cell.array
        kinds = {
            "vacancy": [without(bulk, site, charge) for site in distinct_sites(start.atoms, self.species)],
            "interstitial": [with_one_more(bulk, self.species, void, charge) for void in voids],
        }
        (energy,) = (each.get_potential_energy() for each in calculate(calculator, [bulk]))
        where = {
            **conditions(bulk),
            "species": self.species,
            "supercell": "x".join(map(str, repeat)),
            "charge": charge or 0.0,
        }
        results, lowest, data = [], {}, {}
        for (kind, cells), sign in zip(kinds.items(), (1, -1), strict=True):
            unrelaxed = np.array([each.get_potential_energy() for each in calculate(calculator, cells)])
            chosen = unrelaxed.argsort(kind="stable")[: self.n_sites]
            relaxed = relax_many([cells[i] for i in chosen], calculator, fmax=self.fmax, steps=self.steps)
            notes += unconverged(relaxed, f"cells with a {kind}")
            correction = correct(bulk, charge, dielectric)
            energies = np.array([each.energy for each in relaxed]) - energy + correction
            data[kind] = {
                "relaxed_eV": energies.tolist(),
                "unrelaxed_eV": (unrelaxed[chosen] - energy + correction).tolist(),
            }
            lowest[kind] = float(energies.min())
            here = {**where, "distinct_sites": len(cells), "relaxed_sites": len(chosen)}
            if mu is not None:
                results.append(Result(f"{kind}_formation_energy", lowest[kind] + sign * mu, "eV", conditions=here))
        results.append(Result("frenkel_energy", lowest["vacancy"] + lowest["interstitial"], "eV", conditions=where))
        if mu is None:
            notes.append(
                "no chemical potential was given: a vacancy's own energy is open, the Frenkel energy needs none"
            )
        else:
            results.append(Result("chemical_potential", mu, "eV", conditions={"species": self.species}))
            data["chemical_potential_eV"] = mu
            if self.metal is not None:
                notes.append("the chemical potential is the calculator's own energy of the metal, which means something only where "
                             "it was trained on the metal; the Frenkel energy does not depend on it")  # fmt: skip
        if charge and mu is not None:
            notes.append(
                "formation energies of charged defects hold up to charge times the Fermi level; it leaves Frenkel energies"
            )
        return Section("defects", results, data, notes)

    @staticmethod
    def figures(data: Mapping) -> dict[str, Figure]:
        """Plot the energies of all sites."""
        return plot_defects(data)


def usable_charge(calculator, charge: float | None, dielectric) -> tuple[float | None, Any, list[str]]:
    """Charge that the calculator can carry, dielectric constant of its correction, and what must be said about them."""
    if charge is None:
        return None, dielectric, []
    if keys.CHARGES not in calculator.implemented_properties:
        note = f"the calculator has no charges: cells of charge {charge:+g} e are calculated as all others"
        return None, dielectric, [note]
    if keys.CHEMICAL_POTENTIAL in calculator.implemented_properties:  # 0.03 eV are left where the leading term is 0.28
        note = (
            "charges that equilibrate freely screen a charged cell as a metal does: it is not corrected for its images"
        )
        return charge, None, [note]
    if dielectric is None:
        note = "no dielectric constant was given: charged cells are not corrected for their images"
        return charge, None, [note]
    return charge, dielectric, []


def potential(
    calculator, species: str, chemical_potential: float | None, metal: Atoms | None, steps: int
) -> float | None:
    """Chemical potential, eV per atom."""
    if chemical_potential is not None and metal is not None:
        raise InputError("give a chemical_potential or a metal, not both")
    if metal is None:
        return chemical_potential
    if set(metal.get_chemical_symbols()) != {species}:
        raise InputError(f"the metal of {species} must hold {species} only, got {metal.symbols}")
    relaxed = relax(metal, calculator, steps=steps)
    if not relaxed.converged:
        raise InputError(f"{metal.symbols} did not relax in {steps} steps: the calculator may not be trained on the metal; give a "
                         "chemical_potential instead")  # fmt: skip
    return float(relaxed.energy) / len(metal)


def without(bulk: Atoms, site: int, charge: float | None) -> Atoms:
    """The bulk with one atom less; a cation leaves a negative cell."""
    copy = bulk.copy()
    del copy[[site]]
    copy.info[keys.TOTAL_CHARGE] -= charge or 0.0
    return copy


def with_one_more(bulk: Atoms, species: str, position: np.ndarray, charge: float | None) -> Atoms:
    """The bulk with one atom more, at its end."""
    copy = bulk + Atoms(species, positions=[position])
    copy.info = {**bulk.info, keys.TOTAL_CHARGE: bulk.info[keys.TOTAL_CHARGE] + (charge or 0.0)}
    return copy


def correct(bulk: Atoms, charge: float | None, dielectric) -> float:
    """eV of Makov and Payne; zero for neutral cells and where no dielectric constant is known."""
    if not charge or dielectric is None:
        return 0.0
    return float(makov_payne(bulk.cell.array, charge, dielectric))


def plot_defects(data: Mapping) -> dict[str, Figure]:
    """defects: energies of all sites above the bulk, relaxed and not, without the chemical potential."""
    figure, axes = canvas("site", "energy above the bulk, mu left out (eV)")
    names, place = [], 0
    for kind in ("vacancy", "interstitial"):
        for number, (before, after) in enumerate(
            zip(data[kind]["unrelaxed_eV"], data[kind]["relaxed_eV"], strict=True), 1
        ):
            axes.plot([place, place], [before, after], color="0.7", zorder=0)
            axes.plot(
                place, before, "s", color=ORANGE, markerfacecolor="none", label="unrelaxed" if place == 0 else None
            )
            axes.plot(place, after, "o", color=BLUE, label="relaxed" if place == 0 else None)
            names.append(f"{kind} {number}")
            place += 1
    axes.set_xticks(range(place), names, rotation=30, ha="right")
    axes.legend(frameon=False)
    return {"defects": figure}
