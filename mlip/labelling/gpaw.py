"""Labels from GPAW: plane-wave DFT in process (`make gpaw` installs it)."""

import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path

from ase import Atoms
from ase.calculators.calculator import kpts2sizeandoffsets

from mlip import keys
from mlip.errors import InputError, LabellingError
from mlip.labelling.engine import label_id, with_labels

SETUPS = Path(sys.prefix) / "share" / "mlip-gpaw"  # where scripts/install_gpaw.sh leaves the setups it makes
NOT_HASHED = ("setup_folder", "max_iterations", "logs")  # the labels do not depend on them


@dataclass
class GPAWEngine:
    """Plane-wave DFT with the projector augmented waves of GPAW.

    cutoff           eV; fixed within a data set: the stress has a Pulay error that depends on it
    kpoints          [n1, n2, n3], shifted off Gamma if even. Or None and kpoint_density in points per Å^-1; the
                     density changes the mesh when the cell crosses a threshold, and energies jump there by meV
    smearing         Fermi-Dirac, eV
    setups           element -> setup; "sc" for Li has its 1s states in the valence (the shipped one-electron setup is
                     9 % off in forces)
    convergence      of the self-consistent cycle, GPAW's names: energy (eV per electron), density, eigenstates
    parameters       any further argument of gpaw.GPAW
    setup_folder     where the setups of `setups` lie
    logs             folder for GPAW's text output, one file per label
    """

    cutoff: float
    xc: str
    smearing: float
    kpoints: Sequence[int] | None = None
    kpoint_density: float | None = None
    setups: Mapping[str, str] = field(default_factory=dict)
    convergence: Mapping[str, float] = field(default_factory=dict)
    parameters: Mapping = field(default_factory=dict)
    max_iterations: int = 120
    setup_folder: str | None = None
    logs: str | None = None

    def __post_init__(self):
        if (self.kpoints is None) == (self.kpoint_density is None):
            raise InputError("GPAW needs either kpoints=[n1,n2,n3] or kpoint_density (points per Å^-1), not both")

    def settings(self) -> dict:
        """All that decides the numbers."""
        return {"engine": "gpaw", **{name: value for name, value in asdict(self).items() if name not in NOT_HASHED}}

    def label(self, atoms: Atoms) -> Atoms:
        """See Engine. An unconverged cycle is refused."""
        try:
            from gpaw import GPAW, PW, FermiDirac, KohnShamConvergenceError
        except ImportError as error:
            raise LabellingError(f"GPAW is not installed ({error}): `make gpaw` installs it") from error
        log = None
        if self.logs is not None:
            log = Path(self.logs) / f"{label_id(atoms, self)}.txt"
            log.parent.mkdir(parents=True, exist_ok=True)
        labelled = atoms.copy()
        labelled.calc = GPAW(
            mode=PW(self.cutoff), xc=self.xc, occupations=FermiDirac(self.smearing),
            kpts={"size": self.mesh(atoms), "gamma": False}, setups=self.available_setups(atoms),
            symmetry={"point_group": False}, convergence=dict(self.convergence), maxiter=self.max_iterations,
            charge=float(atoms.info.get(keys.TOTAL_CHARGE, 0.0)), txt=None if log is None else str(log), **self.parameters,
        )  # fmt: skip
        try:
            results = {
                "energy": labelled.get_potential_energy(),
                "forces": labelled.get_forces(),
                "stress": labelled.get_stress(),
            }
        except KohnShamConvergenceError as error:
            log_note = "" if log is None else f"; its cycle is in {log}"
            raise LabellingError(
                f"the self-consistent cycle did not converge in {self.max_iterations} iterations{log_note}. A larger "
                "smearing, engine.max_iterations, or another mixer (engine.parameters.mixer) may help"
            ) from error
        results["free_energy"] = labelled.get_potential_energy(force_consistent=True)
        return with_labels(atoms, results, str(atoms.info.get("source", "structure")))

    def mesh(self, atoms: Atoms) -> list[int]:
        """Number of k-points along each reciprocal vector."""
        if self.kpoints is not None:
            return [int(n) for n in self.kpoints]
        return [int(n) for n in kpts2sizeandoffsets(density=self.kpoint_density, atoms=atoms)[0]]

    def available_setups(self, atoms: Atoms) -> dict[str, str]:
        """The setups of the elements that occur; LabellingError if a file is missing."""
        from gpaw import setup_paths

        folder = str(self.setup_folder or SETUPS)
        if folder not in setup_paths:
            setup_paths.insert(0, folder)
        chosen = {element: name for element, name in self.setups.items() if element in atoms.symbols}
        for element, name in chosen.items():
            file = f"{element}.{name}.{self.xc}"
            if not any(list(Path(path).glob(file + "*")) for path in setup_paths):
                raise LabellingError(f"the setup {file} is not in {folder}: `make gpaw` makes Li.sc.PBE; others: "
                                     f"`gpaw dataset {element} -f {self.xc} -w -t {name}`")  # fmt: skip
        return chosen
