"""Labels from VASP: inputs by pymatgen, run here or elsewhere, outputs checked."""

import shlex
import subprocess
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from ase import Atoms

from mlip import keys
from mlip.data.convergence import unconverged
from mlip.data.labels import SHORT
from mlip.data.structures import read
from mlip.errors import LabellingError
from mlip.labelling.engine import LabelPending, geometry_difference, label_id, plain_settings, with_labels


@dataclass
class VaspEngine:
    """One folder per structure, named after structure and settings.

    folder     where these folders are made
    input_set  a partial of one of pymatgen.io.vasp.sets with the user's settings over its own
    command    runs VASP in the current folder; None: the inputs are written, VASP is run by someone else
    """

    folder: str
    input_set: Callable
    command: str | None = None

    def settings(self) -> dict:
        """The input set with its settings."""
        return {"engine": "vasp", "input_set": plain_settings(self.input_set)}

    def label(self, atoms: Atoms) -> Atoms:
        """See Engine. Output that is there already is read instead of computed again."""
        folder = Path(self.folder) / label_id(atoms, self)
        output = _output(folder)
        if output is None or (self.command is not None and not _is_complete(output)):
            missing = write_inputs(folder, atoms, self.input_set)
            if self.command is None:
                raise LabelPending(
                    f"inputs are in {self.folder}/ID{missing}; run VASP in each folder, repeat the command"
                )
            if missing:
                raise LabellingError(f"inputs are in {self.folder}{missing}")
            self._run(folder)
            output = _output(folder)
        elif not _is_complete(output):
            raise LabelPending(f"{output} is not complete: VASP still runs, or was cut off (then remove it)")
        if output is None:
            raise LabellingError(f"{self.command!r} left neither vasprun.xml nor OUTCAR in {folder}", retryable=True)
        return read_output(output, atoms)

    def _run(self, folder: Path) -> None:
        try:
            with open(folder / "vasp.out", "w", encoding="utf-8") as log:
                done = subprocess.run(
                    shlex.split(self.command), cwd=folder, stdout=log, stderr=subprocess.STDOUT, check=False
                )
        except FileNotFoundError as error:
            raise LabellingError(f"engine.command {self.command!r} cannot be started: {error}") from error
        if done.returncode:
            last = (folder / "vasp.out").read_text(encoding="utf-8", errors="replace").strip().splitlines()[-3:]
            raise LabellingError(
                f"{self.command!r} ended with {done.returncode} in {folder}: {' / '.join(last)}", retryable=True
            )


def write_inputs(folder: Path, atoms: Atoms, input_set: Callable) -> str:
    """INCAR, KPOINTS, POSCAR (elements sorted), and POTCAR if pymatgen has the potentials.

    Returns how to provide a missing POTCAR, else an empty text.
    """
    from pymatgen.io.ase import AseAtomsAdaptor
    from pymatgen.io.vasp.inputs import Poscar

    if atoms.info.get(keys.TOTAL_CHARGE, 0.0):
        raise LabellingError(f"total charge {atoms.info[keys.TOTAL_CHARGE]:g} e: VASP needs NELECT for it, which depends on "
                             "the POTCAR; label charged cells with another engine or by engine=files")  # fmt: skip
    folder.mkdir(parents=True, exist_ok=True)
    bare = Atoms(atoms.numbers, atoms.positions, cell=atoms.cell, pbc=True)[_order(atoms)]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # advice of the set on settings the user has chosen
        inputs = input_set(AseAtomsAdaptor.get_structure(bare), sort_structure=False)
        inputs.incar.write_file(str(folder / "INCAR"))
        if inputs.kpoints is not None:  # None: the INCAR has KSPACING
            inputs.kpoints.write_file(str(folder / "KPOINTS"))
        Poscar(inputs.structure).write_file(str(folder / "POSCAR"), significant_figures=12)
        try:
            inputs.potcar.write_file(str(folder / "POTCAR"))
        except Exception as error:  # noqa: BLE001  pymatgen says in many ways that it has no potentials: the rest is of use
            if (folder / "POTCAR").is_file():  # put there by hand
                return ""
            (folder / "POTCAR.spec").write_text("\n".join(inputs.potcar_symbols) + "\n")
            return (f" without POTCAR ({str(error).splitlines()[0]}): set PMG_VASP_PSP_DIR and PMG_DEFAULT_FUNCTIONAL "
                    "in ~/.config/.pmgrc.yaml, or join the potentials named in POTCAR.spec")  # fmt: skip
    return ""


def read_output(output: Path, atoms: Atoms) -> Atoms:
    """The label of a finished run, in the order of `atoms`.

    Raises LabellingError if it has not converged or belongs to another structure.
    """
    if unconverged(str(output)):
        raise LabellingError(f"the electronic cycle of {output} did not reach EDIFF within NELM steps: more NELM, another "
                             "ALGO or larger SIGMA (engine.input_set.user_incar_settings); remove the folder")  # fmt: skip
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # pymatgen's on what the file leaves out
            reader = "pymatgen" if "vasprun" in output.name else "ase"
            result = read({"path": str(output), "index": -1, "reader": reader})[0]
    except (ValueError, KeyError) as error:
        raise LabellingError(f"{output} cannot be read: {error}", retryable=True) from error
    order = _order(atoms)
    if difference := geometry_difference(atoms[order], result):
        raise LabellingError(f"{output} is not the run of this structure: {difference}")
    back = np.argsort(order)
    values = {short: {**result.info, **result.arrays}.get(key) for short, key in SHORT.items()}
    results = {short: value[back] if np.ndim(value) and len(value) == len(atoms) and short != "stress" else value
               for short, value in values.items()}  # fmt: skip
    return with_labels(atoms, results, str(output))


def _order(atoms: Atoms) -> np.ndarray:
    """Order with the atoms of an element together: else its POTCAR would be needed twice."""
    return np.argsort(atoms.numbers, kind="stable")


def _output(folder: Path) -> Path | None:
    candidates = (folder / name for name in ("vasprun.xml", "vasprun.xml.gz", "OUTCAR", "OUTCAR.gz"))
    return next((path for path in candidates if path.is_file()), None)


def _is_complete(output: Path) -> bool:
    """Whether VASP has finished, from the last lines."""
    if output.suffix == ".gz":
        return True  # nobody compresses what is still written
    with open(output, "rb") as file:
        file.seek(max(0, output.stat().st_size - 4096))
        end = file.read().decode(errors="replace")
    return "</modeling>" in end if "vasprun" in output.name else "Voluntary context switches" in end
