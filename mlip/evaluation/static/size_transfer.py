"""Size transfer: dependence of energies, forces, errors and barriers on the cell's size."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from ase import Atoms
from matplotlib.figure import Figure

from mlip import keys, units
from mlip.errors import InputError
from mlip.evaluation.plots import BLUE, ORANGE, canvas
from mlip.evaluation.result import Result
from mlip.evaluation.section import Section, read_section, section_file
from mlip.evaluation.static.relaxation import calculate, conditions, unconstrained
from mlip.transitions.endpoints import vacancy_hops
from mlip.transitions.neb import neb
from mlip.transitions.quench import quench_ends

UNITS = {"energy": "meV/atom", "force": "meV/Å", "stress": "GPa"}
SAME_HOP = 0.05  # Å between the lengths of one hop in cells of different size


@dataclass(frozen=True)
class SizeTransfer:
    """Changes of energy per atom, forces, stress, errors and barriers with the size of the cell.

    structures       small cells, each compared with its own repeat
    labelled         structures with ref_energy, ref_forces: errors by number of atoms
    atoms, species   the shortest hop into a vacancy of the species in these atoms, repeated by every one of barrier_repeats
    others           results from elsewhere at several sizes, with `atoms` among their conditions: diffusivities(). A
                     warning if the intervals of the smallest and the largest cell do not meet
    """

    structures: Sequence[Atoms]
    repeat: Sequence[int] = (2, 1, 1)
    labelled: Sequence[Atoms] = ()
    atoms: Atoms | None = None
    species: str | None = None
    barrier_repeats: Sequence[Sequence[int]] = ((1, 1, 1), (2, 1, 1))
    max_length_A: float = 4.0
    others: Sequence[Result] = ()
    fmax: float = 0.03
    steps: int = 300

    def evaluate(self, calculator) -> Section:
        """Compare cells with their repeats, and sizes with each other."""
        if not self.structures or int(np.prod(self.repeat)) < 2:
            raise InputError(f"size transfer needs structures and a repeat of more than one cell, got {len(self.structures)} "
                             f"and {self.repeat}")  # fmt: skip
        results = repeat_differences(calculator, self.structures, self.repeat)
        data = {"errors": errors_by_size(calculator, self.labelled), "barriers": [], "others": []}
        for row in data["errors"]:
            here = {"atoms": row["atoms"], "structures": row["structures"]}
            results += [Result(f"{name}_rmse_by_size", row[name], unit, conditions=here)
                        for name, unit in (("energy", "meV/atom"), ("force", "meV/Å")) if row[name] is not None]  # fmt: skip
        if self.atoms is not None:
            if self.species is None:
                raise InputError("barriers by size are of one species: give species, e.g. Li")
            for n in self.barrier_repeats:
                atoms = unconstrained(self.atoms).repeat(n)
                result = barrier(calculator, atoms, self.species, self.max_length_A, self.fmax, self.steps)
                results.append(result)
                data["barriers"].append([result.conditions["atoms"], result.value, result.conditions["length_A"]])
        notes = one_hop(data["barriers"])
        for result in by_size(self.others):
            results.append(result)
            data["others"].append(
                [result.name, result.conditions["atoms"], result.value, result.low, result.high, result.unit]
            )
        return Section("size_transfer", results, data, notes)

    @staticmethod
    def figures(data: Mapping) -> dict[str, Figure]:
        """Plot errors, barriers and other numbers by size."""
        return plot_size_transfer(data)


def repeat_differences(calculator, structures: Sequence[Atoms], repeat: Sequence[int]) -> list[Result]:
    """Largest differences between cells and their repeats, over all structures."""
    n = int(np.prod(repeat))
    small = [unconstrained(atoms) for atoms in structures]
    large = [atoms.repeat(repeat) for atoms in small]
    for one, many in zip(small, large, strict=True):
        if keys.TOTAL_CHARGE in one.info:
            many.info[keys.TOTAL_CHARGE] = n * one.info[keys.TOTAL_CHARGE]
    worst = dict.fromkeys(UNITS, 0.0)
    for one, many in zip(calculate(calculator, small), calculate(calculator, large), strict=True):
        apart = {
            "energy": 1e3 * (many.get_potential_energy() / n - one.get_potential_energy()) / len(one),
            "force": 1e3 * (many.get_forces() - np.tile(one.get_forces(), (n, 1))),
        }
        if "stress" in one.calc.results:
            apart["stress"] = units.EV_PER_A3_IN_GPA * (many.get_stress() - one.get_stress())
        worst = {name: max(value, float(np.abs(apart.get(name, 0.0)).max())) for name, value in worst.items()}
    where = {
        "material": conditions(small[0])["material"],
        "repeat": "x".join(map(str, repeat)),
        "structures": len(small),
    }
    return [Result(f"{name}_change_on_repeat", worst[name], unit, conditions=where) for name, unit in UNITS.items()]


def errors_by_size(calculator, labelled: Sequence[Atoms]) -> list[dict]:
    """RMSE of energies (meV/atom) and force components (meV/Å) for every number of atoms."""
    sizes: dict[int, list[tuple[float, np.ndarray]]] = {}
    for atoms, prediction in zip(labelled, calculate(calculator, labelled), strict=True):
        energy = (prediction.get_potential_energy() - atoms.info.get(keys.REF_ENERGY, np.nan)) / len(atoms)
        forces = prediction.get_forces() - atoms.arrays.get(keys.REF_FORCES, np.nan)
        sizes.setdefault(len(atoms), []).append((energy, forces))
    return [
        {"atoms": size, "structures": len(errors), "energy": _rmse([energy for energy, _ in errors]),
         "force": _rmse([forces for _, forces in errors])}
        for size, errors in sorted(sizes.items())
    ]  # fmt: skip


def barrier(calculator, atoms: Atoms, species: str, max_length_A: float, fmax: float, steps: int) -> Result:
    """Of the shortest hop into one vacancy of this cell."""
    hop = vacancy_hops(atoms, species, max_length_A)[0]
    path = neb(
        *quench_ends(hop.start, hop.end, calculator, fmax=fmax / 2, steps=steps), calculator, fmax=fmax, steps=steps
    )
    notes = [] if path.converged else [f"the band has not converged: {path.fmax:.3f} eV/Å are left"]
    where = {**conditions(atoms), "species": species, "length_A": round(hop.length, 3)}
    return Result("barrier_by_size", path.barrier, "eV", verdict="warn" if notes else "", notes=notes, conditions=where)


def one_hop(barriers: Sequence[Sequence]) -> list[str]:
    """Sentence if the cells do not show the same hop."""
    lengths = [length for *_, length in barriers]
    if lengths and np.ptp(lengths) > SAME_HOP:
        return [
            f"the shortest hops of the cells are {', '.join(f'{length:.2f}' for length in lengths)} Å long: not the same hop"
        ]
    return []


def diffusivities(folder: str | Path, names: Sequence[str] = ("diffusion", "diffusion_large")) -> list[Result]:
    """Tracer diffusivity at the lowest temperature of evaluated sections, with their atoms; none unless all are there."""
    files = [section_file(folder, name) for name in names]
    if not all(file.is_file() for file in files):
        return []
    results = []
    for section in map(read_section, files):
        rows = [result for result in section.results if result.name == "tracer_diffusivity"]
        if not rows or "n_atoms" not in section.data:
            return []
        coldest = min(rows, key=lambda result: result.conditions["temperature_K"])
        results.append(replace(coldest, conditions={**coldest.conditions, "atoms": section.data["n_atoms"]}))
    return results


def by_size(others: Sequence[Result]) -> list[Result]:
    """The same numbers, smallest cell first; the last warns if it disagrees with the first."""
    if missing := [result.name for result in others if "atoms" not in result.conditions]:
        raise InputError(f"{missing[0]} does not say how many atoms it is of: its conditions need 'atoms'")
    ordered = sorted(others, key=lambda result: result.conditions["atoms"])
    if len(ordered) > 1 and None not in (ordered[0].low, ordered[0].high, ordered[-1].low, ordered[-1].high):
        first, last = ordered[0], ordered[-1]
        if first.low > last.high or last.low > first.high:
            note = f"depends on the size of the cell: {first} beside {last}"
            ordered[-1] = replace(last, verdict="warn", notes=(*last.notes, note))
    return ordered


def _rmse(differences: Sequence) -> float | None:
    square = np.concatenate([np.ravel(each) for each in differences]) ** 2
    return 1e3 * float(np.sqrt(np.nanmean(square))) if np.isfinite(square).any() else None


def plot_size_transfer(data: Mapping) -> dict[str, Figure]:
    """size_errors, size_barrier and size_others against the number of atoms."""
    figures = {}
    if len(data["errors"]) > 1:
        figures["size_errors"], axes = canvas("atoms in the cell", "RMSE against DFT")
        for name, unit, colour, marker in (("energy", "meV/atom", BLUE, "o"), ("force", "meV/Å", ORANGE, "s")):
            rows = [(row["atoms"], row[name]) for row in data["errors"] if row[name] is not None]
            axes.plot(*zip(*rows, strict=True), f"{marker}-", color=colour, label=f"{name} ({unit})")
        axes.set_yscale("log")
        axes.legend(frameon=False)
    if data["barriers"]:
        figures["size_barrier"], axes = canvas("atoms in the cell", "barrier (eV)")
        axes.plot([row[0] for row in data["barriers"]], [row[1] for row in data["barriers"]], "o-", color=BLUE)
    if data["others"]:
        name, *_, unit = data["others"][0]
        figures["size_others"], axes = canvas("atoms in the cell", f"{name} ({unit})")
        sizes, values, low, high = (np.array([row[k] for row in data["others"]], float) for k in (1, 2, 3, 4))
        axes.errorbar(
            sizes, values, [np.nan_to_num(values - low), np.nan_to_num(high - values)], fmt="o-", color=BLUE, capsize=2
        )
    return figures
