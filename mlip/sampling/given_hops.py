"""Hops that need no dynamics to be found: into the empty sites of a lattice, or between structures that are given."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from ase import Atoms
from ase.data import atomic_numbers

from mlip.data.structures import read
from mlip.sampling.candidate import bare
from mlip.sampling.scene import Proposal, Scene
from mlip.transitions.endpoints import Endpoints, empty_site_hops
from mlip.transitions.quench import quench_ends


@dataclass(frozen=True)
class GivenHops:
    """Adds hops to the book, proposes no candidates itself: for conductors so slow that nothing hops in dynamics.

    hops       [{start: file, end: file}]
    reference  file of a structure with a mobile ion at every site, in the cell of the starts: hops of the starts' ions
               into sites that are empty there, up to max_length (Å), n_hops of each start, shortest first
    fmax, steps  of the quench of both ends; hops whose ends fall together are left out
    """

    hops: Sequence[Mapping[str, str]] = ()
    reference: str | None = None
    max_length: float = 4.5
    n_hops: int = 6
    fmax: float = 0.03
    steps: int = 300

    def propose(self, scene: Scene) -> Proposal:
        pairs = [(read(hop["start"])[0], read(hop["end"])[0], "given") for hop in self.hops]
        if self.reference is not None:
            lattice = read(self.reference)[0]
            for number, atoms in enumerate(scene.starts):
                pairs += [(hop.start, hop.end, f"start{number}, {hop.name}") for hop in self.into_empty(atoms, lattice, scene.mobile)]
        out = Proposal()
        for start, end, origin in pairs:
            try:
                scene.hops.add(*quench_ends(bare(start), bare(end), scene.calculator, self.fmax, self.steps), scene.mobile, origin)
            except ValueError as error:
                out.notes.append(f"{origin}: no hop: {error}")
        return out

    def into_empty(self, atoms: Atoms, lattice: Atoms, mobile: str) -> list[Endpoints]:
        """Of one start: distinct hops into the sites of the lattice that it leaves empty."""
        repeats = np.rint(atoms.cell.lengths() / lattice.cell.lengths()).astype(int)
        whole = lattice.repeat(tuple(np.maximum(repeats, 1)))
        whole.set_cell(atoms.cell, scale_atoms=True)
        sites = whole.positions[whole.numbers == atomic_numbers[mobile]]
        return empty_site_hops(bare(atoms), mobile, sites, self.max_length)[: self.n_hops]
