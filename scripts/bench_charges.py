#!/usr/bin/env python
"""What explicit charges are worth: errors of twins with and without them, and the limits only charges get right.

python scripts/bench_charges.py fit RUN... [--also FILE]   errors on held-out frames, neutral and charged apart
python scripts/bench_charges.py born RUN...                Born charges and eps_inf of held-out frames
python scripts/bench_charges.py modes RUN...               TO and LO modes of BaTiO3 at Gamma, with ours and DFT's Z* and eps_inf
python scripts/bench_charges.py apart WITH WITHOUT         two ions from 3 to 30 Å
python scripts/bench_charges.py vacancy WITH WITHOUT       a lithium vacancy in ever larger cells of Li2O
"""

import argparse
from pathlib import Path

import numpy as np
import torch
from ase import Atoms
from ase.spacegroup import crystal
from rich.console import Console
from rich.progress import track
from rich.table import Table

from mlip import keys, load_calculator
from mlip.data.graph import to_graph
from mlip.data.structures import read
from mlip.electrostatics.response import makov_payne, model_born_charges, model_dielectric_tensor
from mlip.evaluation.inputs import held_out
from mlip.evaluation.static.field_response import field_response
from mlip.evaluation.static.phonons import displaced, force_constants
from mlip.training.run import Run
from mlip.units import COULOMB


def rms(values) -> float:
    return float(np.sqrt(np.mean(np.square(values))))


def predicted(run: Path, frames: list[Atoms]) -> list[Atoms]:
    """Copies of the frames with the results of the run's exported model."""
    calculator = load_calculator(run / "model.pt")
    return [found for atoms in track(frames, str(run), transient=True) for found in calculator.calculate_many([atoms])]


def fit(runs: list[Path], also: list[str]) -> Table:
    """RMSE of energy, force, stress and charge (up to one sign), force MAE, and mean |charge| by element."""
    table = Table(
        "run", "frames", "E meV/atom", "F meV/Å", "F MAE", "S GPa", "q e", "mean charges", title="held-out frames"
    )
    for run in runs:
        groups = {"": held_out(run)}
        groups |= {"neutral": [a for a in groups[""] if a.info.get("total_charge", 0) == 0]}
        groups |= {"charged": [a for a in groups[""] if a.info.get("total_charge", 0) != 0]}
        groups |= {Path(file).stem: read(file) for file in also}
        if not groups["charged"]:
            del groups["neutral"], groups["charged"]
        known = {name: predicted(run, frames) for name, frames in groups.items()}
        for name, answers in known.items():
            label = groups[name]
            energy = [
                (x.get_potential_energy() - y.info[keys.REF_ENERGY]) / len(x)
                for x, y in zip(answers, label, strict=True)
            ]
            force = np.concatenate(
                [x.get_forces() - y.arrays[keys.REF_FORCES] for x, y in zip(answers, label, strict=True)]
            )
            stress = [
                x.get_stress(voigt=False) - y.info[keys.REF_STRESS]
                for x, y in zip(answers, label, strict=True) if keys.REF_STRESS in y.info
            ]  # fmt: skip
            charge, means = charges(answers, label)
            table.add_row(str(run), f"{len(label)} {name}", f"{1e3 * rms(energy):.2f}", f"{1e3 * rms(force):.1f}",
                          f"{1e3 * np.abs(force).mean():.1f}", f"{rms(stress) * 160.21766:.3f}" if stress else "", charge, means)  # fmt: skip
    return table


def charges(answers: list[Atoms], label: list[Atoms]) -> tuple[str, str]:
    """RMSE against labels, in the better of both signs, and the mean by element; empty without charges."""
    if "charges" not in answers[0].calc.results:
        return "", ""
    found = np.concatenate([x.calc.results["charges"] for x in answers])
    symbols = np.concatenate([x.get_chemical_symbols() for x in answers])
    means = " ".join(
        f"{s} {found[symbols == s].mean():+.3f}±{found[symbols == s].std():.3f}" for s in np.unique(symbols)
    )
    if keys.REF_CHARGES not in label[0].arrays:
        return "", means
    true = np.concatenate([y.arrays[keys.REF_CHARGES] for y in label])
    return f"{min(rms(found - true), rms(found + true)):.4f}", means


def born(runs: list[Path]) -> Table:
    """Born charges raw and times sqrt(eps_inf), in the better of both signs, the sum rule, and eps_inf."""
    table = Table(
        "run", "Z* rmse e", "x sqrt(eps)", "sum rule e", "eps_inf", "DFT eps_inf", title="Born charges, held-out frames"
    )
    for run in runs:
        potential = Run(run).potential()
        raw, scaled, sums, ours, dft = [], [], [], [], []
        for atoms in track(held_out(run), str(run), transient=True):
            graph = to_graph(atoms, potential.cutoff, potential.levels)
            star, label = (
                model_born_charges(potential, graph).numpy(),
                atoms.arrays[keys.REF_BORN_CHARGES].reshape(-1, 3, 3),
            )
            eps = float(model_dielectric_tensor(potential, graph).diagonal().mean())
            raw.append(star - label), scaled.append(star * np.sqrt(eps) - label)
            sums.append(np.abs(star.sum(0)).max() / len(atoms))
            alpha = np.asarray(atoms.info["polarizability"], dtype=float).reshape(3, 3)
            ours.append(eps), dft.append(1 + 4 * np.pi * COULOMB * np.trace(alpha) / 3 / atoms.get_volume())
        table.add_row(str(run), f"{rms(np.concatenate(raw)):.3f}", f"{rms(np.concatenate(scaled)):.3f}", f"{max(sums):.1e}",
                      f"{np.mean(ours):.3f}", f"{np.mean(dft):.3f}")  # fmt: skip
    return table


def modes(runs: list[Path]) -> Table:
    """Modes at Gamma of the mean crystal of all frames, cm-1: transverse, and along c and a with our response and with DFT's."""
    table = Table("run", "response", "eps c, a", "TO", "LO, q along c", "LO, q along a", title="BaTiO3 at Gamma, cm-1")
    frames = read("../shared/data/batio3_bec.xyz")
    crystal = mean_crystal(frames)
    for run in runs:
        calculator = load_calculator(run / "model.pt", dtype="float64")
        phonon = displaced(crystal, (3, 3, 3), 0.02)
        force_constants(phonon, calculator)
        transverse = at_gamma(phonon, None)
        ours = mean_response([field_response(calculator, atoms) for atoms in frames[-7:]], frames[0], crystal)
        theirs = mean_response([labelled_response(atoms) for atoms in frames[-7:]], frames[0], crystal)
        for name, (born, eps) in (("ours", ours), ("DFT", theirs)):
            phonon.nac_params = {"born": born, "dielectric": eps, "factor": COULOMB}
            along = [at_gamma(phonon, q) for q in ([0, 0, 1], [1, 0, 0])]
            table.add_row(str(run), name, f"{eps[2, 2]:.2f} {eps[0, 0]:.2f}", transverse, *along)
            phonon.nac_params = None
    return table


def at_gamma(phonon, direction: list[int] | None) -> str:
    """The twelve optical frequencies, cm-1."""
    phonon.run_qpoints([[0, 0, 0]], nac_q_direction=direction)
    frequencies = phonon.qpoints.frequencies[0] * 33.35641
    optical = np.delete(frequencies, np.abs(frequencies).argsort()[:3])
    return " ".join(f"{value:.0f}" for value in np.sort(optical))


def sites(atoms: Atoms, crystal: Atoms) -> np.ndarray:
    """Atom of the five-atom cell that each atom of its 3 x 3 x 3 supercell is a copy of."""
    copies = crystal.repeat(3)
    vectors = atoms.get_scaled_positions()[:, None] - copies.get_scaled_positions()
    far = np.linalg.norm((vectors - vectors.round()) @ atoms.cell.array, axis=2)
    return far.argmin(1) % len(crystal)


def mean_crystal(frames: list[Atoms]) -> Atoms:
    """Tetragonal cell of five atoms in the mean of frames of 3 x 3 x 3 cells, polar along c, Ba at the origin."""
    cell = np.mean([atoms.cell.array for atoms in frames], axis=0) / 3
    a, c = (cell[0, 0] + cell[1, 1]) / 2, cell[2, 2]
    ideal = Atoms("BaTiO3", [[0, 0, 0], [a / 2, a / 2, c / 2], [a / 2, a / 2, 0], [a / 2, 0, c / 2], [0, a / 2, c / 2]],
                  cell=[a, a, c], pbc=True)  # fmt: skip
    first = frames[0].copy()
    first.positions -= first.positions[first.numbers == 56][0]
    height = np.zeros(5)
    for atoms in frames:
        moved = atoms.copy()
        moved.positions -= frames[0].positions[frames[0].numbers == 56][0]
        site = sites(moved, ideal)
        for k in range(5):
            off = moved.get_scaled_positions()[site == k, 2] * 3 - ideal.get_scaled_positions()[k, 2]
            height[k] += (off - off.round()).mean() / len(frames)
    height[3:] = height[3:].mean()
    ideal.positions[:, 2] += c * (height - height[0])
    return ideal


def labelled_response(atoms: Atoms) -> tuple[np.ndarray, np.ndarray]:
    """Born charges and eps_inf of a frame's labels."""
    alpha = np.asarray(atoms.info["polarizability"], dtype=float).reshape(3, 3)
    return atoms.arrays[keys.REF_BORN_CHARGES].reshape(-1, 3, 3), np.eye(
        3
    ) + 4 * np.pi * COULOMB * alpha / atoms.get_volume()


def mean_response(
    responses: list[tuple[np.ndarray, np.ndarray]], first: Atoms, crystal: Atoms
) -> tuple[np.ndarray, np.ndarray]:
    """Mean Z* of the five sites and mean eps_inf, diagonal and tetragonal."""
    moved = first.copy()
    moved.positions -= moved.positions[moved.numbers == 56][0]
    site = sites(moved, crystal)
    star = np.mean([born for born, _ in responses], axis=0)
    born = np.array([np.diag(np.diag(star[site == k].mean(axis=0))) for k in range(5)])
    for k in range(3):
        born[k, 0, 0] = born[k, 1, 1] = (born[k, 0, 0] + born[k, 1, 1]) / 2
    born[4] = (born[4] + born[3][[1, 0, 2]][:, [1, 0, 2]]) / 2
    born[3] = born[4][[1, 0, 2]][:, [1, 0, 2]]
    eps = np.diag(np.mean([eps for _, eps in responses], axis=0))
    print(
        "Z* "
        + "; ".join(f"{s} {np.round(np.diag(z), 2)}" for s, z in zip(crystal.get_chemical_symbols(), born, strict=True))
    )
    return born - born.mean(axis=0), np.diag([(eps[0] + eps[1]) / 2] * 2 + [eps[2]])


def apart(runs: list[Path], symbols: str = "NaCl") -> Table:
    """E(r) - E(30 Å) of two ions without periodic images, beside -k_e (1/r - 1/30)."""
    table = Table("r Å", "-k/r + k/30 eV", *map(str, runs), title=f"{symbols}: energy from 30 Å, eV")
    distances = [3.0, 4.0, 5.0, 6.0, 8.0, 10.0, 15.0, 20.0, 25.0, 30.0]
    ions = [Atoms(symbols, [[0, 0, 0], [0, 0, r]]) for r in distances]
    energies = [np.array([x.get_potential_energy() for x in predicted(run, ions)]) for run in runs]
    for i, r in enumerate(distances):
        point = -COULOMB * (1 / r - 1 / distances[-1])
        table.add_row(f"{r:g}", f"{point:.4f}", *(f"{found[i] - found[-1]:.4f}" for found in energies))
    return table


def vacancy(runs: list[Path], a: float = 4.62, largest: int = 4) -> Table:
    """E(Q = -1 without one Li) - E(perfect), unrelaxed; with charges also corrected by Makov and Payne's k_e M / 2 L."""
    table = Table(
        "atoms", "edge Å", *(f"{run} eV" for run in runs), "Makov-Payne at eps 1, eV", title="lithium vacancy, Li2O"
    )
    cell = crystal(["O", "Li"], [(0, 0, 0), (0.25, 0.25, 0.25)], spacegroup=225, cellpar=[a, a, a, 90, 90, 90])
    calculators = [load_calculator(run / "model.pt") for run in runs]
    for n in range(1, largest + 1):
        perfect = cell.repeat(n)
        hole = perfect.copy()
        del hole[[next(i for i, atom in enumerate(hole) if atom.symbol == "Li")]]
        hole.info["total_charge"] = -1.0
        row = []
        for calculator in calculators:
            (one,), (other,) = (calculator.calculate_many([each]) for each in (hole, perfect))
            row.append(one.get_potential_energy() - other.get_potential_energy())
        shift = float(makov_payne(torch.tensor(perfect.cell.array), -1.0))
        table.add_row(str(len(hole)), f"{n * a:.2f}", *(f"{value:.4f}" for value in row), f"{shift:.4f}")
    return table


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=["fit", "born", "modes", "apart", "vacancy"])
    parser.add_argument("runs", nargs="+", type=Path)
    parser.add_argument("--also", nargs="*", default=[], help="files never trained on")
    asked = parser.parse_args()
    tables = {"fit": lambda: fit(asked.runs, asked.also), "born": lambda: born(asked.runs),
              "modes": lambda: modes(asked.runs), "apart": lambda: apart(asked.runs),
              "vacancy": lambda: vacancy(asked.runs)}  # fmt: skip
    Console(width=180).print(tables[asked.what]())


if __name__ == "__main__":
    main()
