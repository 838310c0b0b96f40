"""Active-learning loop: propose, score, select, label, train, until converged."""

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path

from ase import Atoms
from rich.console import Console

from mlip.data.structures import write
from mlip.errors import InputError
from mlip.labelling.execution import in_process
from mlip.sampling.candidate import Candidate, bare, count_by_kind
from mlip.sampling.context import HopCatalogue, Proposal, Sampler, SamplingContext
from mlip.sampling.convergence import Limits, criteria, decide
from mlip.sampling.errors import (
    hold_out_errors,
    is_distorted,
    labelled_barriers,
    saddle_errors,
    unlabelled_pairs,
    validation_errors,
)
from mlip.sampling.history import write_history
from mlip.sampling.initial_structures import initial_structures
from mlip.sampling.labels import label_round, validation_indices
from mlip.sampling.propose import propose
from mlip.sampling.select import descriptors, elements_of, select
from mlip.sampling.store import RoundRecord, SamplingStore
from mlip.sampling.uncertainty import UncertaintyCounts, count_uncertain, in_window, score


@dataclass(frozen=True)
class LoopSettings:
    """Numbers of the loop.

    mobile      symbol of the ions that hop;  framework  symbols of the frame of reference; None: all but the mobile one
    per_round   labels of a round;  n_initial  labels before the first model, without initial labelled structures
    validation  share of the labels that validates and is not trained on
    warm_start  each model starts from the checkpoint, or without one from the model before; False from random weights
    min_descriptor_distance  structures nearer than this in descriptor space are not labelled twice (see select)
    n_relabelled  old structures that are labelled again in every round
    retries     of a label, after a crash
    """

    mobile: str
    framework: Sequence[str] | None = None
    per_round: int = 20
    n_initial: int = 20
    validation: float = 0.1
    warm_start: bool = True
    min_descriptor_distance: float = 0.2
    n_relabelled: int = 2
    seed: int = 0
    retries: int = 1


@dataclass(frozen=True)
class Models:
    """Training and loading of the models.

    train  train(training file, validation file, folder, previous folder or None): a model of these labels; called again
           it restarts, or does nothing if it is finished
    load   load(folder) -> calculator, for dynamics and paths
    load_with_uncertainty  the same with energy_sigma and force_sigma, for scores; None: load's calculator has them
    adopt  adopt(checkpoint, folder): puts the model of a checkpoint into a folder, from which both load it; called again it
           does nothing
    """

    train: Callable[[Path, Path, Path, Path | None], None]
    load: Callable[[Path], object]
    load_with_uncertainty: Callable[[Path], object] | None = None
    adopt: Callable[[Path, Path], None] | None = None


@dataclass(frozen=True)
class SamplingResult:
    """Last record, reason of the end, whether it has converged, folder of the last model."""

    record: RoundRecord
    reason: str
    converged: bool
    model: Path


@dataclass
class SamplingLoop:
    """One sampling, new or continued.

    initial   labelled structures to begin with;  hold_out  labelled ones for the history, never trained on
    checkpoint  run that all models start from, such as the student of a teacher; without initial structures it is the first
    """

    settings: LoopSettings
    sampler: Sampler
    engine: object
    models: Models
    store: SamplingStore
    limits: Limits = field(default_factory=Limits)
    initial: Sequence[Atoms] = ()
    hold_out: Sequence[Atoms] = ()
    checkpoint: Path | None = None
    execution: Callable = in_process
    console: Console = field(default_factory=Console)

    def run(self, starts: Sequence[Atoms]) -> SamplingResult:
        """Rounds until a limit is reached; everything but the result is in the folder of the store."""
        starts = [bare(atoms) for atoms in starts]
        if not starts:
            raise InputError("sampling needs a structure to start from, got none")
        with self.store.lock():
            records = [self.begin(starts)]
            while True:
                write_history(self.store.folder, records, self.limits)
                reason, converged = decide(records, self.limits)
                if reason is not None:
                    break
                records.append(self.round(len(records), starts))
                self.print_round(records)
        with self.store.disk_full_message():
            write(self.store.folder / "labelled.xyz", self.labelled(len(records) - 1))
        self.console.print(f"sampling ended: {reason}", highlight=False)
        return SamplingResult(records[-1], reason, converged, self.model(records[-1].model_round))

    # ---------------------------------------------------------------- rounds

    def begin(self, starts: list[Atoms]) -> RoundRecord:
        """Round 0: labels without a model, and the first model; or the checkpoint, without a label."""

        def label() -> list[Atoms]:
            if self.initial or self.checkpoint is not None:
                return list(self.initial)
            n = min(self.settings.n_initial, self.limits.labels or self.settings.n_initial)
            made = [candidate.to_atoms() for candidate in initial_structures(starts, n, self.settings.seed)]
            return self.label(0, made, [])

        labelled = self.store.structures(0, "labelled", label)
        if self.checkpoint is None and not labelled:
            raise InputError(
                "no initial structure has a label, so there is no first model; look into labels/failures.jsonl"
            )
        if labelled:
            self.fit(0)
        else:
            self.models.adopt(self.checkpoint, self.model(0))
        return self.store.record(0, lambda: self.record(0, labelled, []))

    def round(self, number: int, starts: list[Atoms]) -> RoundRecord:
        """One round of the loop; it ends early if no structure is left to label."""
        store, models = self.store, self.models
        if store.has(number, "record"):
            return RoundRecord.from_json(store.read_content(number, "record"))
        calculator = models.load(self.model(number - 1))
        uncertainty = (
            models.load_with_uncertainty(self.model(number - 1)) if models.load_with_uncertainty else calculator
        )
        proposal = self.propose(number, starts, calculator, uncertainty)
        candidates, counts = self.score(number, proposal.candidates, uncertainty)
        eligible = self.eligible(candidates, counts)
        known = self.labelled(number - 1)
        chosen = store.structures(number, "selected", lambda: self.select(number, eligible, known))
        about = {
            "paths": proposal.paths,
            "notes": tuple(proposal.notes),
            "proposed": count_by_kind(candidates),
            "uncertainty": counts,
        }
        if not chosen:
            ended = f"nothing to label: {self.why_nothing(candidates, eligible, counts)}"
            return store.record(number, lambda: self.record(number, [], known, ended=ended, **about))
        labelled = store.structures(number, "labelled", lambda: self.label(number, chosen, known))
        before = store.content(
            number, "check", lambda: saddle_errors(calculator, [*known, *labelled], self.starts_by_hop(number))
        )
        self.fit(number)
        return store.record(number, lambda: self.record(number, labelled, known, before, **about))

    # ---------------------------------------------------------------- stages

    def propose(self, number: int, starts: list[Atoms], calculator, uncertainty) -> Proposal:
        """Candidates, paths and remarks of all proposers; each proposer is a stage."""
        settings = self.settings
        context = SamplingContext(calculator, uncertainty, starts, settings.mobile, settings.framework, self.catalogue(number - 1),
                                  self.store.round_folder(number), 1000 * settings.seed + number)  # fmt: skip
        return propose(self.store, number, self.sampler.proposers, context)

    def score(
        self, number: int, candidates: list[Candidate], calculator
    ) -> tuple[list[Candidate], UncertaintyCounts | None]:
        """Candidates with their uncertainty, and its counts; unchanged if the sampler has no window."""
        if self.sampler.window is None or not candidates:
            return candidates, None
        made = self.store.structures(
            number,
            "scored",
            lambda: [candidate.to_atoms() for candidate in score(candidates, calculator, self.settings.mobile)],
        )
        scored = [Candidate.from_atoms(atoms) for atoms in made]
        before = RoundRecord.from_json(self.store.read_content(number - 1, "record"))
        low, high = self.sampler.window.bounds(before.validation.median_force_vector_rmse)
        counts = count_uncertain(scored, low, high, len(candidates) - len(scored))
        validated = self.subset(before.model_round, True)
        if validated and all(map(is_distorted, validated)):
            # no error in dynamics is known that its frames could be held against
            counts = replace(counts, uncertain_fraction=None)
        return scored, counts

    def eligible(self, candidates: list[Candidate], counts: UncertaintyCounts | None) -> list[Candidate]:
        """Candidates in the uncertainty window, lowered if it holds too few."""
        if counts is None:
            return candidates
        low = self.sampler.window.eligible_from(candidates, counts.low, counts.high, self.settings.per_round)
        return in_window(candidates, low, counts.high)

    def why_nothing(
        self, candidates: list[Candidate], eligible: list[Candidate], counts: UncertaintyCounts | None
    ) -> str:
        """Reason why no structure was selected."""
        if not candidates:
            return "no proposer has a candidate that the model accepts; see the remarks of the round"
        if counts is not None:
            above = sum(counts.above.values())
            if above > len(candidates) / 2:
                return (f"{above} of {len(candidates)} candidates are above {counts.high:.3g} eV/Å, too uncertain to be sound "
                        "structures: a larger n_initial=..., lower temperatures, or a larger window.upper_factor")  # fmt: skip
            if not eligible:
                return f"all {len(candidates)} candidates are below {counts.low:.3g} eV/Å ({above} above {counts.high:.3g})"
        return (f"all {len(eligible)} candidates resemble labelled structures (nearer than "
                f"min_descriptor_distance={self.settings.min_descriptor_distance})")  # fmt: skip

    def select(self, number: int, eligible: list[Candidate], known: list[Atoms]) -> list[Atoms]:
        """The structures to be labelled in this round."""
        if not eligible:
            return []
        settings, wanted = self.settings, self.settings.per_round
        if self.limits.labels is not None:
            wanted = min(wanted, self.limits.labels - len(known))
        compared = [*known, *self.hold_out]
        elements = elements_of([c.atoms for c in eligible], compared)
        new = descriptors([c.atoms for c in eligible], [c.ion for c in eligible], settings.mobile, elements)
        old = descriptors(compared, [int(atoms.info.get("ion", -1)) for atoms in compared], settings.mobile, elements)
        pairs = unlabelled_pairs(eligible, known, min(wanted, max(2, wanted // 6)))
        chosen = select(eligible, new, old, wanted, self.sampler.quotas, self.sampler.choose, settings.min_descriptor_distance,
                        1000 * settings.seed + number, pairs)  # fmt: skip
        return [eligible[k].to_atoms() for k in chosen]

    def label(self, number: int, chosen: list[Atoms], known: list[Atoms]) -> list[Atoms]:
        """Labelled copies of the chosen structures; the summary is a stage of its own."""
        settings = self.settings
        labelled, summary = label_round(chosen, known, self.engine, self.store.folder / "labels", settings.n_relabelled,
                                        settings.seed + number, self.execution, settings.retries)  # fmt: skip
        self.store.content(number, "labels", lambda: asdict(summary))
        return labelled

    def fit(self, number: int) -> None:
        """Trains on all labels until this round; writes rounds/NN/train.xyz and validation.xyz."""
        folder = self.store.round_folder(number)
        for stage in ("train", "validation"):
            self.store.structures(number, stage, lambda stage=stage: self.subset(number, stage == "validation"))
        previous = self.checkpoint or (self.model(number - 1) if number else None)

        def train() -> dict:
            self.models.train(folder / "train.xyz", folder / "validation.xyz", self.model(number),
                              previous if self.settings.warm_start else None)  # fmt: skip
            return {"folder": str(self.model(number))}

        self.store.content(number, "trained", train)

    # ---------------------------------------------------------------- state

    def model(self, number: int) -> Path:
        """Folder of the training of a round."""
        return self.store.round_folder(number) / "model"

    def labelled(self, number: int) -> list[Atoms]:
        """All labelled structures until a round, in order."""
        return [atoms for k in range(number + 1) for atoms in self.store.read_structures(k, "labelled")]

    def subset(self, number: int, validation: bool) -> list[Atoms]:
        """The validation or the training structures; none ever changes its subset."""
        out = []
        for k in range(number + 1):
            labelled = self.store.read_structures(k, "labelled")
            validating = set(validation_indices(labelled, self.settings.validation))
            out += [atoms for n, atoms in enumerate(labelled) if (n in validating) == validation]
        return out

    def catalogue(self, number: int) -> HopCatalogue:
        """Hops known after a round."""
        return HopCatalogue.from_atoms(self.store.read_structures(number, "hops"))

    def starts_by_hop(self, number: int) -> dict[str, Atoms]:
        """Relaxed start of every hop, by name."""
        return {hop.name: hop.start for hop in self.catalogue(number).hops}

    def record(
        self, number: int, labelled: list[Atoms], known: list[Atoms], before: dict | None = None, **about
    ) -> RoundRecord:
        """Record of a round, with the errors of its model.

        If the round ended without training, of the model before.
        """
        every, starts = [*known, *labelled], self.starts_by_hop(number)
        model_round = number - 1 if about.get("ended") else number
        calculator = self.models.load(self.model(model_round))
        after = saddle_errors(calculator, every, starts)
        return RoundRecord(
            round=number, labels=len(every), new=len(labelled), by_kind=count_by_kind(map(Candidate.from_atoms, every)),
            model_round=model_round, validation=validation_errors(calculator, self.subset(model_round, True)),
            hold_out=hold_out_errors(calculator, self.hold_out), labelled_barriers=labelled_barriers(every, starts),
            saddle_errors=after if before is None else before, saddle_errors_after=after, **about,
        )  # fmt: skip

    def print_round(self, records: list[RoundRecord]) -> None:
        """Prints a line about the last round."""
        last, state = records[-1], "; ".join(map(str, criteria(records, self.limits)))
        self.console.print(f"round {last.round}: {last.labels} labels, {last.new} new; {state}", highlight=False)
