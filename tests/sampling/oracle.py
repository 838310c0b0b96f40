"""A landscape that is known, an engine that counts what it labels, and a trainer whose models know what they have seen.

The model is the landscape with a barrier that is too low by ERROR where no labelled ion was near the saddle, with an
uncertainty of an ion in proportion to the distance of the nearest labelled one (both folded into one cell of the lattice).
"""

import json
import sys
from functools import partial
from pathlib import Path
from types import MappingProxyType

import numpy as np
from ase.calculators.calculator import all_changes

sys.path.insert(0, str(Path(__file__).parents[1] / "transitions"))
from cosine import BARRIER, SITE, Cosine, crystal

from mlip import keys
from mlip.data.structures import read, write
from mlip.files import whole_file
from mlip.labelling.calculator import CalculatorEngine
from mlip.sampling.context import Sampler
from mlip.sampling.convergence import Limits
from mlip.sampling.loop import LoopSettings, Models, SamplingLoop
from mlip.sampling.molecular_dynamics import Dynamics, RandomMD
from mlip.sampling.select import farthest
from mlip.sampling.store import SamplingStore
from mlip.sampling.transition_states import ListedHops, TransitionStates
from mlip.sampling.uncertainty import UncertaintyWindow

ERROR, UNCERTAINTY = 0.1, 0.2  # eV, eV/Å per Å
CELLS = (2, 2, 2)


class Labelling(Cosine):
    """The truth; one line in a file for every label."""

    def __init__(self, log=None, scale=1.0):
        super().__init__(crystal(CELLS))
        self.log, self.scale = log, scale

    def calculate(self, atoms=None, properties=("energy",), system_changes=all_changes):
        super().calculate(atoms, properties, system_changes)
        if self.log:
            with open(self.log, "a") as file:
                file.write(f"{np.round(self.atoms.positions, 6).tolist()}\n")
        self.results = {name: self.scale * value for name, value in self.results.items()}


class Model(Cosine):
    """What was learned from some labelled ions [n, 3] Å, in the cell of the lattice."""

    implemented_properties = ("energy", "forces", keys.FORCE_SIGMA, keys.ENERGY_SIGMA)

    def __init__(self, seen):
        self.seen = np.reshape(seen, (-1, 3))
        nearest = np.linalg.norm(self.seen - [SITE / 2, 0, 0], axis=1).min()
        super().__init__(crystal(CELLS), barrier=BARRIER - ERROR * min(1.0, nearest / 0.3))

    def calculate(self, atoms=None, properties=("energy",), system_changes=all_changes):
        super().calculate(atoms, properties, system_changes)
        sigma = np.zeros(len(self.atoms))
        (ion,) = ions_of(self.atoms)
        sigma[0] = UNCERTAINTY * np.linalg.norm(self.seen - ion, axis=1).min()
        self.results.update({keys.FORCE_SIGMA: sigma, keys.ENERGY_SIGMA: sigma[0]})


def ions_of(atoms):
    """[1, 3] Å, seen from the framework, each axis folded and the axes sorted: all hops of the cube are one."""
    host = atoms.positions[1:] - crystal(CELLS).positions[1:]
    host = host - 2 * SITE * np.round((host - host[0]) / (2 * SITE))
    x = atoms.positions[:1] - host.mean(axis=0)
    return np.sort(np.abs(x - SITE * np.round(x / SITE)), axis=1)[:, ::-1]


def train(training, validation, folder, previous):
    """The ions of the training set; does nothing where it is done."""
    path = Path(folder) / "seen.json"
    if not path.exists():
        seen = np.concatenate([ions_of(atoms) for atoms in read(training)]).tolist()
        with whole_file(path) as part:
            part.write_text(json.dumps({"seen": seen, "from": str(previous)}))


def load(folder):
    return Model(json.loads((Path(folder) / "seen.json").read_text())["seen"])


def lattice_file(folder):
    """An ion at every site."""
    path = Path(folder) / "lattice.xyz"
    whole = crystal(CELLS, ions=[(i, j, k) for i in range(2) for j in range(2) for k in range(2)])
    if not path.exists():
        write(path, [whole])
    return str(path)


def loop(folder, log=None, sampler=None, limits=None, engine=None, settings=(), numbers=MappingProxyType({}), **more):
    """A sampling of one ion in the landscape, small enough for a test."""
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    dynamics = Dynamics([700.0], steps=240, timestep_fs=5.0, frame_every=6, skip_ps=0.1)
    sampler = sampler or Sampler(
        {"listed": ListedHops(reference=lattice_file(folder), max_length_A=3.2, fmax=0.01),
         "saddles": TransitionStates(n_images=5, fmax=0.02, steps=60, rattles=2, strains=0),
         "check": RandomMD(dynamics, frames=6, kind="check")},
        {"saddle": 0.2, "end": 0.1, "path": 0.2, "offpath": 0.4, "check": 0.1}, window=UncertaintyWindow(0.05, 1.5, 20.0),
        choose=farthest,
    )  # fmt: skip
    engine = engine or CalculatorEngine(partial(Labelling, log))
    numbers = LoopSettings("Li", per_round=8, n_initial=4, min_descriptor_distance=0.02, **numbers)
    return SamplingLoop(numbers, sampler, engine, Models(train, load), SamplingStore(folder / "run", dict(settings)),
                        limits=limits or Limits(rounds=4, uncertain_fraction=1.0), **more)  # fmt: skip


def start():
    return crystal(CELLS)


def labels_in(log):
    """What was computed, and how many of it twice."""
    lines = Path(log).read_text().splitlines() if Path(log).exists() else []
    return len(lines), len(lines) - len(set(lines))
