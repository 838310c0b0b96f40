"""Search of any calculator for holes: structures that are pushed together or pulled apart, and whose energy falls."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from ase import Atoms
from matplotlib.figure import Figure

from mlip.calculator import calculate_many
from mlip.evaluation.plots import canvas, colours, legend
from mlip.evaluation.result import Result
from mlip.evaluation.section import Section
from mlip.holes import (
    CELLS,
    Energies,
    energies_along,
    fall_of,
    or_infinite,
    path_name,
    search_paths,
    shortest_in,
    worst,
)

KINDS = {
    "pair": "pair alone",
    "triplet": "triplet alone",
    "pair_in_crystal": "pair in the crystal",
    "cell": "squeezed cell",
    "stretched_cell": "stretched cell",
}


@dataclass(frozen=True)
class Holes:
    """Largest fall of the energy of pairs, triplets and a whole cell that are pushed together, and of a cell pulled apart (`mlip.holes`).

    frames    labelled frames, if there are some: with `atoms` they set the shortest distances, where paths begin. A
              potential of ours brings those of its training set, which count instead
    n_frames  smallest of all structures, in which pairs and cells are pushed together
    n_steps   of a path
    """

    atoms: Atoms
    frames: Sequence[Atoms] = ()
    n_frames: int = 2
    n_steps: int = 16

    def evaluate(self, calculator) -> Section:
        """Follow every path and note the worst of each kind."""
        structures = [self.atoms, *self.frames]
        table = getattr(calculator, "metadata", {}).get("shortest_distances_A") or shortest_in(structures)
        paths = search_paths(structures, table, self.n_frames, self.n_steps, n_near=self.n_frames)
        energies = [energies_along(path, energies_of(calculator)) for path in paths]
        results = [
            Result("largest_fall", fall.fall_eV, "eV", conditions={"path": KINDS[kind]}, notes=note(fall))
            for kind, fall in worst([fall_of(*each) for each in zip(paths, energies, strict=True)]).items()
        ]
        curves = [
            {"pair": path_name(path), "distance": path.coordinate.tolist(), "energy": (energy - energy[0]).tolist()}
            for path, energy in zip(paths, energies, strict=True) if path.kind == "pair"
        ]  # fmt: skip
        return Section("holes", results, {"pairs": curves})

    @staticmethod
    def figures(data: Mapping) -> dict[str, Figure]:
        """Plot the energy of every pair alone against its distance."""
        figure, axis = canvas("distance (Å)", "energy - that at the shortest distance of the data (eV)")
        for curve, colour in zip(data["pairs"], colours(len(data["pairs"])), strict=True):
            energy = np.array([np.nan if value is None else value for value in curve["energy"]], float)
            axis.plot(curve["distance"], energy, color=colour, linewidth=1, label=curve["pair"])
        axis.set_yscale("symlog", linthresh=1.0)
        axis.axhline(0, color="0.7", linewidth=0.8)
        return {"pairs": legend(figure)}


def note(fall) -> tuple[str, ...]:
    """What falls, and where that begins."""
    if fall.begins_at is None:
        return ()
    unit = "of the volume" if fall.kind in CELLS else "Å"
    return (f"{fall.what} falls from {fall.begins_at:.2f} {unit} on, to {fall.lowest_eV:.3g} eV against the start",)


def energies_of(calculator) -> Energies:
    """Energies of structures by a calculator, [n] eV; +inf for one that it refuses."""
    return or_infinite(
        lambda structures: np.array([one.get_potential_energy() for one in calculate_many(calculator, structures)]),
        ValueError, RuntimeError,
    )  # fmt: skip
