"""Labels on disk: one small file each, written whole as soon as it is computed."""

import contextlib
import errno
import json
import time
from collections.abc import Iterable, Iterator
from pathlib import Path

from ase import Atoms

from mlip.data.structures import read, write
from mlip.errors import StorageError
from mlip.files import lock, write_json

RESERVE = 2**22  # bytes kept free for the labels that are under way when the disk fills up


class LabelFolder:
    """Folder of labels: labels/ID.xyz, failures.jsonl (a line per attempt), engines.json.

    During a run folder/reserve holds space. On a full disk it is released, so that a label which took an hour is still
    written; then the run stops.
    """

    def __init__(self, folder: str | Path):
        self.folder = Path(folder)
        self.labels = self.folder / "labels"
        self.labels.mkdir(parents=True, exist_ok=True)

    def path(self, name: str) -> Path:
        """Path of the label of this name."""
        return self.labels / f"{name}.xyz"

    def finished(self, names: Iterable[str]) -> dict[str, Atoms]:
        """Labels in the folder. One that cannot be read, after a power cut, counts as missing."""
        labels = {}
        for name in names:
            if name not in labels and self.path(name).is_file():
                with contextlib.suppress(ValueError):
                    labels[name] = read(self.path(name))[0]
        return labels

    def save(self, name: str, atoms: Atoms) -> None:
        """Writes a label. On a full disk it is written into the reserve, and OSError ends the run."""
        try:
            write(self.path(name), [atoms])
        except OSError as error:
            if error.errno not in (errno.ENOSPC, errno.EDQUOT):
                raise
            kept = "this last one is kept"
            self._reserve.unlink(missing_ok=True)
            try:
                write(self.path(name), [atoms])
            except OSError:
                kept = "this last one is lost"
            n_labels = len(list(self.labels.glob("*.xyz")))
            raise StorageError(error.errno, f"no space left on the disk of {self.folder}: {n_labels} labels are safe in "
                          f"{self.labels}, {kept}. Free some space and repeat the command: it continues") from error  # fmt: skip

    def record_failure(self, name: str, structure: str, cause: str, attempt: int) -> None:
        """Records a failed attempt."""
        line = {"id": name, "structure": structure, "cause": cause, "attempt": attempt, "time": time.strftime("%FT%T")}
        with open(self.folder / "failures.jsonl", "a", encoding="utf-8") as file:
            file.write(json.dumps(line) + "\n")

    def record_settings(self, name: str, settings: dict) -> list[str]:
        """Records an engine's settings; returns the differences to those of earlier labels."""
        path = self.folder / "engines.json"
        recorded = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
        if name not in recorded:
            write_json(path, {**recorded, name: settings}, default=str)
        return [f"{other}: {_differences(theirs, settings)}" for other, theirs in recorded.items() if other != name]

    @property
    def _reserve(self) -> Path:
        return self.folder / "reserve"

    @contextlib.contextmanager
    def reserve(self) -> Iterator[None]:
        """Reserves space for labels in progress, and the folder for this process."""
        with lock(self.folder / "lock", f"another mlip works on {self.folder}: wait for it, or name another folder"):
            yield from self._keep_space()

    def _keep_space(self) -> Iterator[None]:
        try:
            self._reserve.write_bytes(bytes(RESERVE))
        except OSError as error:
            self._reserve.unlink(missing_ok=True)
            raise StorageError(error.errno, f"{self.folder} cannot take {RESERVE >> 20} MB ({error.strerror}): no label is "
                          "begun that could not be written") from error  # fmt: skip
        try:
            yield
        finally:
            self._reserve.unlink(missing_ok=True)


def _differences(theirs: dict, ours: dict) -> str:
    different = [f"{key} {theirs.get(key)} -> {ours.get(key)}" for key in sorted({*theirs, *ours})
                 if theirs.get(key) != ours.get(key)]  # fmt: skip
    return ", ".join(different)
