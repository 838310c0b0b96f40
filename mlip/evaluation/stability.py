"""Stability of dynamics: drift of the total energy in NVE."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from ase import Atoms
from ase.io.trajectory import Trajectory as AseTrajectory
from matplotlib.figure import Figure

from mlip.errors import GuardStop, InputError
from mlip.evaluation.plots import BLUE, canvas
from mlip.evaluation.result import Result
from mlip.evaluation.section import Section
from mlip.md.ensemble import NVE, Bussi
from mlip.md.guard import Guard
from mlip.md.run import run
from mlip.md.summary import read_thermo

SHOWN = 1000  # points of a curve


@dataclass(frozen=True)
class Stability:
    """Drift and fluctuation of the total energy in NVE, after settle_ps with a thermostat.

    folder  holds both runs, nvt and nve, and goes on after a kill. The drift has an interval from the four quarters
    """

    atoms: Atoms
    folder: str | Path
    temperature_K: float = 600.0
    time_ps: float = 10.0
    timestep_fs: float = 1.0
    settle_ps: float = 1.0
    guard: Guard | None = None
    seed: int = 0

    def evaluate(self, calculator) -> Section:
        """Run NVT, then NVE, and fit the total energy."""
        try:
            self.run(calculator)
        except GuardStop as stop:
            where = {"temperature_K": float(self.temperature_K)}
            stopped = Result("energy_drift", None, "eV/atom/ps", verdict="fail", notes=(str(stop),), conditions=where)
            return Section("stability", [stopped])
        table = read_thermo(Path(self.folder) / "nve")
        ps, energy = table["time_fs"] * 1e-3, table["total_energy_eV"] / len(self.atoms)
        drift, error = slope(ps, energy)
        where = {"temperature_K": round(table["temperature_K"].mean()), "time_ps": float(self.time_ps),
                 "timestep_fs": float(self.timestep_fs), "n_atoms": len(self.atoms)}  # fmt: skip
        residue = energy - np.polyval(np.polyfit(ps, energy, 1), ps)
        results = [
            Result("energy_drift", drift, "eV/atom/ps", drift - 2 * error, drift + 2 * error, conditions=where),
            Result("energy_fluctuation", 1e3 * residue.std(), "meV/atom", conditions=where),
        ]
        every = max(1, len(ps) // SHOWN)
        data = {
            "time_ps": ps[::every].tolist(), "energy_meV_per_atom": (1e3 * (energy - energy[0]))[::every].tolist(),
            "temperature_K": table["temperature_K"][::every].tolist(),
        }  # fmt: skip
        return Section("stability", results, data)

    def run(self, calculator) -> None:
        """Run or resume NVT in folder/nvt, then NVE from its last frame in folder/nve."""
        folder = Path(self.folder)
        n_settle, n_steps = (round(ps * 1e3 / self.timestep_fs) for ps in (self.settle_ps, self.time_ps))
        settings = {"timestep_fs": self.timestep_fs, "guard": self.guard or Guard(), "seed": self.seed}
        thermostat = Bussi(self.temperature_K, damping_fs=50.0)
        run(self.atoms, calculator, folder / "nvt", thermostat, steps=n_settle, frame_every=n_settle, **settings)
        with AseTrajectory(str(folder / "nvt" / "trajectory.traj")) as frames:
            settled = frames[-1]
        settled.info.update(self.atoms.info)
        run(settled, calculator, folder / "nve", NVE(self.temperature_K), steps=n_steps, frame_every=max(1, n_steps // 50),
            thermo_every=max(1, n_steps // 2000), **settings)  # fmt: skip

    @staticmethod
    def figures(data: Mapping) -> dict[str, Figure]:
        """Plot the total energy against time."""
        return plot_stability(data)


def slope(time: np.ndarray, values: np.ndarray, n_pieces: int = 4) -> tuple[float, float]:
    """Slope of a straight line, and its standard error from leaving out each quarter of the time in turn (jackknife)."""
    if len(time) < 2 * n_pieces:
        raise InputError(f"a drift needs at least {2 * n_pieces} rows, got {len(time)}: run longer")
    pieces = np.array_split(np.arange(len(time)), n_pieces)
    rest = [np.polyfit(np.delete(time, piece), np.delete(values, piece), 1)[0] for piece in pieces]
    return float(np.polyfit(time, values, 1)[0]), float(np.sqrt((n_pieces - 1) * np.var(rest)))


def plot_stability(data: Mapping) -> dict[str, Figure]:
    """Total energy against time; empty if dynamics was stopped."""
    if not data:
        return {}
    figure, axis = canvas("time (ps)", "total energy - first value (meV/atom)")
    axis.plot(data["time_ps"], data["energy_meV_per_atom"], color=BLUE, linewidth=0.8)
    axis.axhline(0, color="0.7", linewidth=0.8)
    return {"energy": figure}
