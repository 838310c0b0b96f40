"""Files that appear whole or not at all, and locks that end with their process."""

import contextlib
import fcntl
import json
import os
from collections.abc import Iterator
from pathlib import Path

from mlip.errors import FolderInUseError, InputError


@contextlib.contextmanager
def whole_file(path: str | Path, suffix: str = ".part") -> Iterator[Path]:
    """Write to the yielded path; the file takes its final name only when the block ends without an error.

    suffix   of the yielded path, for writers that insist on one
    A process killed while it writes leaves the former file untouched, and at most a part beside it.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    # always the same: what a kill leaves behind is overwritten by the next writing, and matches no pattern of whole files
    part = path.with_name(path.name + suffix if suffix == ".part" else f"part.{path.stem}{suffix}")
    try:
        yield part
        with open(part, "rb+") as file:
            os.fsync(file.fileno())
        os.replace(part, path)
    finally:
        part.unlink(missing_ok=True)


def write_json(path: str | Path, content, **options) -> None:
    """Write JSON, whole or not at all; options are those of `json.dumps`."""
    text = json.dumps(content, indent=1, ensure_ascii=False, **options)
    with whole_file(path) as part:
        part.write_text(text + "\n", encoding="utf-8")


def read_json(path: str | Path):
    """Content of a JSON file. Raises InputError with its name for a damaged one."""
    try:
        return json.loads(Path(path).read_text(encoding="utf-8"))
    except ValueError as error:  # of JSON, or of the encoding
        raise InputError(f"{path} is damaged, it holds no JSON ({error}): repeat the command that wrote it") from error


@contextlib.contextmanager
def lock(path: str | Path, in_use: str | None = None) -> Iterator[None]:
    """Hold a lock file for this process alone; on a file system without locks, go on without.

    in_use   message of the FolderInUseError raised while another process holds it; None waits for that process
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    with open(path, "w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | (fcntl.LOCK_NB if in_use else 0))
        except BlockingIOError as error:
            raise FolderInUseError(in_use) from error
        except OSError:
            pass  # a file system without locks
        yield
