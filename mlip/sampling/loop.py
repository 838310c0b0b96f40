"""The loop: propose, score, select, label, train, and stop when the barriers no longer change. `mlip sample`."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from ase import Atoms
from rich.console import Console

from mlip.data.structures import write
from mlip.labelling.execution import in_process
from mlip.sampling import history
from mlip.sampling.candidate import Candidate, bare, candidate_of, count_by_kind
from mlip.sampling.checks import labelled_barriers, on_hold_out, saddle_errors, unlabelled_pairs, validation_errors, with_current_names
from mlip.sampling.descriptors import descriptors, elements_of
from mlip.sampling.first import first_structures
from mlip.sampling.labels import held_out, label_round
from mlip.sampling.ledger import Ledger
from mlip.sampling.scene import HopBook, Sampler, Scene, book_of
from mlip.sampling.score import count, inside, score
from mlip.sampling.select import select
from mlip.sampling.stop import Limits, criteria, decide


@dataclass
class Loop:
    """Everything that a sampling is made of; `run(starts)` does it, or goes on with it.

    train       train(training file, validation file, folder, previous folder or None): a model of these labels; called
                again it goes on, or does nothing where it is done
    load        load(folder) -> calculator, for dynamics and paths
    doubt       doubt(folder) -> the same with energy_sigma and force_sigma, for scores; None: load's tells them
    per_round   labels of a round;  first  labels before the first model, where `initial` has none
    initial     labelled structures to begin with;  hold_out  labelled ones for the history, never trained on
    validation  share of the labels that validates and is not trained on
    warm_start  each model begins from the one before; False from random weights
    apart       structures nearer than this in descriptor space are not labelled twice (see descriptors)
    control     old structures that are labelled again in every round
    """

    sampler: Sampler
    engine: object
    train: Callable[[Path, Path, Path, Path | None], None]
    load: Callable[[Path], object]
    ledger: Ledger
    mobile: str
    framework: Sequence[str] | None = None
    limits: Limits = field(default_factory=Limits)
    per_round: int = 20
    first: int = 20
    initial: Sequence[Atoms] = ()
    hold_out: Sequence[Atoms] = ()
    doubt: Callable[[Path], object] | None = None
    checkpoint: Path | None = None
    warm_start: bool = True
    validation: float = 0.1
    apart: float = 0.2
    control: int = 2
    seed: int = 0
    execution: Callable = in_process
    retries: int = 1
    console: Console = field(default_factory=Console)

    def run(self, starts: Sequence[Atoms]) -> dict:
        """The last record, with `reason`, why it ended, and `converged`. Everything else is in the ledger's folder."""
        starts = [bare(atoms) for atoms in starts]
        if not starts:
            raise ValueError("sampling needs a structure to start from, got none")
        with self.ledger.reserved():
            records = [self.begin(starts)]
            while True:
                history.write(self.ledger.folder, records, self.limits)
                reason, converged = decide(records, self.limits)
                if reason is not None:
                    break
                records.append(self.round(len(records), starts))
                self.tell(records)
        with self.ledger.told():
            write(self.ledger.folder / "labelled.xyz", self.labelled(len(records) - 1))
        self.console.print(f"sampling ended: {reason}", highlight=False)
        last = len(records) - 1 - ("ended" in records[-1])
        return {**records[-1], "reason": reason, "converged": converged, "model": str(self.model(last))}

    # ---------------------------------------------------------------- rounds

    def begin(self, starts: list[Atoms]) -> dict:
        """Round 0: labels without a model, and the first model."""
        ledger = self.ledger

        def label() -> list[Atoms]:
            if self.initial:
                return list(self.initial)
            made = [candidate.as_atoms() for candidate in first_structures(starts, self.first, self.seed)]
            labelled, told = label_round(made, [], self.engine, ledger.folder / "labels", 0, self.seed, self.execution, self.retries)
            ledger.numbers(0, "labels", lambda: told)
            return labelled

        labelled = ledger.structures(0, "labelled", label)
        if not self.initial and not labelled:
            raise ValueError("no first structure has a label, so there is no first model; look into labels/failures.jsonl")
        self.fit(0)
        return ledger.numbers(0, "record", lambda: self.record(0, labelled, [], {}))

    def round(self, number: int, starts: list[Atoms]) -> dict:
        """One turn of the loop; ended says why it could not be finished, where no structure was left to label."""
        ledger = self.ledger
        if ledger.has(number, "record"):
            return ledger.numbers(number, "record", dict)
        calculator = self.load(self.model(number - 1))
        doubting = self.doubt(self.model(number - 1)) if self.doubt else calculator
        candidates, paths, notes = self.proposed(number, starts, calculator, doubting)
        candidates, doubt = self.scored(number, candidates, doubting)
        eligible = candidates
        if doubt["counts"]:
            low = self.sampler.window.floor(candidates, doubt["low"], doubt["high"], self.per_round)
            eligible = inside(candidates, low, doubt["high"])
        known = self.labelled(number - 1)
        chosen = ledger.structures(number, "selected", lambda: self.chosen(number, eligible, known))
        more = {"paths": paths, "notes": notes, "proposed": count_by_kind(candidates), **doubt}
        if not chosen:
            more["ended"] = f"nothing to label: {self.nothing(candidates, eligible, doubt)}"
            return ledger.numbers(number, "record", lambda: self.record(number, [], known, more))

        def label() -> list[Atoms]:
            labelled, told = label_round(chosen, known, self.engine, ledger.folder / "labels", self.control, self.seed + number,
                                         self.execution, self.retries)  # fmt: skip
            ledger.numbers(number, "labels", lambda: told)
            return labelled

        labelled = ledger.structures(number, "labelled", label)
        before = ledger.numbers(number, "check", lambda: saddle_errors(calculator, [*known, *labelled], self.starts_of(number)))
        self.fit(number)
        return ledger.numbers(number, "record", lambda: self.record(number, labelled, known, {**more, "saddle_errors": before}))

    # ---------------------------------------------------------------- stages

    def proposed(self, number: int, starts: list[Atoms], calculator, doubt) -> tuple[list[Candidate], list[dict] | None, list[str]]:
        """Candidates, paths and remarks of all proposers; each is a stage."""
        ledger, candidates, notes, paths = self.ledger, [], [], None
        book = self.book(number - 1)
        for name, proposer in self.sampler.proposers.items():
            if proposer is None:  # taken out on the command line
                continue
            if not ledger.has(number, f"paths_{name}"):
                seed = 1000 * self.seed + number
                scene = Scene(calculator, doubt, starts, self.mobile, self.framework, book, ledger.round(number), seed)
                found = proposer.propose(scene)
                ledger.structures(number, f"proposed_{name}", lambda found=found: [c.as_atoms() for c in found.candidates])
                ledger.structures(number, f"hops_{name}", book.as_atoms)
                ledger.numbers(number, f"paths_{name}", lambda found=found: {"paths": found.paths, "notes": found.notes})
            candidates += map(candidate_of, ledger.stored(number, f"proposed_{name}"))
            book = book_of(ledger.stored(number, f"hops_{name}"))
            told = ledger.numbers(number, f"paths_{name}", dict)
            notes += told["notes"]
            paths = paths if told["paths"] is None else [*(paths or []), *told["paths"]]
        ledger.structures(number, "hops", book.as_atoms)
        return candidates, paths, notes

    def scored(self, number: int, candidates: list[Candidate], calculator) -> tuple[list[Candidate], dict]:
        """Candidates with their doubt, and what is counted of it; as they are where the sampler has no window."""
        if self.sampler.window is None or not candidates:
            return candidates, {"counts": None}
        made = self.ledger.structures(number, "scored", lambda: [c.as_atoms() for c in score(candidates, calculator, self.mobile)])
        scored = [candidate_of(atoms) for atoms in made]
        low, high = self.sampler.window.bounds(with_current_names(self.ledger.numbers(number - 1, "record", dict))["median_force_vector_rmse"])
        refused = len(candidates) - len(scored)
        return scored, {"counts": {**count(scored, low, high), "refused": refused}, "low": low, "high": high}

    def nothing(self, candidates: list[Candidate], eligible: list[Candidate], doubt: dict) -> str:
        """Why no structure was chosen."""
        if not candidates:
            return "no proposer found a candidate that the model has an answer for; see the remarks of the round"
        if doubt["counts"] is not None:
            above = sum(c.scores["sigma"] > doubt["high"] for c in candidates)
            if above > len(candidates) / 2:
                return (f"{above} of {len(candidates)} candidates are above {doubt['high']:.3g} eV/Å, too doubtful to be sound "
                        "structures: a larger first=..., lower temperatures, or a larger window.spread")  # fmt: skip
            if not eligible:
                return f"all {len(candidates)} candidates are below {doubt['low']:.3g} eV/Å ({above} above {doubt['high']:.3g})"
        return f"all {len(eligible)} candidates resemble labelled structures (nearer than apart={self.apart})"

    def chosen(self, number: int, eligible: list[Candidate], known: list[Atoms]) -> list[Atoms]:
        """The structures to be labelled in this round."""
        if not eligible:
            return []
        wanted = self.per_round
        if self.limits.labels is not None:
            wanted = min(wanted, self.limits.labels - len(known))
        seen = [*known, *self.hold_out]
        elements = elements_of([c.atoms for c in eligible], seen)
        new = descriptors([c.atoms for c in eligible], [c.ion for c in eligible], self.mobile, elements)
        old = descriptors(seen, [int(atoms.info.get("ion", -1)) for atoms in seen], self.mobile, elements)
        pairs = unlabelled_pairs(eligible, known, min(wanted, max(2, wanted // 6)))
        numbers = select(eligible, new, old, wanted, self.sampler.quotas, self.sampler.choose, self.apart, 1000 * self.seed + number, pairs)
        return [eligible[k].as_atoms() for k in numbers]

    def fit(self, number: int) -> None:
        """The model of all labels until this round, and the files that it is made of, rounds/NN/train.xyz, validation.xyz."""
        folder = self.ledger.round(number)
        for stage, part in (("train", False), ("validation", True)):
            self.ledger.structures(number, stage, lambda part=part: self.part(number, part))
        previous = self.model(number - 1) if number else self.checkpoint

        def done() -> dict:
            self.train(folder / "train.xyz", folder / "validation.xyz", self.model(number), previous if self.warm_start else None)
            return {"folder": str(self.model(number))}

        self.ledger.numbers(number, "trained", done)

    # ---------------------------------------------------------------- what is known

    def model(self, number: int) -> Path:
        """Folder of the training of a round."""
        return self.ledger.round(number) / "model"

    def labelled(self, number: int) -> list[Atoms]:
        """All labelled structures until a round, in order."""
        return [atoms for k in range(number + 1) for atoms in self.ledger.stored(k, "labelled")]

    def part(self, number: int, validates: bool) -> list[Atoms]:
        """Those that validate, or those that are trained on; a structure never changes its part."""
        out = []
        for k in range(number + 1):
            labelled = self.ledger.stored(k, "labelled")
            held = set(held_out(labelled, self.validation))
            out += [atoms for n, atoms in enumerate(labelled) if (n in held) == validates]
        return out

    def book(self, number: int) -> HopBook:
        """Hops known after a round."""
        return book_of(self.ledger.stored(number, "hops"))

    def starts_of(self, number: int) -> dict[str, Atoms]:
        """Quenched start of every hop, by name."""
        return {hop.name: hop.start for hop in self.book(number).hops}

    def record(self, number: int, labelled: list[Atoms], known: list[Atoms], more: dict) -> dict:
        """What a round is remembered by."""
        every, starts = [*known, *labelled], self.starts_of(number)
        trained = number - ("ended" in more)
        calculator = self.load(self.model(trained))
        after = saddle_errors(calculator, every, starts)
        return {
            "round": number, "labels": len(every), "new": len(labelled), "by_kind": count_by_kind(map(candidate_of, every)),
            **validation_errors(calculator, self.part(trained, True)),
            "hold_out": on_hold_out(calculator, self.hold_out), "labelled_barriers": labelled_barriers(every, starts),
            "saddle_errors_after": after, "saddle_errors": after, "paths": None, "counts": None, "notes": [], **more,
        }  # fmt: skip

    def tell(self, records: list[dict]) -> None:
        """A line about the round."""
        last, told = records[-1], "; ".join(map(str, criteria(records, self.limits)))
        self.console.print(f"round {last['round']}: {last['labels']} labels, {last['new']} new; {told}", highlight=False)

