"""What sampling has done, on disk: every stage of every round is one file, written whole, read again instead of done again.

folder/settings.json, rounds/NN/STAGE.xyz or .json, labels/ (of mlip.labelling), and the folders of dynamics and training,
which go on by themselves. A stage always hands out what its file says, so that a killed run and a whole one agree.
"""

import contextlib
import errno
import json
from collections.abc import Callable, Iterator
from pathlib import Path

from ase import Atoms

from mlip.data.structures import read, write
from mlip.evaluation.result import plain
from mlip.files import lock, whole_file, write_json
from mlip.settings import first_difference


class Ledger:
    """The folder of one sampling.

    settings  plain; all that decides what is sampled. ValueError where the folder was begun with others
    """

    def __init__(self, folder: str | Path, settings: dict):
        self.folder = Path(folder)
        path = self.folder / "settings.json"
        settings = json.loads(json.dumps(plain(settings)))
        if path.exists():
            changed = first_difference(json.loads(path.read_text(encoding="utf-8")), settings)
            if changed is not None:
                raise ValueError(f"{self.folder} was begun with another {changed}: repeat its command to go on with it, or "
                                 "choose another folder=...")  # fmt: skip
        elif self.folder.is_dir() and any(self.folder.iterdir()):
            raise ValueError(f"{self.folder} holds something else than a sampling: choose another folder=...")
        else:
            with self.told():
                write_json(path, settings)

    def round(self, number: int) -> Path:
        """Folder of a round; 0 is what comes before the first model."""
        return self.folder / "rounds" / f"{number:02d}"

    def has(self, number: int, stage: str) -> bool:
        """Whether a stage is done."""
        return any((self.round(number) / f"{stage}{end}").exists() for end in (".json", ".xyz"))

    def structures(self, number: int, stage: str, work: Callable[[], list[Atoms]]) -> list[Atoms]:
        """The structures of a stage, from its file; made, and written, where there is none."""
        path = self.round(number) / f"{stage}.xyz"
        if not path.exists():
            made = work()
            with self.told():
                if made:
                    write(path, made)
                else:
                    with whole_file(path) as part:  # extxyz has no file of no frames
                        part.touch()
        return self.stored(number, stage)

    def stored(self, number: int, stage: str) -> list[Atoms]:
        """The structures of a stage; none where it was not reached."""
        path = self.round(number) / f"{stage}.xyz"
        return read(path) if path.exists() and path.stat().st_size else []

    def numbers(self, number: int, stage: str, work: Callable[[], dict]) -> dict:
        """The same for anything that JSON holds; numbers that are not finite become null."""
        path = self.round(number) / f"{stage}.json"
        if not path.exists():
            made = work()
            with self.told():
                write_json(path, plain(made))
        return json.loads(path.read_text(encoding="utf-8"))

    @contextlib.contextmanager
    def told(self) -> Iterator[None]:
        """A full disk in the user's words."""
        try:
            yield
        except OSError as error:
            if error.errno not in (errno.ENOSPC, errno.EDQUOT):
                raise
            raise OSError(error.errno, f"no space left on the disk of {self.folder}: every finished stage and label is safe. "
                          "Free some space and repeat the command: it goes on") from error  # fmt: skip

    def reserved(self) -> contextlib.AbstractContextManager:
        """The folder for this process alone."""
        return lock(self.folder / "lock", f"another mlip samples in {self.folder}: wait for it, or name another folder")
