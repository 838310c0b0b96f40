"""Relaxation of one or many crystals at once."""

import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from ase import Atoms
from ase.filters import FrechetCellFilter
from ase.optimize import LBFGS

from mlip import units
from mlip.calculator import calculate_many
from mlip.errors import InputError

AT_ONCE = 4000  # atoms in one call of the calculator: its memory grows with them
MOST_STRAIN = 0.5  # of the volume; a crystal that swells or shrinks more is no longer the same


@dataclass(frozen=True)
class Relaxed:
    """atoms carry their results; max_force in eV/Å, max_stress in eV/Å^3 (largest component)."""

    atoms: Atoms
    converged: bool
    steps: int
    max_force: float
    max_stress: float

    @property
    def energy(self) -> float:
        """eV"""
        return self.atoms.get_potential_energy()


def relax(atoms: Atoms, calculator, cell: bool = True, **settings) -> Relaxed:
    """relax_many for one crystal; by default its cell too."""
    return relax_many([atoms], calculator, cell, **settings)[0]


def relax_many(
    structures: Sequence[Atoms],
    calculator,
    cell: bool = False,
    fmax: float = 0.005,
    max_stress: float = 0.1 * units.KBAR,
    steps: int = 500,
) -> list[Relaxed]:
    """The structures at their nearest minima; one LBFGS each, one call of the calculator per step for all.

    cell       relax the cell as well, until no component of the stress is beyond max_stress (eV/Å^3)
    fmax       eV/Å, the largest force left on an atom
    The caller's atoms are not changed; constraints are dropped. `converged` is False for one that does not converge in `steps`.
    Raises ValueError for a cell that is not periodic, for results that are not finite, for a runaway cell.
    """
    if not (fmax > 0 and max_stress > 0 and steps >= 0):
        raise InputError(f"fmax and max_stress must be positive, steps not negative; got {fmax}, {max_stress}, {steps}")
    copies = [unconstrained(atoms) for atoms in structures]
    volumes = [atoms.get_volume() for atoms in copies]
    # sqrt(n) makes a strain about as stiff as an atom; ASE's n leaves the cells of many atoms far too soft
    moving = [FrechetCellFilter(atoms, exp_cell_factor=len(atoms) ** 0.5) if cell else atoms for atoms in copies]
    optimizers = [LBFGS(each, logfile=None) for each in moving]
    relaxed: list[Relaxed | None] = [None] * len(copies)
    waiting = list(range(len(copies)))
    for step in range(steps + 1):
        for i, calculated in zip(
            waiting, calculate(calculator, [copies[i] for i in waiting], stress=cell), strict=True
        ):
            copies[i].calc = calculated.calc
            force = float(np.linalg.norm(copies[i].get_forces(), axis=1).max())
            stress = (
                float(np.abs(copies[i].get_stress()).max()) if "stress" in calculated.calc.results else float("nan")
            )
            converged = force < fmax and (not cell or stress < max_stress)
            relaxed[i] = Relaxed(copies[i], converged, step, force, stress)
        waiting = [i for i in waiting if not relaxed[i].converged]
        if not waiting or step == steps:
            break
        for i in waiting:
            with warnings.catch_warnings():  # scipy's matrix logarithm of a small strain, "inaccurate" by 1e-13
                warnings.filterwarnings("ignore", "logm result may be inaccurate", RuntimeWarning)
                optimizers[i].step()
            _check_volume(copies[i], volumes[i], step)
    return relaxed


def calculate(calculator, structures: Sequence[Atoms], stress: bool = False) -> list[Atoms]:
    """calculate_many in calls of about AT_ONCE atoms; ValueError if a result is missing or not finite."""
    calculated, batch = [], []
    for count, atoms in enumerate(structures, 1):
        batch.append(atoms)
        if count == len(structures) or sum(map(len, batch)) >= AT_ONCE:
            calculated += calculate_many(calculator, batch)
            batch = []
    for atoms in calculated:
        results = atoms.calc.results
        if stress and "stress" not in results:
            raise InputError(
                f"{atoms.calc.name} gives no stress, which this property needs; use a calculator that does"
            )
        for name in ("energy", "forces", "stress"):
            if name in results and not np.isfinite(results[name]).all():
                raise InputError(
                    f"{atoms.calc.name} gives a {name} that is not finite for {atoms.symbols}: it does not "
                    "hold this structure; look at it, or train on structures like it"
                )
    return calculated


def unconstrained(atoms: Atoms) -> Atoms:
    """A copy without constraints. ValueError for what is no crystal: open directions, no atoms, NaN positions."""
    if len(atoms) == 0:
        raise InputError("a crystal needs at least one atom, got none")
    if not (atoms.pbc.all() and atoms.cell.rank == 3):
        raise InputError(
            f"a crystal is periodic in three directions, got pbc={atoms.pbc.tolist()} and cell "
            f"{atoms.cell.lengths().tolist()} Å; set atoms.cell and atoms.pbc = True"
        )
    if not (np.isfinite(atoms.positions).all() and np.isfinite(atoms.cell.array).all()):
        bad = np.flatnonzero(~np.isfinite(atoms.positions).all(axis=1))
        raise InputError(f"positions and cell must be finite, atoms {bad[:5].tolist()} are not; look at the file")
    copy = atoms.copy()
    copy.set_constraint()
    return copy


def _check_volume(atoms: Atoms, start: float, step: int) -> None:
    change = atoms.get_volume() / start - 1
    if not abs(change) < MOST_STRAIN:
        raise InputError(
            f"the volume of {atoms.symbols} changed by {change:+.0%} in {step + 1} steps: the calculator does "
            "not hold this crystal; begin nearer to its minimum, or train on strained cells"
        )


def widths(cell) -> np.ndarray:
    """Distances between opposite faces of a cell, [3] Å."""
    cell = np.asarray(cell)
    return np.abs(np.linalg.det(cell)) / np.linalg.norm(np.cross(cell[[1, 2, 0]], cell[[2, 0, 1]]), axis=1)


def repeats(cell, width: float) -> tuple[int, int, int]:
    """Repeats of a cell with which every width reaches `width` Å."""
    if not width > 0:
        raise InputError(f"the width of a supercell must be positive, got {width} Å")
    return tuple(int(np.ceil(width / each - 1e-6)) for each in widths(cell))


def unconverged(relaxed: Sequence[Relaxed], what: str) -> list[str]:
    """Sentence if relaxations ended before their criterion, else nothing."""
    left = [each for each in relaxed if not each.converged]
    if not left:
        return []
    worst = max(each.max_force for each in left)
    stress = max(each.max_stress for each in left) / units.KBAR
    text = f"{len(left)} of {len(relaxed)} relaxations of {what} did not converge in {left[0].steps} steps"
    return [f"{text}: largest force {worst:.4f} eV/Å, stress {stress:.2f} kbar; give more steps"]


def conditions(atoms: Atoms) -> dict[str, float | str]:
    """Conditions of a number of this crystal: material and number of atoms."""
    return {"material": atoms.get_chemical_formula("metal", empirical=True), "atoms": len(atoms)}


def plain_structure(atoms: Atoms) -> dict:
    """Cell, positions and numbers as JSON."""
    return {
        "numbers": atoms.numbers.tolist(),
        "positions_A": atoms.positions.tolist(),
        "cell_A": atoms.cell.array.tolist(),
    }


def structure(data: Mapping) -> Atoms:
    """Crystal that plain_structure wrote."""
    return Atoms(data["numbers"], positions=data["positions_A"], cell=data["cell_A"], pbc=True)
