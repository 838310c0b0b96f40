"""C++ compiled on this machine: libraries are kept in a cache folder, one for each source, compiler and processor."""

import hashlib
import os
import platform
import shlex
import shutil
import subprocess
import sys
from functools import cache
from pathlib import Path

from mlip.errors import MlipError
from mlip.files import lock, whole_file

CACHE = "~/.cache/mlip/native"
# no -ffast-math: what the kernel gains from it is written out, and a NaN stays one
FLAGS = ("-std=c++17", "-O3", "-march=native", "-fno-math-errno", "-fno-trapping-math", "-ffp-contract=fast", "-shared",
         "-fPIC", "-pthread")  # fmt: skip


class NoCompilerError(MlipError, RuntimeError):
    """No C++ compiler, or one that does not compile our sources; the message ends with what to do."""


def compiled(folder: Path, macros: dict[str, int], what: str) -> Path:
    """Library of a folder's sources; compiled if the cache has none, or a damaged one. Raises NoCompilerError.

    macros  MLIP_<name> of the sources    what  for the messages: `the native kernel`
    """
    compiler, version = find_compiler()
    sources = sorted([*folder.glob("*.cpp"), *folder.glob("*.h")])
    defined = [f"-DMLIP_{name}={value}" for name, value in macros.items()]
    parts = [version, processor(), *FLAGS, *defined, *(file.read_text() for file in sources)]
    name = hashlib.sha256("\0".join(parts).encode()).hexdigest()[:24]
    path = Path(CACHE).expanduser() / f"kernel-{name}.so"
    if not is_whole(path):
        try:
            with lock(path.with_suffix(".lock")):  # one process builds, others wait
                if not is_whole(path):
                    units = [str(file) for file in sources if file.suffix == ".cpp"]
                    compile_to(path, [*compiler, *FLAGS, *defined, *units], what)
        except OSError as error:
            raise NoCompilerError(f"{what} cannot be kept in {path.parent} ({error.strerror or error})") from error
    return path


def compile_to(path: Path, command: list[str], what: str) -> None:
    """Run the compiler; the library appears whole, and its checksum beside it."""
    print(f"mlip: compiling {what}, once on this machine", file=sys.stderr)
    with whole_file(path) as part:
        ran = subprocess.run([*command, "-o", str(part)], capture_output=True, text=True, check=False)
        if ran.returncode != 0:
            reason = next((line for line in ran.stderr.splitlines() if "error" in line), f"status {ran.returncode}")
            raise NoCompilerError(f"{command[0]} does not compile {what} ({reason.strip()})")
        checksum = digest(part)
    with whole_file(path.with_suffix(".sha256")) as part:
        part.write_text(checksum)


def is_whole(path: Path) -> bool:
    """Whether a library has the checksum that it was written with: a damaged one would end the process."""
    kept = path.with_suffix(".sha256")
    return path.is_file() and kept.is_file() and kept.read_text() == digest(path)


def digest(path: Path) -> str:
    """SHA-256 of a file."""
    return hashlib.sha256(path.read_bytes()).hexdigest()


def find_compiler() -> tuple[list[str], str]:
    """$CXX or g++ as words of a command, and its version. Raises NoCompilerError if there is none."""
    words = shlex.split(os.environ.get("CXX") or "g++")
    path = shutil.which(words[0])
    if path is None:
        raise NoCompilerError(f"no C++ compiler {words[0]}: install g++ or set CXX")
    return [path, *words[1:]], version_of(path)


@cache
def version_of(compiler: str) -> str:
    """First line of what a compiler says of itself."""
    ran = subprocess.run([compiler, "--version"], capture_output=True, text=True, check=False)
    return (ran.stdout.splitlines() or [compiler])[0]


@cache
def processor() -> str:
    """Model and instruction sets of this machine: what -march=native depends on."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return f"{platform.machine()} {platform.processor()}"
    wanted = ("model name", "flags", "Features", "CPU part")
    return "\n".join(dict.fromkeys(line for line in lines if line.startswith(wanted)))
