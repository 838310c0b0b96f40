"""Files that are whole or not there, and folders that one process works in."""

import contextlib
import fcntl
import os
from collections.abc import Iterator
from pathlib import Path


@contextlib.contextmanager
def whole_file(path: str | Path) -> Iterator[Path]:
    """Write to the yielded path; it takes its final name only when the block ends without an error.

    A process killed while it writes leaves the former file untouched, and at most a `.part` beside it.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(path.name + ".part")
    yield part
    with open(part, "rb+") as file:
        os.fsync(file.fileno())
    os.replace(part, path)


@contextlib.contextmanager
def locked(folder: str | Path, doing: str = "works on") -> Iterator[None]:
    """The folder for this process alone, where the file system has locks. Raises OSError while another one has it."""
    with open(Path(folder) / "lock", "w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise OSError(f"another mlip {doing} {folder}: wait for it, or name another folder") from error
        except OSError:
            pass  # a file system without locks
        yield
