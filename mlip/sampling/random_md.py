"""Frames of dynamics at equal times: the candidates of plain sampling, and the unbiased check of every other kind."""

from dataclasses import dataclass

import numpy as np

from mlip.sampling.candidate import Candidate
from mlip.sampling.dynamics import Dynamics
from mlip.sampling.scene import Proposal, Scene


@dataclass(frozen=True)
class RandomMD:
    """`frames` frames of all runs together, as kind md, or check: drawn without looking, to test the model on.

    Left to chance which frames are taken, seeded; runs of the same settings in the same round are not repeated.
    """

    dynamics: Dynamics
    frames: int = 200
    kind: str = "md"

    def propose(self, scene: Scene) -> Proposal:
        runs = self.dynamics.run(scene.starts, scene.calculator, scene.folder / "md", scene.seed)
        every = [(name, number, atoms) for name, frames in runs for number, atoms in enumerate(frames)]
        # another stream than that of the velocities, and for each kind its own
        rng = np.random.default_rng([scene.seed, len(self.kind)])
        chosen = np.sort(rng.permutation(len(every))[: self.frames])
        found = [Candidate(atoms, self.kind, parent=f"{name}, frame {number}") for name, number, atoms in (every[n] for n in chosen)]
        short = [name for name, frames in runs if len(frames) < 2]
        notes = [f"dynamics broke up at once in {', '.join(short)}: the model is too poor there"] if short else []
        return Proposal(found, notes=notes)
