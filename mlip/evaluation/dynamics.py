"""Diffusion from molecular dynamics: one folder for each temperature, resumed after a kill."""

import multiprocessing
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
from ase import Atoms
from ase.io.trajectory import Trajectory as AseTrajectory
from matplotlib.figure import Figure

from mlip.errors import GuardStop, InputError, MissingFileError
from mlip.evaluation.displacements import Trajectory, from_frames
from mlip.evaluation.result import Result
from mlip.evaluation.section import Section
from mlip.evaluation.transport import TransportAnalysis, plot_diffusion, without_beginning
from mlip.evaluation.van_hove import write_density
from mlip.md.ensemble import NPT, Bussi
from mlip.md.guard import Guard
from mlip.md.run import run
from mlip.transitions.density import ion_density


@dataclass(frozen=True)
class Dynamics:
    """Settings of NVT dynamics, in the cell of the structure or in the mean cell of NPT dynamics before it.

    npt_ps             time at zero pressure before NVT, which then has the mean cell of its second half; 0: no NPT
    equilibration_ps   start of the NVT run that is left out of the analysis
    frame_interval_fs  between frames, 10-50: hops take 100
    thermostat         of mlip.md.ensemble, called with temperature_K. Langevin would change D
    """

    timestep_fs: float = 2.0
    npt_ps: float = 0.0
    equilibration_ps: float = 5.0
    production_ps: float = 100.0
    frame_interval_fs: float = 20.0
    thermostat: Callable = Bussi
    guard: Guard = field(default_factory=Guard)
    seed: int = 0

    def run(self, atoms: Atoms, calculator, temperature_K: float, folder: Path, progress: bool = True) -> str:
        """Run or resume one temperature in folder/npt and folder/nvt; return "" or the message of the guard."""
        settings = {"timestep_fs": self.timestep_fs, "guard": self.guard, "seed": self.seed, "progress": progress,
                    "frame_every": max(1, round(self.frame_interval_fs / self.timestep_fs))}  # fmt: skip
        start = atoms
        try:
            if self.npt_ps:
                run(atoms, calculator, folder / "npt", NPT(temperature_K), steps=self.steps(self.npt_ps), **settings)
                start = in_mean_cell(folder / "npt", atoms)
            n_steps = self.steps(self.equilibration_ps) + self.steps(self.production_ps)
            run(
                start,
                calculator,
                folder / "nvt",
                self.thermostat(temperature_K=temperature_K),
                steps=n_steps,
                **settings,
            )
        except GuardStop as stop:
            return str(stop)
        return ""

    def steps(self, time_ps: float) -> int:
        """Number of MD steps in a time."""
        return round(time_ps * 1e3 / self.timestep_fs)

    def production(self, folder: Path, mobile: str, framework: Sequence[str] | None) -> Trajectory:
        """Unwrapped production part of a finished temperature."""
        with AseTrajectory(str(folder / "nvt" / "trajectory.traj")) as frames:
            return without_beginning(from_frames(frames, mobile, framework=framework), self.equilibration_ps)

    def __str__(self) -> str:
        npt = f", mean cell of {self.npt_ps / 2:g} ps of NPT" if self.npt_ps else ""
        return f"{self.timestep_fs:g} fs steps, NVT after {self.equilibration_ps:g} ps of equilibration{npt}"


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
        self.analysis.check(self.atoms)
        folders = {t: Path(self.folder) / f"{t:g}K" for t in temperatures}
        if self.devices:
            stops = in_processes(dynamics, self.atoms, folders, list(self.devices), self.open_calculator)
        else:
            stops = {t: dynamics.run(self.atoms, calculator, t, folder) for t, folder in folders.items()}
        times, runs = [], []
        for t, stop in stops.items():
            where = {"temperature_K": t}
            if stop:
                times.append(Result("md_time", None, "ps", verdict="fail", notes=(stop,), conditions=where))
            else:
                trajectory = dynamics.production(folders[t], self.analysis.mobile, self.analysis.framework)
                write_density(
                    folders[t] / "density.cube", trajectory, ion_density(trajectory.ions, trajectory.mean_cell)
                )
                runs.append((t, trajectory))
                times.append(Result("md_time", trajectory.duration_ps, "ps", conditions=where))
        if not runs:
            return Section("diffusion", times, {"runs": []}, ["dynamics was stopped at every temperature"])
        section = self.analysis.section(runs)
        data = {**section.data, "n_atoms": len(self.atoms)}
        notes = [f"{len(self.atoms)} atoms, {dynamics}", *section.notes]
        return replace(section, data=data, results=[*times, *section.results], notes=notes)

    @staticmethod
    def figures(data: Mapping) -> dict[str, Figure]:
        """Plot MSD, D(tau), Arrhenius lines, hops, van Hove functions and densities."""
        return plot_diffusion(data)


def in_mean_cell(folder: Path, atoms: Atoms) -> Atoms:
    """Last frame of an NPT run, scaled to the mean cell of its second half."""
    with AseTrajectory(str(folder / "trajectory.traj")) as frames:
        cells = np.array([frames[i].cell.array for i in range(len(frames) // 2, len(frames))])
        last = frames[-1]
    last = Atoms(last.numbers, last.positions, cell=last.cell, pbc=last.pbc, info=atoms.info)
    last.set_cell(cells.mean(axis=0), scale_atoms=True)
    return last


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
    devices: list[str],
    open_calculator: Callable | None,
) -> dict[float, str]:
    """Run temperature i on device i, i + n, ...: one process for each device; messages of the guard by temperature."""
    if open_calculator is None:
        raise InputError("devices needs open_calculator, which makes a calculator for a device")
    shares = [dict(list(folders.items())[first :: len(devices)]) for first in range(len(devices))]
    stops = {}
    with ProcessPoolExecutor(len(devices), multiprocessing.get_context("spawn")) as pool:
        jobs = [pool.submit(on_device, dynamics, atoms, share, device, open_calculator)
                for share, device in zip(shares, devices, strict=True)]  # fmt: skip
        for job in jobs:
            stops |= job.result()
    return {t: stops[t] for t in folders}


def on_device(
    dynamics: Dynamics, atoms: Atoms, folders: Mapping[float, Path], device: str, open_calculator: Callable
) -> dict[float, str]:
    """Run some temperatures one after the other, in a process of their own."""
    calculator = open_calculator(device=device)
    return {t: dynamics.run(atoms, calculator, t, folder, progress=False) for t, folder in folders.items()}
