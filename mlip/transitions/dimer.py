"""Saddle search from one structure: dimer, minimum-mode following.

Uphill along the lowest mode, downhill across it. J. Chem. Phys. 111, 7010 (1999); the mode is turned by a few Lanczos
steps per move, as in Phys. Rev. B 69, 155301. ASE's own dimer keeps its settings in the class, for all searches at
once, and evaluates one structure at a time.
"""

from dataclasses import dataclass

import numpy as np
from ase import Atoms
from ase.calculators.calculator import Calculator, all_changes
from ase.optimize import FIRE2

from mlip.calculator import calculate_many
from mlip.errors import InputError
from mlip.transitions.modes import lowest_modes

CONVEX_PULL = 0.5  # eV/Å along the mode if the curvature is positive: leaves the valley of the minimum


@dataclass(frozen=True)
class DimerResult:
    """Saddle with results attached; mode [n_atoms, 3], unit; curvature eV/Å^2; fmax eV/Å."""

    atoms: Atoms
    mode: np.ndarray
    curvature: float
    converged: bool
    fmax: float
    steps: int
    calls: int


class MinimumModeCalculator(Calculator):
    """Forces towards a saddle:  F - 2 (F.n) n,  n the lowest mode; along n if it is convex."""

    implemented_properties = ("energy", "forces")

    def __init__(self, calculator, mode: np.ndarray, turns: int):
        super().__init__()
        self.calculator, self.mode, self.turns = calculator, mode, turns
        self.curvature, self.calls = np.nan, 0
        self.answer: Atoms

    def calculate(self, atoms=None, properties=("energy",), system_changes=all_changes):
        super().calculate(atoms, properties, system_changes)
        (self.answer,) = calculate_many(self.calculator, [self.atoms])
        forces = self.answer.get_forces()
        start = self.mode[None]
        modes = lowest_modes(self.atoms, self, 1, start, tolerance=0.1, max_vectors=self.turns, forces=forces, guard=0)
        self.calls += 1
        self.mode, self.curvature = modes.vectors[0], float(modes.curvatures[0])
        along = (forces * self.mode).sum()
        if self.curvature < 0:
            effective = forces - 2 * along * self.mode
        else:
            effective = -np.copysign(max(abs(along), CONVEX_PULL), along) * self.mode
        self.results = {"energy": self.answer.get_potential_energy(), "forces": effective}

    def calculate_many(self, structures: list[Atoms]) -> list[Atoms]:
        """The model's own results, counted as force calls."""
        self.calls += len(structures)
        return calculate_many(self.calculator, structures)


def dimer(
    atoms: Atoms, calculator, direction: np.ndarray, fmax: float = 0.05, steps: int = 300, turns: int = 4
) -> DimerResult:
    """Saddle search from one structure.

    atoms      near the top of a hop, e.g. its middle frame, or the middle image of an unrelaxed band
    direction  [n_atoms, 3], of the hop: the first guess of the mode
    fmax       eV/Å, of all forces;  turns  at most, force calls that turn the mode at each step
    Converged needs a negative curvature; check_saddle shows whether it is the only one, a quench to both sides whose saddle
    it is.
    """
    direction = np.asarray(direction, float)
    if (
        direction.shape != atoms.positions.shape
        or not np.linalg.norm(direction) > 0
        or not np.isfinite(direction).all()
    ):
        raise InputError(
            f"the direction must be [n_atoms, 3], finite and not zero, got {list(direction.shape)} for {atoms.symbols}"
        )
    if not np.isfinite(atoms.positions).all():
        raise InputError("positions must be finite; start from another frame")
    moving = atoms.copy()
    follower = MinimumModeCalculator(calculator, direction / np.linalg.norm(direction), turns)
    moving.calc = follower
    optimizer = FIRE2(moving, logfile=None, maxstep=0.1)
    converged = optimizer.run(fmax=fmax, steps=steps)
    answer = follower.answer
    force = float(np.linalg.norm(answer.get_forces(), axis=1).max())
    good = bool(converged and follower.curvature < 0 and force <= fmax)
    return DimerResult(
        answer, follower.mode, follower.curvature, good, force, optimizer.get_number_of_steps(), follower.calls
    )


def both_sides(result: DimerResult, push: float = 0.3) -> list[Atoms]:
    """The saddle pushed (Å) down either side: quenched, they are the ends of its path."""
    sides = []
    for sign in (-1, 1):
        side = result.atoms.copy()
        side.positions += sign * push * result.mode / np.abs(result.mode).max()
        sides.append(side)
    return sides
