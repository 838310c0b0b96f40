"""Migration barriers: on fixed DFT images, on the calculator's path, DFT on its saddle.

(A) and DFT differ by the error of the energies along one path. (B) is what dynamics with the calculator samples. (C) is DFT's
energy of the calculator's saddle: B near A but far from C is a path that DFT would not take.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path as FilePath

import numpy as np
from ase import Atoms
from matplotlib.figure import Figure

from mlip import keys
from mlip.data.structures import write
from mlip.errors import InputError
from mlip.evaluation.plots import BLUE, GREEN, ORANGE, canvas
from mlip.evaluation.result import Result
from mlip.evaluation.section import Section
from mlip.evaluation.static.bands import Hop, read_hops
from mlip.evaluation.static.barrier_parity import KINDS, barrier_errors, pairs, plot_parity
from mlip.evaluation.static.relaxation import calculate, conditions, unconstrained
from mlip.transitions.barrier_interval import half_width, rate_factor
from mlip.transitions.endpoints import vacancy_hops
from mlip.transitions.neb import Path, neb
from mlip.transitions.paths import displacements
from mlip.transitions.quench import quench_ends

TO_LABEL = "barriers_to_label.xyz"
ROOM_K = 300.0
LINES = (  # entry of a hop, its energies, label, how it is drawn
    ("own", "energies_eV", "B: own path", {"marker": "o", "color": BLUE, "linestyle": "-"}),
    (
        "fixed",
        "energies_eV",
        "A: on DFT images",
        {"marker": "s", "color": GREEN, "linestyle": "--", "markerfacecolor": "none"},
    ),
    ("fixed", "dft_eV", "DFT", {"marker": "D", "color": ORANGE, "linestyle": ":"}),
    (
        "labelled",
        "energies_eV",
        "C: DFT on own saddle",
        {"marker": "*", "color": ORANGE, "linestyle": "", "markersize": 11},
    ),
)


@dataclass(frozen=True)
class Barriers:
    """Barriers of given hops, and of the n_hops shortest distinct hops into a vacancy of `species` in `atoms`.

    hops    Hop, or {name, start, end, images} with files: images may be left out; start and end too if there are images;
            or {bands} with a file of many: frames of one `hop` are its images
    atoms   a relaxed supercell, wide enough (10 Å) for one vacancy
    label   gives copies of structures with DFT energies (ref_energy, or results); without it the structures that need
            labels are written to folder/barriers_to_label.xyz
    Ends are relaxed in the cell that they come with.
    """

    hops: Sequence[Hop | Mapping[str, str]] = ()
    atoms: Atoms | None = None
    species: str | None = None
    max_length_A: float = 4.0
    n_hops: int = 3
    label: Callable[[list[Atoms]], list[Atoms]] | None = None
    folder: str | FilePath | None = None
    n_images: int = 7
    fmax: float = 0.03
    steps: int = 300

    def evaluate(self, calculator) -> Section:
        """Relax the path of every hop; label its saddle, or write it to be labelled."""
        wanted = [hop for entry in self.hops for hop in read_hops(entry)]
        n_named = len(wanted)
        if self.atoms is not None:
            if self.species is None:
                raise InputError("hops are looked for of one species: give species, e.g. Li")
            distinct = vacancy_hops(unconstrained(self.atoms), self.species, self.max_length_A)
            wanted += [Hop(hop.name, hop.start, hop.end) for hop in distinct[: self.n_hops]]
        if not wanted:
            raise InputError("no hop was given: give hops (files of start and end), or atoms and species")
        results, data, notes, to_label = [], {"hops": {}}, [], []
        for number, hop in enumerate(wanted):
            where = {**conditions(hop.start), "hop": hop.name}
            entry = data["hops"].setdefault(hop.name, {})
            results += fixed_images(calculator, hop, where, entry)
            try:
                path = own_path(calculator, hop, self.n_images, self.fmax, self.steps)
            except ValueError as error:  # the ends fell together, or atoms overlap: this hop has no barrier, others may
                verdict = "fail" if number < n_named else "warn"  # asked for by name, or found in the crystal
                results.append(Result("barrier_own", None, "eV", verdict=verdict, notes=[str(error)], conditions=where))
                continue
            results += own_barrier(path, where, entry, calculator)
            points = [
                tagged(path.images[k], hop.name, role)
                for k, role in ((0, "start"), (path.saddle_index, "saddle"), (-1, "end"))
            ]
            if self.label is None:
                to_label += points
            else:
                results += labelled_saddle(self.label(points), path, where, entry)
        if to_label:
            notes.append(hand_over(to_label, self.folder))
        return Section("barriers", [*barrier_errors(data["hops"]), *results], data, notes)

    @staticmethod
    def figures(data: Mapping) -> dict[str, Figure]:
        """Plot the barriers against DFT's, and the energies along the paths."""
        return plot_barriers(data)


def fixed_images(calculator, hop: Hop, where: Mapping, entry: dict) -> list[Result]:
    """(A): barrier over the DFT images as they are, beside DFT's own; nothing if there are none."""
    if not hop.images:
        return []
    dft = np.array([reference_energy(image) for image in hop.images])
    ours = np.array(
        [image.get_potential_energy() for image in calculate(calculator, [unconstrained(a) for a in hop.images])]
    )
    steps = [np.linalg.norm(displacements(a, b)) for a, b in zip(hop.images, hop.images[1:], strict=False)]
    dft, ours = dft - dft[0], ours - ours[0]
    entry["fixed"] = {
        "coordinate_A": [0.0, *np.cumsum(steps).tolist()],
        "dft_eV": dft.tolist(),
        "energies_eV": ours.tolist(),
    }
    return [
        Result("barrier_dft", dft.max(), "eV", conditions=where),
        Result("barrier_fixed_images", ours.max(), "eV", conditions=where),
        Result("barrier_fixed_images_error", ours.max() - dft.max(), "eV", conditions=where),
        Result("path_energy_rmse", 1e3 * np.sqrt(np.mean((ours - dft)[1:] ** 2)), "meV", conditions=where),
    ]


def own_path(calculator, hop: Hop, n_images: int, fmax: float, steps: int) -> Path:
    """Ends relaxed, then the band between them."""
    start, end = quench_ends(unconstrained(hop.start), unconstrained(hop.end), calculator, fmax=fmax / 2, steps=steps)
    return neb(start, end, calculator, n_images=n_images, fmax=fmax, steps=steps)


def own_barrier(path: Path, where: Mapping, entry: dict, calculator) -> list[Result]:
    """(B), with intervals where the calculator has an uncertainty."""
    notes = (
        [] if path.converged else [f"the band has not converged in {path.steps} steps: {path.fmax:.3f} eV/Å are left"]
    )
    if path.saddle_index in (0, len(path.images) - 1):
        notes.append("the path only climbs: the far end is no minimum, or an image is missing near the saddle")
    if dips := path.intermediate_minima():
        notes.append(
            f"the path has a minimum between its ends (images {dips}): it is two hops; measure them one by one"
        )
    entry["own"] = {
        "coordinate_A": path.reaction_coordinate.tolist(),
        "energies_eV": (path.energies - path.energies[0]).tolist(),
    }
    verdict = "warn" if notes else ""
    there, back = (half_width(path.images[end], path.saddle, calculator) for end in (0, -1))
    results = [
        Result("barrier_own", path.barrier, "eV", *ends(path.barrier, there), verdict, notes, where),
        Result(
            "barrier_own_reverse", path.reverse_barrier, "eV", *ends(path.reverse_barrier, back), verdict, (), where
        ),
    ]
    if there is not None:
        factor = rate_factor(there, ROOM_K)
        results.append(Result("hop_rate_factor", factor, "", conditions={**where, "temperature_K": ROOM_K}))
    return results


def ends(value: float, half: float | None) -> tuple[float | None, float | None]:
    """Ends of an interval; none without a width."""
    return (None, None) if half is None else (value - half, value + half)


def labelled_saddle(points: Sequence[Atoms], path: Path, where: Mapping, entry: dict) -> list[Result]:
    """(C): DFT's energy of the calculator's saddle above its start."""
    energies = np.array([reference_energy(atoms) for atoms in points])
    chosen = path.reaction_coordinate[[0, path.saddle_index, -1]]
    entry["labelled"] = {"coordinate_A": chosen.tolist(), "energies_eV": (energies - energies[0]).tolist()}
    barrier = energies[1] - energies[0]
    return [
        Result("barrier_dft_on_own_saddle", barrier, "eV", conditions=where),
        Result("barrier_own_error", path.barrier - barrier, "eV", conditions=where),
    ]


def reference_energy(atoms: Atoms) -> float:
    """eV, from the label or the attached results."""
    if np.isfinite(atoms.info.get(keys.REF_ENERGY, np.nan)):
        return float(atoms.info[keys.REF_ENERGY])
    if atoms.calc is not None and "energy" in atoms.calc.results:
        return float(atoms.calc.results["energy"])
    raise InputError(
        f"{atoms.info.get('source', atoms.symbols)} carries no DFT energy (REF_energy): a barrier needs it on every image"
    )


def tagged(atoms: Atoms, hop: str, role: str) -> Atoms:
    """A copy without results, with its place in the path."""
    copy = atoms.copy()
    copy.info.update(config_type="barrier", hop=hop, role=role)
    return copy


def hand_over(structures: Sequence[Atoms], folder: str | FilePath | None) -> str:
    """Writes what DFT must label, and says so."""
    if folder is None:
        return "no labels for the saddles (number C): give label, or a folder to write the structures to"
    path = FilePath(folder) / TO_LABEL
    write(path, structures)
    return f"{len(structures)} structures (start, saddle and end of every hop) need DFT labels and are in {path}: number C is open"


def plot_barriers(data: Mapping) -> dict[str, Figure]:
    """parity, with DFT barriers of two hops or more; barrier_N of hop N: energies along the path, of all numbers that are there."""
    figures = {}
    both = {text: known for kind, text in KINDS.items() if len(known := pairs(data["hops"], kind)) > 1}
    if both:
        figures["parity"] = plot_parity(both)
    for number, (hop, curves) in enumerate(data["hops"].items()):
        if not curves:
            continue
        figure, axes = canvas("path (Å)", "energy above the start (eV)")
        for entry, energies, label, style in LINES:
            if entry in curves:
                axes.plot(curves[entry]["coordinate_A"], curves[entry][energies], label=label, **style)
        axes.set_title(hop, fontsize=9)
        axes.axhline(0, color="0.7", linewidth=0.6)
        axes.legend(frameon=False)
        figures[f"barrier_{number}"] = figure
    return figures
