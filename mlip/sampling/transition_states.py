"""Saddles of the known hops and what lies around them: where a potential decides conductivity and rarely sees data."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from mlip.sampling.candidate import Candidate, bare
from mlip.sampling.saddles import FoundSaddle, find_saddle, record
from mlip.sampling.scene import KnownHop, Proposal, Scene
from mlip.transitions.offpath import along_modes, far_enough, rattled, strained
from mlip.transitions.saddle import around


@dataclass(frozen=True)
class TransitionStates:
    """Of every known hop: the climbing image (saddle), its neighbours (path), the start (end), displacements (offpath).

    n_images, fmax, steps  of the band (transitions.neb)
    neighbours    images on each side of the saddle
    temperature_K how far along the three lowest modes of the saddle
    rattles, strains  further displacements of the saddle: 0.1 Å of the ions around the hopping one, 1.5 % of the cell
    most_hops     in a round, shortest first
    highest       eV; a path that climbs higher is an error of the model, and nothing of it is labelled
    """

    n_images: int = 7
    fmax: float = 0.05
    steps: int = 200
    neighbours: int = 1
    temperature_K: float = 600.0
    rattles: int = 6
    strains: int = 2
    most_hops: int = 12
    highest: float = 2.0

    def propose(self, scene: Scene) -> Proposal:
        out = Proposal(paths=[])
        for hop, found in saddles(scene, out, self.most_hops, self.n_images, self.fmax, self.steps, self.highest):
            out.candidates += self.around(hop, found, np.random.default_rng([scene.seed, int(hop.name[1:])]))
        return out

    def around(self, hop: KnownHop, found: FoundSaddle, rng: np.random.Generator) -> list[Candidate]:
        """The candidates of one saddle; displaced ones only where no atoms overlap."""
        path, top, way = found.path, found.path.saddle_index, f"{hop.name}, NEB"
        out = [Candidate(path.images[0], "end", hop.name, hop.ion, way)]
        if not 0 < top < len(path.images) - 1:
            return out  # the path only climbs: no saddle between these ends
        out.append(Candidate(found.top, "saddle", hop.name, hop.ion, f"{hop.name}, dimer" if found.by_dimer else way))
        beside = [k for k in range(top - self.neighbours, top + self.neighbours + 1) if k != top and 0 < k < len(path.images) - 1]
        out += [Candidate(path.images[k], "path", hop.name, hop.ion, f"{way}, image {k}") for k in beside]
        saddle = bare(found.top)
        off = along_modes(saddle, found.check.modes, self.temperature_K)
        off += rattled(saddle, self.rattles, rng, 0.1, around(saddle, hop.ion)) + strained(saddle, self.strains, rng, 0.015)
        return out + [Candidate(atoms, "offpath", hop.name, hop.ion, f"{hop.name}, {atoms.info['offpath']}") for atoms in far_enough(off)]


@dataclass(frozen=True)
class WholePaths:
    """Of every known hop all images of its band, as kind path, saddle and end: NEB and nothing else, for comparison."""

    n_images: int = 7
    fmax: float = 0.05
    steps: int = 200
    most_hops: int = 12
    highest: float = 2.0

    def propose(self, scene: Scene) -> Proposal:
        out = Proposal(paths=[])
        for hop, found in saddles(scene, out, self.most_hops, self.n_images, self.fmax, self.steps, self.highest):
            last = len(found.path.images) - 1
            for k, image in enumerate(found.path.images):
                kind = "end" if k == 0 else "saddle" if k == found.path.saddle_index and k < last else "path"
                out.candidates.append(Candidate(image, kind, hop.name, hop.ion, f"{hop.name}, NEB, image {k}"))
        return out


def saddles(
    scene: Scene, out: Proposal, most_hops: int, n_images: int, fmax: float, steps: int, highest: float
) -> Iterator[tuple[KnownHop, FoundSaddle]]:
    """The shortest hops of the scene with their paths; paths, and the reasons where there is none, go into `out`."""
    for hop in shortest(scene.hops.hops, most_hops):
        try:
            found = find_saddle(hop, scene.calculator, n_images, fmax, steps)
        except ValueError as error:
            out.notes.append(f"{hop.name}: no path: {error}")
            continue
        out.paths.append(record(hop, found, scene.doubt, highest))
        if found.barrier > highest:
            out.notes.append(f"{hop.name}: its path climbs {found.barrier:.1f} eV, more than {highest:g}: the model is wrong there, or this "
                             "is no hop; nothing of it is labelled")  # fmt: skip
            continue
        if found.path.converged:
            scene.hops.remember(hop.name, found.path.images)
        yield hop, found


def shortest(hops: list[KnownHop], most: int) -> list[KnownHop]:
    """At most so many hops, shortest first; equal ones in the order in which they were met."""
    return sorted(hops, key=lambda hop: round(float(np.linalg.norm(hop.vector)), 2))[:most]
