"""Conductivity and Haven ratio of the polarisation current of a model, beside those of formal charges.

A model of an insulating head has the dipole P of its cell, which follows unwrapped ions by dP = sum_i Z*_i dr_i: the current
J = dP/dt is that of the model's Born charges, whatever they become on the way.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from ase import Atoms
from ase.data import chemical_symbols
from matplotlib.figure import Figure

from mlip.errors import InputError, MissingFileError
from mlip.evaluation import plots
from mlip.evaluation.conductivity import CM2_PER_S, nernst_einstein
from mlip.evaluation.diffusion import analyse, conductivity, diffusivity, haven_ratio
from mlip.evaluation.displacements import Trajectory
from mlip.evaluation.dynamics import Dynamics
from mlip.evaluation.increments import Estimate, estimate
from mlip.evaluation.result import Result
from mlip.evaluation.section import Section
from mlip.evaluation.static.field_response import polarisation_response

FORMAL, BORN = "formal charges", "Born charges"


@dataclass(frozen=True)
class PolarisationConductivity:
    """Conductivity of the dipole of the cell in the trajectories of `Diffusion`, and of formal charges in the same frames.

        sigma = lim_t d/dt <|P(t) - P(0)|^2> / (6 V k T)

    Einstein's form of Green and Kubo's 1/(3 V k T) int <J(0).J(t)> dt (French, Hamel, Redmer, Phys. Rev. Lett. 107, 185901
    (2011)). What P has beside the formal charges of unwrapped ions is a bounded function of the structure, so that in an
    electronic insulator both limits are the same number (Grasselli and Baroni, Nat. Phys. 15, 967 (2019)); at shorter times
    and in the infrared they are not.

    folder, dynamics  of `Diffusion`;  every  of its frames is looked at: seven calls of the calculator each
    mobile, charge    the ion and its formal charge, e;  framework  as there
    """

    folder: str | Path
    dynamics: Dynamics
    temperatures_K: Sequence[float]
    mobile: str
    charge: float
    framework: Sequence[str] | None = None
    hop_length_A: float = 2.5
    every: int = 5

    def evaluate(self, calculator) -> Section:
        """Read the production of every temperature; the calculator gives P and Z* of its frames."""
        results, runs, notes = [], [], []
        for temperature in sorted({float(t) for t in self.temperatures_K}):
            folder = Path(self.folder) / f"{temperature:g}K"
            if not (folder / "nvt" / "trajectory.traj").is_file():
                raise MissingFileError(f"no dynamics at {temperature:g} K in {folder}: evaluate `diffusion` first")
            trajectory = every_nth(self.dynamics.production(folder, self.mobile, self.framework), self.every)
            of_run, curves, note = self.at_temperature(calculator, temperature, trajectory)
            results += of_run
            runs.append(curves)
            notes += note
        return Section("polarisation", results, {"runs": runs}, notes)

    def at_temperature(
        self, calculator, temperature_K: float, trajectory: Trajectory
    ) -> tuple[list[Result], dict, list[str]]:
        """Conductivities and Haven ratios of both currents, mean Born charges, and the scan over tau."""
        dipole, born = polarisation(calculator, trajectory)
        where: dict[str, float | str] = {"species": trajectory.mobile, "temperature_K": temperature_K}
        results = [Result("born_charge", z, "e", conditions={**where, "species": symbol}) for symbol, z in born.items()]
        formal = analyse(trajectory, charge=self.charge, temperature_K=temperature_K, hop_length_A=self.hop_length_A)
        curves: dict = {"temperature_K": temperature_K, FORMAL: None, BORN: None}
        if formal.tracer is None or formal.collective is None:
            return results, curves, [f"{temperature_K:g} K: nothing hops, and there is no dc conductivity"]
        n_ions = trajectory.ions.shape[1]
        density = n_ions / trajectory.volume
        walker = dipole[:, None] / (self.charge * np.sqrt(n_ions))
        at = estimate(walker, trajectory.interval_ps, least_tau_ps=formal.tracer.tau_ps)
        molten = formal.results[0].verdict == "fail"
        for current, collective in ((FORMAL, formal.collective), (BORN, at)):
            here = {**where, "current": current}
            d = diffusivity("collective_diffusivity", collective, here, None, molten)
            results += [conductivity("conductivity", d, density, self.charge),
                        haven_ratio(formal.tracer, collective, here)]  # fmt: skip
            curves[current] = scan(collective, density, self.charge, temperature_K)
        return results, curves, []

    @staticmethod
    def figures(data: Mapping) -> dict[str, Figure]:
        """Plot sigma(tau) of both currents."""
        moving = [run for run in data["runs"] if run[BORN]]
        return {"conductivity": plot_conductivity(moving)} if moving else {}


def polarisation(calculator, trajectory: Trajectory) -> tuple[np.ndarray, dict[str, float]]:
    """Dipole of the cell of every frame, [n_frames, 3] e Å, and the mean Born charge of every element, tr Z* / 3, e."""
    dipoles, traces = [], np.zeros(len(trajectory.numbers))
    for positions in trajectory.positions:
        atoms = Atoms(trajectory.numbers, positions, cell=trajectory.mean_cell, pbc=True)
        born, dipole = polarisation_response(calculator, atoms)
        dipoles.append(dipole)
        traces += np.trace(born, axis1=1, axis2=2) / 3
    traces /= len(dipoles)
    numbers = np.unique(trajectory.numbers)
    return np.array(dipoles), {chemical_symbols[z]: float(traces[trajectory.numbers == z].mean()) for z in numbers}


def every_nth(trajectory: Trajectory, every: int) -> Trajectory:
    """The trajectory at every nth of its frames."""
    if every < 1:
        raise InputError(f"every must be at least 1, got {every}")
    return replace(trajectory, positions=trajectory.positions[::every], cells=trajectory.cells[::every],
                   drift=trajectory.drift[::every], interval_ps=every * trajectory.interval_ps)  # fmt: skip


def scan(at: Estimate, density: float, charge: float, temperature_K: float) -> dict:
    """sigma(tau) and its 1 sigma error, S/cm, and where it was taken."""
    per_diffusivity = nernst_einstein(CM2_PER_S, density, charge, temperature_K)  # S/cm by Å^2/ps
    return {
        "taus_ps": at.taus_ps.tolist(), "tau_ps": at.tau_ps, "value": at.value * per_diffusivity,
        "values": (at.values * per_diffusivity).tolist(), "errors": (at.errors * per_diffusivity).tolist(),
    }  # fmt: skip


def plot_conductivity(runs: Sequence[Mapping]) -> Figure:
    """sigma(tau) of Born charges (full) and formal charges (open, dotted) with 1 sigma bars; a ring marks the tau that was taken."""
    figure, axis = plots.canvas("τ (ps)", "σ(τ) (S/cm)")
    for run, colour in zip(runs, plots.colours(len(runs)), strict=True):
        for current, marker, style, fill in ((BORN, "o", "-", colour), (FORMAL, "s", ":", "white")):
            at = run[current]
            shown = f"{run['temperature_K']:g} K, {current}"
            axis.errorbar(at["taus_ps"], at["values"], at["errors"], fmt=marker + style, color=colour, markerfacecolor=fill,
                          markersize=4, linewidth=1, elinewidth=0.7, capsize=2, label=shown)  # fmt: skip
            axis.plot(at["tau_ps"], at["value"], "o", markersize=11, markerfacecolor="none", color=colour)
    axis.axhline(0, color="0.7", linewidth=0.8)
    axis.set_xscale("log")
    plots.title(axis, "from the slope of <|ΔP|$^2$> between τ and 2τ")
    return plots.legend(figure)
