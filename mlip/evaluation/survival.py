"""Survival of dynamics: replicas at and above the temperature of use, until a guard stops them."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from ase import Atoms
from matplotlib.figure import Figure
from scipy.stats import chi2

from mlip.errors import GuardStop
from mlip.evaluation.plots import BLUE, RED, canvas
from mlip.evaluation.result import Result
from mlip.evaluation.section import Section
from mlip.md.ensemble import Bussi
from mlip.md.guard import Guard
from mlip.md.run import run

OUTSIDE = (1 - 0.9545) / 2  # probability on either side of a 2 sigma interval


@dataclass(frozen=True)
class Survival:
    """Time to failure of NVT dynamics at multiples of a temperature, each with some replicas of other velocities.

    folder  holds every replica, 1200K/0/ ..., resumed after a kill
    factors of the highest temperature of use; a crystal may melt at twice that, and must not explode
    The failures of n replicas in a total time T are a Poisson process: T / failures, with its exact interval.
    """

    atoms: Atoms
    folder: str | Path
    temperatures_K: Sequence[float]
    factors: Sequence[float] = (1.0, 1.5, 2.0)
    n_replicas: int = 3
    time_ps: float = 20.0
    timestep_fs: float = 1.0
    guard: Guard = field(default_factory=Guard)

    def evaluate(self, calculator) -> Section:
        """Run every replica to its end or its failure."""
        results, lives, notes = [], [], []
        for factor in self.factors:
            temperature = factor * max(self.temperatures_K)
            times, stops = [], []
            for replica in range(self.n_replicas):
                stop = self.run(calculator, temperature, replica)
                times.append(self.time_ps if stop is None else 1e-3 * stop.time_fs)
                stops += [] if stop is None else [f"{temperature:g} K, replica {replica}: {stop}"]
            where = {"temperature_K": float(temperature)}
            low, high = failure_interval(sum(times), len(stops))
            results += [
                Result("replicas_survived", 1 - len(stops) / self.n_replicas, "", conditions=where),
                Result("time_to_failure", sum(times) / len(stops), "ps", low, high, conditions=where) if stops
                else Result("time_to_failure", None, "ps", low, verdict="limit", conditions=where),
            ]  # fmt: skip
            lives.append({"temperature_K": temperature, "times_ps": times, "failed": len(stops)})
            notes += stops
        head = f"{self.n_replicas} replicas of {len(self.atoms)} atoms, {self.time_ps:g} ps each, {self.timestep_fs:g} fs steps"
        return Section("survival", results, {"time_ps": self.time_ps, "lives": lives}, [head, *notes])

    def run(self, calculator, temperature_K: float, replica: int) -> GuardStop | None:
        """Run or resume one replica; returns what stopped it."""
        folder = Path(self.folder) / f"{temperature_K:g}K" / str(replica)
        steps = round(1e3 * self.time_ps / self.timestep_fs)
        try:
            run(self.atoms, calculator, folder, Bussi(temperature_K), steps=steps, timestep_fs=self.timestep_fs,
                guard=self.guard, seed=replica, frame_every=max(1, steps // 100))  # fmt: skip
        except GuardStop as stop:
            return stop
        return None

    @staticmethod
    def figures(data: Mapping) -> dict[str, Figure]:
        """Plot how long every replica lived, by temperature."""
        figure, axis = canvas("temperature (K)", "time lived (ps)")
        for life in data["lives"]:
            for time in life["times_ps"]:
                whole = time >= data["time_ps"]
                axis.plot(life["temperature_K"], time, "^" if whole else "x", color=BLUE if whole else RED)
        axis.set_ylim(0, 1.1 * data["time_ps"])
        return {"lives": figure}


def failure_interval(time_ps: float, n_failures: int) -> tuple[float, float | None]:
    """2 sigma interval of the mean time to failure, ps, of a Poisson process seen for time_ps; no upper end without failures.

    2 T / chi2(1 - a; 2n + 2) to 2 T / chi2(a; 2n) (Garwood, Biometrika 28, 437, 1936); one-sided if nothing failed.
    """
    if n_failures == 0:
        return 2 * time_ps / chi2.ppf(1 - 2 * OUTSIDE, 2), None
    return 2 * time_ps / chi2.ppf(1 - OUTSIDE, 2 * n_failures + 2), 2 * time_ps / chi2.ppf(OUTSIDE, 2 * n_failures)
