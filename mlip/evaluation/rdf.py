"""Radial distribution functions of a trajectory, and their overlap with a reference."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from itertools import combinations_with_replacement

import numpy as np
from ase import Atoms
from ase.data import chemical_symbols
from matplotlib.figure import Figure

from mlip.data.graph import neighbour_vectors
from mlip.data.structures import iread
from mlip.errors import InputError
from mlip.evaluation.plots import BLUE, ORANGE
from mlip.evaluation.result import Result
from mlip.evaluation.section import Section
from mlip.evaluation.static.relaxation import unconstrained

BLOCKS = 5  # pieces of a trajectory from whose scatter the interval comes


@dataclass(frozen=True)
class RadialDistribution:
    """g(r) of every pair of elements, and its overlap with that of a reference trajectory.

    calculator             is not called: the trajectory is what it made
    trajectory, reference  Atoms frames, or files that mlip.data.structures reads; the equilibrated part only
    cutoff, width          Å, of the histogram
    The interval of an overlap is two standard errors from leaving out blocks of frames (jackknife). A short reference
    does not overlap fully with itself either: `rdf_ceiling` is the overlap of its own two halves.
    """

    trajectory: object
    reference: object = None
    cutoff: float = 6.0
    width: float = 0.05
    conditions: Mapping[str, float | str] | None = None

    def evaluate(self, calculator) -> Section:
        """Average g(r) over the trajectory; the calculator is not called."""
        if not 0 < self.width <= self.cutoff / 4:
            raise InputError(f"the histogram needs a positive width of at most a quarter of the cutoff, got {self.width} and "
                             f"{self.cutoff} Å")  # fmt: skip
        ours = blocks(frames(self.trajectory), self.cutoff, self.width)
        theirs = ours if self.reference is None else blocks(frames(self.reference), self.cutoff, self.width)
        if ours.keys() != theirs.keys():
            raise InputError(f"the trajectory has the pairs {', '.join(ours)}, the reference {', '.join(theirs)}: not the "
                             "same crystal")  # fmt: skip
        # pairs that never meet agree in nothing
        ours = {pair: g for pair, g in ours.items() if g.any() or theirs[pair].any()}
        where, centres = dict(self.conditions or {}), self.width * (np.arange(round(self.cutoff / self.width)) + 0.5)
        data = {"r_A": centres.tolist(), "pairs": {pair: {"g": g.mean(0).tolist()} for pair, g in ours.items()}}
        results = peaks(centres, ours, where)
        if self.reference is None:
            return Section("rdf", results, data)
        for pair, g in ours.items():
            g0 = theirs[pair]
            data["pairs"][pair]["g_reference"] = g0.mean(0).tolist()
            value, error = jackknife(g, g0)
            low, high = (None, None) if error is None else (max(0.0, value - 2 * error), min(1.0, value + 2 * error))
            results.append(Result("rdf_overlap", value, "", low, high, conditions={**where, "pair": pair}))
            if len(g0) > 1:
                half = len(g0) // 2
                results.append(Result("rdf_ceiling", overlap(g0[:half].mean(0), g0[half:].mean(0)), "",
                                      conditions={**where, "pair": pair}))  # fmt: skip
        return Section("rdf", results, data)

    @staticmethod
    def figures(data: Mapping) -> dict[str, Figure]:
        """Plot g(r) of every pair."""
        return plot_rdf(data)


def frames(trajectory) -> Iterable[Atoms]:
    """The frames themselves, or those of the files."""
    if isinstance(trajectory, Atoms):
        raise InputError("a trajectory is a list of frames or of files, got one structure; write [atoms]")
    trajectory = list(trajectory) if not isinstance(trajectory, str | Mapping) else trajectory
    return trajectory if trajectory and isinstance(trajectory[0], Atoms) else list(iread(trajectory))


def blocks(trajectory: Iterable[Atoms], cutoff: float, width: float) -> dict[str, np.ndarray]:
    """g(r) of every pair "A-B" in each of up to BLOCKS equal pieces of the trajectory, {pair: [n_blocks, n_bins]}."""
    each = [partial_rdfs(atoms, cutoff, width) for atoms in trajectory]
    for count, rdfs in enumerate(each):
        if rdfs.keys() != each[0].keys():
            raise InputError(
                f"frame {count} has other elements than frame 0: {', '.join(rdfs)} beside {', '.join(each[0])}"
            )
    pieces = np.array_split(np.arange(len(each)), min(BLOCKS, len(each)))
    return {pair: np.array([np.mean([each[i][pair] for i in piece], axis=0) for piece in pieces]) for pair in each[0]}


def partial_rdfs(atoms: Atoms, cutoff: float, width: float) -> dict[str, np.ndarray]:
    """g_AB(r) = V <pairs in the shell> / (N_A N_B shell volume) of one frame; images beyond half the cell are counted.

    For A = B the pairs are N (N - 1), so that g of an ideal gas is 1 in a small cell too.
    """
    atoms = unconstrained(atoms)
    i, j, vectors = neighbour_vectors(atoms, cutoff)
    places = (np.linalg.norm(vectors, axis=1) / width).astype(int)
    n_bins = round(cutoff / width)
    shells = 4 / 3 * np.pi * np.diff((width * np.arange(n_bins + 1)) ** 3)
    numbers, rdfs = atoms.numbers, {}
    for a, b in combinations_with_replacement(np.unique(numbers).tolist(), 2):
        chosen = (numbers[i] == a) & (numbers[j] == b) & (i != j)
        counts = np.bincount(places[chosen], minlength=n_bins)[:n_bins]
        n_pairs = int((numbers == a).sum()) * int((numbers == b).sum() - (a == b))
        density = n_pairs / atoms.get_volume()
        rdfs[f"{chemical_symbols[a]}-{chemical_symbols[b]}"] = (
            counts / (shells * density) if n_pairs else np.zeros(n_bins)
        )
    return rdfs


def overlap(g: np.ndarray, g0: np.ndarray) -> float:
    """1 - integral |g - g0| / integral (g + g0): 1 for equal curves, 0 for curves that never meet."""
    total = float((g + g0).sum())
    return 1.0 - float(np.abs(g - g0).sum()) / total if total > 0 else 1.0


def jackknife(g: np.ndarray, g0: np.ndarray) -> tuple[float, float | None]:
    """Overlap of the means of blocks [n, n_bins] and [m, n_bins], and its standard error; None for single blocks."""
    square = 0.0
    for one, other in ((g, g0), (g0, g)):
        n = len(one)
        if n == 1:
            return overlap(g.mean(0), g0.mean(0)), None
        left_out = np.array([overlap(np.delete(one, i, axis=0).mean(0), other.mean(0)) for i in range(n)])
        square += (n - 1) * float(left_out.var())
    return overlap(g.mean(0), g0.mean(0)), square**0.5


def peaks(centres: np.ndarray, rdfs: Mapping[str, np.ndarray], where: Mapping) -> list[Result]:
    """Distance of the largest maximum of each pair, Å."""
    return [Result("rdf_peak", centres[g.mean(0).argmax()], "Å", conditions={**where, "pair": pair})
            for pair, g in rdfs.items() if g.any()]  # fmt: skip


def plot_rdf(data: Mapping) -> dict[str, Figure]:
    """rdf: one panel per pair, with the reference where there is one."""
    r, pairs = data["r_A"], data["pairs"]
    columns = min(3, len(pairs))
    rows = -(-len(pairs) // columns)
    figure = Figure(figsize=(2.6 * columns + 0.6, 2.0 * rows + 0.4), layout="constrained")
    grid = figure.subplots(rows, columns, squeeze=False).ravel()
    for axes, (pair, curves) in zip(grid, pairs.items(), strict=False):
        axes.plot(r, curves["g"], color=BLUE, label="this calculator")
        if "g_reference" in curves:
            axes.plot(r, curves["g_reference"], "--", color=ORANGE, label="reference")
        axes.set(title=pair, xlabel="r (Å)", ylabel="g(r)", ylim=(0, None))
    grid[0].legend(frameon=False, fontsize=7)
    for axes in grid[len(pairs) :]:
        axes.set_visible(False)
    return {"rdf": figure}
