"""Identity of a run of dynamics: what decides its numbers, kept in run.json before the first step and compared later."""

import hashlib
import json
from pathlib import Path

import numpy as np
from ase import Atoms

from mlip import keys
from mlip.data.total_charge import set_total_charge, total_charge
from mlip.errors import FolderInUseError, InputError
from mlip.files import read_json, write_json

NAME = "run.json"


def bare(atoms: Atoms) -> Atoms:
    """A copy with all that dynamics depends on and nothing else: labels of a start are none of its later frames."""
    start = Atoms(atoms.numbers, atoms.positions, cell=atoms.cell, pbc=atoms.pbc)
    start.set_masses(atoms.get_masses())
    if atoms.has("momenta"):
        start.set_momenta(atoms.get_momenta())
    if keys.CHARGE_GROUP in atoms.arrays:
        start.set_array(keys.CHARGE_GROUP, atoms.arrays[keys.CHARGE_GROUP])
    kept = (keys.FIELD, keys.GROUP_CHARGE)
    start.info = {key: atoms.info[key] for key in kept if atoms.info.get(key) is not None}
    set_total_charge(start.info, total_charge(atoms.info))
    return start


def identity(atoms: Atoms, calculator, ensemble, **settings) -> dict:
    """Start, potential, ensemble and settings as plain values; a start and a file by their hashes."""
    parts = [
        atoms.numbers,
        np.round(atoms.positions, 8) + 0.0,
        np.round(atoms.cell.array, 8) + 0.0,
        atoms.pbc,
        np.round(atoms.get_momenta(), 8) + 0.0,
    ]
    digest = hashlib.sha256(b"".join(np.ascontiguousarray(part).tobytes() for part in parts))
    field = atoms.info.get("field")
    return json.loads(json.dumps({
        "atoms": str(atoms.symbols), "start": digest.hexdigest()[:16], "potential": potential_identity(calculator),
        "total_charge": total_charge(atoms.info), "field": None if field is None else np.asarray(field, dtype=float).tolist(),
        "ensemble": repr(ensemble), **settings,
    }))  # fmt: skip


def potential_identity(calculator) -> str:
    """Hash and dtype of an exported file with its parameters; name and parameters of any other calculator."""
    path = getattr(calculator, "path", None)
    if isinstance(path, Path) and path.is_file():
        with open(path, "rb") as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()[:16]
        return f"{digest} {calculator.metadata['dtype']} {json.dumps(dict(calculator.parameters), default=str)}"
    kind = f"{type(calculator).__module__}.{type(calculator).__qualname__}"
    return f"{kind} {json.dumps(getattr(calculator, 'parameters', {}), default=str, sort_keys=True)}"


def begin(folder: Path, now: dict, kept: str | None) -> None:
    """Write run.json into a new folder, or compare it with the run that is there.

    kept   settings in the state of a run that has no run.json (of an earlier version)
    Raises InputError with what differs, FolderInUseError for a folder with somebody else's trajectory.
    """
    file = folder / NAME
    if file.is_file():
        compare(folder, read_json(file), now)
    elif kept is not None:
        compare(folder, json.loads(kept), now)
    elif (folder / "trajectory.traj").exists():
        raise FolderInUseError(f"{folder} holds a trajectory.traj that is no run of mlip: choose another folder")
    else:
        write_json(file, now)


def compare(folder: Path, before: dict, now: dict) -> None:
    """Raise InputError if a run of these settings is not the one that the folder holds; the message names what differs."""
    for name, value in before.items():
        if name in now and now[name] != value:
            what = f"{name} {value}, asked is {now[name]}"
            if name in ("start", "potential"):
                what = f"another {name}"
            raise InputError(
                f"{folder} holds a run with {what}: continue with the same settings (only steps may grow), or choose another folder"
            )
