#!/usr/bin/env python3
"""Start structures of Li3YBr6: orderings of Li in the conventional cell of 20 atoms.

    pip install chgnet --no-deps nvidia-ml-py3         # relaxes the orderings; DFT labels come afterwards
    scripts/li3ybr6_start.py datasets/li3ybr6           # start.cif, the best; orderings.xyz, the four best; sites.xyz, Li everywhere

Crystallography: C2/m (No. 12), Z = 2, a = 6.9217, b = 11.9096, c = 6.9326 Å, beta = 109.553 degrees (Asano et al., Adv. Mater. 30, 1803075
(2018), as tabulated in OBELiX, entry elz, whose coordinates are those of a close match, doi 10.1021/acs.chemmater.0c04352, with noise):
cubic close packing of Br, cations in octahedra, layers of Y and Li and of Li alone. Coordinates start from the ideal packing.
Partly occupied there, ordered here: Y on 2a (0.76 there, the rest of it on 4h), 6 Li on the 10 places of 4g (0.53), 4h (0.75) and 2d.
"""

import itertools
import sys
from pathlib import Path

from ase import Atoms
from chgnet.model.dynamics import CHGNetCalculator
from li3ycl6_start import relaxed
from pymatgen.analysis.ewald import EwaldSummation
from pymatgen.core import Lattice, Structure

from mlip.data.structures import write

LATTICE = Lattice.monoclinic(6.9217, 11.9096, 6.9326, 109.553)  # Å, degrees
SITES = [("Y", (0, 0, 0)), ("Br", (1 / 4, 0, 3 / 4)), ("Br", (1 / 4, 1 / 6, 1 / 4)), ("Li", (0, 1 / 3, 0)), ("Li", (0, 1 / 6, 1 / 2)),
         ("Li", (0, 1 / 2, 1 / 2))]  # fmt: skip
N_LITHIUM, RELAXED, KEPT = 6, 12, 4  # of them the lowest in Ewald energy are relaxed


def orderings(full: Structure) -> list[Structure]:
    """One structure of each symmetry class, lowest Ewald energy of formal charges first."""
    places = [n for n, site in enumerate(full) if site.specie.symbol == "Li"]
    found = {}
    for empty in itertools.combinations(places, len(places) - N_LITHIUM):
        structure = full.copy()
        structure.remove_sites(empty)
        structure.add_oxidation_state_by_element({"Li": 1, "Y": 3, "Br": -1})
        found.setdefault(round(EwaldSummation(structure).total_energy, 3), structure)
    print(f"{len(found)} orderings that differ")
    return [found[energy] for energy in sorted(found)]


def main() -> None:
    """Writes the three files."""
    folder, calculator = Path(sys.argv[1]), CHGNetCalculator(use_device="cpu")
    folder.mkdir(parents=True, exist_ok=True)
    full = Structure.from_spacegroup("C2/m", LATTICE, *zip(*SITES, strict=True))
    best = sorted((relaxed(s, calculator) for s in orderings(full)[:RELAXED]), key=lambda a: a.get_potential_energy())[
        :KEPT
    ]
    starts = []
    for n, atoms in enumerate(best):
        print(f"ordering {n}: {(atoms.get_potential_energy() - best[0].get_potential_energy()) * 1e3:.0f} meV above the "
              f"best, a, b, c = {atoms.cell.lengths().round(3)} Å (CHGNet)")  # fmt: skip
        starts.append(
            Atoms(
                atoms.numbers, atoms.positions, cell=atoms.cell, pbc=True, info={"config_type": "start", "ordering": n}
            )
        )
    starts[0].write(folder / "start.cif")
    write(folder / "orderings.xyz", starts)
    write(
        folder / "sites.xyz",
        [Atoms([s.specie.symbol for s in full], full.cart_coords, cell=full.lattice.matrix, pbc=True)],
    )


if __name__ == "__main__":
    main()
