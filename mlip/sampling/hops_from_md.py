"""Hops that happen in dynamics: the ions on their way as candidates, their ends quenched as new or known hops."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from ase import Atoms
from ase.data import atomic_numbers

from mlip.evaluation.displacements import Trajectory, from_frames
from mlip.sampling.candidate import Candidate, bare
from mlip.sampling.dynamics import Dynamics
from mlip.sampling.scene import Proposal, Scene
from mlip.transitions.hops import Hop, frames_along, free_hops, site_hops
from mlip.transitions.quench import quench
from mlip.transitions.sites import density_sites


@dataclass(frozen=True)
class HopsFromMD:
    """Candidates of kind hop.

    progress      where on its way an ion is taken: -1 start, 0 half way, 1 end
    most_hops     of each run, spread over it; the ends of each are quenched (fmax eV/Å, at most `steps`) to know it again
    residence_ps  shorter stays are no sites (see transitions.hops)
    """

    dynamics: Dynamics
    progress: Sequence[float] = (-0.6, -0.3, 0.0, 0.3, 0.6)
    most_hops: int = 20
    residence_ps: float = 0.4
    fmax: float = 0.03
    steps: int = 300

    def propose(self, scene: Scene) -> Proposal:
        out = Proposal()
        for name, frames in self.dynamics.run(scene.starts, scene.calculator, scene.folder / "md", scene.seed):
            try:
                trajectory = from_frames(frames, scene.mobile, self.dynamics.interval_fs, scene.framework)
                hops = hops_of(trajectory, self.residence_ps)
            except ValueError as error:  # too short: dynamics broke up
                out.notes.append(f"{name}: no hops were looked for: {error}")
                continue
            ions = np.flatnonzero(frames[0].numbers == atomic_numbers[scene.mobile])
            chosen = spread(hops, self.most_hops)
            names = self.named(chosen, frames, scene, name)
            out.notes.append(f"{name}: {len(hops)} hops in {trajectory.duration_ps:.3g} ps")
            for hop, known in zip(chosen, names, strict=True):
                out.candidates += [
                    Candidate(frames[frame], "hop", known, int(ions[hop.ion]), f"{name}, frame {frame}")
                    for frame in (frames_along(hop, trajectory.ions, self.progress) if known else [])
                ]
        return out

    def named(self, hops: list[Hop], frames: list[Atoms], scene: Scene, name: str) -> list[str]:
        """Which known hop each is, "" where its ends fall into one minimum; new ones are added to the book."""
        if not hops:
            return []
        ends = [bare(frames[number]) for hop in hops for number in (hop.start_frame, hop.end_frame)]
        rested = quench(ends, scene.calculator, self.fmax, self.steps)
        found = []
        for start, end, hop in zip(rested[::2], rested[1::2], hops, strict=True):
            settled = start.info["converged"] and end.info["converged"]
            known = scene.hops.add(start, end, scene.mobile, f"{name}, {hop.start_ps:.2f} ps") if settled else None
            found.append(known.name if known else "")
        return found


def hops_of(trajectory: Trajectory, residence_ps: float) -> list[Hop]:
    """Between the peaks of the ions' own density; without sites where there are none."""
    try:
        sites = density_sites(trajectory.ions, trajectory.mean_cell, trajectory.interval_ps)
    except ValueError:
        return free_hops(trajectory.ions, trajectory.mean_cell, trajectory.interval_ps, residence_ps=residence_ps)
    return site_hops(trajectory.ions, trajectory.interval_ps, sites, residence_ps)


def spread(hops: list[Hop], most: int) -> list[Hop]:
    """At most so many, one of each event first, evenly over the run."""
    firsts = list({hop.group: hop for hop in reversed(hops)}.values())[::-1]
    keep = sorted({round(k) for k in np.linspace(0, len(firsts) - 1, min(most, len(firsts)))}) if firsts else []
    return [firsts[k] for k in keep]
