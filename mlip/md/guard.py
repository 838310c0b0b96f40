"""Guard: stops dynamics that has left the physics, and keeps the last frame that was good."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import ase.io
import numpy as np
from ase import Atoms

from mlip import keys
from mlip.data.graph import neighbour_list
from mlip.data.structures import write
from mlip.errors import InputError

TO_LABEL = "to_label.xyz"


@dataclass(frozen=True)
class Guard:
    """Limits that only a broken trajectory crosses; None takes one out.

    max_temperature_K, max_force_eV_A (eV/Å): looked at in every step, before anything of it is kept
    min_distance_A       Å, of any two atoms: every `every` steps, and before a frame is kept
    max_force_sigma_eV_A  eV/Å, uncertainty of a force, if the model has one: in every step
    max_volume_change    of a cell against its start, as a factor either way: every `every` steps, and before a frame is kept
    uncertain_of  symbols of the atoms whose uncertainty counts, such as [Li]; None: of all
    """

    max_temperature_K: float | None = 5000.0
    min_distance_A: float | None = 0.6
    max_force_eV_A: float | None = 100.0
    max_force_sigma_eV_A: float | None = None
    max_volume_change: float | None = 2.0
    uncertain_of: Sequence[str] | None = None
    every: int = 10

    def complaint(
        self,
        atoms: Atoms,
        temperature_K: float,
        distances: bool = True,
        shortest: Mapping[str, float | None] | None = None,
        start_volume_A3: float | None = None,
    ) -> str | None:
        """What has left its limits; None if nothing has.

        distances  False leaves out the search for close pairs, and the volume
        shortest   {"Li-O": Å} of the training data: the message names the pair that is closest against them
        start_volume_A3  of the cell at the start; None or 0: its change is not looked at
        """
        if not np.isfinite(atoms.positions).all():
            return "positions are not finite"
        if self.max_volume_change is not None and start_volume_A3 and distances:
            change = atoms.get_volume() / start_volume_A3
            if not 1.0 / self.max_volume_change <= change <= self.max_volume_change:
                return (
                    f"the cell has {change:.3g} times the volume it started with, more of a change than max_volume_change "
                    f"{self.max_volume_change:g}: it evaporates or collapses; if that is meant, guard.max_volume_change=null"
                )
        limit = self.left_limit(atoms, temperature_K, distances)
        return limit and limit + closest_pair(atoms, shortest or {})

    def left_limit(self, atoms: Atoms, temperature_K: float, distances: bool) -> str | None:
        """The limit that is left, in words."""
        # written so that NaN is a complaint too
        if self.max_temperature_K is not None and not temperature_K <= self.max_temperature_K:
            return f"temperature {temperature_K:.0f} K is above max_temperature_K {self.max_temperature_K:.0f}"
        if self.min_distance_A is not None and distances:
            pairs, shift = neighbour_list(atoms, self.min_distance_A)
            if pairs.shape[1]:
                vector = atoms.positions[pairs[1]] + shift.numpy() @ atoms.cell.array - atoms.positions[pairs[0]]
                distance = np.linalg.norm(vector, axis=1)
                i, j = pairs[:, distance.argmin()].tolist()
                names = f"atoms {i} ({atoms.symbols[i]}) and {j} ({atoms.symbols[j]})"
                return f"{names} are {distance.min():.3f} Å apart, less than min_distance_A {self.min_distance_A} Å"
        if self.max_force_eV_A is not None:
            forces = np.linalg.norm(atoms.get_forces(), axis=1)
            if not forces.max() <= self.max_force_eV_A:
                atom = int(forces.argmax())
                symbol = atoms.symbols[atom]
                return f"force {forces[atom]:.1f} eV/Å on atom {atom} ({symbol}) is above max_force_eV_A {self.max_force_eV_A:.1f}"
        atom = self.uncertain_atom(atoms)
        if atom is not None:
            return (
                f"the force on atom {atom} ({atoms.symbols[atom]}) is uncertain by {atoms.calc.results[keys.FORCE_SIGMA][atom]:.2f} "
                f"eV/Å, more than max_force_sigma_eV_A {self.max_force_sigma_eV_A:g}: a structure to be labelled"
            )
        return None

    def uncertain_atom(self, atoms: Atoms) -> int | None:
        """The atom whose force is least certain, where that is beyond its limit."""
        sigma = atoms.calc.results.get(keys.FORCE_SIGMA)
        if self.max_force_sigma_eV_A is None or sigma is None:
            return None
        symbols = np.array(atoms.get_chemical_symbols())
        counted = np.flatnonzero(np.isin(symbols, list(self.uncertain_of or symbols)))
        within = len(counted) == 0 or sigma[counted].max() <= self.max_force_sigma_eV_A
        return None if within else int(counted[sigma[counted].argmax()])

    def is_worth_a_label(self, atoms: Atoms, temperature_K: float) -> bool:
        """Whether a frame is beyond the limit of uncertainty, and beyond no other: a structure, not a wreck."""
        others = replace(self, max_force_sigma_eV_A=None)
        return self.uncertain_atom(atoms) is not None and others.complaint(atoms, temperature_K) is None

    def check(self, calculator, atoms: Atoms) -> None:
        """Raise InputError if an uncertainty is to be watched that the calculator does not give, or of atoms that are not there."""
        given = getattr(calculator, "implemented_properties", ())
        if self.max_force_sigma_eV_A is not None and keys.FORCE_SIGMA not in given:
            raise InputError(
                "guard.max_force_sigma_eV_A needs a model with uncertainty: mlip export RUN uncertainty=last_layer, or a committee"
            )
        absent = sorted(set(self.uncertain_of or ()) - set(atoms.symbols))
        if absent:
            raise InputError(
                f"guard.uncertain_of={absent}: the structure has none of them; choose among {sorted(set(atoms.symbols))}"
            )
        if self.uncertain_of and self.max_force_sigma_eV_A is None:
            raise InputError(
                f"guard.uncertain_of={list(self.uncertain_of)} needs its limit: set guard.max_force_sigma_eV_A (eV/Å) too"
            )


def closest_pair(atoms: Atoms, shortest: Mapping[str, float | None]) -> str:
    """The pair that is closest against the shortest distance of its elements in the data, in words; "" without data."""
    known = {tuple(sorted(pair.split("-"))): distance for pair, distance in shortest.items() if distance}
    if not known:
        return ""
    pairs, shift = neighbour_list(atoms, max(known.values()))
    vector = atoms.positions[pairs[1]] + shift.numpy() @ atoms.cell.array - atoms.positions[pairs[0]]
    distance = np.linalg.norm(vector, axis=1)
    symbols = np.array(atoms.get_chemical_symbols())[pairs.numpy()].T
    limit = np.array([known.get(tuple(sorted(pair)), np.nan) for pair in symbols])
    if not np.isfinite(distance / limit).any():
        return ""
    closest = int(np.nanargmin(distance / limit))
    i, j = pairs[:, closest].tolist()
    return (
        f"; {symbols[closest][0]}-{symbols[closest][1]} (atoms {i} and {j}) are {distance[closest]:.2f} Å apart, the "
        f"training data end at {limit[closest]:.2f} Å"
    )


def keep_frames(folder: Path, good: Atoms, bad: Atoms) -> str:
    """guard.xyz: the last good frame, guard_bad.xyz: the one that was stopped; a sentence that says so."""
    ase.io.write(folder / "guard.xyz", good, format="extxyz")
    bare = Atoms(bad.symbols, positions=bad.positions, cell=bad.cell, pbc=bad.pbc)  # its calculator may have no answer
    ase.io.write(folder / "guard_bad.xyz", bare, format="extxyz")
    return f"last good frame in {folder / 'guard.xyz'} (step {good.info['step']}), the stopped one in guard_bad.xyz"


def hand_over(folder: Path, uncertain: Atoms) -> str:
    """to_label.xyz: the frame whose forces are uncertain; a sentence on how the dynamics go on with its label."""
    frame = Atoms(uncertain.symbols, positions=uncertain.positions, cell=uncertain.cell, pbc=uncertain.pbc)
    frame.info.update(config_type="md", kind="md", step=uncertain.info["step"])
    write(folder / TO_LABEL, [frame])
    return (
        f"{folder / TO_LABEL} is to be labelled (mlip label) and trained on (mlip train checkpoint=...); then "
        f"mlip md NEW_MODEL {folder / 'guard.xyz'} folder=... goes on from the last good frame with its velocities"
    )
