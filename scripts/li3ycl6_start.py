#!/usr/bin/env python3
"""Start structures of Li3YCl6 (every ordering of Li in the 30-atom cell) and rattled, strained frames of the best ones.

    pip install chgnet --no-deps nvidia-ml-py3         # relaxes the orderings; DFT labels come afterwards
    scripts/li3ycl6_start.py datasets/li3ycl6/start.xyz datasets/li3ycl6/sites.xyz frames.xyz      # sites.xyz: Li at each of its 12 places
    mlip label frames.xyz labelled.xyz engine=gpaw engine.kpoints=[1,1,2]

Crystallography: P-3m1 (No. 164), Z = 3, a = 11.2217 Å, c = 6.05517 Å (Asano et al., Adv. Mater. 30, 1803075 (2018),
as tabulated in OBELiX); hexagonal close packing of Cl (Bohnsack et al., Z. anorg. allg. Chem. 623, 1067 (1997)).
Partly occupied there, ordered here: Y on 1a and on 2d at z = 0.487 (in the refinement behind OBELiX's entry 2d is split, 0.57
there and 0.43 at z = 0.98); 9 Li on 12 places, 6h and 6g (0.88 and 0.62). Coordinates start from the ideal packing.
"""

import itertools
import sys

import numpy as np
from ase import Atoms
from ase.filters import FrechetCellFilter
from ase.optimize import BFGS
from chgnet.model.dynamics import CHGNetCalculator
from pymatgen.analysis.ewald import EwaldSummation
from pymatgen.core import Lattice, Structure

from mlip.data.structures import write

A, C = 11.2217, 6.05517  # Å
SITES = [("Y", (0, 0, 0)), ("Y", (1 / 3, 2 / 3, 0.487)), ("Cl", (1 / 9, 2 / 9, 0.775)), ("Cl", (1 / 9, 5 / 9, 0.75)),
         ("Cl", (2 / 9, 4 / 9, 0.26)), ("Li", (1 / 3, 0, 0.5)), ("Li", (1 / 3, 0, 0))]  # fmt: skip
KEPT = 4  # orderings


def sites() -> Structure:
    """The cell with every place of Li taken."""
    return Structure.from_spacegroup("P-3m1", Lattice.hexagonal(A, C), *zip(*SITES, strict=True))


def orderings() -> list[Structure]:
    """One structure of each symmetry class: those of equal Ewald energy of formal charges are the same."""
    full = sites()
    places = [n for n, site in enumerate(full) if site.specie.symbol == "Li"]
    found = {}
    for empty in itertools.combinations(places, 3):
        structure = full.copy()
        structure.remove_sites(empty)
        structure.add_oxidation_state_by_element({"Li": 1, "Y": 3, "Cl": -1})
        found.setdefault(round(EwaldSummation(structure).total_energy, 3), structure)
    return list(found.values())


def as_atoms(structure: Structure) -> Atoms:
    """The same crystal for ASE, without charges."""
    return Atoms(
        [site.specie.symbol for site in structure], structure.cart_coords, cell=structure.lattice.matrix, pbc=True
    )


def relaxed(structure: Structure, calculator) -> Atoms:
    """Positions, then cell, at zero pressure."""
    atoms = as_atoms(structure)
    atoms.calc = calculator
    BFGS(atoms, logfile=None).run(fmax=0.05, steps=100)
    BFGS(FrechetCellFilter(atoms), logfile=None).run(fmax=0.02, steps=200)
    return atoms


def distorted(atoms: Atoms, rattle: float, strain: float, scale: float, kind: str, rng: np.random.Generator) -> Atoms:
    """Random symmetric strain (standard deviation of a component), volume scaled, atoms displaced (Å per component)."""
    new = Atoms(atoms.numbers, atoms.positions, cell=atoms.cell, pbc=True, info={**atoms.info, "config_type": kind})
    tilt = rng.normal(0, strain, (3, 3))
    new.set_cell(new.cell @ (np.eye(3) + (tilt + tilt.T) / 2) * scale ** (1 / 3), scale_atoms=True)
    new.positions += rng.normal(0, rattle, new.positions.shape)
    return new


def main() -> None:
    """Writes the three files."""
    calculator, rng = CHGNetCalculator(use_device="cpu"), np.random.default_rng(0)
    best = sorted((relaxed(s, calculator) for s in orderings()), key=lambda a: a.get_potential_energy())[:KEPT]
    starts, frames = [], []
    for n, atoms in enumerate(best):
        print(f"ordering {n}: {(atoms.get_potential_energy() - best[0].get_potential_energy()) * 1e3:.0f} meV above the "
              f"best, a, b, c = {atoms.cell.lengths().round(3)} Å (CHGNet)")  # fmt: skip
        start = Atoms(
            atoms.numbers, atoms.positions, cell=atoms.cell, pbc=True, info={"config_type": "start", "ordering": n}
        )
        starts.append(start)
        frames.append(distorted(start, 0.0, 0.0, 1.0, "relaxed", rng))
        frames += [distorted(start, rattle, 0.015, 1.0, "rattle_strain", rng) for rattle in (0.03, 0.06, 0.10)]
        frames += [distorted(start, 0.04, 0.005, scale, "volume", rng) for scale in (0.94, 1.06)]
    write(sys.argv[1], starts)
    write(sys.argv[2], [as_atoms(sites())])
    write(sys.argv[3], frames)


if __name__ == "__main__":
    main()
