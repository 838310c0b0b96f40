"""Labels computed elsewhere: structures are written, labels read and matched."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from ase import Atoms

from mlip import keys
from mlip.data.diagnosis import ERROR
from mlip.data.labels import SHORT, canonical
from mlip.data.structures import read, write
from mlip.errors import InputError, LabellingError
from mlip.labelling.checks import check_together
from mlip.labelling.engine import LabelPending, geometry_difference, structure_id


@dataclass
class FilesEngine:
    """Labels from files, matched by the structure's id if it was kept, and by geometry.

    level_of_theory  name of the settings used elsewhere; labels of another name are other labels
    to_label  extxyz written with the structures that have no label yet: `number`, `structure_id`
    labels    where the labels are expected: anything that mlip.data.structures.read takes
    """

    level_of_theory: str
    to_label: str
    labels: object

    def __post_init__(self):
        self._labelled: list[Atoms] = []
        self._by_id: dict[str, Atoms] = {}

    def settings(self) -> dict:
        """The level of theory."""
        return {
            "engine": "files",
            "level": self.level_of_theory,
        }  # hashed into the names of labels: the key must not change

    def prepare(self, structures: Sequence[Atoms]) -> None:
        """Reads the labels, writes the structures still without one.

        Raises ValueError if the labels have a wrong unit or sign, or NaN.
        """
        try:
            self._labelled = read(self.labels)
        except FileNotFoundError:
            self._labelled = []
        wrong = [finding for finding in check_together([a for a in self._labelled if keys.REF_FORCES in a.arrays
                 and keys.REF_ENERGY in a.info], str(self.labels)) if finding.severity == ERROR]  # fmt: skip
        if wrong:
            reasons = "; ".join(f"{finding.check}: {finding.message} ({finding.remedy})" for finding in wrong)
            raise InputError(f"the labels in {self.labels} are not taken: {reasons}")
        self._by_id = {
            str(atoms.info["structure_id"]): atoms for atoms in self._labelled if "structure_id" in atoms.info
        }
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
        label = self._match(atoms)
        if label is None:
            raise LabelPending(
                f"label the structures of {self.to_label} (energy eV, forces eV/Å, stress eV/Å^3), keep their "
                f"order of atoms and, if you can, structure_id; put them into {self.labels}, repeat the command"
            )
        if difference := geometry_difference(atoms, label):
            raise LabellingError(
                f"{label.info['source']} has the id of this structure, but {difference}: it is not the label"
            )
        copy = canonical(atoms.copy(), "structure", dict.fromkeys(SHORT))
        for target, source in ((copy.info, label.info), (copy.arrays, label.arrays)):
            target.update({key: value for key, value in source.items() if key in SHORT.values()})
        return copy

    def _match(self, atoms: Atoms) -> Atoms | None:
        named = self._by_id.get(structure_id(atoms))
        if named is not None:
            return named
        unnamed = (other for other in self._labelled if "structure_id" not in other.info)
        return next((other for other in unnamed if geometry_difference(atoms, other) is None), None)
