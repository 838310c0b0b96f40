"""Sampling on disk: each stage of each round is one file, read instead of repeated.

folder/settings.json, rounds/NN/STAGE.xyz or .json, labels/ (of mlip.labelling), and the folders of dynamics and training, which
restart by themselves. A stage always returns what its file holds, so that an interrupted and an uninterrupted sampling agree.
"""

import contextlib
import errno
import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

from ase import Atoms

from mlip.data.structures import read, write
from mlip.errors import FolderInUseError, StorageError
from mlip.evaluation.result import plain
from mlip.files import lock, whole_file, write_json
from mlip.sampling.context import PathRecord
from mlip.sampling.errors import HoldOutErrors, ValidationErrors
from mlip.sampling.uncertainty import UncertaintyCounts
from mlip.settings import first_difference

FORMER_SETTING = "apart"  # in settings.json of samplings whose stages have other names


@dataclass(frozen=True)
class RoundRecord:
    """Result of one round.

    labels, new          labelled structures in all, and those of this round; by_kind  all of them
    model_round          the round whose model is judged: this one, or the one before if nothing was left to label
    validation, hold_out errors of that model
    labelled_barriers    eV by hop; saddle_errors, saddle_errors_after  eV by hop, before and after training on the labels
    paths, uncertainty, notes, proposed  of the proposers; proposed counts candidates by kind
    ended                reason why the round could not be finished; None if it was
    """

    round: int
    labels: int
    new: int
    by_kind: dict[str, int]
    model_round: int
    validation: ValidationErrors
    hold_out: HoldOutErrors | None
    labelled_barriers: dict[str, float]
    saddle_errors: dict[str, float]
    saddle_errors_after: dict[str, float]
    paths: list[PathRecord] | None = None
    uncertainty: UncertaintyCounts | None = None
    notes: tuple[str, ...] = ()
    proposed: dict[str, int] | None = None
    ended: str | None = None

    @classmethod
    def from_json(cls, content: Mapping) -> "RoundRecord":
        """Record from the content of its file."""
        paths, uncertainty, hold_out = (content[name] for name in ("paths", "uncertainty", "hold_out"))
        return cls(**{
            **content, "notes": tuple(content["notes"]), "validation": ValidationErrors(**content["validation"]),
            "hold_out": None if hold_out is None else HoldOutErrors(**hold_out),
            "paths": None if paths is None else [PathRecord(**path) for path in paths],
            "uncertainty": None if uncertainty is None else UncertaintyCounts(**uncertainty),
        })  # fmt: skip

    @property
    def barriers(self) -> dict[str, float]:
        """Barrier in eV by hop, of the paths that have a saddle."""
        return {path.hop: path.barrier for path in self.paths or [] if path.barrier is not None}


class SamplingStore:
    """The folder of one sampling.

    settings  plain; all that decides what is sampled. Raises ValueError if the folder was begun with others
    """

    def __init__(self, folder: str | Path, settings: dict):
        self.folder = Path(folder)
        path = self.folder / "settings.json"
        settings = json.loads(json.dumps(plain(settings)))
        if path.exists():
            self._check_settings(json.loads(path.read_text(encoding="utf-8")), settings)
        elif self.folder.is_dir() and any(file.name != f"{path.name}.part" for file in self.folder.iterdir()):
            raise FolderInUseError(f"{self.folder} holds something else than a sampling: choose another folder=...")
        else:
            with self.disk_full_message():
                write_json(path, settings)

    def _check_settings(self, begun: dict, settings: dict) -> None:
        if FORMER_SETTING in begun:
            raise FolderInUseError(
                f"{self.folder} was begun by an earlier version of mlip, whose settings and stages have other names: finish it with that "
                f"version, or keep its labels in a new sampling: folder=NEW data.files=[{self.folder}/rounds/*/labelled.xyz]"
            )
        changed = first_difference(begun, settings)
        if changed is not None:
            raise FolderInUseError(f"{self.folder} was begun with another {changed}: repeat its command to continue it, or "
                                   "choose another folder=...")  # fmt: skip

    def round_folder(self, number: int) -> Path:
        """Folder of a round; 0 is what comes before the first model."""
        return self.folder / "rounds" / f"{number:02d}"

    def has(self, number: int, stage: str) -> bool:
        """Whether a stage is done."""
        return any((self.round_folder(number) / f"{stage}{end}").exists() for end in (".json", ".xyz"))

    def structures(self, number: int, stage: str, make: Callable[[], list[Atoms]]) -> list[Atoms]:
        """Structures of a stage, from its file; made and written first if there is none."""
        path = self.round_folder(number) / f"{stage}.xyz"
        if not path.exists():
            made = make()
            with self.disk_full_message():
                if made:
                    write(path, made)
                else:
                    with whole_file(path) as part:  # extxyz has no file of no frames
                        part.touch()
        return self.read_structures(number, stage)

    def read_structures(self, number: int, stage: str) -> list[Atoms]:
        """Structures of a stage; none if it was not reached."""
        path = self.round_folder(number) / f"{stage}.xyz"
        return read(path) if path.exists() and path.stat().st_size else []

    def content(self, number: int, stage: str, make: Callable[[], dict]) -> dict:
        """JSON content of a stage, made and written first if there is none (NaN becomes null)."""
        path = self.round_folder(number) / f"{stage}.json"
        if not path.exists():
            made = make()
            with self.disk_full_message():
                write_json(path, plain(made))
        return self.read_content(number, stage)

    def read_content(self, number: int, stage: str) -> dict:
        """JSON content of a finished stage."""
        return json.loads((self.round_folder(number) / f"{stage}.json").read_text(encoding="utf-8"))

    def record(self, number: int, make: Callable[[], RoundRecord]) -> RoundRecord:
        """Record of a round, made and written first if there is none."""
        return RoundRecord.from_json(self.content(number, "record", lambda: asdict(make())))

    @contextlib.contextmanager
    def disk_full_message(self) -> Iterator[None]:
        """Replaces the error of a full disk by what is safe and what to do."""
        try:
            yield
        except OSError as error:
            if error.errno not in (errno.ENOSPC, errno.EDQUOT):
                raise
            raise StorageError(error.errno, f"no space left on the disk of {self.folder}: every finished stage and label is safe. "
                          "Free some space and repeat the command: it continues") from error  # fmt: skip

    def lock(self) -> contextlib.AbstractContextManager:
        """Holds the folder for this process alone."""
        return lock(self.folder / "lock", f"another mlip samples in {self.folder}: wait for it, or name another folder")
