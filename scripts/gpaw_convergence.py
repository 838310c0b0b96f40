#!/usr/bin/env python3
"""How energies, forces and stress depend on the plane-wave cutoff and the k-points: a table, resumable.

    scripts/gpaw_convergence.py frames.xyz 1,16 runs/convergence      # numbers of frames; about 13 CPU min for Li3YCl6

Each row stands against the finest setting of its own kind (cutoff at [1,1,2], mesh at 500 eV). Relative energies are
what a potential learns: the last column is the change of the energy difference between the first two frames.
"""

import itertools
import sys

import numpy as np

from mlip import keys, units
from mlip.data.structures import read
from mlip.labelling.gpaw import GPAWEngine
from mlip.labelling.run import run

RECIPE = {"xc": "PBE", "smearing": 0.02, "setups": {"Li": "sc"}}
CUTOFFS = [(cutoff, (1, 1, 2)) for cutoff in (600, 500, 400)]  # eV; the finest first
MESHES = [(500, mesh) for mesh in ((2, 2, 2), (1, 1, 3), (1, 1, 2))]


def main() -> None:
    """Labels what is missing, then prints the table in Markdown."""
    structures = [read(sys.argv[1])[int(n)] for n in sys.argv[2].split(",")]
    labels, seconds = {}, {}
    for cutoff, mesh in dict.fromkeys(CUTOFFS + MESHES[::-1]):
        report = run(structures, GPAWEngine(cutoff=cutoff, kpoints=list(mesh), **RECIPE), sys.argv[3])
        labels[cutoff, mesh] = report.labelled
        seconds[cutoff, mesh] = np.mean([atoms.info["label_seconds"] for atoms in report.labelled])
    print("| cutoff, eV | k-points | s per label | energy, meV/atom | force RMS, meV/Å | force max | stress max, GPa "
          "| energy difference, meV/atom |\n| --- | --- | --- | --- | --- | --- | --- | --- |")  # fmt: skip
    for series in (CUTOFFS, MESHES):
        for chosen, fine in itertools.zip_longest(series, series[:1], fillvalue=series[0]):
            energy, force, stress = zip(*map(deviation, labels[chosen], labels[fine]), strict=True)
            force = np.concatenate(force)
            print(f"| {chosen[0]} | {chosen[1]} | {seconds[chosen]:.0f} | {np.abs(energy).max():.2f} "
                  f"| {np.sqrt((force**2).mean()):.2f} | {np.abs(force).max():.2f} | {np.abs(stress).max():.3f} "
                  f"| {energy[1] - energy[0]:.2f} |")  # fmt: skip


def deviation(atoms, fine) -> tuple[float, np.ndarray, np.ndarray]:
    """Energy meV/atom, forces [n, 3] meV/Å and stress [3, 3] GPa of a label minus those of the finer one."""
    return ((atoms.info[keys.REF_ENERGY] - fine.info[keys.REF_ENERGY]) / len(atoms) * 1e3,
            (atoms.arrays[keys.REF_FORCES] - fine.arrays[keys.REF_FORCES]) * 1e3,
            (atoms.info[keys.REF_STRESS] - fine.info[keys.REF_STRESS]) * units.EV_PER_A3_IN_GPA)  # fmt: skip


if __name__ == "__main__":
    main()
