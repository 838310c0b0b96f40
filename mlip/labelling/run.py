"""Labels for many structures: each written at once, none computed twice."""

import contextlib
import queue
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Executor, Future, wait
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path

from ase import Atoms
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from mlip.errors import LabellingError
from mlip.labelling.checks import check_label, check_together
from mlip.labelling.engine import Engine, LabelPending, label_id, settings_hash
from mlip.labelling.execution import in_process
from mlip.labelling.report import Report
from mlip.labelling.store import LabelFolder

OF_LABEL = ("label_id", "label_seconds")  # of the label, not of the structure: another level of theory brings its own


@dataclass(frozen=True)
class Outcome:
    """Result of one attempt: a label, or the cause of its failure."""

    atoms: Atoms | None
    seconds: float
    cause: str = ""
    pending: bool = False  # not failed: it is computed elsewhere
    retryable: bool = False  # another attempt may succeed


def attempt(engine: Engine, atoms: Atoms) -> Outcome:
    """One label, in any process; errors become causes."""
    started = time.perf_counter()
    try:
        labelled = engine.label(atoms)
        check_label(labelled)
    except LabellingError as error:
        return Outcome(
            None, time.perf_counter() - started, str(error), isinstance(error, LabelPending), error.retryable
        )
    except (Exception, SystemExit) as error:  # noqa: BLE001  an engine may fail in any way; the others go on
        return Outcome(None, time.perf_counter() - started, f"{type(error).__name__}: {error}", retryable=True)
    return Outcome(labelled, time.perf_counter() - started)


def run(
    structures: Sequence[Atoms],
    engine: Engine,
    folder: str | Path,
    execution: Callable[[], AbstractContextManager[Executor]] = in_process,
    retries: int = 1,
) -> Report:
    """Labels of all structures; those already in the folder are read.

    folder     labels/ID.xyz, one for each, named after structure and settings; failures.jsonl; engines.json
    execution  see execution.py
    retries    further attempts after a crash of the engine or the loss of a worker; a definite cause (a cycle that does not
               converge) is retried only by the next call
    Raises OSError when the disk is full, after the label in hand was written.
    """
    store = LabelFolder(folder)
    names = [label_id(atoms, engine) for atoms in structures]
    done = store.finished(names)
    report = Report([], kept=sum(name in done for name in set(names)))
    report.notes += [f"the folder holds labels of other settings, {difference}" for difference in
                     store.record_settings(settings_hash(engine), engine.settings())]  # fmt: skip
    missing = {name: atoms for name, atoms in zip(names, structures, strict=True) if name not in done}
    failed: dict[str, Outcome] = {}
    if missing:
        if hasattr(engine, "prepare"):
            engine.prepare(list(missing.values()))
        with store.reserve(), execution() as pool, _progress() as progress:
            bar = progress.add_task("labelling", total=len(missing))
            for name, outcome in _outcomes(pool, engine, missing, retries, store):
                progress.advance(bar)
                if outcome.atoms is None:
                    failed[name] = outcome
                    continue
                done[name] = outcome.atoms
                report.seconds.append(outcome.seconds)
    report.labelled = [with_metadata(done.get(name), atoms) for name, atoms in zip(names, structures, strict=True)]
    for n, name in enumerate(names):
        if name in failed:
            (report.pending if failed[name].pending else report.failed)[n] = failed[name].cause
    report.findings = check_together(
        [atoms for atoms in report.labelled if atoms is not None], f"{folder}/labels/*.xyz"
    )
    return report


def labeller(engine: Engine | None, folder: str | Path, **how) -> Callable[[Sequence[Atoms]], list[Atoms]] | None:
    """Function label(structures) -> labelled copies; None without an engine.

    how  execution and retries, as in `run`. label raises LabellingError if a structure has no label
    """
    if engine is None:
        return None

    def label(structures: Sequence[Atoms]) -> list[Atoms]:
        report = run(structures, engine, folder, **how)
        for cause in (*report.failed.values(), *report.pending.values()):
            raise LabellingError(f"a structure that must be labelled has no label: {cause}")
        return report.labelled

    return label


def with_metadata(label: Atoms | None, atoms: Atoms) -> Atoms | None:
    """Copies this structure's metadata onto a label shared by an identical structure."""
    if label is None:
        return None
    own = label.copy()
    kept = {name: value for name, value in atoms.info.items() if name not in OF_LABEL and not name.startswith("ref_")}
    own.info.update(kept)
    return own


def _outcomes(pool: Executor, engine: Engine, structures: dict[str, Atoms], retries: int, store: LabelFolder):
    """(name, last outcome) of every structure in order of completion; labels are saved first."""
    finished: queue.SimpleQueue[Future] = queue.SimpleQueue()
    waiting: dict[Future, tuple[str, int]] = {}

    def submit(name: str, count: int) -> None:
        future = pool.submit(attempt, engine, structures[name])
        waiting[future] = name, count
        future.add_done_callback(finished.put)

    for name in structures:
        submit(name, 1)
    while waiting:
        future = finished.get()
        name, count = waiting.pop(future)
        outcome = _result(future)
        if outcome.atoms is not None:
            try:
                store.save(name, _named(outcome, name))
            except OSError:
                _rescue(waiting, store)
                raise
        elif not outcome.pending:
            store.record_failure(name, str(structures[name].info.get("source", "")), outcome.cause, count)
            if outcome.retryable and count <= retries:
                submit(name, count + 1)
                continue
        yield name, outcome


def _result(future: Future) -> Outcome:
    try:
        return future.result()
    except Exception as error:  # noqa: BLE001  the worker itself was lost
        return Outcome(None, 0.0, f"the worker was lost: {type(error).__name__}: {error}", retryable=True)


def _named(outcome: Outcome, name: str) -> Atoms:
    outcome.atoms.info.update(zip(OF_LABEL, (name, round(outcome.seconds, 2)), strict=True))
    return outcome.atoms


def _rescue(waiting: dict[Future, tuple[str, int]], store: LabelFolder) -> None:
    """Writes labels finished or in progress in this process into the space of the reserve."""
    for future in waiting:
        with contextlib.suppress(NotImplementedError):  # Parsl
            future.cancel()
    wait([future for future in waiting if future.running()])
    for future, (name, _) in waiting.items():
        if future.done() and not future.cancelled() and _result(future).atoms is not None:
            with contextlib.suppress(OSError):
                store.save(name, _named(_result(future), name))


def _progress() -> Progress:
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
    )
    return Progress(*columns, console=Console(stderr=True), transient=True)
