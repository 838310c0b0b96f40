"""Interface of labelling engines, and names of labels by structure and settings."""

import functools
import hashlib
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Protocol

import numpy as np
from ase import Atoms
from ase.calculators.singlepoint import SinglePointCalculator
from ase.geometry import find_mic

from mlip import keys
from mlip.data.labels import SHORT, canonical
from mlip.errors import InputError, LabellingError

MODEL_FILES = (".pt", ".pt2", ".pth", ".ckpt", ".model")  # the same name may hold another model tomorrow
SAME_POSITION = 1e-3  # Å, rounding of positions in text files of other codes


class LabelPending(LabellingError):
    """The label is computed elsewhere and has not arrived yet; the message says what to do."""


class Engine(Protocol):
    """Source of labels; `prepare(structures)`, if it has one, is called once before."""

    def label(self, atoms: Atoms) -> Atoms:
        """A copy with labels keys.REF_* (eV, eV/Å, eV/Å^3). Raises LabellingError with the cause."""

    def settings(self) -> dict:
        """All that decides the numbers of a label, as JSON; no folder, no number of cores."""


def with_labels(atoms: Atoms, results: Mapping, where: str) -> Atoms:
    """A copy whose only labels are `results` (ASE's names, units and signs).

    Other info and arrays are kept. If the results have a free energy, it is the label: forces are its derivative.
    """
    bare = canonical(atoms.copy(), where, dict.fromkeys(SHORT))  # labels it already has may be a model's prediction
    bare.calc = SinglePointCalculator(bare)
    bare.calc.results = {name: value for name, value in results.items() if value is not None}
    return canonical(bare, where)


def plain_settings(part) -> object:
    """A callable with its arguments as plain JSON; model files by their hash."""
    if isinstance(part, functools.partial):
        arguments = {str(n): plain_settings(value) for n, value in enumerate(part.args)}
        return {
            "call": plain_settings(part.func),
            **arguments,
            **{name: plain_settings(v) for name, v in part.keywords.items()},
        }
    if isinstance(part, Mapping):
        return {str(name): plain_settings(value) for name, value in sorted(part.items(), key=str)}
    if isinstance(part, list | tuple):
        return [plain_settings(value) for value in part]
    if isinstance(part, str | os.PathLike) and str(part).endswith(MODEL_FILES) and Path(part).is_file():
        return "sha256:" + hashlib.sha256(Path(part).read_bytes()).hexdigest()[:16]
    if part is None or isinstance(part, str | bool | int | float):
        return part
    if isinstance(part, os.PathLike):
        return str(part)
    if isinstance(part, np.generic | np.ndarray):
        return part.tolist()
    if hasattr(part, "__qualname__"):
        return f"{part.__module__}.{part.__qualname__}"
    raise InputError(f"a label's settings cannot hold {part!r}: its numbers must be known when labels are resumed")


def structure_id(atoms: Atoms) -> str:
    """16 hexadecimal digits that identify a structure.

    Elements, order, positions and cell to 1e-8 Å, pbc, total charge. The rounding is that of extxyz, so that a structure
    keeps its name when it is written and read.
    """
    numbers = [*atoms.positions.ravel(), *atoms.cell.array.ravel(), float(atoms.info.get(keys.TOTAL_CHARGE, 0.0))]
    text = " ".join(f"{x:.8f}" for x in numbers).replace("-0.00000000", "0.00000000")
    return hashlib.sha256(f"{atoms.numbers.tolist()} {atoms.pbc.tolist()} {text}".encode()).hexdigest()[:16]


def settings_hash(engine: Engine) -> str:
    """8 hexadecimal digits that identify the settings of an engine; 500 and 500.0 are the same."""
    # through JSON: tuples become lists; back with every integer as a float
    plain = json.loads(json.dumps(engine.settings()), parse_int=float)
    return hashlib.sha256(json.dumps(plain, sort_keys=True).encode()).hexdigest()[:8]


def label_id(atoms: Atoms, engine: Engine) -> str:
    """Name of a label: hash of the structure and of the settings."""
    return f"{structure_id(atoms)}-{settings_hash(engine)}"


def geometry_difference(expected: Atoms, atoms: Atoms) -> str | None:
    """First difference between two structures, in words; None up to lattice translations."""
    if len(expected) != len(atoms):
        return f"it has {len(atoms)} atoms instead of {len(expected)}"
    if (expected.numbers != atoms.numbers).any():
        same = sorted(expected.numbers) == sorted(atoms.numbers)
        return "its atoms are in another order" if same else f"it is {atoms.symbols} instead of {expected.symbols}"
    strain = np.abs(expected.cell.array - atoms.cell.array).max()
    if strain > SAME_POSITION:
        return f"its cell differs by up to {strain:.2g} Å"
    moved = find_mic(atoms.positions - expected.positions, expected.cell, expected.pbc)[1].max()
    return f"atoms lie up to {moved:.2g} Å elsewhere" if moved > SAME_POSITION else None
