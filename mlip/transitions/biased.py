"""Steered molecular dynamics: one ion pulled along its hop by a moving harmonic restraint.

Makes hops that are too rare for the length of a run.

The coordinate is the ion's displacement along a vector relative to the framework (mean displacement of the other species),
so that the bias neither pushes the crystal nor depends on its drift. Frames keep the energy and forces of the model, without the bias.
"""

import warnings
from collections.abc import Sequence

import numpy as np
from ase import Atoms, units
from ase.calculators.calculator import Calculator, all_changes
from ase.calculators.singlepoint import SinglePointCalculator

from mlip.errors import InputError
from mlip.md.ensemble import maxwell


class Restraint(Calculator):
    """Any calculator plus a harmonic restraint  k/2 (xi - centre)^2  along a hop.

    xi = (r_ion - r_ion(0) - <r - r(0)>_framework) . e,  e along the hop

    atoms      as they are at xi = 0; positions must not be wrapped afterwards
    vector     [3] Å, of the hop: xi goes from 0 to its length
    stiffness  k, eV/Å^2. 5-10 holds an ion on the slope of a 0.5 eV barrier
    framework  indices of the framework's atoms; None: all of other elements than the ion's
    """

    implemented_properties = ("energy", "free_energy", "forces")

    def __init__(
        self,
        calculator,
        atoms: Atoms,
        ion: int,
        vector: np.ndarray,
        stiffness: float = 5.0,
        framework: Sequence[int] | None = None,
    ):
        super().__init__()
        vector = np.asarray(vector, float)
        if vector.shape != (3,) or not np.linalg.norm(vector) > 0 or not np.isfinite(vector).all():
            raise InputError(f"the vector of a hop must be three finite numbers, not all zero, got {vector.tolist()} Å")
        if not 0 <= ion < len(atoms):
            raise InputError(f"there is no atom {ion} among {len(atoms)}")
        if not stiffness > 0:
            raise InputError(f"stiffness must be positive, got {stiffness} eV/Å^2")
        self.calculator, self.ion, self.stiffness = calculator, ion, stiffness
        self.length = float(np.linalg.norm(vector))
        self.direction = vector / self.length
        self.origin = atoms.positions.copy()
        same = atoms.numbers == atoms.numbers[ion]
        self.framework = np.flatnonzero(~same) if framework is None else np.asarray(framework)
        if len(self.framework) == 0:
            raise InputError(
                f"every atom is {atoms.symbols[ion]}, so no framework is the frame of reference; name its atoms with framework"
            )
        self._centre = 0.0

    @property
    def centre(self) -> float:
        """Å, position of the restraint."""
        return self._centre

    @centre.setter
    def centre(self, value: float) -> None:
        self._centre = float(value)
        self.results = {}  # the bias is new; the model beneath keeps its results for the positions

    def coordinate(self, positions: np.ndarray) -> float:
        """xi, Å"""
        moved = positions - self.origin
        return float((moved[self.ion] - moved[self.framework].mean(axis=0)) @ self.direction)

    def calculate(self, atoms=None, properties=("energy",), system_changes=all_changes):
        super().calculate(atoms, properties, system_changes)
        energy = self.calculator.get_property("energy", self.atoms)
        forces = np.array(self.calculator.get_property("forces", self.atoms))
        off = self.coordinate(self.atoms.positions) - self.centre
        pull = -self.stiffness * off * self.direction
        self.unbiased = {"energy": energy, "forces": forces.copy()}
        forces[self.ion] += pull
        forces[self.framework] -= pull / len(self.framework)
        biased = energy + 0.5 * self.stiffness * off**2
        self.results = {"energy": biased, "free_energy": biased, "forces": forces}


def pull(
    atoms: Atoms,
    calculator,
    ion: int,
    vector: np.ndarray,
    ensemble,
    steps: int,
    timestep_fs: float = 2.0,
    stiffness: float = 5.0,
    framework: Sequence[int] | None = None,
    frame_every: int = 20,
    seed: int = 0,
) -> tuple[list[Atoms], float]:
    """Frames of one ion pulled along a vector at constant speed, and the work, eV.

    ensemble  of mlip.md.ensemble;  steps  of MD for the whole way: 5 ps per Å is gentle, 1 ps per Å makes candidates
    Each frame has the model's energy and forces, info["progress"] from -1 (start) to 1 (end), info["bias_eV"].
    A structure that the calculator refuses (overlap) ends the pull with a warning; earlier frames are valid.
    Quench the last frame afterwards: only the minimum it relaxes to shows whether the hop was made.
    """
    if steps < 1 or frame_every < 1 or not timestep_fs > 0:
        raise InputError(
            f"steps, frame_every and timestep_fs must be positive, got {steps}, {frame_every}, {timestep_fs} fs"
        )
    rng = np.random.default_rng(seed)
    moving = atoms.copy()
    if not moving.get_momenta().any():
        moving.set_momenta(maxwell(moving, ensemble.temperature_K, ensemble.removed, rng))
    restraint = Restraint(calculator, moving, ion, vector, stiffness, framework)
    moving.calc = restraint
    dynamics = ensemble.start(moving, timestep_fs * units.fs, rng)
    frames, work = [], 0.0
    for step in range(1, steps + 1):
        old, restraint.centre = restraint.centre, restraint.length * step / steps
        xi = restraint.coordinate(moving.positions)
        work += 0.5 * stiffness * ((xi - restraint.centre) ** 2 - (xi - old) ** 2)
        try:
            dynamics.step()
            moving.get_forces()
        except ValueError as error:  # the calculator refuses such a structure
            warnings.warn(f"the pull ended at step {step} of {steps}, xi {xi:.2f} Å: {error}", stacklevel=2)
            break
        if step % frame_every == 0 or step == steps:
            frames.append(unbiased_copy(moving, restraint))
    return frames, float(work)


def unbiased_copy(atoms: Atoms, restraint: Restraint) -> Atoms:
    """A copy with the model's own results, without the bias."""
    copy = atoms.copy()
    copy.calc = SinglePointCalculator(copy, **restraint.unbiased)
    xi = restraint.coordinate(atoms.positions)
    copy.info.update(
        progress=2 * xi / restraint.length - 1, bias_eV=0.5 * restraint.stiffness * (xi - restraint.centre) ** 2
    )
    return copy
