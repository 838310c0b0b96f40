"""What every worker does once it has an ASE calculator: answer JSON tasks from stdin, one line each.

Workers run in the peers' own environments, so only numpy, ase and the standard library are used here.
"""

import json
import os
import sys
import time

import numpy as np
from ase import Atoms, units
from ase.io import read

PROPERTIES = ["energy", "forces", "stress"]
VIBRATION_FS = 150.0  # period of the model vibration, that of a Li ion in a sulfide cage
TEMPERATURE = 600.0  # K
MOST_STEPS = 400


def only_known(atoms: Atoms, known: list[str]) -> Atoms:
    """A copy whose Cl is written as S where the model was trained without Cl: same geometry, same cost."""
    atoms = Atoms(atoms.get_chemical_symbols(), atoms.get_positions(), cell=atoms.cell, pbc=atoms.pbc)
    symbols = ["S" if s == "Cl" and "Cl" not in known else s for s in atoms.get_chemical_symbols()]
    if missing := set(symbols) - set(known):
        raise ValueError(f"the model knows {known}, the structure has {sorted(missing)} too: train it on them")
    atoms.set_chemical_symbols(symbols)
    return atoms


def vibrating_positions(atoms: Atoms, femtoseconds: np.ndarray) -> np.ndarray:
    """x(t) = x0 + sqrt(2) v / w sin(w t + phase): every atom moves as fast as at 600 K, as in MD at 1 fs.

    returns [n_times, n_atoms, 3] Å; the same motion for every code (fixed seed).
    """
    omega = 2 * np.pi / VIBRATION_FS
    speed = np.sqrt(units.kB * TEMPERATURE / atoms.get_masses())[:, None] * units.fs  # Å/fs per component
    phase = np.random.default_rng(7).uniform(0, 2 * np.pi, (len(atoms), 3))
    return atoms.get_positions() + np.sqrt(2) * speed / omega * np.sin(omega * femtoseconds[:, None, None] + phase)


def time_steps(calculator, known, structure: str, seconds: float, warm_up: int, first_step: int) -> dict:
    """Wall and CPU microseconds per atom and step of energy + forces + stress, for about `seconds`."""
    atoms = only_known(read(structure), known)
    path = vibrating_positions(atoms, first_step + np.arange(-warm_up, MOST_STEPS))
    wall, cpu, steps = 0.0, 0.0, 0
    for i, positions in enumerate(path):
        atoms.set_positions(positions)
        wall_start, cpu_start = time.perf_counter(), time.process_time()
        calculator.calculate(atoms, PROPERTIES, ["positions"])
        if i >= warm_up:
            wall += time.perf_counter() - wall_start
            cpu += time.process_time() - cpu_start
            steps += 1
            if wall > seconds:
                break
    if missing := [p for p in PROPERTIES if p not in calculator.results]:
        raise RuntimeError(f"the calculator returned no {missing}")
    scale = 1e6 / (steps * len(atoms))
    return {"wall_us": wall * scale, "cpu_us": cpu * scale, "steps": steps, "n_atoms": len(atoms)}


def errors(calculator, known, frames: str) -> dict:
    """Force RMSE (meV/Å) and energy RMSE (meV/atom) on labelled frames."""
    force_errors, energy_errors = [], []
    for reference in read(frames, ":"):
        atoms = only_known(reference, known)
        calculator.calculate(atoms, PROPERTIES, ["positions"])
        force_errors.append(calculator.results["forces"] - reference.get_forces())
        energy_errors.append((calculator.results["energy"] - reference.get_potential_energy()) / len(atoms))
    return {
        "force_rmse_meV_A": 1e3 * float(np.sqrt(np.mean(np.concatenate(force_errors) ** 2))),
        "energy_rmse_meV_atom": 1e3 * float(np.sqrt(np.mean(np.square(energy_errors)))),
        "n_frames": len(energy_errors),
    }


def serve(load, model: str):
    """`load(model) -> (calculator, known symbols, versions)`; then one JSON task a line until stdin closes."""
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # whatever the libraries print goes to stderr
    calculator, known, versions = load(model)
    print(json.dumps(versions), file=answers, flush=True)
    tasks = {"time": time_steps, "errors": errors}
    for line in sys.stdin:
        task = json.loads(line)
        answer = tasks[task.pop("task")](calculator, known, **task)
        print(json.dumps(answer), file=answers, flush=True)


def cosine_of_budget(cpu_budget: float) -> float | None:
    """Learning-rate factor that anneals with the CPU seconds this process has used; None when they are spent."""
    part = time.process_time() / cpu_budget
    return None if part >= 1 else 0.5 * (1 + np.cos(np.pi * part))
