"""Dynamics that asks for labels: it stops where the model is not sure enough, and goes on in the next round."""

from dataclasses import dataclass
from pathlib import Path

import ase.io
import numpy as np
from ase import Atoms

from mlip.errors import GuardStop, InputError
from mlip.md.guard import TO_LABEL, Guard, hand_over, keep_frames
from mlip.md.run import run
from mlip.sampling.candidate import Candidate
from mlip.sampling.context import Proposal, SamplingContext
from mlip.sampling.molecular_dynamics import Dynamics
from mlip.sampling.uncertainty import UncertaintyWindow


@dataclass(frozen=True)
class AskingMD:
    """Runs that stop where the force on a mobile ion is too uncertain, and go on in the next round from their last good frame.

    dynamics  its steps are those of all rounds together: a run from each start at each temperature, as long as labels are asked for
    max_force_sigma_eV_A  eV/Å, the lower end of the sampler's window too (window_above), so that a frame that stops a run is labelled

    Kinds: md, the last frame of each run, uncertain if it stopped the run, and certain if the run has done all its steps; check, one
    frame at random before such a stop, since a label that validates is not trained on, and would be asked for again.
    Raises GuardStop for a run that breaks up while the model is sure: no label would help it.
    """

    dynamics: Dynamics
    max_force_sigma_eV_A: float

    def __post_init__(self):
        if not self.max_force_sigma_eV_A > 0:
            raise InputError(
                f"max_force_sigma_eV_A, where dynamics asks for a label, must be positive, got {self.max_force_sigma_eV_A} eV/Å"
            )

    def propose(self, context: SamplingContext) -> Proposal:
        out, dynamics, stopped = Proposal(), self.dynamics, []
        for number, start in enumerate(context.starts):
            for temperature in dynamics.temperatures_K:
                name = f"{temperature:g}K_start{number}"
                folder, first, done = last_part(context.folder, name, start)
                if not (folder / "summary.json").exists():
                    self.go_on(first, done, folder, context, temperature, context.seed + 1000 * number)
                finished = (folder / "summary.json").exists()
                frame = ase.io.read(folder / ("trajectory.traj" if finished else TO_LABEL), -1)
                step = dynamics.steps if finished else done + int(frame.info["step"])
                out.candidates.append(Candidate(frame, "md", parent=f"{name}, step {step}"))
                out.notes.append(
                    f"{name}: {step} of {dynamics.steps} steps{'' if finished else ', then a label is asked for'}"
                )
                stopped += [] if finished else [(name, folder / "trajectory.traj")]
        rng = np.random.default_rng([context.seed, 1])  # another stream than that of the velocities
        frames = [(name, frame) for name, path in stopped if path.stat().st_size for frame in ase.io.read(path, ":")]
        if frames:
            name, frame = frames[rng.integers(len(frames))]
            out.candidates.append(Candidate(frame, "check", parent=f"{name}, before it stopped"))
        return out

    def go_on(
        self, first: Atoms, done: int, folder: Path, context: SamplingContext, temperature: float, seed: int
    ) -> None:
        """One part of a run: to its last step, or to a frame that is uncertain."""
        dynamics = self.dynamics
        guard = Guard(max_force_sigma_eV_A=self.max_force_sigma_eV_A, uncertain_of=[context.mobile])
        remaining = dynamics.steps - done
        try:
            run(first, context.uncertainty, folder, dynamics.ensemble(temperature), remaining, dynamics.timestep_fs, seed=seed,
                initial_temperature_K=2 * temperature, guard=guard, frame_every=min(dynamics.frame_every, max(remaining, 1)),
                thermo_every=dynamics.frame_every, state_every=10 * dynamics.frame_every, progress=dynamics.progress_bar)  # fmt: skip
        except GuardStop:
            if (folder / TO_LABEL).exists():
                return
            frame = first.copy()
            frame.calc = context.uncertainty
            frame.get_forces()
            if (folder / "guard.xyz").exists() or not guard.is_worth_a_label(frame, temperature):
                raise
            frame.info["step"] = 0  # the model of this round is not sure of the frame to go on from
            keep_frames(folder, frame.copy(), frame)
            hand_over(folder, frame)


def window_above(max_force_sigma_eV_A: float, upper_factor: float = 5.0) -> UncertaintyWindow:
    """Window that begins at the limit of the dynamics, eV/Å, whatever the errors of the model are.

    upper_factor  a frame that is beyond the limit by more at once is no structure worth a label
    """
    return UncertaintyWindow(max_force_sigma_eV_A, 0.0, upper_factor, min_candidates_per_label=0.0)


def last_part(folder: Path, name: str, start: Atoms) -> tuple[Path, Atoms, int]:
    """Folder of the part of a run that belongs to a round, its first frame, with velocities but for a start, and the steps before it.

    folder  rounds/NN; a run that was finished in an earlier round has its last part there
    """
    first, done = start, 0
    for number in range(1, int(folder.name)):
        part = folder.parent / f"{number:02d}" / "md" / name
        if (part / "summary.json").exists():
            return part, first, done
        first = ase.io.read(part / "guard.xyz")
        done += int(first.info["step"])
    return folder / "md" / name, first, done
