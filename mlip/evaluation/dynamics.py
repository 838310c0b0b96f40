"""Diffusion from molecular dynamics of our own: a list of temperatures, each a folder that goes on after a kill."""

import multiprocessing
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from ase import Atoms
from ase.io.trajectory import Trajectory as AseTrajectory

from mlip.errors import GuardStop
from mlip.evaluation.displacements import Trajectory, from_frames
from mlip.evaluation.result import Result
from mlip.evaluation.section import Section
from mlip.evaluation.transport import draw, section, without_beginning
from mlip.md.ensemble import NPT, Bussi
from mlip.md.guard import Guard
from mlip.md.run import run

__all__ = ["draw", "part"]


@dataclass(frozen=True)
class Plan:
    """One temperature's dynamics: times in ps; npt_ps = 0 keeps the cell of the structure."""

    temperature_K: float
    folder: Path
    timestep_fs: float
    npt_ps: float
    equilibration_ps: float
    production_ps: float
    frame_every_fs: float
    thermostat: Callable
    guard: Guard
    seed: int


def part(
    calculator,
    atoms: Atoms,
    mobile: str,
    charge: float,
    temperatures_K: Sequence[float],
    folder: str | Path,
    hop_length: float = 2.5,
    timestep_fs: float = 2.0,
    npt_ps: float = 0.0,
    equilibration_ps: float = 5.0,
    production_ps: float = 100.0,
    frame_every_fs: float = 20.0,
    thermostat: Callable = Bussi,
    guard: Guard | None = None,
    seed: int = 0,
    host: Sequence[str] | None = None,
    extrapolate_to_K: float = 300.0,
    literature: str | None = None,
    devices: Sequence[str] | None = None,
    open_calculator: Callable | None = None,
) -> Section:
    """Dynamics at every temperature in folder/600K/..., one after the other, then everything of transport.section.

    npt_ps           first so long at zero pressure; the mean cell of its second half is that of what follows. 0: as given
    equilibration_ps of the NVT run, left out of the analysis;  frame_every_fs  between frames, 10-50: hops take 100
    thermostat       of mlip.md.ensemble, called with temperature_K. Langevin would change D
    devices          ["cuda:0", "cuda:1"]: temperatures run at the same time, one process for each device, with calculators of
                     open_calculator(device=...). null: one after the other with the calculator
    A temperature that the guard stops becomes a failed result; the others count.
    """
    guard, folder = guard or Guard(), Path(folder)
    if not len(temperatures_K) or min(temperatures_K) <= 0 or production_ps <= 0:
        raise ValueError(f"dynamics needs temperatures and a production time, got {list(temperatures_K)} K, {production_ps} ps")
    plans = [
        Plan(float(t), folder / f"{t:g}K", timestep_fs, npt_ps, equilibration_ps, production_ps, frame_every_fs, thermostat, guard, seed)
        for t in sorted(set(temperatures_K))
    ]
    if devices:
        stops = in_processes(plans, atoms, list(devices), open_calculator)
    else:
        stops = [dynamics(plan, atoms, calculator) for plan in plans]
    results, runs, notes = [], [], []
    for plan, stop in zip(plans, stops, strict=True):
        where = {"temperature_K": plan.temperature_K}
        if stop:
            results.append(Result("md_time", None, "ps", verdict="fail", notes=(stop,), conditions=where))
        else:
            runs.append((plan.temperature_K, read(plan, mobile, host)))
            results.append(Result("md_time", runs[-1][1].duration_ps, "ps", conditions=where))
    if not runs:
        return Section("diffusion", results, {"runs": []}, ["dynamics was stopped at every temperature"])
    found = section(runs, charge, hop_length, extrapolate_to_K, literature)
    notes += [f"{len(atoms)} atoms, {timestep_fs:g} fs steps, NVT after {equilibration_ps:g} ps of equilibration"
              + (f", mean cell of {npt_ps / 2:g} ps of NPT" if npt_ps else "")]  # fmt: skip
    return replace(found, results=[*results, *found.results], notes=[*notes, *found.notes])


def dynamics(plan: Plan, atoms: Atoms, calculator, progress: bool = True) -> str:
    """Runs or continues one temperature; "" when it ended well, else what the guard said."""
    settings = {"timestep_fs": plan.timestep_fs, "guard": plan.guard, "seed": plan.seed, "progress": progress}
    settings["frame_every"] = max(1, round(plan.frame_every_fs / plan.timestep_fs))
    t, start = plan.temperature_K, atoms
    try:
        if plan.npt_ps:
            check_same(plan.folder / "npt", atoms, calculator)
            run(atoms, calculator, plan.folder / "npt", NPT(t), steps=steps(plan.npt_ps, plan), **settings)
            with AseTrajectory(str(plan.folder / "npt" / "trajectory.traj")) as frames:
                cells = np.array([frames[i].cell.array for i in range(len(frames) // 2, len(frames))])
                start = frames[-1]
            start = Atoms(start.numbers, start.positions, cell=start.cell, pbc=start.pbc, info=atoms.info)
            start.set_cell(cells.mean(axis=0), scale_atoms=True)
        check_same(plan.folder / "nvt", start, calculator)
        n_steps = steps(plan.equilibration_ps, plan) + steps(plan.production_ps, plan)
        run(start, calculator, plan.folder / "nvt", plan.thermostat(temperature_K=t), steps=n_steps, **settings)
    except GuardStop as stop:
        return str(stop)
    return ""


def check_same(folder: Path, atoms: Atoms, calculator) -> None:
    """ValueError where the folder holds dynamics of another start or another potential, which must not be continued."""
    file = folder / "trajectory.traj"
    if not (folder / "state.npz").exists():
        return
    with AseTrajectory(str(file)) as frames:
        first = frames[0]
    told = f"{folder} holds dynamics of another %s: delete it, or choose another folder"
    same_atoms = len(first) == len(atoms) and np.allclose(first.positions, atoms.positions, atol=1e-6)
    if not (same_atoms and np.allclose(first.cell.array, atoms.cell.array, atol=1e-6)):
        raise ValueError(told % "start")
    fresh = atoms.copy()
    fresh.calc = calculator
    if abs(fresh.get_potential_energy() - first.get_potential_energy()) > 1e-5 * len(atoms):
        raise ValueError(told % "potential")


def steps(time_ps: float, plan: Plan) -> int:
    """MD steps of so many ps."""
    return round(time_ps * 1e3 / plan.timestep_fs)


def read(plan: Plan, mobile: str, host: Sequence[str] | None) -> Trajectory:
    """The production part of a finished temperature."""
    with AseTrajectory(str(plan.folder / "nvt" / "trajectory.traj")) as frames:
        return without_beginning(from_frames(frames, mobile, host=host), plan.equilibration_ps)


def production(
    folder: str | Path, temperature_K: float, equilibration_ps: float, production_ps: float, most: int = 500
) -> list[Atoms]:
    """Frames of the production part of a temperature that `part` ran in this folder, at most so many, evenly drawn."""
    file = Path(folder) / f"{temperature_K:g}K" / "nvt" / "trajectory.traj"
    if not file.is_file():
        raise FileNotFoundError(f"no dynamics at {temperature_K:g} K: {file} is missing; it must be one of temperatures_K")
    ends = 1e3 * equilibration_ps, 1e3 * (equilibration_ps + production_ps)
    with AseTrajectory(str(file)) as frames:
        kept = [i for i in range(len(frames)) if ends[0] <= frames[i].info["time_fs"] <= ends[1]]
        chosen = np.unique(np.linspace(0, len(kept) - 1, min(most, len(kept))).round().astype(int)) if kept else []
        return [frames[kept[i]] for i in chosen]


def in_processes(plans: Sequence[Plan], atoms: Atoms, devices: list[str], open_calculator: Callable | None) -> list[str]:
    """The same on several devices at once: plan i goes to device i, i + n, ...; each process has one device."""
    if open_calculator is None:
        raise ValueError("devices needs open_calculator, which makes a calculator for a device")
    shares = [list(range(first, len(plans), len(devices))) for first in range(len(devices))]
    stops = {}
    with ProcessPoolExecutor(len(devices), multiprocessing.get_context("spawn")) as pool:
        jobs = [
            pool.submit(on_device, [plans[i] for i in share], atoms, device, open_calculator)
            for share, device in zip(shares, devices, strict=True)
        ]
        for share, job in zip(shares, jobs, strict=True):
            stops |= dict(zip(share, job.result(), strict=True))
    return [stops[i] for i in range(len(plans))]


def on_device(plans: Sequence[Plan], atoms: Atoms, device: str, open_calculator: Callable) -> list[str]:
    """Some temperatures, one after the other, in a process of their own."""
    calculator = open_calculator(device=device)
    return [dynamics(plan, atoms, calculator, progress=False) for plan in plans]
