"""Building of the native kernel on this machine: one library for each size of network, kept in a cache folder."""

import ctypes
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

SOURCE = Path(__file__).parent
CACHE = "~/.cache/mlip/native"
# no -ffast-math: what the kernel gains from it is written out, and a NaN stays one
FLAGS = ("-std=c++17", "-O3", "-march=native", "-fno-math-errno", "-fno-trapping-math", "-ffp-contract=fast", "-shared",
         "-fPIC", "-pthread")  # fmt: skip


class NoCompilerError(MlipError, RuntimeError):
    """No C++ compiler, or one that does not compile the kernel; the message ends with what to do."""


def library(sizes: dict[str, int]) -> ctypes.CDLL:
    """The kernel for these sizes. Raises NoCompilerError."""
    return ctypes.CDLL(str(library_file(sizes)))


def library_file(sizes: dict[str, int]) -> Path:
    """Path of the kernel for these sizes; compiled if the cache has none, or a damaged one. Raises NoCompilerError."""
    compiler, version = find_compiler()
    sources = sorted([*SOURCE.glob("*.cpp"), *SOURCE.glob("*.h")])
    macros = [f"-DMLIP_{name}={value}" for name, value in sizes.items()]
    parts = [version, processor(), *FLAGS, *macros, *(file.read_text() for file in sources)]
    name = hashlib.sha256("\0".join(parts).encode()).hexdigest()[:24]
    path = Path(CACHE).expanduser() / f"kernel-{name}.so"
    if not is_whole(path):
        try:
            with lock(path.with_suffix(".lock")):  # one process builds, others wait
                if not is_whole(path):
                    compile_to(path, [*compiler, *FLAGS, *macros, str(SOURCE / "kernel.cpp")])
        except OSError as error:
            raise NoCompilerError(f"the kernel cannot be kept in {path.parent} ({error.strerror or error})") from error
    return path


def compile_to(path: Path, command: list[str]) -> None:
    """Run the compiler; the library appears whole, and its checksum beside it."""
    print("mlip: compiling the native kernel for this network, once on this machine", file=sys.stderr)
    with whole_file(path) as part:
        ran = subprocess.run([*command, "-o", str(part)], capture_output=True, text=True, check=False)
        if ran.returncode != 0:
            reason = next((line for line in ran.stderr.splitlines() if "error" in line), f"status {ran.returncode}")
            raise NoCompilerError(f"{command[0]} does not compile the native kernel ({reason.strip()})")
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
