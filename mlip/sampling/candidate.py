"""Structures proposed for labelling: kind, hop, origin, uncertainty scores."""

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field

from ase import Atoms

from mlip import keys
from mlip.errors import InputError

KINDS = ("md", "check", "hop", "path", "saddle", "end", "offpath", "start")
SCORE_PREFIX = "score_"  # of scores among the info of a file
NONE = "none"  # extxyz has no empty text


@dataclass
class Candidate:
    """A bare structure and the reason for its proposal.

    kind    md: a frame of dynamics · check: the same, drawn at random, to test the model on · hop: an ion between its
            sites in dynamics · path: an image beside a saddle · saddle: the climbing image · end: the start of its path ·
            offpath: a perturbed saddle · start: an initial structure, made without a model
    hop     name of the unique hop, "" if it belongs to none;  ion: index of the hopping atom, -1 if there is none
    parent  origin, in words
    scores  numbers by name, e.g. sigma (eV/Å): uncertainty of the forces near the hopping ion
    """

    atoms: Atoms
    kind: str
    hop: str = ""
    ion: int = -1
    parent: str = ""
    scores: dict[str, float] = field(default_factory=dict)

    def __post_init__(self):
        if self.kind not in KINDS:
            raise InputError(f"kind of a candidate must be one of {', '.join(KINDS)}, got {self.kind!r}")
        if not -1 <= self.ion < len(self.atoms):
            raise InputError(f"there is no atom {self.ion} among {len(self.atoms)} for a candidate of kind {self.kind}")
        self.atoms = bare(self.atoms)

    @classmethod
    def from_atoms(cls, atoms: Atoms) -> "Candidate":
        """Candidate written by `to_atoms`; a structure from elsewhere is of kind start."""
        info = atoms.info
        scores = {
            name.removeprefix(SCORE_PREFIX): float(value)
            for name, value in info.items()
            if name.startswith(SCORE_PREFIX)
        }
        hop, parent = ("" if info.get(name, NONE) == NONE else str(info[name]) for name in ("hop", "parent"))
        return cls(atoms, str(info.get("kind", "start")), hop, int(info.get("ion", -1)), parent, scores)

    def to_atoms(self) -> Atoms:
        """The structure with all else in its info, as it is written; config_type is the kind."""
        atoms = self.atoms.copy()
        atoms.info.update(
            config_type=self.kind, kind=self.kind, hop=self.hop or NONE, ion=int(self.ion), parent=self.parent or NONE
        )
        atoms.info.update({SCORE_PREFIX + name: float(value) for name, value in self.scores.items()})
        return atoms


def bare(atoms: Atoms) -> Atoms:
    """A copy with elements, positions, cell and total charge alone."""
    info = {name: atoms.info[name] for name in (keys.TOTAL_CHARGE,) if name in atoms.info}
    return Atoms(atoms.numbers, atoms.positions, cell=atoms.cell, pbc=atoms.pbc, info=info)


def count_by_kind(candidates: Iterable[Candidate]) -> dict[str, int]:
    """Number of candidates of each kind, most frequent first."""
    return dict(Counter(candidate.kind for candidate in candidates).most_common())
