"""The path of one hop on the model's surface: its band, its saddle, what lies beside it, and how sure the model is."""

import warnings
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from ase import Atoms

from mlip import keys
from mlip.calculator import calculate_many
from mlip.sampling.candidate import bare
from mlip.sampling.scene import KnownHop
from mlip.transitions.dimer import dimer
from mlip.transitions.neb import Path, neb
from mlip.transitions.paths import displacements
from mlip.transitions.quench import quench_ends
from mlip.transitions.saddle import Saddle, check_saddle

SAME_END = 0.5  # Å, of any atom between the ends of two rounds


@dataclass(frozen=True)
class FoundSaddle:
    """path: the band; top: the saddle, that of the band or of the dimer that went on from it; check: its curvatures."""

    path: Path
    top: Atoms
    check: Saddle
    by_dimer: bool

    @property
    def barrier(self) -> float:
        """eV, from the start"""
        return float(self.top.get_potential_energy() - self.path.energies[0])


def find_saddle(hop: KnownHop, calculator, n_images: int, fmax: float, steps: int) -> FoundSaddle:
    """Ends quenched, a climbing band between them, a dimer from its top where the band has not converged.

    The band begins as that of the round before, where it still lies between these ends: a barrier's change between rounds is then
    that of one path.
    Raises ValueError where the ends fall together, or the model has no answer on the way.
    """
    start, end = quench_ends(hop.start, hop.end, calculator, fmax=fmax / 2, steps=steps)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # ends not relaxed, dips: they are in the record of the path
        path = neb(start, end, calculator, n_images=n_images, fmax=fmax, steps=steps, images=band_between(hop, start, end, n_images))
    top, tangent, by_dimer = path.saddle, path.tangent, False
    if not path.converged and 0 < path.saddle_index < len(path.images) - 1:
        climb = dimer(path.saddle, calculator, tangent, fmax=fmax, steps=steps)
        if climb.converged:
            top, tangent, by_dimer = climb.atoms, climb.mode, True
    return FoundSaddle(path, top, check_saddle(bare(top), calculator, tangent), by_dimer)


def band_between(hop: KnownHop, start: Atoms, end: Atoms, n_images: int) -> Sequence[Atoms] | None:
    """The hop's band, None where it has other ends or another number of images."""
    if len(hop.band) != n_images:
        return None
    moved = [np.linalg.norm(displacements(*pair), axis=1).max() for pair in ((hop.band[0], start), (hop.band[-1], end))]
    return hop.band if max(moved) < SAME_END else None


def record(hop: KnownHop, found: FoundSaddle, doubt, highest: float) -> dict:
    """The path in numbers: barriers and sigma in eV.

    barrier  None where the path only climbs, or higher than `highest`;  sigma  None where the calculator `doubt` does not tell one
    """
    path = found.path
    inner = 0 < path.saddle_index < len(path.images) - 1
    return {
        "hop": hop.name, "barrier": found.barrier if inner and found.barrier <= highest else None, "reverse": found.barrier + path.energies[0] - path.energies[-1],
        "sigma": difference_sigma(path.images[0], found.top, doubt), "converged": bool(path.converged or found.by_dimer),
        "n_negative": found.check.n_negative, "steps": path.steps, "length_A": float(np.linalg.norm(hop.vector)),
        "coordinate_A": path.reaction_coordinate.tolist(), "energies_eV": (path.energies - path.energies[0]).tolist(),
    }  # fmt: skip


def difference_sigma(one: Atoms, other: Atoms, calculator) -> float | None:
    """sigma of E_other - E_one, eV: what the two share cancels where the calculator has energy_spread."""
    a, b = (answer.calc.results for answer in calculate_many(calculator, [bare(one), bare(other)]))
    if keys.ENERGY_SPREAD in a:
        return float(np.linalg.norm(np.asarray(b[keys.ENERGY_SPREAD]) - np.asarray(a[keys.ENERGY_SPREAD])))
    if keys.ENERGY_SIGMA in a:
        return float(np.hypot(a[keys.ENERGY_SIGMA], b[keys.ENERGY_SIGMA]))
    return None
