"""Molecular dynamics of any structure with any ASE calculator, in one folder, restartable after a kill."""

import json
import time
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path

import numpy as np
import torch
from ase import Atoms, units
from ase.calculators.calculator import PropertyNotImplementedError
from ase.data import atomic_numbers
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from mlip.data.total_charge import set_total_charge, total_charge
from mlip.errors import ConvergenceError, GuardStop, InputError
from mlip.files import write_json
from mlip.md.ensemble import get_state, maxwell, set_state, temperature
from mlip.md.files import Files
from mlip.md.guard import Guard, hand_over, keep_frames
from mlip.md.identity import bare, begin, identity
from mlip.md.summary import COLUMNS, summarise


def run(
    atoms: Atoms,
    calculator,
    folder,
    ensemble,
    steps: int,
    timestep_fs: float = 1.0,
    repeat: Sequence[int] = (1, 1, 1),
    initial_temperature_K: float | None = None,
    masses: Mapping[str, float] | None = None,
    guard: Guard | None = None,
    seed: int = 0,
    frame_every: int = 100,
    thermo_every: int = 10,
    state_every: int = 1000,
    progress: bool = True,
) -> dict:
    """Runs `steps` steps in all and returns the summary; a folder with an unfinished run is continued.

    ensemble   of mlip.md.ensemble;  repeat  supercell;  masses  u, by symbol (isotopes, heavy hydrogen)
    initial_temperature_K  of random velocities; None: the ensemble's. Those of the atoms are kept, less their momentum
    Every frame_every steps a frame goes to trajectory.traj, every thermo_every a row to thermo.csv, every state_every
    the state to state.npz: a killed run loses the steps since then and repeats them exactly.

    Writes summary.json: drift_eV_per_atom_ps (slope of the conserved quantity), temperature_K (second half),
    us_per_atom_step, ns_per_day, kernel, threads. The caller's atoms are not changed. Raises GuardStop if the guard stops the run.
    """
    check_numbers(steps=steps, timestep_fs=timestep_fs, frame_every=frame_every, thermo_every=thermo_every,
                  state_every=state_every)  # fmt: skip
    folder, guard, rng = Path(folder), guard or Guard(), np.random.default_rng(seed)
    atoms = supercell(atoms, repeat, masses)
    guard.check(calculator, atoms)
    complains = partial(guard.complaint, shortest=getattr(calculator, "metadata", {}).get("shortest_distances_A"),
                        start_volume_A3=atoms.get_volume() if atoms.pbc.all() else None)  # fmt: skip
    settings = identity(atoms, calculator, ensemble, timestep_fs=timestep_fs, seed=seed, frame_every=frame_every,
                        thermo_every=thermo_every, masses=atoms.get_masses().tolist(),
                        initial_temperature_K=initial_temperature_K)  # fmt: skip
    set_velocities(atoms, initial_temperature_K, ensemble, rng)
    files = Files(folder, COLUMNS)
    try:
        state = files.state()
        begin(folder, settings, None if state is None else str(state["settings"]))
        if state is not None:
            restore(atoms, state, steps, folder)
        atoms.calc = calculator
        dynamics, first, wall = started(atoms, ensemble, timestep_fs, rng, state)
        began = time.perf_counter() - wall
        files.open(state)
        good = None
        with progress_bar(progress) as bar:
            task = bar.add_task("MD", total=steps, completed=first, rate="")
            for step in range(first, steps + 1):
                complaint = advance(atoms, dynamics) if step > first else None
                atoms.info.update(step=step, time_fs=step * timestep_fs)
                if complaint is None:
                    distances = step % guard.every == 0 or step % frame_every == 0
                    complaint = complains(atoms, temperature(atoms, ensemble.removed), distances)
                    good = atoms.copy() if complaint is None and distances else good
                if complaint is not None:
                    worth_a_label = guard.is_worth_a_label(atoms, temperature(atoms, ensemble.removed))
                    raise stopped(folder, step, timestep_fs, complaint, good, atoms, worth_a_label)
                is_new = state is None or step > first
                if is_new and step % frame_every == 0:
                    files.frame(atoms)
                if is_new and step % thermo_every == 0:
                    files.row([step, step * timestep_fs, *thermo(atoms, dynamics, ensemble)])
                    rate = (step - first) * timestep_fs * 1e-6 * 86400 / (time.perf_counter() - began - wall)
                    shown = f"{temperature(atoms, ensemble.removed):.0f} K  {rate:.2f} ns/day"
                    bar.update(task, completed=step, rate=shown)
                if is_new and (step % state_every == 0 or step == steps):
                    motion = motion_of(atoms, dynamics, ensemble, rng)
                    files.save(**motion, step=step, settings=json.dumps(settings), wall_s=time.perf_counter() - began)
            bar.update(task, completed=steps)
    finally:
        files.close()
    summary = summarise(folder, len(atoms), steps, timestep_fs, time.perf_counter() - began, ensemble)
    summary.update(kernel=getattr(calculator, "kernel", type(calculator).__name__), threads=torch.get_num_threads())
    write_json(folder / "summary.json", summary)
    return summary


def started(atoms: Atoms, ensemble, timestep_fs: float, rng: np.random.Generator, state: Mapping | None) -> tuple:
    """The dynamics, its step and the wall seconds before: at 0, or where a killed run left it, the generator too."""
    dynamics = ensemble.start(atoms, timestep_fs * units.fs, rng)
    if state is None:
        return dynamics, 0, 0.0
    set_state(dynamics, {name: state[f"dynamics/{name}"] for name in ensemble.state})
    rng.bit_generator.state = json.loads(str(state["rng"]))
    return dynamics, int(state["step"]), float(state["wall_s"])


def progress_bar(shown: bool) -> Progress:
    """Steps, temperature, rate and the time that is left."""
    return Progress(
        TextColumn("MD"), BarColumn(), MofNCompleteColumn(), TextColumn("{task.fields[rate]}"), TimeRemainingColumn(),
        refresh_per_second=2, disable=not shown,
    )  # fmt: skip


def advance(atoms: Atoms, dynamics) -> str | None:
    """One step; what the calculator says if it has no answer for the structure that comes of it."""
    try:
        dynamics.step()
        atoms.get_forces()
    except (ValueError, ConvergenceError) as error:
        return str(error)
    return None


def motion_of(atoms: Atoms, dynamics, ensemble, rng: np.random.Generator) -> dict:
    """What decides all later steps."""
    return {
        "positions": atoms.positions,
        "momenta": atoms.get_momenta(),
        "cell": atoms.cell.array,
        "rng": json.dumps(rng.bit_generator.state),
        **{f"dynamics/{name}": value for name, value in get_state(dynamics, ensemble.state).items()},
    }


def restore(atoms: Atoms, state: Mapping[str, np.ndarray], steps: int, folder: Path) -> None:
    """Puts atoms where a killed run left them. Raises InputError if it has done more steps than are asked."""
    if int(state["step"]) > steps:
        raise InputError(f"{folder} holds {int(state['step'])} steps, asked are steps={steps}: ask for as many or more, or "
                         "choose another folder")  # fmt: skip
    atoms.set_cell(state["cell"])
    atoms.set_positions(state["positions"])
    atoms.set_momenta(state["momenta"])


def check_numbers(**numbers: float) -> None:
    """All must be positive; steps may be zero."""
    for name, value in numbers.items():
        if value < 0 or (value == 0 and name != "steps"):
            raise InputError(f"{name} must be positive, got {value}")


def supercell(atoms: Atoms, repeat: Sequence[int], masses: Mapping[str, float] | None) -> Atoms:
    """A copy, repeated, its total charge too; with other masses where asked."""
    copies = int(np.prod(repeat))
    if len(repeat) != 3 or min(repeat) < 1:
        raise InputError(f"repeat must be three positive numbers, got {list(repeat)}")
    if copies > 1 and "charge_group" in atoms.arrays:
        raise InputError("atoms with charge groups cannot be repeated: repeat first, then set the groups")
    if atoms.constraints:
        kinds = ", ".join(type(constraint).__name__ for constraint in atoms.constraints)
        raise InputError(
            f"the start has constraints ({kinds}, selective dynamics of a POSCAR), which the ensembles do not count as "
            "degrees of freedom: temperatures would be wrong. Take them out of the structure: all atoms move"
        )
    large = bare(atoms).repeat(tuple(int(n) for n in repeat))
    if len(large) < 2:
        raise InputError(f"dynamics needs at least two atoms, got {len(large)}; use repeat")
    charge = total_charge(atoms.info)
    set_total_charge(large.info, None if charge is None else copies * charge)
    for symbol, mass in (masses or {}).items():
        chosen = large.numbers == atomic_numbers.get(symbol, 0)
        if not chosen.any() or not mass > 0:
            raise InputError(f"masses: {symbol}={mass} needs an element of {large.symbols} and a positive mass in u")
        changed = large.get_masses()
        changed[chosen] = mass
        large.set_masses(changed)
    return large


def set_velocities(atoms: Atoms, temperature_K: float | None, ensemble, rng: np.random.Generator) -> None:
    """Keeps velocities that are there, less the total momentum; draws them otherwise, at the ensemble's temperature if None."""
    momenta = atoms.get_momenta()
    if momenta.any():
        masses = atoms.get_masses()[:, None]
        atoms.set_momenta(momenta - masses / masses.sum() * momenta.sum(0))
    else:
        drawn_at = ensemble.temperature_K if temperature_K is None else temperature_K
        atoms.set_momenta(maxwell(atoms, drawn_at, ensemble.removed, rng))


def thermo(atoms: Atoms, dynamics, ensemble) -> list[float]:
    """Temperature to volume, in the order of COLUMNS; NaN for what the system does not have."""
    potential, kinetic = atoms.get_potential_energy(), atoms.get_kinetic_energy()
    pressure = volume = np.nan
    if atoms.cell.rank == 3 and atoms.pbc.all():
        volume = atoms.get_volume()
        try:
            pressure = -atoms.get_stress(include_ideal_gas=True)[:3].mean() / units.GPa
        except PropertyNotImplementedError:
            pass
    hot = temperature(atoms, ensemble.removed)
    return [hot, potential, kinetic, potential + kinetic, ensemble.conserved(dynamics), pressure, volume]


def stopped(
    folder: Path, step: int, timestep_fs: float, complaint: str, good: Atoms | None, bad: Atoms, is_uncertain: bool
) -> GuardStop:
    """The exception that ends the run, frames kept; a frame that is only uncertain is written to be labelled."""
    when = f"MD stopped at step {step} ({step * timestep_fs:g} fs): {complaint}"
    if good is None:
        remedy = "The first frame is already beyond the limits: relax it, or raise the limit"
    elif is_uncertain:
        remedy = f"{keep_frames(folder, good, bad)}; {hand_over(folder, bad)}"
    else:
        remedy = f"{keep_frames(folder, good, bad)}; smaller timestep_fs, or more training data there"
    return GuardStop(f"{when}. {remedy}", step * timestep_fs)
