"""Hops made by force: the ion of a known hop drawn along its way in hot surroundings, where it never goes by itself."""

import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from mlip.md.ensemble import Bussi
from mlip.sampling.candidate import Candidate
from mlip.sampling.scene import KnownHop, Proposal, Scene
from mlip.sampling.transition_states import shortest
from mlip.transitions.biased import pull


@dataclass(frozen=True)
class Pulled:
    """Candidates of kind hop: frames of a pull nearest to these parts of the way (-1 start, 0 half way, 1 end).

    temperatures_K  one pull of every hop at each; steps of timestep_fs for the whole way: 1 ps per Å makes candidates
    stiffness       eV/Å^2, of the spring that draws (see transitions.biased)
    """

    temperatures_K: Sequence[float]
    steps: int = 1500
    timestep_fs: float = 2.0
    stiffness: float = 5.0
    frame_every: int = 10
    progress: Sequence[float] = (-0.6, -0.3, 0.0, 0.3, 0.6)
    most_hops: int = 12
    ensemble: Callable = Bussi

    def propose(self, scene: Scene) -> Proposal:
        out = Proposal()
        for hop in shortest(scene.hops.hops, self.most_hops):
            for number, temperature in enumerate(self.temperatures_K):
                seed = scene.seed + 7919 * int(hop.name[1:]) + number
                with warnings.catch_warnings(record=True) as told:
                    warnings.simplefilter("always")
                    frames, work = pull(
                        hop.start, scene.calculator, hop.ion, hop.vector, self.ensemble(temperature), self.steps, self.timestep_fs,
                        self.stiffness, host_of(hop, scene.framework), self.frame_every, seed,
                    )  # fmt: skip
                out.notes += [f"{hop.name} at {temperature:g} K: {entry.message}" for entry in told]
                way = np.array([frame.info["progress"] for frame in frames])
                nearest = sorted({int(np.abs(way - wanted).argmin()) for wanted in self.progress}) if frames else []
                out.candidates += [
                    Candidate(frames[k], "hop", hop.name, hop.ion, f"{hop.name} pulled at {temperature:g} K, work {work:.2f} eV")
                    for k in nearest
                ]
        return out


def host_of(hop: KnownHop, framework: Sequence[str] | None) -> np.ndarray:
    """Numbers of the atoms that the ion is drawn against: the framework, else other elements, else all other atoms."""
    symbols = np.array(hop.start.get_chemical_symbols())
    host = np.isin(symbols, framework) if framework else symbols != symbols[hop.ion]
    return np.flatnonzero(host) if host.any() else np.setdiff1d(np.arange(len(symbols)), [hop.ion])
