"""Archives of torch (model.pt, model.pt2, *.ckpt): their checksums, which torch itself does not read."""

import zipfile
import zlib
from pathlib import Path

from mlip.errors import InputError, MissingFileError


def check_archive(path: str | Path, kind: str, remedy: str) -> None:
    """Raise InputError unless the file is a whole zip archive; one flipped byte of a weight is found.

    kind, remedy   for the message: "exported model", "write it again with mlip export"
    """
    path = Path(path)
    if not path.is_file():
        raise MissingFileError(f"no {kind} at {path}; {remedy}")
    if path.stat().st_size == 0:
        raise InputError(f"{path} is empty, no {kind}: {remedy}")
    try:
        with zipfile.ZipFile(path) as archive:
            damaged = next((name for name in archive.namelist() if not is_whole(archive, name)), None)
    except Exception as error:  # a damaged directory of the archive fails in many ways
        raise InputError(f"{path} is no {kind}, or was cut off or damaged ({error}): {remedy}") from error
    if damaged is not None:
        raise InputError(f"{path} is damaged, the checksum of {damaged} is wrong: {remedy}")


def is_whole(archive: zipfile.ZipFile, name: str) -> bool:
    """Whether a member has its checksum; one that cannot be decompressed has another."""
    try:
        with archive.open(name) as member:
            while member.read(1 << 20):
                pass
    except (zipfile.BadZipFile, zlib.error):
        return False
    return True


def first_line(error: Exception) -> str:
    """The first line of an error, which with torch may have many."""
    return (str(error).strip().splitlines() or [type(error).__name__])[0][:200]
