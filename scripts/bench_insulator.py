#!/usr/bin/env python
"""An insulator that is known exactly: Li2O with relaxed shells as ground truth, and what twins make of it.

python scripts/bench_insulator.py [--seconds 60] [--heads none bond_charges formal_dipoles] [--folder DIRECTORY]
Trained on 48 frames of 95 or 96 atoms, a third of them with a Li vacancy (Q = -1); tested on 12 more, on 8 times their volume, on a
vacancy in ever larger cells, on LO-TO splitting, and on a slab with a dipole and in a field. Labels are kept in DIRECTORY and made
if they are not there. One seed.
"""

import argparse
from pathlib import Path

import numpy as np
import torch
from ase import Atoms
from ase.build import surface
from ase.calculators.calculator import Calculator
from ase.calculators.singlepoint import SinglePointCalculator
from ase.io import read, write
from ase.spacegroup import crystal
from bench_dimers import fitted
from rich.console import Console
from rich.table import Table

from mlip import config, keys
from mlip.data.graph import collate, to_graph
from mlip.data.structures import canonical
from mlip.electrostatics.response import makov_payne
from mlip.evaluation.static.field_response import field_response
from mlip.evaluation.static.phonons import displaced, force_constants, lo_to_splitting
from mlip.units import COULOMB

EDGE = 4.62  # Å
STATISTICS = {
    "elements": [3, 8],
    "levels": ["default"],
    "atomic_energies": [[0.0, 0.0]],
    "mean_neighbours": 30.0,
    "force_rms": 1.0,
}
TRUTH = [
    "model=core_shell",
    "model.network.cutoff=7.0",
    "model.terms.electrostatics.width=1.0",
]  # buckingham.csv, catlow.lib


class InProcess(Calculator):
    """A potential of this process, in float64."""

    implemented_properties = ("energy", "forces", "stress")

    def __init__(self, potential):
        super().__init__()
        self.potential = potential.double().eval()

    def calculate(self, atoms=None, properties=None, system_changes=None):
        results = self.potential(collate([to_graph(atoms, self.potential.cutoff)]))
        voigt = results["stress"][0].numpy()[[0, 1, 2, 1, 0, 0], [0, 1, 2, 2, 2, 1]]
        self.results = {"energy": float(results["energy"]), "forces": results["forces"].numpy(), "stress": voigt}

    def calculate_many(self, structures):
        return [labelled(atoms, self) for atoms in structures]


def labelled(atoms: Atoms, calculator: InProcess) -> Atoms:
    """A copy with the calculator's energy, forces and stress."""
    made = atoms.copy()
    calculator.calculate(atoms)
    made.calc = SinglePointCalculator(made, **calculator.results)
    return made


def antifluorite() -> Atoms:
    """Li2O, 12 atoms."""
    made = crystal(["Li", "O"], [(0.25, 0.25, 0.25), (0, 0, 0)], spacegroup=225, cellpar=[EDGE] * 3 + [90] * 3)
    return Atoms(made.numbers, made.positions, cell=made.cell, pbc=True)


def shaken(rng, repeat: int, sigma: float, vacancy: bool) -> Atoms:
    """Strained by 1.5 %, displaced by sigma Å, and without one Li at Q = -1."""
    atoms, strain = antifluorite().repeat(repeat), 0.015 * rng.normal(size=(3, 3))
    atoms.set_cell(atoms.cell.array @ (np.eye(3) + (strain + strain.T) / 2), scale_atoms=True)
    atoms.positions += sigma * rng.normal(size=(len(atoms), 3))
    return without_lithium(atoms, int(rng.choice(np.flatnonzero(atoms.numbers == 3)))) if vacancy else atoms


def without_lithium(atoms: Atoms, index: int) -> Atoms:
    made = atoms.copy()
    del made[index]
    made.info[keys.TOTAL_CHARGE] = -1.0
    return made


def frames_of(folder: Path, truth: InProcess) -> tuple[list[Atoms], list[Atoms]]:
    """60 small frames and 4 of 8 times their volume, half of these with a vacancy."""
    if not (folder / "large.xyz").exists():
        rng = np.random.default_rng(0)
        write(
            folder / "small.xyz",
            [labelled(shaken(rng, 2, rng.uniform(0.03, 0.16), k % 3 == 2), truth) for k in range(60)],
        )
        large = [shaken(rng, 4, sigma, vacancy) for sigma in (0.08, 0.12) for vacancy in (False, True)]
        write(folder / "large.xyz", [labelled(atoms, truth) for atoms in large])
    return read(folder / "small.xyz", ":"), read(folder / "large.xyz", ":")


def errors(frames: list[Atoms], calculator: InProcess) -> list[str]:
    """RMSE of energies meV/atom, forces meV/Å and stresses GPa."""
    found = [labelled(a, calculator) for a in frames]
    energy = [
        (x.get_potential_energy() - y.get_potential_energy()) / len(x) for x, y in zip(found, frames, strict=True)
    ]
    force = np.concatenate([x.get_forces() - y.get_forces() for x, y in zip(found, frames, strict=True)])
    stress = [x.get_stress() - y.get_stress() for x, y in zip(found, frames, strict=True)]
    rms = [float(np.sqrt(np.mean(np.square(x)))) for x in (energy, force, stress)]
    return [f"{1e3 * rms[0]:.2f}", f"{1e3 * rms[1]:.1f}", f"{160.21766 * rms[2]:.3f}"]


def vacancy(calculator: InProcess, eps: float | None, largest: int) -> list[str]:
    """E(Q = -1 without a Li) - E(perfect), unrelaxed, eV, for edges of 1, 2, ... cells; and with Makov-Payne at eps."""
    row = []
    for n in range(1, largest + 1):
        perfect = antifluorite().repeat(n)
        hole = without_lithium(perfect, int(np.flatnonzero(perfect.numbers == 3)[0]))
        energy = (
            labelled(hole, calculator).get_potential_energy() - labelled(perfect, calculator).get_potential_energy()
        )
        shift = 0.0 if eps is None else float(makov_payne(perfect.cell.array, -1.0, eps))
        row.append(f"{energy:.3f}" + ("" if eps is None else f" ({energy + shift:.3f})"))
    return row


def response(calculator: InProcess, frame: Atoms) -> tuple[float, np.ndarray, float]:
    """eps_inf of the crystal, Z* of a shaken cell [n, 3, 3], and LO-TO splitting, THz."""
    phonon = displaced(antifluorite(), (2, 2, 2), 0.02)
    force_constants(phonon, calculator)
    primitive = phonon.primitive
    cell = Atoms(primitive.numbers, cell=primitive.cell, scaled_positions=primitive.scaled_positions, pbc=True)
    born, dielectric = field_response(calculator, cell)
    phonon.nac_params = {"born": born, "dielectric": dielectric, "factor": COULOMB}
    return float(np.trace(dielectric) / 3), field_response(calculator, frame)[0], lo_to_splitting(phonon)


def slab(layers: int) -> Atoms:
    """Li2O (110), whose planes are neutral, of so many layers of 3.27 Å, 12 atoms each; open along z."""
    made = surface(antifluorite(), (1, 1, 0), layers)
    made.center(vacuum=8.0, axis=2)
    made.pbc = (True, True, False)
    return made


def slab_response(calculator: InProcess) -> list[str]:
    """What the inside of a slab does as its Li is moved against its O by 0.1 Å, and in a field, both along the normal.

    Energy of the displacement, meV per Li2O, of 8 layers less that of 6, so that surfaces, which no head was trained on, cancel; change
    of the force on the innermost Li, eV/Å; and what a field of the vacuum pulls at the innermost Li and O, e.
    """
    shift, field = 0.1, 0.05
    still, moved = ([displaced_slab(n, u, 0.0, calculator) for n in (6, 8)] for u in (0.0, shift))
    energy = [a.get_potential_energy() - b.get_potential_energy() for a, b in zip(moved, still, strict=True)]
    pulls = [displaced_slab(8, 0.0, f, calculator).get_forces()[:, 2] for f in (field, -field)]
    height = abs(still[1].positions[:, 2] - still[1].positions[:, 2].mean())
    lithium, oxygen = (min(np.flatnonzero(still[1].numbers == z), key=lambda n: height[n]) for z in (3, 8))
    force = moved[1].get_forces()[lithium, 2] - still[1].get_forces()[lithium, 2]
    pull = (pulls[0] - pulls[1]) / (2 * field)
    return [f"{1e3 * (energy[1] - energy[0]) / 8:.1f}", f"{force:.3f}", f"{pull[lithium]:.3f}", f"{pull[oxygen]:.3f}"]


def displaced_slab(layers: int, shift: float, field: float, calculator: InProcess) -> Atoms:
    """A slab with its Li moved by shift Å in a field V/Å along the normal, with the calculator's results."""
    atoms = slab(layers)
    atoms.positions[atoms.numbers == 3, 2] += shift
    atoms.info[keys.FIELD] = np.array([0.0, 0.0, field])
    return labelled(atoms, calculator)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=60.0)
    parser.add_argument("--heads", nargs="*", default=["none", "bond_charges", "formal_dipoles"])
    parser.add_argument("--words", nargs="*", default=[], help="keys of mlip train for all heads")
    parser.add_argument(
        "--largest", type=int, default=4, help="edge of the largest cell of the vacancy, in cells of 4.62 Å"
    )
    parser.add_argument("--folder", type=Path, default=Path("runs/insulator"))
    asked = parser.parse_args()
    torch.set_num_threads(1)
    asked.folder.mkdir(parents=True, exist_ok=True)
    truth = InProcess(config.make(config.compose("train", TRUTH, [config.CONFIGS]).model)(statistics=STATISTICS))
    small, large = frames_of(asked.folder, truth)
    test = small[::5]
    train = [canonical(a, f"{k}") for k, a in enumerate(small) if k % 5]
    calm = shaken(np.random.default_rng(1), 1, 0.08, False)
    fit = Table("head", "96 atoms: E meV/atom", "F meV/Å", "S GPa", "768: E meV/atom", "F meV/Å", "S GPa", "eps_inf",
                "Z* rmse e", "Z*/sqrt(eps) rmse e", "LO-TO THz", title="RMSE")  # fmt: skip
    holes = Table(
        "head", *(f"{12 * n**3} atoms" for n in range(1, asked.largest + 1)), title="Li vacancy, eV (with Makov-Payne)"
    )
    eps, exact, split = response(truth, calm)
    fit.add_row("truth", *6 * [""], f"{eps:.3f}", "", "", f"{split:.2f}")
    energies = vacancy(truth, eps, asked.largest)
    holes.add_row("truth", *energies)
    inside = Table(
        "head", "0.1 Å: meV per Li2O", "F on Li eV/Å", "pull of a field on Li e", "on O e", title="inside a slab"
    )
    inside.add_row("truth", *slab_response(truth))
    print(f"truth: eps_inf {eps:.3f}, LO-TO {split:.2f} THz, vacancy", *energies, flush=True)
    for head in asked.heads:
        potential = fitted([f"model/head={head}", "model/network=small", *asked.words], train, asked.seconds)
        calculator, own, cells = InProcess(potential), None, ["", "", "", ""]
        if head in ("bond_charges", "formal_dipoles"):
            own, born, split = response(calculator, calm)
            raw, scaled = born - exact, born / np.sqrt(own) - exact / np.sqrt(eps)
            cells = [f"{own:.3f}", *(f"{np.sqrt(np.mean(x**2)):.3f}" for x in (raw, scaled)), f"{split:.2f}"]
        row = [head, *errors(test, calculator), *errors(large, calculator), *cells]
        fit.add_row(*row)
        energies = vacancy(calculator, own, asked.largest)
        holes.add_row(head, *energies)
        inside.add_row(head, *slab_response(calculator))
        print(*row, *energies, flush=True)
    Console(width=180).print(fit, holes, inside)


if __name__ == "__main__":
    main()
