"""Orderings of a disordered crystal ranked by a calculator, and against DFT labels."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from ase import Atoms
from matplotlib.figure import Figure
from scipy.stats import spearmanr

from mlip import keys
from mlip.data.structures import write
from mlip.errors import InputError
from mlip.evaluation.plots import BLUE, ORANGE, canvas
from mlip.evaluation.result import Result
from mlip.evaluation.section import Section
from mlip.evaluation.static.relaxation import calculate, conditions, plain_structure, relax_many, unconverged

FEWEST = 4  # structures of which ranks can be compared


@dataclass(frozen=True)
class Orderings:
    """Energies of orderings before and after relaxation, meV/atom, and Spearman's rho of their ranks.

    structures  of mlip.data.orderings, or any of one composition. Where they carry a DFT energy (ref_energy), it is that
                of the structure as given, and is compared with the calculator's energy of the same, unrelaxed structure
    Relaxed structures are kept in data["relaxed"] in order of their energy, and in folder/relaxed.xyz if there is a folder.
    """

    structures: Sequence[Atoms]
    fmax: float = 0.01
    steps: int = 500
    cell: bool = True
    folder: str | Path | None = None

    def evaluate(self, calculator) -> Section:
        """Relax every ordering and rank them."""
        check_one_composition(self.structures)
        unrelaxed = np.array(
            [each.get_potential_energy() / len(each) for each in calculate(calculator, self.structures)]
        )
        optimised = relax_many(self.structures, calculator, self.cell, fmax=self.fmax, steps=self.steps)
        relaxed = np.array([each.energy / len(each.atoms) for each in optimised])
        labels = np.array([energy_label(atoms) for atoms in self.structures])
        names = [str(atoms.info.get("source", number)) for number, atoms in enumerate(self.structures)]
        where, notes = {"material": conditions(self.structures[0])["material"]}, unconverged(optimised, "orderings")
        order = np.argsort(relaxed, kind="stable")
        results = [Result("ordering_energy", 1e3 * (relaxed[i] - relaxed[order[0]]), "meV/atom", conditions={**where, "ordering": names[i],
                   "atoms": len(self.structures[i])}) for i in order]  # fmt: skip
        results.append(Result("ordering_energy_spread", 1e3 * relaxed.std(), "meV/atom", conditions=where))
        for name, one, other in (("spearman_relaxation", unrelaxed, relaxed), ("spearman_dft", unrelaxed, labels)):
            known = np.isfinite(one) & np.isfinite(other)
            if known.sum() >= FEWEST:
                results.append(spearman(name, one[known], other[known], where))
        if np.isfinite(labels).sum() < FEWEST:
            notes.append(f"{int(np.isfinite(labels).sum())} of {len(labels)} orderings carry a DFT energy; {FEWEST} are needed to "
                         "compare ranks: label them, and evaluate again")  # fmt: skip
        if self.folder is not None:
            write(Path(self.folder) / "relaxed.xyz", [bare(optimised[i].atoms, names[i]) for i in order])
        data = {
            "names": names, "given_meV": above(unrelaxed), "relaxed_meV": above(relaxed), "dft_meV": above(labels),
            "coulomb_eV": [atoms.info.get("coulomb_energy") for atoms in self.structures],
            "relaxed": [plain_structure(optimised[i].atoms) for i in order],
        }  # fmt: skip
        return Section("orderings", results, data, notes)

    @staticmethod
    def figures(data: Mapping) -> dict[str, Figure]:
        """Plot energies by rank, and against DFT."""
        return plot_orderings(data)


def bare(atoms: Atoms, name: str) -> Atoms:
    """A copy without results, with its name: a structure to start from, which is no label."""
    copy = Atoms(atoms.numbers, atoms.positions, cell=atoms.cell, pbc=atoms.pbc)
    copy.info["ordering"] = name
    return copy


def check_one_composition(structures: Sequence[Atoms]) -> None:
    """ValueError for energies that cannot be compared."""
    if len(structures) < 2:
        raise InputError(f"a ranking needs at least two orderings, got {len(structures)}")
    formulas = {atoms.get_chemical_formula("metal", empirical=True) for atoms in structures}
    if len(formulas) > 1:
        raise InputError(
            f"orderings must have one composition, got {', '.join(sorted(formulas))}: rank them separately"
        )


def energy_label(atoms: Atoms) -> float:
    """eV per atom, NaN if there is none."""
    return float(atoms.info.get(keys.REF_ENERGY, np.nan)) / len(atoms)


def above(energies: np.ndarray) -> list[float | None]:
    """meV per atom above the lowest that is known."""
    if not np.isfinite(energies).any():
        return [None] * len(energies)
    return [1e3 * float(e - np.nanmin(energies)) if np.isfinite(e) else None for e in energies]


def spearman(name: str, one: np.ndarray, other: np.ndarray, where: Mapping) -> Result:
    """Rank correlation with its 2 sigma interval (Fisher's transform, error of Bonett and Wright 2000)."""
    if np.ptp(one) == 0 or np.ptp(other) == 0:
        return Result(name, None, "", notes=["all energies are equal: there are no ranks"], conditions=where)
    rho = float(spearmanr(one, other).statistic)
    z, error = np.arctanh(np.clip(rho, -0.999999, 0.999999)), np.sqrt((1 + rho**2 / 2) / (len(one) - 3))
    return Result(
        name, rho, "", np.tanh(z - 2 * error), np.tanh(z + 2 * error), conditions={**where, "orderings": len(one)}
    )


def plot_orderings(data: Mapping) -> dict[str, Figure]:
    """orderings: relaxed energies by rank; orderings_dft: energies of the given structures against DFT."""
    figure, axes = canvas("rank", "energy above the lowest (meV/atom)")
    unrelaxed, relaxed = np.array(data["given_meV"]), np.array(data["relaxed_meV"])
    order = relaxed.argsort(kind="stable")
    axes.plot(1 + np.arange(len(order)), relaxed[order], "o-", color=BLUE, label="relaxed")
    axes.plot(1 + np.arange(len(order)), unrelaxed[order], "s", color=ORANGE, markerfacecolor="none", label="as given")
    axes.legend(frameon=False)
    figures, dft = {"orderings": figure}, np.array([np.nan if e is None else e for e in data["dft_meV"]])
    if np.isfinite(dft).sum() >= FEWEST:
        figures["orderings_dft"], axes = canvas("DFT energy above the lowest (meV/atom)", "calculator's (meV/atom)")
        axes.plot(dft, unrelaxed, "o", color=BLUE, label="same structures")
        ends = [0, max(np.nanmax(dft), unrelaxed.max())]
        axes.plot(ends, ends, ":", color="0.4", label="equal")
        axes.legend(frameon=False)
    return figures
