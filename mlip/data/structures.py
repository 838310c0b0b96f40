"""Structures in and out: everything ASE reads (and VASP through pymatgen) becomes Atoms with canonical labels."""

import difflib
import glob
import os
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, fields
from pathlib import Path

import ase.io
import numpy as np
from ase import Atoms
from ase.calculators.singlepoint import SinglePointCalculator

from mlip import keys, units
from mlip.data.label_check import check_labels
from mlip.data.labels import NAMES, SHORT, canonical, energy_names, shifted
from mlip.data.structure_check import check_structure
from mlip.errors import InputError, MissingFileError, UnknownNameError
from mlip.files import whole_file

STALE = 0.05  # eV/atom between energy and free_energy of a frame; smearing gives less
CHECKOUT = Path(__file__).resolve().parents[2]
# what is looked for inside a folder; where a VASP run left both of its files, only vasprun.xml is read
PATTERNS = ("*.xyz", "*.extxyz", "*.db", "*.traj", "*vasprun*.xml*", "*OUTCAR*", "*.pwo", "*.gpw")
# names that anything may have: taken only where the beginning of the file is that of a code ASE reads
MAYBE = ("*.out", "*.txt", "*.log")
MARKS = ("Program PWSCF", "|__ |  _|___|_____|", "Invoking FHI-aims")  # Quantum ESPRESSO, GPAW, FHI-aims


@dataclass(frozen=True)
class Source:
    """One file and how to read it.

    level         level of theory: files of one level share one table of atomic energies
    config_type   overrides the file's own names; errors are reported per config_type
    index         ASE's index or slice: ":", "::10", "-1"
    energy_shift  added to the file's energies: eV per atom, or {"Li": eV, ...}
    keys          which names hold the labels, e.g. {"energy": "r2scan_energy", "forces": null}
    reader        "ase", or "pymatgen" for vasprun.xml
    remove_net_force  subtracts the mean force of each frame, which no potential can represent
    """

    path: str
    level: str = "default"
    config_type: str | None = None
    index: str | int = ":"
    format: str | None = None
    reader: str = "ase"
    keys: Mapping[str, str | None] = field(default_factory=dict)
    energy_shift: float | Mapping[str, float] = 0.0
    remove_net_force: bool = False


def read(files, remove_net_force: bool = False) -> list[Atoms]:
    """All frames of files, globs, folders or dictionaries (fields of Source), with labels under keys.REF_*; "file@index" as in ASE.

    info holds `level`, `config_type`, `source` ("file:index"), `total_charge`, and `ref_energy`, `ref_stress` where
    labelled; arrays hold `ref_forces` and other per-atom labels. Relative paths are looked up from the current folder,
    then from the checkout. Raises FileNotFoundError, ValueError or KeyError with the file's name.
    """
    return list(iread(files, remove_net_force))


def iread(files, remove_net_force: bool = False) -> Iterator[Atoms]:
    """The frames of `read` one at a time, for files that do not fit into memory."""
    for source in sources(files):
        yield from frames(source, remove_net_force or source.remove_net_force)


def sources(files) -> list[Source]:
    """One Source per file, from a path, a glob, a folder, a dictionary, or a list of these in any mixture."""
    if isinstance(files, str | os.PathLike | Mapping | Source):
        files = [files]
    found = []
    for entry in files:
        if isinstance(entry, Source):
            found.append(entry)
            continue
        entry = dict(entry) if isinstance(entry, Mapping) else {"path": entry}
        names = [f.name for f in fields(Source)]
        for name in entry:
            if name not in names:
                near = difflib.get_close_matches(name, names, 1)
                raise UnknownNameError(
                    f"a file entry has no {name!r}; {f'did you mean {near[0]!r}? ' if near else ''}"
                    f"It may have: {', '.join(names)}"
                )
        if "path" not in entry:
            raise UnknownNameError(f"a file entry needs a 'path', got {entry}")
        if "index" not in entry:
            path, index = split_index(str(entry["path"]))
            entry |= {"path": path} | ({} if index is None else {"index": index})
        for name in entry.get("keys") or {}:
            if name not in SHORT:
                raise UnknownNameError(f"keys: {name!r} is no label; labels: {', '.join(SHORT)}")
        found += [Source(**{**entry, "path": str(path)}) for path in _expand(str(entry["path"]))]
    if not found:
        raise MissingFileError("no files were given; name at least one, e.g. data.files=my.xyz")
    return found


def _expand(path: str) -> list[Path]:
    path = str(Path(path).expanduser())
    places = [Path()] if Path(path).is_absolute() else [Path.cwd(), CHECKOUT]
    for place in places:
        whole = place / path
        if whole.is_dir():
            inside = {p for pattern in PATTERNS for p in whole.rglob(pattern) if p.is_file()}
            inside |= {p for pattern in MAYBE for p in whole.rglob(pattern) if p.is_file() and _is_output(p)}
            with_xml = {p.parent for p in inside if "vasprun" in p.name}
            inside = sorted(p for p in inside if not ("OUTCAR" in p.name and p.parent in with_xml))
            if not inside:
                raise MissingFileError(
                    f"folder {whole} holds no structure file; looked for {', '.join(PATTERNS + MAYBE)}"
                )
            return inside
        if whole.is_file():
            return [whole]
        if matches := sorted(p for p in map(Path, glob.glob(str(whole), recursive=True)) if p.is_file()):  # noqa: PTH207  absolute ones too
            return matches
    raise MissingFileError(f"no file, folder or glob matches {path!r}; looked in {', '.join(str(p) for p in places)}")


def _is_output(path: Path) -> bool:
    with open(path, encoding="utf-8", errors="replace") as file:
        beginning = file.read(4096)
    return any(mark in beginning for mark in MARKS)


def split_index(file: str) -> tuple[str, str | None]:
    """Path and index of ASE's "file@index"; no index if there is none."""
    path, at, index = file.rpartition("@")
    return (path, index) if at and re.fullmatch(r"[-\d:]+", index) else (file, None)


def read_one(file: str | os.PathLike) -> Atoms:
    """The structure to start from: the last frame of a file, or the one of "start.xyz@3"; without labels.

    Constraints, velocities and masses stay.
    """
    path, index = split_index(str(file))
    places = _expand(path)
    source = Source(str(places[0]), index="-1" if index is None else index)
    found = list(_ase_frames(source, _slice(source)))
    if len(places) * len(found) != 1:
        raise InputError(f"{file} names {len(places) * len(found)} structures, one is needed: start.xyz@0")
    check_structure(found[0], str(file))
    start = canonical(found[0], str(file), dict.fromkeys(SHORT))
    start.set_constraint(found[0].constraints)
    return start


def frames(source: Source, remove_net_force: bool = False, checked: bool = True, left_out: int = 0) -> Iterator[Atoms]:
    """Labelled frames of one file.

    checked   False for those who look at structures and labels themselves, and go on after a bad one
    left_out  frames at the beginning that are read, but neither checked nor given
    """
    slicing = _slice(source)
    start = slicing.start or 0
    step = slicing.step or 1
    raw = _pymatgen_frames(source, slicing) if source.reader == "pymatgen" else _ase_frames(source, slicing)
    first: set[str] | None = None
    for count, atoms in enumerate(raw):
        # the number in the file, where it can be known without reading it twice
        where = f"{source.path}:{start + count * step if start >= 0 and step > 0 else count}"
        if checked and count >= left_out:
            check_structure(atoms, where)
        energies = energy_names(atoms) if "energy" not in dict(source.keys) else {}
        first = set(energies) if first is None and energies else first
        if energies and set(energies) != first:
            raise InputError(
                f"{where} has {' and '.join(energies)}, the frames before it {' and '.join(sorted(first or ()))}: one energy for "
                "all frames, keys: {energy: energy} or keys: {energy: free_energy}"
            )
        if count < left_out:
            continue
        atoms = canonical(atoms, where, source.keys)
        if len(energies) == 2 and abs(energies["free_energy"] - energies["energy"]) > STALE * len(atoms):
            atoms.info["other_energy"] = energies["energy"]  # for the label doctor: free_energy was taken
        if checked:
            check_labels(atoms, where)
        if source.energy_shift:
            shifted(atoms, source.energy_shift)
        if remove_net_force and keys.REF_FORCES in atoms.arrays:
            atoms.arrays[keys.REF_FORCES] -= atoms.arrays[keys.REF_FORCES].mean(axis=0)
        atoms.info["level"] = source.level
        atoms.info["config_type"] = str(source.config_type or atoms.info.get("config_type", "default"))
        atoms.info["source"] = where
        yield atoms


def _slice(source: Source) -> slice:
    index = source.index if isinstance(source.index, int) else ase.io.formats.string2index(source.index)
    if isinstance(index, int):
        return slice(index, index + 1 or None)
    if not isinstance(index, slice):  # ASE gives back a text that it does not understand
        raise InputError(f"index {index!r} of {source.path} is no slice; write ':', '::10', '100:' or '-1'")
    return index


def _ase_frames(source: Source, slicing: slice) -> Iterator[Atoms]:
    if source.reader != "ase":
        raise InputError(f"reader {source.reader!r} of {source.path} is unknown; use 'ase' or 'pymatgen'")
    form = source.format
    if form is None and source.path.endswith((".extxyz", ".xyz")):
        form = "extxyz"
    count = 0
    try:
        for count, atoms in enumerate(ase.io.iread(source.path, index=slicing, format=form), 1):  # noqa: B007  counted below
            yield atoms
    except (FileNotFoundError, PermissionError, MemoryError):
        raise
    except Exception as error:  # every ASE format fails in its own way; the user needs the file, the frame, the remedy
        raise InputError(
            f"ASE cannot read {source.path} after {count} frames: {type(error).__name__}: {error}. Give "
            "the format (format=vasp-out, ...), or cut the file at its last complete frame"
        ) from error
    if count == 0:
        raise InputError(f"{source.path} has no frame in index {source.index!r}; is it complete?")


def _pymatgen_frames(source: Source, slicing: slice) -> Iterator[Atoms]:
    # pymatgen is heavy and optional: imported only by those who ask for it
    from pymatgen.io.ase import AseAtomsAdaptor
    from pymatgen.io.vasp import Vasprun

    if "xml" not in Path(source.path).name:
        raise InputError(f"reader 'pymatgen' reads vasprun.xml files, got {source.path}; use reader 'ase'")
    try:
        run = Vasprun(source.path, parse_dos=False, parse_eigen=False, parse_potcar_file=False)
    except Exception as error:
        raise InputError(f"pymatgen cannot read {source.path}: {error}; try reader 'ase'") from error
    pressure = float(run.incar.get("PSTRESS", 0.0)) * units.KBAR
    for step in run.ionic_steps[slicing]:
        atoms = AseAtomsAdaptor.get_atoms(step["structure"], msonable=False)
        # with PSTRESS, VASP writes the enthalpy E + p V
        results = {"free_energy": step["e_fr_energy"] - pressure * atoms.get_volume()}
        if step.get("forces") is not None:
            results["forces"] = np.array(step["forces"])
        if step.get("stress") is not None:
            results["stress"] = -np.array(step["stress"]) * units.KBAR  # VASP counts compression as positive
        atoms.calc = SinglePointCalculator(atoms)
        atoms.calc.results = results
        yield atoms


def write(path: str | os.PathLike, structures: Sequence[Atoms]) -> None:
    """Writes extxyz under REF_energy, REF_forces, REF_stress (eV, Å), whole or not at all.

    A calculator's results are kept beside the labels as energy, forces, stress: a prediction beside its reference.
    """
    path = Path(path)
    if path.suffix not in (".xyz", ".extxyz"):
        raise InputError(f"structures are written as .xyz or .extxyz, got {path.name!r}: other formats lose labels")
    with whole_file(path) as part:
        ase.io.write(part, [_outward(atoms) for atoms in structures], format="extxyz")


def _outward(atoms: Atoms) -> Atoms:
    out = atoms.copy()
    out.calc = atoms.calc
    for key in NAMES:
        name = "REF_" + key.removeprefix("ref_")
        if key in out.info:
            value = out.info.pop(key)
            out.info[name] = value.ravel() if np.ndim(value) else value  # one row of nine: no convention to transpose
        if key in out.arrays:
            value = out.arrays.pop(key)
            out.set_array(name, value.reshape(len(out), -1) if value.ndim > 2 else value)
    return out
