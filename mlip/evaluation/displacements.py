"""Unwrapped positions of a trajectory in the frame of reference of its framework.

Positions are followed in fractional coordinates and measured in the mean cell, so that the breathing of an NPT
cell moves nobody (von Bülow, Bullerjahn, Hummer, J. Chem. Phys. 153, 021101, 2020, on NPT artefacts).
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from ase import Atoms
from ase.data import atomic_numbers, chemical_symbols

from mlip.data.structures import iread
from mlip.errors import InputError

# a displacement is known up to whole cells; above this part of half the width, others may have been beyond it
SAFE_PART = 0.8


@dataclass(frozen=True)
class Trajectory:
    """Positions at equal times, unwrapped, without the drift of the framework.

    positions    [n_frames, n_atoms, 3]  Å, in the mean cell
    numbers      [n_atoms]               atomic numbers
    cells        [n_frames, 3, 3]        Å, rows are lattice vectors
    interval_ps                          time between frames
    mobile       symbol of the mobile ions
    framework         [n_atoms] bool          atoms whose mean displacement was subtracted
    drift        [n_frames, 3]           Å, that mean displacement
    """

    positions: np.ndarray
    numbers: np.ndarray
    cells: np.ndarray
    interval_ps: float
    mobile: str
    framework: np.ndarray
    drift: np.ndarray

    @property
    def mean_cell(self) -> np.ndarray:
        """[3, 3] Å"""
        return self.cells.mean(axis=0)

    @property
    def ions(self) -> np.ndarray:
        """[n_frames, n_ions, 3] Å, the mobile ones."""
        return self.positions[:, self.numbers == atomic_numbers[self.mobile]]

    @property
    def volume(self) -> float:
        """Å^3, mean over frames"""
        return float(np.abs(np.linalg.det(self.cells)).mean())

    @property
    def duration_ps(self) -> float:
        return (len(self.positions) - 1) * self.interval_ps


def read_trajectory(
    files,
    mobile: str,
    frame_interval_fs: float | None = None,
    framework: Sequence[str] | None = None,
    elements: Sequence[str] | Mapping[int, str] | None = None,
) -> Trajectory:
    """A trajectory from what mlip.data.structures.read takes: extxyz, ASE traj, XDATCAR, LAMMPS dump; in pieces too.

    mobile             symbol of the diffusing ion, e.g. "Li"
    frame_interval_fs  between saved frames (not the MD step); needed unless every frame has `time_fs`, as ours have
    framework               symbols that hold the frame of reference; None: all but the mobile one
    elements           symbols of LAMMPS types 1, 2, ... if the dump has no `element` column
    """
    return from_frames(_renamed(iread(files), elements), mobile, frame_interval_fs, framework)


def from_frames(
    frames: Iterable[Atoms], mobile: str, frame_interval_fs: float | None = None, framework: Sequence[str] | None = None
) -> Trajectory:
    """The same from Atoms in memory. Errors name the frame: composition, NaN, cells, times, distances."""
    fractional, cells, times, first = [], [], [], None
    for count, atoms in enumerate(frames):
        first = first or atoms.copy()
        _check_frame(atoms, first, count)
        fractional.append(np.linalg.solve(atoms.cell.array.T, atoms.positions.T).T)
        cells.append(atoms.cell.array.copy())
        times.append(atoms.info.get("time_fs"))
    if len(cells) < 2:
        raise InputError(f"diffusion needs many frames, got {len(cells)}; give the trajectory, not one structure of it")
    interval = frame_interval(times, frame_interval_fs) * 1e-3
    return assemble(np.array(fractional), np.array(cells), first.numbers, interval, mobile, framework, first.pbc)


def assemble(
    fractional: np.ndarray,
    cells: np.ndarray,
    numbers: np.ndarray,
    interval_ps: float,
    mobile: str,
    framework: Sequence[str] | None = None,
    periodic: Sequence[bool] = (True, True, True),
) -> Trajectory:
    """The same from arrays: fractional [n_frames, n_atoms, 3], wrapped or not; cells [n_frames, 3, 3] Å.

    framework=() subtracts nothing, for ions without a framework.
    """
    if not (np.isfinite(interval_ps) and interval_ps > 0):
        raise InputError(f"the time between frames must be positive, got {interval_ps} ps")
    numbers = np.asarray(numbers)
    present = [chemical_symbols[number] for number in np.unique(numbers)]
    if framework is None:
        framework = [symbol for symbol in present if symbol != mobile]
        if not framework:
            raise InputError(
                f"every atom is {mobile}: nothing holds the frame of reference. framework=() takes the frame of the box"
            )
    for symbol in (mobile, *framework):
        if symbol not in present:
            raise InputError(f"no {symbol} in the trajectory; it has {', '.join(present)}")
    if mobile in framework:
        raise InputError(f"{mobile} cannot be both the mobile ion and a part of the framework")
    is_framework = np.isin(numbers, [atomic_numbers[symbol] for symbol in framework])
    mean_cell = cells.mean(axis=0)
    positions = unwrap(fractional, cells, periodic) @ mean_cell
    drift = np.zeros((len(positions), 3))
    if is_framework.any():
        drift = (positions[:, is_framework] - positions[0, is_framework]).mean(axis=1)
    return Trajectory(positions - drift[:, None], numbers, cells, float(interval_ps), mobile, is_framework, drift)


def unwrap(fractional: np.ndarray, cells: np.ndarray, periodic: Sequence[bool] = (True, True, True)) -> np.ndarray:
    """Continuous fractional coordinates: the nearest image of each atom from frame to frame.

    fractional  [n_frames, n_atoms, 3]  wrapped or not
    Raises ValueError if an atom moved so far between two frames that its image is a guess: |ds| close to 1/2, half
    the width of the cell across that axis (save frames more often, or take a larger cell); or if it crossed the cell
    along an axis that is not periodic.
    """
    steps = np.diff(fractional, axis=0)
    across = np.abs(steps) * ~np.asarray(periodic, bool)
    if across.max(initial=0.0) > SAFE_PART:
        frame, atom, axis = np.unravel_index(across.argmax(), across.shape)
        raise InputError(
            f"atom {atom} jumped by {across.max():.2f} of the cell along axis {axis} between frames {frame} and {frame + 1}, "
            "and pbc is false there: the positions were wrapped into a periodic cell. Set pbc='T T T' in the file"
        )
    steps -= np.where(np.asarray(periodic, bool), np.round(steps), 0.0)
    far = np.abs(steps) * np.asarray(periodic, bool)
    if far.max(initial=0.0) > SAFE_PART / 2:
        frame, atom, axis = np.unravel_index(far.argmax(), far.shape)
        width = widths(cells[frame + 1])[axis]
        raise InputError(
            f"atom {atom} moved {far.max() * width:.2f} Å between frames {frame} and {frame + 1}, half the width of the cell "
            f"along axis {axis} is {width / 2:.2f} Å: beyond it an atom cannot be told from its image, and moves over "
            f"{SAFE_PART:.0%} of it say that some were. Save frames more often, or use a larger cell"
        )
    out = np.empty_like(fractional)
    out[0] = fractional[0]
    np.cumsum(steps, axis=0, out=out[1:])
    out[1:] += fractional[0]
    return out


def widths(cell: np.ndarray) -> np.ndarray:
    """Distances between opposite faces of the cell, Å: |a . (b x c)| / |b x c| for each axis.  cell [3, 3]"""
    return 1 / np.linalg.norm(np.linalg.inv(cell), axis=0)


def frame_interval(times: Sequence[float | None], asked_fs: float | None) -> float:
    """Time between frames in fs, from the frames' own times or as given; raises ValueError if they contradict each other."""
    if asked_fs is not None and not (np.isfinite(asked_fs) and asked_fs > 0):
        raise InputError(f"frame_interval_fs must be positive, got {asked_fs}")
    if any(time is None for time in times):
        if asked_fs is None:
            raise InputError(
                "the frames do not say when they were taken (info time_fs); give frame_interval_fs, the time "
                "between saved frames in fs: MD step times the saving stride"
            )
        return float(asked_fs)
    steps = np.diff(np.asarray(times, float))
    wrong = np.flatnonzero(~(np.abs(steps - steps[0]) <= 1e-3 * abs(steps[0])) | ~(steps > 0))
    if len(wrong):
        raise InputError(
            f"frames must be at equal times: frames {wrong[0]} and {wrong[0] + 1} are {steps[wrong[0]]:g} fs "
            f"apart, the first two {steps[0]:g} fs; cut the trajectory there, or drop the repeated frame"
        )
    if asked_fs is not None and abs(asked_fs - steps[0]) > 1e-3 * steps[0]:
        raise InputError(
            f"frame_interval_fs is {asked_fs:g}, the frames' own times are {steps[0]:g} fs apart; leave it out"
        )
    return float(steps.mean())


def _check_frame(atoms: Atoms, first: Atoms, count: int) -> None:
    where = atoms.info.get("source", f"frame {count}")
    if len(atoms) != len(first) or (atoms.numbers != first.numbers).any():
        raise InputError(
            f"{where} holds {atoms.symbols}, the first frame {first.symbols}: atoms and their order must not "
            "change along a trajectory (LAMMPS: dump_modify sort id)"
        )
    if not (np.isfinite(atoms.positions).all() and np.isfinite(atoms.cell.array).all()):
        bad = np.flatnonzero(~np.isfinite(atoms.positions).all(axis=1))
        raise InputError(
            f"{where} has positions or a cell that are not finite (atoms {bad[:5].tolist()}): the run has "
            "broken up there; use the frames before it"
        )
    if atoms.cell.rank < 3:
        raise InputError(
            f"{where} has no full cell, and atoms cannot be unwrapped without one; write it as extxyz with "
            'Lattice="..."'
        )


def _renamed(frames: Iterable[Atoms], elements) -> Iterable[Atoms]:
    if elements is None:
        yield from frames
        return
    symbols = dict(elements) if isinstance(elements, Mapping) else dict(enumerate(elements, 1))
    for atoms in frames:  # without names, ASE reads type n of a LAMMPS dump as the element of number n
        missing = sorted(set(atoms.numbers.tolist()) - set(symbols))
        if missing:
            raise InputError(f"the dump has types {missing} that elements={symbols} does not name")
        atoms.numbers = [atomic_numbers[symbols[kind]] for kind in atoms.numbers.tolist()]
        yield atoms
