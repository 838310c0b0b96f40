"""A structure that may be labelled: what it is, whose hop it shows, where it comes from, how much the model doubts it."""

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field

from ase import Atoms

from mlip import keys

KINDS = ("md", "check", "hop", "path", "saddle", "end", "offpath", "start")
SCORES = "score_"  # how a score is called in a file
NONE = "none"  # extxyz has no empty text


@dataclass
class Candidate:
    """A bare structure and why it was proposed.

    kind    md: a frame of dynamics · check: the same, drawn without looking, to test the model on · hop: an ion on its way
            in dynamics · path: an image beside a saddle · saddle: the climbing image · end: the start of its path ·
            offpath: displaced, strained, compressed around them · start: the first structures, made without a model
    hop     name of the unique hop, "" where it belongs to none;  ion: number of the atom that hops, -1 where none does
    parent  what it was made from, in words
    scores  numbers by name, e.g. sigma (eV/Å): force sigma near the hopping ion
    """

    atoms: Atoms
    kind: str
    hop: str = ""
    ion: int = -1
    parent: str = ""
    scores: dict[str, float] = field(default_factory=dict)

    def __post_init__(self):
        if self.kind not in KINDS:
            raise ValueError(f"kind of a candidate must be one of {', '.join(KINDS)}, got {self.kind!r}")
        if not -1 <= self.ion < len(self.atoms):
            raise ValueError(f"there is no atom {self.ion} among {len(self.atoms)} for a candidate of kind {self.kind}")
        self.atoms = bare(self.atoms)

    def as_atoms(self) -> Atoms:
        """The structure with everything else in its info, as it is written; config_type is the kind."""
        atoms = self.atoms.copy()
        atoms.info.update(config_type=self.kind, kind=self.kind, hop=self.hop or NONE, ion=int(self.ion), parent=self.parent or NONE)
        atoms.info.update({SCORES + name: float(value) for name, value in self.scores.items()})
        return atoms


def bare(atoms: Atoms) -> Atoms:
    """Elements, positions, cell and total charge alone: neither velocities nor what some model said."""
    info = {name: atoms.info[name] for name in (keys.TOTAL_CHARGE,) if name in atoms.info}
    return Atoms(atoms.numbers, atoms.positions, cell=atoms.cell, pbc=atoms.pbc, info=info)


def candidate_of(atoms: Atoms) -> Candidate:
    """What `as_atoms` wrote, labelled meanwhile or not; a structure from elsewhere is of kind start."""
    info = atoms.info
    scores = {name.removeprefix(SCORES): float(value) for name, value in info.items() if name.startswith(SCORES)}
    hop, parent = ("" if info.get(name, NONE) == NONE else str(info[name]) for name in ("hop", "parent"))
    return Candidate(atoms, str(info.get("kind", "start")), hop, int(info.get("ion", -1)), parent, scores)


def count_by_kind(candidates: Iterable[Candidate]) -> dict[str, int]:
    """How many there are of each kind, most first."""
    return dict(Counter(candidate.kind for candidate in candidates).most_common())
