"""The processed set on disk, written once: structures, labels and neighbour lists in one HDF5 file."""

import hashlib
import itertools
import json
import os
from collections.abc import Iterable, Sequence
from dataclasses import asdict
from pathlib import Path

import h5py
import numpy as np
import torch
from ase import Atoms

from mlip import keys
from mlip.data import pieces
from mlip.data.graph import LABEL_SHAPES, charge_groups, neighbour_list
from mlip.data.structures import Source
from mlip.errors import InputError
from mlip.files import whole_file
from mlip.nn.radial import crowding, polynomial_cutoff

FORMAT = 4  # raise it whenever the file's content changes meaning: old caches are then left alone
ORDER_NAMES = ("time_fs", "time_ps", "time", "step", "frame")  # where a frame stands in its trajectory
FRAME = np.dtype([
    ("atom_start", "i8"), ("n_atoms", "i4"), ("edge_start", "i8"), ("n_edges", "i8"),
    ("cell", "f8", (3, 3)), ("pbc", "u1", (3,)), ("total_charge", "f8"), ("weight", "f8"),
    ("field", "f8", (3,)), ("energy", "f8"), ("stress", "f8", (3, 3)), ("level", "i4"), ("config_type", "i4"),
    ("file", "i4"), ("trajectory", "i4"), ("order", "f8"),
    ("force_square", "f8"), ("n_force", "i8"),  # sum and number of squared force components, for statistics
    ("geometry", "u1", (16,)), ("content", "u1", (32,)),  # hashes: without and with labels
])  # fmt: skip
EXTREME = np.dtype([("frame", "i8"), ("a", "u1"), ("b", "u1"), ("value", "f8")])  # of `extremes`, a row each
PER_ATOM = [key for key, (_, per_atom) in LABEL_SHAPES.items() if per_atom]
CHARGE_OF_GROUP = "charge_of_group"  # e, of each atom's charge group: group_charge, spread over the atoms
INPUTS_PER_ATOM = (keys.CHARGE_GROUP, CHARGE_OF_GROUP)
WRITE_AT = 2**18  # edges held in memory before they are written
PIECE = 2**21  # edges of a piece, the most that a kill costs: about ten seconds


def cache_file(folder: str | os.PathLike, sources: Sequence[Source], cutoff: float, settings: dict) -> Path:
    """Where the processed set of these files lies: its name is a hash of all that decides its content."""
    digest = hashlib.sha256(json.dumps([FORMAT, cutoff, settings], sort_keys=True).encode())
    for source in sources:
        description = asdict(source)
        description["keys"], shift = dict(source.keys), source.energy_shift
        description["energy_shift"] = shift if isinstance(shift, int | float) else dict(shift)
        digest.update(json.dumps(description, sort_keys=True, default=str).encode())
        with open(source.path, "rb") as file:
            digest.update(hashlib.file_digest(file, "sha256").digest())
    return Path(folder).expanduser() / f"{digest.hexdigest()[:24]}.h5"


def build(path: Path, frames: Iterable[tuple[int, Atoms]], cutoff: float, levels: Sequence[str]) -> None:
    """Writes the processed set; the file appears under its name only when it is complete.

    frames  (number of the file it came from, structure with canonical labels), one at a time: memory stays bounded;
            without those that `built` counts, which a killed call has left in pieces
    """
    frames, parts = iter(frames), pieces.pieces(path)
    try:
        while (ahead := next(frames, None)) is not None or not parts:
            with pieces.new_file(pieces.piece(path, len(parts))) as (file, disk):
                writer = _Writer(file, cutoff, list(levels), parts[-1] if parts else None)
                for number, atoms in itertools.chain([ahead] if ahead else [], frames):
                    writer.append(number, atoms)
                    disk.check()
                    if writer.n_new_edges >= PIECE:
                        break
                writer.finish()
            parts.append(pieces.piece(path, len(parts)))
        pieces.join(parts, path, rows="numbers")
    except Exception as error:
        if not isinstance(error, OSError):  # behind a full disk the same call goes on; else the files must be mended
            pieces.remove(path)
        raise
    pieces.remove(path)
    with whole_file(checksum_file(path)) as part:
        part.write_text(checksum(path), encoding="utf-8")


def built(path: Path) -> tuple[int, int, int]:
    """Frames that a killed `build` left in pieces, the number of the file of the last one, and how many are of that file."""
    of_file = pieces.column(pieces.pieces(path), "frames", "file")
    last = int(of_file[-1]) if len(of_file) else 0
    return len(of_file), last, int((of_file == last).sum())


def checksum_file(path: Path) -> Path:
    """Where the checksum of a processed set stands."""
    return path.with_suffix(".sha256")


def checksum(path: Path) -> str:
    """SHA-256 of a file."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def is_whole(path: Path) -> bool:
    """Whether a processed set is as it was written; sets of older versions, without a checksum, must open."""
    if not path.is_file():
        return False
    if checksum_file(path).is_file():
        return checksum_file(path).read_text(encoding="utf-8", errors="replace") == checksum(path)
    try:
        with h5py.File(path, "r") as file:
            return "cutoff" in file.attrs and len(file["frames"]) > 0 and "levels" in file
    except (OSError, KeyError):
        return False


class _Writer:
    """One piece of the set; numbers of frames, atoms, edges and names are counted on from the piece before, if there is one."""

    def __init__(self, file: h5py.File, cutoff: float, levels: list[str], before: Path | None):
        self.file, self.cutoff, self.levels = file, cutoff, levels
        self.names = {"config_types": {}, "trajectories": {}}  # name -> number, in order of appearance
        self.n_frames = self.n_atoms = self.n_edges = self.n_new_edges = 0
        if before is not None:
            with h5py.File(before, "r") as former:
                row, self.n_frames = former["frames"][-1], int(former["extremes"][-1]["frame"]) + 1
                self.n_atoms = int(row["atom_start"] + row["n_atoms"])
                self.n_edges = int(row["edge_start"] + row["n_edges"])
                for kind in self.names:
                    self.names[kind] = {name.decode(): number for number, name in enumerate(former[kind][:])}
        self.pending, self.pending_edges = [], 0
        text = h5py.string_dtype()
        for name, row, dtype, chunk in (
            ("frames", (), FRAME, 256), ("source", (), text, 1024), ("numbers", (), "u1", 4096),
            ("positions", (3,), "f8", 4096), ("degree", (), "i4", 4096),
            ("neighbour", (), "i4", 16384), ("shift", (3,), "i2", 16384), ("extremes", (), EXTREME, 4096),
        ):  # fmt: skip
            file.create_dataset(name, (0, *row), dtype, maxshape=(None, *row), chunks=(chunk, *row))

    def append(self, number: int, atoms: Atoms) -> None:
        edge_index, edge_shift = neighbour_list(atoms, self.cutoff)
        row, columns = _frame_row(atoms), _atom_labels(atoms) | _atom_inputs(atoms)
        row["atom_start"], row["n_atoms"] = self.n_atoms, len(atoms)
        row["edge_start"], row["n_edges"] = self.n_edges, edge_index.shape[1]
        row["level"], row["file"] = self.levels.index(atoms.info["level"]), number
        config_type = atoms.info["config_type"]
        trajectory = f"{number}:{atoms.info.get('trajectory', config_type)}"
        row["config_type"] = self._number("config_types", config_type)
        row["trajectory"] = self._number("trajectories", trajectory)
        row["order"] = next(
            (atoms.info[n] for n in ORDER_NAMES if isinstance(atoms.info.get(n), int | float | np.number)),
            self.n_frames,
        )
        extreme = extremes(atoms, edge_index.numpy(), edge_shift.numpy(), self.cutoff)
        extreme["frame"] = self.n_frames
        self.pending.append((row, columns, atoms, edge_index.numpy(), edge_shift.numpy(), extreme))
        self.n_frames += 1
        self.n_atoms += len(atoms)
        self.n_edges += edge_index.shape[1]
        self.n_new_edges += edge_index.shape[1]
        self.pending_edges += edge_index.shape[1] + 32 * len(atoms)
        if self.pending_edges > WRITE_AT:
            self._write()

    def _number(self, kind: str, name: str) -> int:
        return self.names[kind].setdefault(name, len(self.names[kind]))

    def _write(self) -> None:
        if not self.pending:
            return
        rows, columns, structures, edges, shifts, extreme = zip(*self.pending, strict=True)
        self._extend("frames", np.stack(rows))
        self._extend("source", np.array([a.info.get("source", "") for a in structures], dtype=object))
        self._extend("numbers", np.concatenate([a.numbers for a in structures]))
        start = self._extend("positions", np.concatenate([a.positions for a in structures]))
        self._extend(
            "degree",
            np.concatenate([np.bincount(e[0], minlength=len(a)) for e, a in zip(edges, structures, strict=True)]),
        )
        self._extend("neighbour", np.concatenate([e[1] for e in edges]))
        self._extend("shift", np.concatenate(shifts))
        self._extend("extremes", np.concatenate(extreme))
        for key in (*PER_ATOM, *INPUTS_PER_ATOM):
            if any(key in column for column in columns):
                self._write_column(key, start, columns, structures)
        self.pending, self.pending_edges = [], 0

    def _write_column(self, key: str, start: int, columns, structures) -> None:
        shape = LABEL_SHAPES[key][0] if key in LABEL_SHAPES else ()
        if key not in self.file:  # rows never written read as NaN: a missing label
            self.file.create_dataset(
                key, (0, *shape), "f8", maxshape=(None, *shape), chunks=(4096, *shape), fillvalue=np.nan
            )
        empty = [np.full((len(a), *shape), np.nan) for a in structures]
        values = np.concatenate([column.get(key, nan) for column, nan in zip(columns, empty, strict=True)])
        self.file[key].resize(start + len(values), axis=0)
        self.file[key][start:] = values

    def _extend(self, name: str, values: np.ndarray) -> int:
        dataset = self.file[name]
        start = len(dataset)
        dataset.resize(start + len(values), axis=0)
        dataset[start:] = values
        return start

    def finish(self) -> None:
        self._write()
        for key in (*PER_ATOM, *INPUTS_PER_ATOM):
            if key in self.file:
                self.file[key].resize(len(self.file["numbers"]), axis=0)
        for kind, names in self.names.items():
            self.file.create_dataset(kind, data=np.array(list(names), dtype=object), dtype=h5py.string_dtype())
        self.file.create_dataset("levels", data=np.array(self.levels, dtype=object), dtype=h5py.string_dtype())
        self.file.attrs["cutoff"] = self.cutoff


def _atom_labels(atoms: Atoms) -> dict[str, np.ndarray]:
    return {key: atoms.arrays[key] for key in PER_ATOM if key in atoms.arrays}


def _atom_inputs(atoms: Atoms) -> dict[str, np.ndarray]:
    group, charge = charge_groups(atoms)
    return {} if group is None else {keys.CHARGE_GROUP: group.astype(float), CHARGE_OF_GROUP: charge[group]}


def _frame_row(atoms: Atoms) -> np.ndarray:
    row = np.zeros((), dtype=FRAME)
    row["cell"], row["pbc"] = atoms.cell.array, atoms.pbc
    row["total_charge"] = atoms.info.get(keys.TOTAL_CHARGE, 0.0)
    row["field"] = atoms.info.get(keys.FIELD, np.nan)
    row["weight"] = atoms.info.get(keys.WEIGHT, 1.0)
    row["energy"] = atoms.info.get(keys.REF_ENERGY, np.nan)
    row["stress"] = atoms.info.get(keys.REF_STRESS, np.nan)
    labels = _atom_labels(atoms)
    forces = labels.get(keys.REF_FORCES, np.empty(0))
    if np.isinf(forces).any() or np.isinf([row["energy"], *row["stress"].ravel()]).any():
        raise InputError(f"infinite label in {atoms.info.get('source')}; remove the frame or set the label to NaN")
    if not labels and np.isnan(row["energy"]) and np.isnan(row["stress"]).all():
        raise InputError(f"{atoms.info.get('source')} has no label; files may name them REF_energy, REF_forces, "
                         "REF_stress, or tell the names with keys={energy: ...}")  # fmt: skip
    row["force_square"], row["n_force"] = np.nansum(forces**2), np.isfinite(forces).sum()
    geometry, content = hashes(atoms)
    row["geometry"], row["content"] = np.frombuffer(geometry, "u1"), np.frombuffer(content, "u1")
    return row


def extremes(atoms: Atoms, edge_index: np.ndarray, edge_shift: np.ndarray, cutoff: float) -> np.ndarray:
    """How far a frame goes: shortest distance (Å) of elements a <= b; with b = 0 the largest crowding of a, with a = 0 the least of b."""
    centre, neighbour = edge_index
    vector = atoms.positions[neighbour] - atoms.positions[centre] + edge_shift @ atoms.cell.array
    distance = np.linalg.norm(vector, axis=1)
    envelope = polynomial_cutoff(torch.from_numpy(distance), cutoff)
    crowded = crowding(envelope, torch.from_numpy(centre), len(atoms)).numpy()
    low, high = np.sort(atoms.numbers[edge_index], axis=0)
    pairs, place = np.unique(256 * low + high, return_inverse=True)
    shortest = np.full(len(pairs), np.inf)
    np.minimum.at(shortest, place, distance)
    rows = [(0, *divmod(pair, 256), value) for pair, value in zip(pairs.tolist(), shortest, strict=True)]
    for z in np.unique(atoms.numbers):
        of_element = crowded[atoms.numbers == z]
        rows += [(0, z, 0, of_element.max()), (0, 0, z, of_element.min())]
    return np.array(rows, dtype=EXTREME)


def hashes(atoms: Atoms) -> tuple[bytes, bytes]:
    """Two hashes of a frame: of the structure (to 1e-5 Å, 16 bytes), and of structure and labels (exact, 32 bytes)."""
    rough = [np.round(x, 5) + 0.0 for x in (atoms.positions, atoms.cell.array)]  # + 0.0: no negative zeros
    charge = np.float64(atoms.info.get(keys.TOTAL_CHARGE, 0.0))
    inputs = [
        *_atom_inputs(atoms).values(),
        *(np.array(atoms.info[k], dtype=float) for k in (keys.FIELD,) if k in atoms.info),
    ]
    described = [atoms.numbers.astype("i8"), atoms.pbc, charge, *inputs]
    geometry = hashlib.sha256(b"".join(x.tobytes() for x in [*described, *rough])).digest()[:16]
    labels = [np.asarray(atoms.info.get(key, atoms.arrays.get(key, np.nan)), dtype=float) for key in LABEL_SHAPES]
    exact = [*described, atoms.positions, atoms.cell.array, *labels]
    content = hashlib.sha256(b"".join(np.ascontiguousarray(x).tobytes() for x in exact))
    content.update(str(atoms.info.get("level", "default")).encode())
    return geometry, content.digest()
