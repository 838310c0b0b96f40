"""Labels that are computed elsewhere: structures go out in a numbered file, labels come back and are matched."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from ase import Atoms

from mlip import keys
from mlip.data.diagnosis import ERROR
from mlip.data.labels import SHORT, canonical
from mlip.data.structures import read, write
from mlip.errors import LabellingError
from mlip.labelling.checks import check_together
from mlip.labelling.engine import Awaited, difference, structure_id


@dataclass
class FilesEngine:
    """Matches labels by the structure's id where the file kept it, else by geometry; and by geometry in any case.

    level     name of the settings used elsewhere; labels of another name are other labels
    to_label  extxyz written with the structures that have no label yet: `number`, `structure_id`
    labels    where the labels are expected: anything that mlip.data.structures.read takes
    """

    level: str
    to_label: str
    labels: object

    def __post_init__(self):
        self._came: list[Atoms] = []
        self._by_id: dict[str, Atoms] = {}

    def settings(self) -> dict:
        """The name of the level."""
        return {"engine": "files", "level": self.level}

    def prepare(self, structures: Sequence[Atoms]) -> None:
        """Reads the labels that have come, writes the structures still without one.

        Raises ValueError where the labels cannot be what they are said to be: wrong unit or sign, NaN.
        """
        try:
            self._came = read(self.labels)
        except FileNotFoundError:
            self._came = []
        wrong = [finding for finding in check_together([a for a in self._came if keys.REF_FORCES in a.arrays
                 and keys.REF_ENERGY in a.info], str(self.labels)) if finding.severity == ERROR]  # fmt: skip
        if wrong:
            told = "; ".join(f"{finding.check}: {finding.message} ({finding.remedy})" for finding in wrong)
            raise ValueError(f"the labels in {self.labels} are not taken: {told}")
        self._by_id = {str(atoms.info["structure_id"]): atoms for atoms in self._came if "structure_id" in atoms.info}
        out = []
        for number, atoms in enumerate(structures):
            if self._match(atoms) is None:
                bare = canonical(atoms.copy(), "structure", dict.fromkeys(SHORT))
                bare.info.update(number=number, structure_id=structure_id(atoms))
                out.append(bare)
        if out:
            write(self.to_label, out)
        else:
            Path(self.to_label).unlink(missing_ok=True)

    def label(self, atoms: Atoms) -> Atoms:
        """See Engine. A label whose id fits and whose geometry does not is refused."""
        came = self._match(atoms)
        if came is None:
            raise Awaited(f"label the structures of {self.to_label} (energy eV, forces eV/Å, stress eV/Å^3), keep their "
                          f"order of atoms and, if you can, structure_id; put them into {self.labels}, repeat the command")
        if told := difference(atoms, came):
            raise LabellingError(f"{came.info['source']} has the id of this structure, but {told}: it is not the label")
        copy = canonical(atoms.copy(), "structure", dict.fromkeys(SHORT))
        for place, theirs in ((copy.info, came.info), (copy.arrays, came.arrays)):
            place.update({key: value for key, value in theirs.items() if key in SHORT.values()})
        return copy

    def _match(self, atoms: Atoms) -> Atoms | None:
        named = self._by_id.get(structure_id(atoms))
        if named is not None:
            return named
        return next((came for came in self._came if "structure_id" not in came.info and difference(atoms, came) is None), None)
