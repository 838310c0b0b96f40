"""Candidates from molecular dynamics: frames at random, spontaneous hops, steered hops."""

import contextlib
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import ase.io
import numpy as np
from ase import Atoms
from ase.data import atomic_numbers

from mlip.errors import GuardStop, InputError
from mlip.evaluation.displacements import from_frames
from mlip.md.ensemble import Bussi
from mlip.md.guard import Guard
from mlip.md.run import run
from mlip.sampling.candidate import Candidate, bare
from mlip.sampling.context import KnownHop, Proposal, SamplingContext
from mlip.transitions.biased import pull
from mlip.transitions.hops import Hop, count_hops, frames_along
from mlip.transitions.quench import quench


@dataclass(frozen=True)
class Dynamics:
    """Settings of the runs, each in a folder from which it restarts.

    temperatures_K  several: hops occur at the higher, the environments that matter at the lower
    steps           of each run, timestep_fs long; a frame every frame_every: 20-50 fs resolve an ion between its sites
    skip_ps         of every run, for equilibration
    ensemble        ensemble(temperature_K) of mlip.md.ensemble
    progress_bar    one for each run
    A run stopped by the guard ends there; the frames before are kept.
    """

    temperatures_K: Sequence[float]
    steps: int = 10000
    timestep_fs: float = 2.0
    frame_every: int = 15
    skip_ps: float = 0.5
    ensemble: Callable = Bussi
    guard: Guard | None = None
    progress_bar: bool = False

    def __post_init__(self):
        if not self.temperatures_K or min(self.temperatures_K) <= 0:
            raise InputError(f"dynamics needs positive temperatures, got {list(self.temperatures_K)} K")

    @property
    def interval_fs(self) -> float:
        """Time between frames."""
        return self.frame_every * self.timestep_fs

    def run(self, context: SamplingContext) -> list[tuple[str, list[Atoms]]]:
        """(name, frames) of each run, in order of temperature; finished ones are read."""
        runs = []
        for number, atoms in enumerate(context.starts):
            for temperature in self.temperatures_K:
                name = f"{temperature:g}K_start{number}"
                folder = context.folder / "md" / name
                runs.append(
                    (name, self._frames(atoms, context.calculator, folder, temperature, context.seed + 1000 * number))
                )
        return runs

    def _frames(self, atoms: Atoms, calculator, folder: Path, temperature: float, seed: int) -> list[Atoms]:
        if not (folder / "summary.json").exists():
            with contextlib.suppress(GuardStop):  # the frames before it are kept
                # equipartition: start at 2 T, half becomes potential energy
                run(atoms, calculator, folder, self.ensemble(temperature), self.steps, self.timestep_fs, seed=seed,
                    initial_temperature_K=2 * temperature, guard=self.guard, frame_every=self.frame_every,
                    thermo_every=self.frame_every, state_every=10 * self.frame_every, progress=self.progress_bar)  # fmt: skip
        skipped = int(self.skip_ps * 1000 / self.interval_fs)
        path = folder / "trajectory.traj"
        return ase.io.read(path, f"{skipped}:") if path.stat().st_size else []


@dataclass(frozen=True)
class RandomMD:
    """`frames` frames of all runs together, at random; of kind md, or check to test the model.

    Seeded; runs of the same settings in the same round are not repeated.
    """

    dynamics: Dynamics
    frames: int = 500
    kind: str = "md"

    def propose(self, context: SamplingContext) -> Proposal:
        runs = self.dynamics.run(context)
        every = [(name, number, atoms) for name, frames in runs for number, atoms in enumerate(frames)]
        # another stream than that of the velocities, and for each kind its own
        rng = np.random.default_rng([context.seed, len(self.kind)])
        chosen = np.sort(rng.permutation(len(every))[: self.frames])
        candidates = [
            Candidate(atoms, self.kind, parent=f"{name}, frame {number}")
            for name, number, atoms in (every[n] for n in chosen)
        ]
        short = [name for name, frames in runs if len(frames) < 2]
        notes = [f"dynamics broke up at once in {', '.join(short)}: the model is too poor there"] if short else []
        return Proposal(candidates, notes=notes)


@dataclass(frozen=True)
class HopsFromMD:
    """Spontaneous hops: candidates of kind hop, and the relaxed ends for the catalogue.

    progress      positions along the hop at which frames are taken: -1 start, 0 midpoint, 1 end
    max_hops      of each run, spread over it; the ends of each are relaxed (fmax eV/Å, at most `steps`) to identify it
    residence_ps  shorter stays are not counted (see transitions.hops)
    """

    dynamics: Dynamics
    progress: Sequence[float] = (-0.6, -0.3, 0.0, 0.3, 0.6)
    max_hops: int = 20
    residence_ps: float = 0.4
    fmax: float = 0.03
    steps: int = 300

    def propose(self, context: SamplingContext) -> Proposal:
        out = Proposal()
        for name, frames in self.dynamics.run(context):
            try:
                trajectory = from_frames(frames, context.mobile, self.dynamics.interval_fs, context.framework)
                hops, _ = count_hops(trajectory.ions, trajectory.mean_cell, trajectory.interval_ps, self.residence_ps)
            except ValueError as error:  # too short: dynamics broke up
                out.notes.append(f"{name}: hops were not counted: {error}")
                continue
            ions = np.flatnonzero(frames[0].numbers == atomic_numbers[context.mobile])
            chosen = evenly_spaced_events(hops, self.max_hops)
            names = self.identify(chosen, frames, context, name)
            out.notes.append(f"{name}: {len(hops)} hops in {trajectory.duration_ps:.3g} ps")
            for hop, known in zip(chosen, names, strict=True):
                out.candidates += [
                    Candidate(frames[frame], "hop", known, int(ions[hop.ion]), f"{name}, frame {frame}")
                    for frame in (frames_along(hop, trajectory.ions, self.progress) if known else [])
                ]
        return out

    def identify(self, hops: list[Hop], frames: list[Atoms], context: SamplingContext, run_name: str) -> list[str]:
        """Name of each hop in the catalogue, which grows by new ones; "" if its ends coincide."""
        if not hops:
            return []
        ends = [bare(frames[number]) for hop in hops for number in (hop.start_frame, hop.end_frame)]
        relaxed = quench(ends, context.calculator, self.fmax, self.steps)
        names = []
        for start, end, hop in zip(relaxed[::2], relaxed[1::2], hops, strict=True):
            converged = start.info["converged"] and end.info["converged"]
            known = (
                context.hops.add(start, end, context.mobile, f"{run_name}, {hop.start_ps:.2f} ps")
                if converged
                else None
            )
            names.append(known.name if known else "")
        return names


def evenly_spaced_events(hops: list[Hop], max_hops: int) -> list[Hop]:
    """The first hop of each event, at most max_hops of them, evenly over the run."""
    firsts = list({hop.group: hop for hop in reversed(hops)}.values())[::-1]
    keep = sorted({round(k) for k in np.linspace(0, len(firsts) - 1, min(max_hops, len(firsts)))}) if firsts else []
    return [firsts[k] for k in keep]


@dataclass(frozen=True)
class SteeredMD:
    """Steered hops: candidates of kind hop, the ion of each known hop pulled along it.

    temperatures_K  one pull of every hop at each; steps of timestep_fs for the whole hop: 1 ps per Å makes candidates
    stiffness       eV/Å^2, of the restraint (see transitions.biased)
    progress        positions along the hop of the frames taken: -1 start, 0 midpoint, 1 end
    """

    temperatures_K: Sequence[float]
    steps: int = 1500
    timestep_fs: float = 2.0
    stiffness: float = 5.0
    frame_every: int = 10
    progress: Sequence[float] = (-0.6, -0.3, 0.0, 0.3, 0.6)
    max_hops: int = 12
    ensemble: Callable = Bussi

    def propose(self, context: SamplingContext) -> Proposal:
        out = Proposal()
        for hop in context.hops.shortest(self.max_hops):
            for number, temperature in enumerate(self.temperatures_K):
                seed = context.seed + 7919 * hop.number + number
                with warnings.catch_warnings(record=True) as caught:
                    warnings.simplefilter("always")
                    frames, work = pull(
                        hop.start, context.calculator, hop.ion, hop.vector, self.ensemble(temperature), self.steps, self.timestep_fs,
                        self.stiffness, framework_of(hop, context.framework), self.frame_every, seed,
                    )  # fmt: skip
                out.notes += [f"{hop.name} at {temperature:g} K: {entry.message}" for entry in caught]
                progress = np.array([frame.info["progress"] for frame in frames])
                nearest = (
                    sorted({int(np.abs(progress - target).argmin()) for target in self.progress}) if frames else []
                )
                out.candidates += [
                    Candidate(
                        frames[k],
                        "hop",
                        hop.name,
                        hop.ion,
                        f"{hop.name}, steered at {temperature:g} K, work {work:.2f} eV",
                    )
                    for k in nearest
                ]
        return out


def framework_of(hop: KnownHop, framework: Sequence[str] | None) -> np.ndarray:
    """Indices of the framework's atoms; else of other elements; else of all other atoms."""
    symbols = np.array(hop.start.get_chemical_symbols())
    chosen = np.isin(symbols, framework) if framework else symbols != symbols[hop.ion]
    return np.flatnonzero(chosen) if chosen.any() else np.setdiff1d(np.arange(len(symbols)), [hop.ion])
