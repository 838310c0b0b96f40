"""Candidates from minimum-energy paths: saddles of hops and their perturbations.

There a potential decides conductivity, and dynamics rarely goes.
"""

import warnings
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
from ase import Atoms
from ase.data import atomic_numbers

from mlip.data.structures import read
from mlip.sampling.candidate import Candidate, bare
from mlip.sampling.context import KnownHop, PathRecord, Proposal, SamplingContext
from mlip.transitions.barrier_interval import difference_sigma, half_width
from mlip.transitions.dimer import dimer
from mlip.transitions.endpoints import Endpoints, empty_site_hops
from mlip.transitions.in_step import in_step
from mlip.transitions.neb import Path, neb
from mlip.transitions.paths import displacements, in_order_of
from mlip.transitions.perturbations import along_modes, rattled, strained, without_overlaps
from mlip.transitions.quench import quench_ends
from mlip.transitions.saddle import Saddle, around, check_saddle

SAME_END = 0.5  # Å, of any atom between the ends of two rounds


@dataclass(frozen=True)
class ListedHops:
    """Hops from files or into the empty sites of a lattice, for slow conductors.

    Adds them to the catalogue, proposes no candidates itself.
    hops       [{start: file, end: file}]
    reference  file of a structure with a mobile ion at every site, in the cell of the starts: hops of the starts' ions
               into sites that are empty there, up to max_length_A (Å), n_hops of each start, shortest first
    fmax, steps  of the relaxation of both ends; hops whose ends relax to one minimum are left out
    """

    hops: Sequence[Mapping[str, str]] = ()
    reference: str | None = None
    max_length_A: float = 4.5
    n_hops: int = 6
    fmax: float = 0.03
    steps: int = 300

    def propose(self, context: SamplingContext) -> Proposal:
        listed = [(read(hop["start"])[0], read(hop["end"])[0]) for hop in self.hops]
        pairs = [(start, in_order_of(start, end), "listed") for start, end in listed]
        if self.reference is not None:
            lattice = read(self.reference)[0]
            for number, atoms in enumerate(context.starts):
                pairs += [
                    (hop.start, hop.end, f"start{number}, {hop.name}")
                    for hop in self.into_empty_sites(atoms, lattice, context.mobile)
                ]
        out = Proposal()
        for start, end, origin in pairs:
            try:
                ends = quench_ends(bare(start), bare(end), context.calculator, self.fmax, self.steps)
                context.hops.add(*ends, context.mobile, origin)
            except ValueError as error:
                out.notes.append(f"{origin}: no hop: {error}")
        return out

    def into_empty_sites(self, atoms: Atoms, lattice: Atoms, mobile: str) -> list[Endpoints]:
        """Distinct hops of one start into the sites of the lattice that it leaves empty."""
        repeats = np.rint(atoms.cell.lengths() / lattice.cell.lengths()).astype(int)
        supercell = lattice.repeat(tuple(np.maximum(repeats, 1)))
        supercell.set_cell(atoms.cell, scale_atoms=True)
        sites = supercell.positions[supercell.numbers == atomic_numbers[mobile]]
        return empty_site_hops(bare(atoms), mobile, sites, self.max_length_A)[: self.n_hops]


@dataclass(frozen=True)
class TransitionStates:
    """Saddles of the known hops and their surroundings.

    Kinds: the climbing image (saddle), its neighbours (path), the start (end), perturbations (offpath).

    n_images, fmax, steps  of the band (transitions.neb)
    neighbours    images on each side of the saddle
    temperature_K thermal amplitude of displacements along the three lowest modes of the saddle
    rattles, strains  further perturbations of the saddle: 0.1 Å of the ions around the hopping one, 1.5 % of the cell
    max_hops      in a round, shortest first
    max_barrier_eV   eV; a path that rises higher is an error of the model, and nothing of it is labelled
    """

    n_images: int = 7
    fmax: float = 0.05
    steps: int = 200
    neighbours: int = 1
    temperature_K: float = 600.0
    rattles: int = 6
    strains: int = 2
    max_hops: int = 12
    max_barrier_eV: float = 2.0

    def propose(self, context: SamplingContext) -> Proposal:
        out = Proposal(paths=[])
        for hop, relaxed in relaxed_hops(context, out, self):
            out.candidates += self.candidates_of(hop, relaxed, np.random.default_rng([context.seed, hop.number]))
        return out

    def candidates_of(self, hop: KnownHop, relaxed: "RelaxedHop", rng: np.random.Generator) -> list[Candidate]:
        """The candidates of one saddle; perturbed ones only without overlapping atoms."""
        path, top, method = relaxed.path, relaxed.path.saddle_index, f"{hop.name}, NEB"
        out = [Candidate(path.images[0], "end", hop.name, hop.ion, method)]
        if not relaxed.has_saddle:
            return out
        out.append(
            Candidate(relaxed.saddle, "saddle", hop.name, hop.ion, f"{hop.name}, dimer" if relaxed.by_dimer else method)
        )
        beside = [
            k
            for k in range(top - self.neighbours, top + self.neighbours + 1)
            if k != top and 0 < k < len(path.images) - 1
        ]
        out += [Candidate(path.images[k], "path", hop.name, hop.ion, f"{method}, image {k}") for k in beside]
        saddle = bare(relaxed.saddle)
        perturbed = along_modes(saddle, relaxed.check.modes, self.temperature_K)
        perturbed += rattled(saddle, self.rattles, rng, 0.1, around(saddle, hop.ion)) + strained(
            saddle, self.strains, rng, 0.015
        )
        return out + [Candidate(atoms, "offpath", hop.name, hop.ion, f"{hop.name}, {atoms.info['perturbation']}")
                      for atoms in without_overlaps(perturbed)]  # fmt: skip


@dataclass(frozen=True)
class WholePaths:
    """All images of the bands of known hops, as kind path, saddle and end: a baseline."""

    n_images: int = 7
    fmax: float = 0.05
    steps: int = 200
    max_hops: int = 12
    max_barrier_eV: float = 2.0

    def propose(self, context: SamplingContext) -> Proposal:
        out = Proposal(paths=[])
        for hop, relaxed in relaxed_hops(context, out, self):
            last = len(relaxed.path.images) - 1
            for k, image in enumerate(relaxed.path.images):
                kind = "end" if k == 0 else "saddle" if k == relaxed.path.saddle_index and k < last else "path"
                out.candidates.append(Candidate(image, kind, hop.name, hop.ion, f"{hop.name}, NEB, image {k}"))
        return out


@dataclass(frozen=True)
class RelaxedHop:
    """Band of one hop; its saddle, from the band or a dimer; the check of the saddle."""

    path: Path
    saddle: Atoms
    check: Saddle
    by_dimer: bool

    @property
    def barrier(self) -> float:
        """eV, from the start"""
        return float(self.saddle.get_potential_energy() - self.path.energies[0])

    @property
    def has_saddle(self) -> bool:
        """False if the path only climbs: no saddle between these ends."""
        return 0 < self.path.saddle_index < len(self.path.images) - 1


def relaxed_hops(
    context: SamplingContext, out: Proposal, settings: TransitionStates | WholePaths
) -> Iterator[tuple[KnownHop, RelaxedHop]]:
    """The shortest hops, relaxed all at once; path records and reasons for omissions are added to `out`."""
    hops = context.hops.shortest(settings.max_hops)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # ends not relaxed, dips: they are in the record of the path
        found = in_step(partial(relax_hop, n_images=settings.n_images, fmax=settings.fmax, steps=settings.steps), hops,
                        context.calculator)  # fmt: skip
    for hop, relaxed in zip(hops, found, strict=True):
        if isinstance(relaxed, ValueError):
            out.notes.append(f"{hop.name}: no path: {relaxed}")
            continue
        out.paths.append(path_record(hop, relaxed, context.uncertainty, settings.max_barrier_eV))
        if relaxed.barrier > settings.max_barrier_eV:
            out.notes.append(f"{hop.name}: its path climbs {relaxed.barrier:.1f} eV, more than {settings.max_barrier_eV:g}: the model "
                             "is wrong there, or this is no hop; nothing of it is labelled")  # fmt: skip
            continue
        if relaxed.path.converged:
            context.hops.set_band(hop.number, relaxed.path.images)
        yield hop, relaxed


def relax_hop(hop: KnownHop, calculator, n_images: int, fmax: float, steps: int) -> RelaxedHop:
    """Relaxes both ends and the path of a hop.

    Climbing-image NEB, and a dimer from its top if the band has not converged. The band restarts from that of the round
    before if that has the same ends: a change of the barrier between rounds is then that of one path.
    Raises ValueError if the ends relax to one minimum, or the model refuses a structure on the path.
    """
    start, end = quench_ends(hop.start, hop.end, calculator, fmax=fmax / 2, steps=steps)
    former = former_band(hop, start, end, n_images)
    path = neb(start, end, calculator, n_images=n_images, fmax=fmax, steps=steps, images=former)
    saddle, tangent, by_dimer = path.saddle, path.tangent, False
    if not path.converged and 0 < path.saddle_index < len(path.images) - 1:
        climb = dimer(path.saddle, calculator, tangent, fmax=fmax, steps=steps)
        if climb.converged:
            saddle, tangent, by_dimer = climb.atoms, climb.mode, True
    return RelaxedHop(path, saddle, check_saddle(bare(saddle), calculator, tangent), by_dimer)


def former_band(hop: KnownHop, start: Atoms, end: Atoms, n_images: int) -> Sequence[Atoms] | None:
    """The hop's band; None if it has other ends or another number of images."""
    if len(hop.band) != n_images:
        return None
    moved = [np.linalg.norm(displacements(*pair), axis=1).max() for pair in ((hop.band[0], start), (hop.band[-1], end))]
    return hop.band if max(moved) < SAME_END else None


def path_record(hop: KnownHop, relaxed: RelaxedHop, uncertainty, max_barrier_eV: float) -> PathRecord:
    """Record of a relaxed hop; uncertainty: a calculator with energy_sigma."""
    path = relaxed.path
    return PathRecord(
        hop=hop.name, barrier=relaxed.barrier if relaxed.has_saddle and relaxed.barrier <= max_barrier_eV else None,
        reverse_barrier=float(relaxed.barrier + path.energies[0] - path.energies[-1]),
        sigma=difference_sigma(path.images[0], relaxed.saddle, uncertainty),
        half_width=half_width(path.images[0], relaxed.saddle, uncertainty), converged=bool(path.converged or relaxed.by_dimer),
        n_negative=relaxed.check.n_negative, steps=path.steps, length_A=float(np.linalg.norm(hop.vector)),
        coordinate_A=path.reaction_coordinate.tolist(), energies_eV=(path.energies - path.energies[0]).tolist(),
    )  # fmt: skip
