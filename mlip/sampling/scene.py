"""What a proposer is told and what it gives back; the hops that are known until now, each once."""

import itertools
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Protocol

import numpy as np
from ase import Atoms

from mlip.sampling.candidate import Candidate, bare
from mlip.transitions.paths import displacements
from mlip.transitions.unique import fingerprint

APART, LENGTHS = 1.0, 0.5  # of two hops that are not the same: one neighbour elsewhere; Å of their lengths


@dataclass(frozen=True)
class KnownHop:
    """One hop of its class: two quenched structures with atoms in one order, and the ion that goes from here to there.

    band  images of the last path that converged, ends included, where the next one begins; empty before
    """

    name: str
    start: Atoms
    end: Atoms
    ion: int
    origin: str = ""
    band: Sequence[Atoms] = ()

    @property
    def vector(self) -> np.ndarray:
        """[3] Å, of the ion."""
        return displacements(self.start, self.end)[self.ion]

    @property
    def fingerprint(self) -> np.ndarray:
        """What surrounds the hop, without its ion."""
        host = self.start.copy()
        del host[[self.ion]]
        return fingerprint(host, self.start.positions[self.ion], self.vector)


def same(one: KnownHop, other: KnownHop) -> bool:
    """Whether two hops of the same atoms are one: as long, and surrounded alike."""
    if not np.array_equal(one.start.numbers, other.start.numbers):
        return False
    lengths = [np.linalg.norm(hop.vector) for hop in (one, other)]
    return bool(abs(lengths[0] - lengths[1]) < LENGTHS and np.linalg.norm(one.fingerprint - other.fingerprint) < APART)


@dataclass
class HopBook:
    """Every hop met so far, by name h0, h1, ... in order of appearance. A hop and its way back are one."""

    hops: list[KnownHop] = field(default_factory=list)

    def add(self, start: Atoms, end: Atoms, mobile: str, origin: str = "") -> KnownHop | None:
        """The hop between two quenched structures, known or new; None where no mobile ion has moved by more than 1 Å."""
        ion, vector = moved_ion(start, end, mobile)
        if np.linalg.norm(vector) < 1.0:
            return None
        new = KnownHop(f"h{len(self.hops)}", bare(start), bare(end), ion, origin)
        for hop in self.hops:
            if same(hop, new):
                return hop
        self.hops.append(new)
        return new

    def remember(self, name: str, images: Sequence[Atoms]) -> None:
        """Keeps the band of a hop."""
        self.hops = [replace(hop, band=tuple(map(bare, images))) if hop.name == name else hop for hop in self.hops]

    def as_atoms(self) -> list[Atoms]:
        """Start, end and band of each hop in turn, for a file."""
        out = []
        for hop in self.hops:
            for role, atoms in (("start", hop.start), ("end", hop.end), *(("band", image) for image in hop.band)):
                out.append(bare(atoms))
                out[-1].info.update(hop=hop.name, ion=int(hop.ion), role=role, origin=hop.origin)
        return out


def book_of(structures: Sequence[Atoms]) -> HopBook:
    """What `as_atoms` wrote."""
    hops = []
    for _, members in itertools.groupby(structures, key=lambda atoms: atoms.info["hop"]):
        start, end, *band = members
        told = start.info
        hops.append(KnownHop(str(told["hop"]), bare(start), bare(end), int(told["ion"]), str(told["origin"]), tuple(map(bare, band))))
    return HopBook(hops)


def moved_ion(start: Atoms, end: Atoms, mobile: str) -> tuple[int, np.ndarray]:
    """The mobile ion that moves most between two structures, and its way [3] Å."""
    vectors = displacements(start, end)
    ions = np.flatnonzero(np.array(start.get_chemical_symbols()) == mobile)
    if len(ions) == 0:
        raise ValueError(f"no {mobile} in {start.symbols}: nothing can hop; set mobile")
    ion = int(ions[np.linalg.norm(vectors[ions], axis=1).argmax()])
    return ion, vectors[ion]


@dataclass
class Scene:
    """What every proposer works with.

    calculator for dynamics and paths;  doubt  the same with energy_sigma and force_sigma, which cost more
    starts     structures that dynamics starts from;  mobile  symbol of the ions that hop
    framework  symbols that hold the frame of reference; None: all but the mobile one
    hops       known until now: proposers that find new ones add them
    folder     of this proposer and round, for dynamics that goes on where it was killed
    """

    calculator: object
    doubt: object
    starts: list[Atoms]
    mobile: str
    framework: Sequence[str] | None
    hops: HopBook
    folder: Path
    seed: int


@dataclass
class Proposal:
    """Candidates, and a record for each path that was relaxed: {hop, barrier, reverse, sigma, converged, n_negative}, eV.

    paths  None from a proposer that relaxes none: without any, sampling converges on its dynamics alone
    """

    candidates: list[Candidate] = field(default_factory=list)
    paths: list[dict] | None = None
    notes: list[str] = field(default_factory=list)


class Proposer(Protocol):
    """Proposes structures; the same scene gives the same ones."""

    def propose(self, scene: Scene) -> Proposal: ...


@dataclass(frozen=True)
class Sampler:
    """A way to sample: who proposes, how many of each kind are labelled, whether doubt decides, how the best are chosen.

    proposers  by name, in order: hops that one finds are known to the next
    quotas     share of each kind among the labels of a round
    window     of doubts (score.Window); None labels without looking at any
    choose     of select.py
    """

    proposers: dict[str, Proposer]
    quotas: dict[str, float]
    choose: object
    window: object | None = None
