"""Dynamics to sample from: several temperatures, several starts, each in a folder that goes on after a kill."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import ase.io
from ase import Atoms

from mlip.errors import GuardStop
from mlip.md.ensemble import Bussi
from mlip.md.guard import Guard
from mlip.md.run import run


@dataclass(frozen=True)
class Dynamics:
    """Settings of the runs.

    temperatures_K  several: hops come at the higher, the surroundings that matter at the lower
    steps           of each run, timestep_fs long; a frame every frame_every: 20-50 fs show an ion on its way
    skip_ps         of every run, until it has forgotten its start
    ensemble        ensemble(temperature_K) of mlip.md.ensemble
    A run that leaves physics (guard) ends there; the frames before it are good.
    """

    temperatures_K: Sequence[float]
    steps: int = 10000
    timestep_fs: float = 2.0
    frame_every: int = 15
    skip_ps: float = 0.5
    ensemble: Callable = Bussi
    guard: Guard | None = None

    def __post_init__(self):
        if not self.temperatures_K or min(self.temperatures_K) <= 0:
            raise ValueError(f"dynamics needs positive temperatures, got {list(self.temperatures_K)} K")

    @property
    def interval_fs(self) -> float:
        """Between frames."""
        return self.frame_every * self.timestep_fs

    def run(self, starts: Sequence[Atoms], calculator, folder: Path, seed: int) -> list[tuple[str, list[Atoms]]]:
        """(name, frames) of each run, in order of temperature; finished ones are read and not repeated."""
        out = []
        for number, atoms in enumerate(starts):
            for temperature in self.temperatures_K:
                name = f"{temperature:g}K_start{number}"
                out.append((name, self._one(atoms, calculator, folder / name, temperature, seed + 1000 * number)))
        return out

    def _one(self, atoms: Atoms, calculator, folder: Path, temperature: float, seed: int) -> list[Atoms]:
        if not (folder / "summary.json").exists():
            try:
                # a relaxed crystal gives half of its heat to the springs
                run(atoms, calculator, folder, self.ensemble(temperature), self.steps, self.timestep_fs, seed=seed,
                    initial_temperature_K=2 * temperature, guard=self.guard, frame_every=self.frame_every,
                    thermo_every=self.frame_every, state_every=10 * self.frame_every, progress=False)  # fmt: skip
            except GuardStop:
                pass  # the frames before it are kept
        skipped = int(self.skip_ps * 1000 / self.interval_fs)
        path = folder / "trajectory.traj"
        return ase.io.read(path, f"{skipped}:") if path.stat().st_size else []
