"""Computational cost: time per atom and step, scaling, ns per day, memory, largest system."""

import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

import numpy as np
import torch
from ase import Atoms
from matplotlib.figure import Figure
from scipy.optimize import least_squares
from scipy.stats import t as t_law

from mlip.data.graph import neighbour_list
from mlip.errors import InputError
from mlip.evaluation.cost_figures import plot_cost
from mlip.evaluation.increments import TWO_SIGMA
from mlip.evaluation.peak_memory import peak_bytes, total_bytes
from mlip.evaluation.result import Result
from mlip.evaluation.section import Section
from mlip.units import ATOMIC_MASS, BOLTZMANN

N_BLOCKS = 5
WARM_UP = 3  # steps that are not timed: compilation, first touch of memory
PERIOD_FS = 150.0  # of the atoms' motion; Li in an oxide vibrates about so
LEAST_ERROR = 0.01  # of a time, relative: what a quiet machine repeats


@dataclass(frozen=True)
class Scaling:
    """t = t0 + c N^p.  t0, c in seconds; error of p is 1 sigma, None without a spare size."""

    t0: float
    c: float
    p: float
    p_error: float | None

    def __call__(self, n_atoms) -> np.ndarray:
        """Seconds per step."""
        return self.t0 + self.c * np.asarray(n_atoms, dtype=float) ** self.p


def fit(n_atoms: np.ndarray, seconds: np.ndarray, errors: np.ndarray) -> Scaling:
    """Least squares of ln t with t0 >= 0; below three sizes p is 1, with one size t0 is 0 too.

    n_atoms [n], seconds [n] per step, errors [n] 1 sigma in seconds
    """
    n_atoms, seconds = np.asarray(n_atoms, dtype=float), np.asarray(seconds, dtype=float)
    weight = 1 / np.hypot(np.asarray(errors) / seconds, LEAST_ERROR)
    rate = (seconds / n_atoms).min()
    if len(n_atoms) == 1:
        return Scaling(0.0, float(rate), 1.0, None)
    free = 3 if len(n_atoms) > 2 else 2

    def residuals(x: np.ndarray) -> np.ndarray:
        power = x[2] if free == 3 else 1.0
        # in units of the smallest system, where t0 and c can be told apart
        return weight * (np.log(x[0] + np.exp(x[1]) * (n_atoms / n_atoms[0]) ** power) - np.log(seconds))

    start = [0.1 * seconds[0], np.log(0.9 * rate * n_atoms[0]), 1.0][:free]
    lower, upper = [0.0, -np.inf, 0.3][:free], [seconds.min() * (1 + 1e-9), np.inf, 3.5][:free]
    solution = least_squares(residuals, start, bounds=(lower, upper), x_scale=[0.1 * seconds[0], 0.1, 0.1][:free],
                          xtol=1e-14, ftol=1e-14, gtol=1e-14)  # fmt: skip
    power = float(solution.x[2]) if free == 3 else 1.0
    error = None
    if len(n_atoms) > free:
        covariance = np.linalg.pinv(solution.jac.T @ solution.jac) * max(1.0, 2 * solution.cost / (len(n_atoms) - free))
        error = float(np.sqrt(covariance[2, 2]))
    # the solver stays a little inside its bound
    t0 = float(solution.x[0]) if solution.x[0] > 1e-6 * seconds.min() else 0.0
    return Scaling(t0, float(np.exp(solution.x[1]) / n_atoms[0] ** power), power, error)


def sizes(atoms: Atoms, largest: int) -> list[Atoms]:
    """The structure, and doubled along its shortest vector again and again, up to so many atoms."""
    cells = [atoms.copy()]
    while 2 * len(cells[-1]) <= largest:
        repeat = np.ones(3, dtype=int)
        repeat[np.where(atoms.pbc, cells[-1].cell.lengths(), np.inf).argmin()] = 2
        cells.append(cells[-1].repeat(tuple(repeat)))
    return cells


def motion(atoms: Atoms, timestep_fs: float, temperature_K: float) -> Iterator[np.ndarray]:
    """Positions Å of atoms that swing about where they are with the speeds of this temperature.

    A neighbour list with a skin is rebuilt about as often as in dynamics, and no model can break the structure.
    """
    rng = np.random.default_rng(0)
    masses = atoms.get_masses()[:, None] * ATOMIC_MASS
    # Å/fs, largest of a swing
    speed = rng.normal(size=(len(atoms), 3)) * np.sqrt(2 * BOLTZMANN * temperature_K / masses)
    omega, start, step = 2 * np.pi / PERIOD_FS, atoms.positions.copy(), 0
    while True:
        step += 1
        yield start + speed / omega * np.sin(omega * step * timestep_fs)


def timed(calculate: Callable[[], None], seconds: float, synchronise: Callable[[], None]) -> float:
    """Mean seconds per call, over calls that together take about `seconds` (two at least)."""
    synchronise()
    begin, calls = time.perf_counter(), 0
    while calls < 2 or time.perf_counter() - begin < seconds:
        calculate()
        calls += 1
    synchronise()
    return (time.perf_counter() - begin) / calls


def moving(cell: Atoms, calculator, positions: Iterator[np.ndarray]) -> Callable[[], None]:
    """A step: the next positions, their energy and forces."""

    def step() -> None:
        cell.calc = calculator
        cell.positions = next(positions)
        cell.get_potential_energy()
        cell.get_forces()

    return step


@dataclass(frozen=True)
class Cost:
    """Time per atom and step, its scaling, speed, memory and the largest system, through ASE.

    atoms          a cell of the material; it is repeated up to `largest` atoms
    seconds        of timing for each size
    timestep_fs    for ns/day, and for how far atoms move between calls
    """

    atoms: Atoms
    largest: int = 2000
    seconds: float = 5.0
    timestep_fs: float = 1.0
    temperature_K: float = 600.0

    def evaluate(self, calculator) -> Section:
        """Time energy and forces of growing cells, neighbour list included."""
        if not self.atoms.pbc.any():
            raise InputError("cost needs a periodic structure, which it repeats; got pbc False in all directions")
        device = torch.device(getattr(calculator, "device", "cpu") or "cpu")
        synchronise = torch.cuda.synchronize if device.type == "cuda" else lambda: None
        cells = sizes(self.atoms, self.largest)
        steps = [moving(cell, calculator, motion(cell, self.timestep_fs, self.temperature_K)) for cell in cells]
        memory = [peak_bytes(step, device) for step in steps]  # from small to large: the largest leaves the most behind
        for step in steps:
            for _ in range(WARM_UP):
                step()
        blocks = np.empty((N_BLOCKS, len(cells)))
        for block in blocks:  # sizes in turn: what else runs on the machine hits all alike
            for size, step in enumerate(steps):
                step()  # another structure than before: the list is new
                block[size] = timed(step, self.seconds / N_BLOCKS, synchronise)
        error = 1.2533 * blocks.std(axis=0, ddof=1) / np.sqrt(N_BLOCKS)  # of a median
        rows = [{"n_atoms": len(cell), "seconds": float(t), "error": float(e), "memory_bytes": m}
                for cell, t, e, m in zip(cells, np.median(blocks, axis=0), error, memory, strict=True)]  # fmt: skip
        return summarised(calculator, self.atoms, rows, device, self.timestep_fs)

    @staticmethod
    def figures(data: Mapping) -> dict[str, Figure]:
        """Plot time per step against size."""
        return plot_cost(data)


def summarised(calculator, atoms: Atoms, rows: list[dict], device: torch.device, timestep_fs: float) -> Section:
    """Results, the fit and what both depend on, from the rows of the sizes."""
    n_atoms, seconds, errors = (np.array([row[key] for row in rows]) for key in ("n_atoms", "seconds", "error"))
    scaling, student = fit(n_atoms, seconds, errors), float(t_law.ppf(0.5 + TWO_SIGMA / 2, N_BLOCKS - 1))
    results = []
    for n, t, error in zip(n_atoms, seconds, student * errors, strict=True):
        where: dict[str, float | str] = {"n_atoms": int(n)}
        fast, slow = max(t - error, 1e-2 * t), t + error
        results.append(
            Result("time_per_atom_step", 1e6 * t / n, "µs", 1e6 * fast / n, 1e6 * slow / n, conditions=where)
        )
        per_day, where = 0.0864 * timestep_fs, {**where, "timestep_fs": timestep_fs}
        results.append(Result("speed", per_day / t, "ns/day", per_day / slow, per_day / fast, conditions=where))
    reach = None if scaling.p_error is None else scaling.p_error * t_law.ppf(0.5 + TWO_SIGMA / 2, len(rows) - 3)
    ends = (None, None) if reach is None else (scaling.p - reach, scaling.p + reach)
    fitted = ("p is 1 by choice: it takes three sizes to fit it",) if len(rows) < 3 else ()
    results.append(Result("scaling_exponent", scaling.p, "", *ends, notes=(*fitted, "t = t0 + c N^p")))
    results.append(Result("time_of_an_empty_step", 1e3 * scaling.t0, "ms"))
    notes: list[str] = []
    data: dict = {"rows": rows, "t0_s": scaling.t0, "c_s": scaling.c, "p": scaling.p, "timestep_fs": timestep_fs}
    memory = np.array([row["memory_bytes"] or 0 for row in rows], dtype=float)
    if (memory > 0).all() and len(rows) > 1:
        per_atom = float(np.polyfit(n_atoms, memory, 1)[0])
        if per_atom > 0:
            results.append(Result("memory_per_atom", per_atom / 1024, "KiB", notes=("peak; slope over the sizes",)))
            most, limit = (total_bytes(device) - memory[0]) / per_atom, total_bytes(device) / 2**30
            results.append(Result("largest_system", float(f"{most:.2g}"), "atoms",
                                  notes=(f"extrapolated from {n_atoms[-1]} atoms to {limit:.0f} GiB, not run",)))  # fmt: skip
    else:
        notes.append("memory was not measured: it takes two sizes, and Linux or a GPU")
    data["conditions"] = conditions(calculator, atoms, device)
    notes.append("energy and forces through the ASE calculator, neighbour list included, median of "
                 f"{N_BLOCKS} blocks; " + ", ".join(f"{k} {v}" for k, v in data["conditions"].items()))  # fmt: skip
    return Section("cost", results, data, notes)


def conditions(calculator, atoms: Atoms, device: torch.device) -> dict:
    """Device, threads, dtype, cutoff and neighbours per atom: without them a time means nothing."""
    metadata = getattr(calculator, "metadata", {})
    known = {"material": atoms.get_chemical_formula(empirical=True)}
    known["device"] = (
        torch.cuda.get_device_name(device) if device.type == "cuda" else f"cpu, {torch.get_num_threads()} threads"
    )
    if "dtype" in metadata:
        known["dtype"] = metadata["dtype"]
    if "cutoff" in metadata:
        pairs = neighbour_list(atoms, metadata["cutoff"])[0].shape[1]
        known |= {"cutoff_A": metadata["cutoff"], "neighbours_per_atom": round(pairs / len(atoms), 1)}
    return known
