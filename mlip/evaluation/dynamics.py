"""Diffusion from molecular dynamics: one folder for each temperature, resumed after a kill."""

import multiprocessing
import os
import threading
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
from ase import Atoms
from ase.io.trajectory import Trajectory as AseTrajectory
from matplotlib.figure import Figure

from mlip.errors import GuardStop, InputError, MissingFileError
from mlip.evaluation.diffusion import FEW_HOPS, analyse
from mlip.evaluation.displacements import Trajectory, from_frames
from mlip.evaluation.phase_change import length_errors
from mlip.evaluation.production import lacking, lengths
from mlip.evaluation.result import Result
from mlip.evaluation.section import Section
from mlip.evaluation.transport import TransportAnalysis, plot_diffusion, without_beginning
from mlip.evaluation.van_hove import write_density
from mlip.md.ensemble import NPT, Bussi
from mlip.md.files import steps_done
from mlip.md.guard import Guard
from mlip.md.run import run
from mlip.transitions.density import ion_density


@dataclass(frozen=True)
class Dynamics:
    """Settings of NVT dynamics, in the cell of the structure or in the mean cell of NPT dynamics before it.

    npt_ps             time at zero pressure before NVT, which then has the mean cell of its second half; 0: no NPT
    equilibration_ps   start of the NVT run that is left out of the analysis
    production_ps      rest of it; with longest_ps its least length: it grows until the tracer diffusivity has a 2 sigma interval
                       of at most relative_interval either way and effective_hops, or the longest length is reached
    longest_ps         None: production_ps, whatever it gives
    frame_interval_fs  between frames, 10-50: hops take 100
    thermostat         of mlip.md.ensemble, called with temperature_K. Langevin would change D
    """

    timestep_fs: float = 2.0
    npt_ps: float = 0.0
    equilibration_ps: float = 5.0
    production_ps: float = 100.0
    longest_ps: float | None = None
    relative_interval: float = 0.25
    effective_hops: float = FEW_HOPS
    frame_interval_fs: float = 20.0
    thermostat: Callable = Bussi
    guard: Guard = field(default_factory=Guard)
    seed: int = 0

    def run(
        self,
        atoms: Atoms,
        calculator,
        temperature_K: float,
        folder: Path,
        analysis: TransportAnalysis,
        progress: bool = True,
    ) -> str:
        """Run or resume one temperature in folder/npt and folder/nvt; return "" or the message of the guard."""
        settings = {"timestep_fs": self.timestep_fs, "guard": self.guard, "seed": self.seed, "progress": progress,
                    "frame_every": max(1, round(self.frame_interval_fs / self.timestep_fs))}  # fmt: skip
        start = atoms
        try:
            if self.npt_ps:
                run(atoms, calculator, folder / "npt", NPT(temperature_K), steps=self.steps(self.npt_ps), **settings)
                start = in_mean_cell(folder / "npt", atoms)
            thermostat = self.thermostat(temperature_K=temperature_K)
            for n_steps in self.stops(steps_done(folder / "nvt")):
                run(start, calculator, folder / "nvt", thermostat, steps=n_steps, **settings)
                if self.longest_ps is None or not self.lacking(self.analysed(folder, temperature_K, analysis)):
                    break
        except GuardStop as stop:
            return str(stop)
        return ""

    def stops(self, done: int) -> list[int]:
        """Steps of the NVT run at which D is looked at, from those on that are done; the last in any case."""
        steps = [self.steps(self.equilibration_ps) + self.steps(time)
                 for time in lengths(self.production_ps, self.longest_ps)]  # fmt: skip
        return [n for n in steps if n >= done] or steps[-1:]

    def analysed(self, folder: Path, temperature_K: float, analysis: TransportAnalysis) -> list[Result]:
        """Results of the production so far."""
        trajectory = self.production(folder, analysis.mobile, analysis.framework)
        return analyse(trajectory, charge=analysis.charge, temperature_K=temperature_K,
                       hop_length_A=analysis.hop_length_A).results  # fmt: skip

    def lacking(self, results: Sequence[Result]) -> str:
        """What results of one temperature lack of the precision asked; "" if nothing, or if none was asked."""
        return "" if self.longest_ps is None else lacking(results, self.relative_interval, self.effective_hops)

    def steps(self, time_ps: float) -> int:
        """Number of MD steps in a time."""
        return round(time_ps * 1e3 / self.timestep_fs)

    def production(self, folder: Path, mobile: str, framework: Sequence[str] | None) -> Trajectory:
        """Unwrapped production part of a finished temperature."""
        with AseTrajectory(str(folder / "nvt" / "trajectory.traj")) as frames:
            return without_beginning(from_frames(frames, mobile, framework=framework), self.equilibration_ps)

    def __str__(self) -> str:
        npt = f", mean cell of {self.npt_ps / 2:g} ps of NPT" if self.npt_ps else ""
        until = "" if self.longest_ps is None else (
            f", production until D is known to {self.relative_interval:.0%} from {self.effective_hops:g} effective hops, "
            f"{self.production_ps:g} to {self.longest_ps:g} ps")  # fmt: skip
        return f"{self.timestep_fs:g} fs steps, NVT after {self.equilibration_ps:g} ps of equilibration{npt}{until}"


@dataclass(frozen=True)
class Diffusion:
    """Diffusion and conductivity from dynamics at every temperature, in folder/600K/ with the ions' density.cube.

    analysis         mobile ion, charge, hop length and what else transport.py needs
    devices          ["cuda:0", "cuda:1"]: temperatures run at the same time, one process for each device, with calculators
                     of open_calculator(device=...). None: one after the other with the calculator
    A temperature that the guard stops becomes a failed result; the others count.
    """

    atoms: Atoms
    analysis: TransportAnalysis
    temperatures_K: Sequence[float]
    folder: str | Path
    dynamics: Dynamics = field(default_factory=Dynamics)
    devices: Sequence[str] | None = None
    open_calculator: Callable | None = None

    def evaluate(self, calculator) -> Section:
        """Run dynamics at every temperature, lowest first, and analyse the trajectories."""
        dynamics, temperatures = self.dynamics, sorted({float(t) for t in self.temperatures_K})
        if not temperatures or temperatures[0] <= 0 or dynamics.production_ps <= 0:
            raise InputError(f"dynamics needs temperatures and a production time, got {list(self.temperatures_K)} K, "
                             f"{dynamics.production_ps} ps")  # fmt: skip
        dynamics.stops(0)  # raises if the longest production is shorter than the production
        self.analysis.check(self.atoms)
        folders = {t: Path(self.folder) / f"{t:g}K" for t in temperatures}
        if self.devices:
            stops = in_processes(dynamics, self.atoms, folders, self.analysis, list(self.devices), self.open_calculator)
        else:
            stops = {t: dynamics.run(self.atoms, calculator, t, folder, self.analysis) for t, folder in folders.items()}
        failed, runs = [], []
        for t, stop in stops.items():
            if stop:
                where = {"temperature_K": t}
                failed.append(Result("md_time", None, "ps", verdict="fail", notes=(stop,), conditions=where))
                continue
            trajectory = dynamics.production(folders[t], self.analysis.mobile, self.analysis.framework)
            write_density(folders[t] / "density.cube", trajectory, ion_density(trajectory.ions, trajectory.mean_cell))
            runs.append((t, trajectory))
        if not runs:
            return Section("diffusion", failed, {"runs": []}, ["dynamics was stopped at every temperature"])
        errors = {t: length_errors(npt_cells(folders[t] / "npt")) for t, _ in runs} if dynamics.npt_ps else {}
        section = self.analysis.section(runs, errors)
        times = [self.time(t, trajectory.duration_ps, section.results) for t, trajectory in runs]
        data = {**section.data, "n_atoms": len(self.atoms)}
        notes = [f"{len(self.atoms)} atoms, {dynamics}", *section.notes]
        return replace(section, data=data, results=[*failed, *times, *section.results], notes=notes)

    def time(self, temperature_K: float, duration_ps: float, results: Sequence[Result]) -> Result:
        """Production of a temperature; a warning if its longest did not give the precision asked."""
        where = {"temperature_K": temperature_K}
        lacks = self.dynamics.lacking([r for r in results if r.conditions.get("temperature_K") == temperature_K])
        notes = (f"not enough: {lacks}; give longest_ps more than {duration_ps:g}",) if lacks else ()
        return Result("md_time", duration_ps, "ps", verdict="warn" if lacks else "", notes=notes, conditions=where)

    @staticmethod
    def figures(data: Mapping) -> dict[str, Figure]:
        """Plot MSD, D(tau), Arrhenius lines, hops, van Hove functions and densities."""
        return plot_diffusion(data)


def in_mean_cell(folder: Path, atoms: Atoms) -> Atoms:
    """Last frame of an NPT run, scaled to the mean cell of its second half."""
    with AseTrajectory(str(folder / "trajectory.traj")) as frames:
        last = frames[-1]
    last = Atoms(last.numbers, last.positions, cell=last.cell, pbc=last.pbc, info=atoms.info)
    last.set_cell(npt_cells(folder).mean(axis=0), scale_atoms=True)
    return last


def npt_cells(folder: Path) -> np.ndarray:
    """Cells [n_frames, 3, 3] of the second half of an NPT run, Å."""
    with AseTrajectory(str(folder / "trajectory.traj")) as frames:
        return np.array([frames[i].cell.array for i in range(len(frames) // 2, len(frames))])


def production_frames(
    folder: str | Path, temperature_K: float, equilibration_ps: float, production_ps: float, max_frames: int = 500
) -> list[Atoms]:
    """Production frames of a temperature that Diffusion ran in this folder, at most max_frames, evenly spaced."""
    file = Path(folder) / f"{temperature_K:g}K" / "nvt" / "trajectory.traj"
    if not file.is_file():
        raise MissingFileError(
            f"no dynamics at {temperature_K:g} K: {file} is missing; it must be one of temperatures_K"
        )
    ends = 1e3 * equilibration_ps, 1e3 * (equilibration_ps + production_ps)
    with AseTrajectory(str(file)) as frames:
        kept = [i for i in range(len(frames)) if ends[0] <= frames[i].info["time_fs"] <= ends[1]]
        chosen = (
            np.unique(np.linspace(0, len(kept) - 1, min(max_frames, len(kept))).round().astype(int)) if kept else []
        )
        return [frames[kept[i]] for i in chosen]


def in_processes(
    dynamics: Dynamics,
    atoms: Atoms,
    folders: Mapping[float, Path],
    analysis: TransportAnalysis,
    devices: list[str],
    open_calculator: Callable | None,
) -> dict[float, str]:
    """Run temperature i on device i, i + n, ...: one process for each device; messages of the guard by temperature.

    The processes end with this one, however it ends.
    """
    if open_calculator is None:
        raise InputError("devices needs open_calculator, which makes a calculator for a device")
    shares = [dict(list(folders.items())[first :: len(devices)]) for first in range(len(devices))]
    stops = {}
    with ProcessPoolExecutor(len(devices), multiprocessing.get_context("spawn")) as pool:
        jobs = [pool.submit(on_device, dynamics, atoms, share, analysis, device, open_calculator)
                for share, device in zip(shares, devices, strict=True)]  # fmt: skip
        try:
            for job in jobs:
                stops |= job.result()
        except BaseException:
            for worker in multiprocessing.active_children():  # the pool would wait for the end of their dynamics
                worker.terminate()
            raise
    return {t: stops[t] for t in folders}


def on_device(
    dynamics: Dynamics,
    atoms: Atoms,
    folders: Mapping[float, Path],
    analysis: TransportAnalysis,
    device: str,
    open_calculator: Callable,
) -> dict[float, str]:
    """Run some temperatures one after the other, in a process of their own."""
    threading.Thread(target=end_with_parent, daemon=True).start()
    calculator = open_calculator(device=device)
    return {t: dynamics.run(atoms, calculator, t, folder, analysis, progress=False) for t, folder in folders.items()}


def end_with_parent() -> None:
    """Wait until the parent is gone, then end this process where it is: what the killed command left is there to be resumed."""
    if (parent := multiprocessing.parent_process()) is not None:
        parent.join()
        os._exit(1)
