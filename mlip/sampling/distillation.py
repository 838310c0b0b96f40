"""Training set of a student: structures that a slow calculator finds in its own dynamics, and labels."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from ase import Atoms

from mlip.errors import InputError
from mlip.labelling.execution import in_process
from mlip.sampling.candidate import Candidate, bare
from mlip.sampling.context import HopCatalogue, Sampler, SamplingContext
from mlip.sampling.labels import label_round
from mlip.sampling.propose import propose
from mlip.sampling.select import descriptors, elements_of, select
from mlip.sampling.store import SamplingStore
from mlip.transitions.perturbations import compressed

ROUND = 0  # there is one
MIN_DISTANCE = 0.02  # in descriptor space: labels of a teacher are cheap, only copies are left out


@dataclass(frozen=True)
class Distillation:
    """Structures that a teacher labels for its student.

    sampler    proposers, which are handed the teacher, and quotas of kinds; proposers of hops need mobile ions
    frames     labels
    volumes    of the cells of all dynamics, relative to each start
    mobile     symbol of the ions that hop; None leaves out hops
    framework  symbols of the frame of reference; None: all but the mobile one
    """

    sampler: Sampler
    frames: int
    volumes: Sequence[float]
    mobile: str | None = None
    framework: Sequence[str] | None = None
    seed: int = 0
    retries: int = 1

    def labelled(
        self, store: SamplingStore, engine, starts: Sequence[Atoms], execution: Callable = in_process
    ) -> list[Atoms]:
        """The labelled structures; each stage is a file of the store, labels are kept one by one.

        engine   a CalculatorEngine: its calculator drives, and labels
        """
        calculator = teacher_of(engine)

        def selected() -> list[Atoms]:
            scaled = [bare(atoms) for start in starts for atoms in compressed(start, self.volumes)]
            context = SamplingContext(calculator, calculator, scaled, self.mobile, self.framework, HopCatalogue(),
                                      store.round_folder(ROUND), 1000 * self.seed)  # fmt: skip
            return self.select(propose(store, ROUND, self.sampler.proposers, context).candidates)

        chosen = store.structures(ROUND, "selected", selected)
        return store.structures(ROUND, "labelled", lambda: label_round(
            chosen, [], engine, store.folder / "labels", 0, self.seed, execution, self.retries)[0])  # fmt: skip

    def select(self, candidates: list[Candidate]) -> list[Atoms]:
        """At most `frames` of the candidates, frames of one run in order and named by it."""
        if not candidates:
            raise InputError(
                "the teacher has no structure to label: its dynamics broke up at once; lower temperatures, a relaxed start"
            )
        elements = elements_of([c.atoms for c in candidates])
        features = descriptors([c.atoms for c in candidates], [c.ion for c in candidates], self.mobile, elements)
        chosen = select(candidates, features, features[:0], self.frames, self.sampler.quotas, self.sampler.choose, MIN_DISTANCE,
                        self.seed)  # fmt: skip
        out = []
        for number in sorted(chosen):
            atoms = candidates[number].to_atoms()
            # frames of one run are alike: a split takes the ends of runs, not every tenth frame
            atoms.info["trajectory"] = candidates[number].parent.split(",")[0] or candidates[number].kind
            out.append(atoms)
        return out


def teacher_of(engine):
    """The calculator of an engine. Raises InputError for an engine that has none."""
    if not hasattr(engine, "calculator"):
        raise InputError(
            f"a teacher drives dynamics, so it must be an ASE calculator: {type(engine).__name__} has none. Choose teacher=chgnet, "
            "sevennet, or calculator with teacher.calculator._target_=..."
        )
    return engine.calculator()
