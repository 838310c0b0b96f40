"""Context in which structures are proposed, the proposals, and the catalogue of unique hops."""

import itertools
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Protocol

import numpy as np
from ase import Atoms

from mlip.errors import InputError
from mlip.sampling.candidate import Candidate, bare
from mlip.sampling.uncertainty import UncertaintyWindow
from mlip.transitions.paths import displacements
from mlip.transitions.unique import hop_descriptor

SAME_DESCRIPTOR, SAME_LENGTH = 1.0, 0.5  # differences of equal hops: less than one neighbour elsewhere; Å
SHORTEST_HOP = 1.0  # Å


@dataclass(frozen=True)
class KnownHop:
    """Representative of equivalent hops: two relaxed structures and the hopping ion.

    band  images of the last converged path, ends included, which the next NEB restarts from; empty before
    """

    number: int
    start: Atoms
    end: Atoms
    ion: int
    origin: str = ""
    band: Sequence[Atoms] = ()

    @property
    def name(self) -> str:
        """h0, h1, ... as in files and reports."""
        return f"h{self.number}"

    @property
    def vector(self) -> np.ndarray:
        """Displacement of the ion [3] Å."""
        return displacements(self.start, self.end)[self.ion]

    @cached_property
    def descriptor(self) -> np.ndarray:
        """Descriptor of the environment, without the ion itself."""
        surroundings = self.start.copy()
        del surroundings[[self.ion]]
        return hop_descriptor(surroundings, self.start.positions[self.ion], self.vector)

    def is_equivalent(self, other: "KnownHop") -> bool:
        """Whether two hops of the same atoms have equal lengths and equal environments."""
        if not np.array_equal(self.start.numbers, other.start.numbers):
            return False
        lengths = [np.linalg.norm(hop.vector) for hop in (self, other)]
        return bool(
            abs(lengths[0] - lengths[1]) < SAME_LENGTH
            and np.linalg.norm(self.descriptor - other.descriptor) < SAME_DESCRIPTOR
        )


@dataclass
class HopCatalogue:
    """Unique hops in order of appearance. A hop and its reverse are one."""

    hops: list[KnownHop] = field(default_factory=list)

    @classmethod
    def from_atoms(cls, structures: Sequence[Atoms]) -> "HopCatalogue":
        """Catalogue written by `to_atoms`."""
        hops = []
        for number, members in itertools.groupby(structures, key=lambda atoms: int(atoms.info["hop_number"])):
            start, end, *band = members
            hops.append(
                KnownHop(
                    number,
                    bare(start),
                    bare(end),
                    int(start.info["ion"]),
                    str(start.info["origin"]),
                    tuple(map(bare, band)),
                )
            )
        return cls(hops)

    def to_atoms(self) -> list[Atoms]:
        """Start, end and band of each hop in turn, for a file."""
        out = []
        for hop in self.hops:
            for role, atoms in (("start", hop.start), ("end", hop.end), *(("band", image) for image in hop.band)):
                out.append(bare(atoms))
                out[-1].info.update(hop_number=hop.number, ion=int(hop.ion), role=role, origin=hop.origin)
        return out

    def add(self, start: Atoms, end: Atoms, mobile: str, origin: str = "") -> KnownHop | None:
        """The hop between two relaxed structures; None if no mobile ion moved by SHORTEST_HOP."""
        ion, vector = most_displaced_ion(start, end, mobile)
        if np.linalg.norm(vector) < SHORTEST_HOP:
            return None
        new = KnownHop(len(self.hops), bare(start), bare(end), ion, origin)
        for hop in self.hops:
            if hop.is_equivalent(new):
                return hop
        self.hops.append(new)
        return new

    def set_band(self, number: int, images: Sequence[Atoms]) -> None:
        """Stores the band of a hop."""
        self.hops = [replace(hop, band=tuple(map(bare, images))) if hop.number == number else hop for hop in self.hops]

    def shortest(self, max_hops: int) -> list[KnownHop]:
        """At most max_hops hops, shortest first; equal ones in order of appearance."""
        return sorted(self.hops, key=lambda hop: round(float(np.linalg.norm(hop.vector)), 2))[:max_hops]


def most_displaced_ion(start: Atoms, end: Atoms, mobile: str) -> tuple[int, np.ndarray]:
    """Index and displacement [3] Å of the mobile ion that moves most between two structures."""
    vectors = displacements(start, end)
    ions = np.flatnonzero(np.array(start.get_chemical_symbols()) == mobile)
    if len(ions) == 0:
        raise InputError(f"no {mobile} in {start.symbols}: nothing can hop; set mobile")
    ion = int(ions[np.linalg.norm(vectors[ions], axis=1).argmax()])
    return ion, vectors[ion]


@dataclass
class SamplingContext:
    """Input of every proposer.

    calculator   for dynamics and paths
    uncertainty  the same calculator with energy_sigma and force_sigma, which cost more
    starts       structures that dynamics starts from;  mobile  symbol of the ions that hop
    framework    symbols of the frame of reference; None: all but the mobile one
    hops         catalogue until now, to which proposers add new hops
    folder       of this round, for dynamics that restarts after an interruption
    """

    calculator: object
    uncertainty: object
    starts: list[Atoms]
    mobile: str
    framework: Sequence[str] | None
    hops: HopCatalogue
    folder: Path
    seed: int


@dataclass(frozen=True)
class PathRecord:
    """Minimum-energy path of one hop in numbers; energies eV.

    barrier     None if the path only climbs, or rises above max_barrier_eV
    sigma       uncertainty of the barrier; half_width  half its 95 % interval; None if the calculator has none
    """

    hop: str
    barrier: float | None
    reverse_barrier: float | None = None
    sigma: float | None = None
    converged: bool = True
    n_negative: int = 1
    steps: int = 0
    length_A: float = 0.0
    coordinate_A: Sequence[float] = ()
    energies_eV: Sequence[float] = ()
    half_width: float | None = None


@dataclass
class Proposal:
    """Candidates, a record for each relaxed path, and remarks for the user.

    paths  None from a proposer that relaxes none: without any, sampling converges on its dynamics alone
    """

    candidates: list[Candidate] = field(default_factory=list)
    paths: list[PathRecord] | None = None
    notes: list[str] = field(default_factory=list)


class Proposer(Protocol):
    """Source of candidates; the same context gives the same ones."""

    def propose(self, context: SamplingContext) -> Proposal: ...


@dataclass(frozen=True)
class Sampler:
    """Sampling strategy: proposers, quotas of kinds, uncertainty window, selection rule.

    proposers  by name, in order: a hop added by one is known to the next
    quotas     share of each kind among the labels of a round
    window     of uncertainties worth a label; None labels without regard to them
    choose     of select.py
    """

    proposers: dict[str, Proposer]
    quotas: dict[str, float]
    choose: object
    window: UncertaintyWindow | None = None
