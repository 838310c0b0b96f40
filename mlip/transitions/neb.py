"""Climbing-image nudged elastic band, all images in one call of the model."""

import itertools
import warnings
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from ase import Atoms
from ase.geometry import find_mic
from ase.mep import NEB
from ase.optimize import FIRE2

from mlip.calculator import calculate_many
from mlip.errors import InputError
from mlip.transitions.paths import check_endpoints, displacements, idpp, straight

CLIMB_BELOW = 0.5  # eV/Å; a band further from its path has no image near the saddle that could climb
LOWEST_DIP = 0.05  # eV


@dataclass(frozen=True)
class Path:
    """A relaxed band.

    images               ends included, results attached
    energies             [n_images] eV
    reaction_coordinate  [n_images] Å, length along the path in all coordinates: sum of |x_k - x_(k-1)|
    saddle_index         of the highest image; that of an end if the path only climbs
    converged            whether the largest force on the band is below the threshold
    fmax                 eV/Å, that force
    steps                of the optimizer; each is one call of the model for all images
    """

    images: list[Atoms]
    energies: np.ndarray
    reaction_coordinate: np.ndarray
    saddle_index: int
    converged: bool
    fmax: float
    steps: int

    @property
    def saddle(self) -> Atoms:
        return self.images[self.saddle_index]

    @property
    def barrier(self) -> float:
        """eV, from the start"""
        return float(self.energies[self.saddle_index] - self.energies[0])

    @property
    def reverse_barrier(self) -> float:
        """eV, from the end"""
        return float(self.energies[self.saddle_index] - self.energies[-1])

    @property
    def displacements(self) -> np.ndarray:
        """From start to end [n_atoms, 3] Å."""
        return displacements(self.images[0], self.images[-1])

    @property
    def tangent(self) -> np.ndarray:
        """Unit vector along the path at the saddle [n_atoms, 3]."""
        before, after = max(self.saddle_index - 1, 0), min(self.saddle_index + 1, len(self.images) - 1)
        vector = displacements(self.images[before], self.images[after])
        return vector / np.linalg.norm(vector)

    def intermediate_minima(self, depth: float = 0.01) -> list[int]:
        """Images lower by depth (eV) than some image on either side: a hop in two steps."""
        e = self.energies
        dips = [k for k in range(1, len(e) - 1) if e[k] < e[k - 1] and e[k] < e[k + 1]]
        return [k for k in dips if min(e[:k].max(), e[k + 1 :].max()) - e[k] > depth]


class BatchedNEB(NEB):
    """ASE's band, with the forces of all images from one `calculate_many`."""

    def __init__(self, images: list[Atoms], calculator, **settings):
        super().__init__(images, method="improvedtangent", **settings)
        self.calculator = calculator

    def get_forces(self) -> np.ndarray:
        inner = self.images[1:-1]
        if any(image.calc is None or image.calc.check_state(image) for image in inner):  # ASE calls this twice per step
            for image, answer in zip(inner, calculate_many(self.calculator, inner), strict=True):
                image.calc = answer.calc
        return super().get_forces()


def neb(
    start: Atoms,
    end: Atoms,
    calculator,
    n_images: int = 7,
    fmax: float = 0.05,
    climb: bool = True,
    steps: int = 500,
    spring: float = 0.1,
    images: Sequence[Atoms] | None = None,
) -> Path:
    """Climbing-image NEB between relaxed structures. J. Chem. Phys. 113, 9901, 9978 (2000).

    n_images  ends included; odd, so that a symmetric path has an image at its middle, and 5 or more. 7 for one hop
    fmax      eV/Å, of the forces across the path, and of the whole force at the climbing image
    spring    eV/Å^2 between images
    images    a band to restart from (its ends are replaced); None starts from IDPP
    Raises ValueError for ends that are not distinct, or differ in composition, order or cell; warns if they are not
    relaxed, because the barrier is then not between minima. A band that has not converged is returned with converged=False.
    """
    if n_images < 5 or n_images % 2 == 0:
        raise InputError(f"n_images must be odd and at least 5, ends included, got {n_images}; 7 suits one hop")
    if not (fmax > 0 and steps >= 0 and spring > 0):
        raise InputError(f"fmax, steps and spring must be positive, got {fmax} eV/Å, {steps}, {spring} eV/Å^2")
    band = straight(start, end, n_images)
    if images is None:
        band = idpp(band)
    else:
        check_band(images, band)
        for image, other in zip(band[1:-1], images[1:-1], strict=True):
            # as it lies in its band: without its own drift it would no longer be relaxed
            image.positions = (
                start.positions + find_mic(other.positions - images[0].positions, start.cell, start.pbc)[0]
            )
    ends = calculate_many(calculator, [band[0], band[-1]])
    for name, image in zip(("start", "end"), ends, strict=True):
        force = np.linalg.norm(image.get_forces(), axis=1).max()
        if force > 2 * fmax:
            warnings.warn(
                f"the {name} of the path is not relaxed: force {force:.3f} eV/Å, fmax is {fmax}; the barrier is not that "
                "between minima. quench the ends first",
                stacklevel=2,
            )
    band[0].calc, band[-1].calc = ends[0].calc, ends[-1].calc
    done = 0
    if climb and steps:
        done, _ = relax(BatchedNEB(band, calculator, k=spring), max(CLIMB_BELOW, fmax), steps)
    taken, force = relax(BatchedNEB(band, calculator, k=spring, climb=climb), fmax, steps - done)
    energies = np.array([image.get_potential_energy() for image in band])
    if (below := float(energies[[0, -1]].min() - energies.min())) > LOWEST_DIP:
        warnings.warn(
            f"image {energies.argmin()} lies {below:.2f} eV below both ends: they are not the minima of this hop (quench that "
            "image), or the potential has a hole there",
            stacklevel=2,
        )
    lengths = [np.linalg.norm(displacements(one, other)) for one, other in itertools.pairwise(band)]
    coordinate = np.concatenate([[0.0], np.cumsum(lengths)])
    return Path(band, energies, coordinate, int(energies.argmax()), bool(force <= fmax), float(force), done + taken)


def relax(band: BatchedNEB, fmax: float, steps: int) -> tuple[int, float]:
    """Moves the band; returns the steps taken and the largest force left, eV/Å."""
    optimizer = FIRE2(band, logfile=None)
    optimizer.run(fmax=fmax, steps=steps)
    return optimizer.get_number_of_steps(), np.linalg.norm(band.get_forces(), axis=1).max()


def check_band(images: Sequence[Atoms], band: list[Atoms]) -> None:
    """Raises ValueError unless this band can start from the images."""
    if len(images) != len(band):
        raise InputError(f"a band of {len(band)} images cannot restart from {len(images)}: give as many, ends included")
    for number, image in enumerate(images):
        if len(image) != len(band[0]) or (image.numbers != band[0].numbers).any():
            raise InputError(f"image {number} holds {image.symbols}, the ends hold {band[0].symbols}, in this order")
    check_endpoints(images[0], images[-1])
