"""Files of a run that survive a kill: trajectory.traj, thermo.csv, and state.npz, which says how much of both counts."""

import os
from contextlib import ExitStack
from pathlib import Path
from typing import TextIO

import numpy as np
from ase import Atoms
from ase.io.trajectory import TrajectoryWriter
from ase.io.ulm import writeint

from mlip.errors import InputError, MissingFileError
from mlip.files import lock, whole_file

STATE = "state.npz"
NEEDED = {"step", "positions", "momenta", "cell", "rng", "n_frames", "thermo_bytes", "settings"}
N_ITEMS = 32  # byte of the number of frames in a .traj file: tag 24, version 8, then this


class Files:
    """Appends frames and rows; `save` makes what has been written so far count; a restart forgets the rest.

    Holds the folder for this process until `close`. Raises FolderInUseError while another one does.
    """

    def __init__(self, folder: Path, columns: list[str]):
        self.folder, self.columns = folder, columns
        self.state_file = folder / STATE
        self.held = ExitStack()
        self.held.enter_context(
            lock(folder / "lock", f"another process runs dynamics in {folder}: wait for it, or choose another folder")
        )
        self.trajectory: TrajectoryWriter
        self.thermo: TextIO

    def state(self) -> dict[str, np.ndarray] | None:
        """What a run that is in the folder has saved; None for a new one."""
        return read_state(self.state_file) if self.state_file.exists() else None

    def open(self, state: dict[str, np.ndarray] | None) -> None:
        """Trajectory and table, cut back to the state; empty without one."""
        trajectory, thermo = self.folder / "trajectory.traj", self.folder / "thermo.csv"
        if state is not None:
            for file in (trajectory, thermo):
                if not file.is_file():
                    raise MissingFileError(
                        f"{file} is missing, which the run in {self.folder} goes on from: put it back, or choose another folder"
                    )
            with open(trajectory, "r+b") as file:
                writeint(file, int(state["n_frames"]), N_ITEMS)
            os.truncate(thermo, int(state["thermo_bytes"]))
        mode = "w" if state is None else "a"
        self.trajectory = TrajectoryWriter(str(trajectory), mode)
        self.thermo = open(thermo, mode, newline="", encoding="utf-8")  # noqa: SIM115  open as long as the run
        if state is None:
            self.thermo.write(",".join(self.columns) + "\n")

    def frame(self, atoms: Atoms) -> None:
        """One more frame, with the results of its calculator."""
        self.trajectory.write(atoms)

    def row(self, values: list[float]) -> None:
        """One more row of the table."""
        self.thermo.write(",".join(f"{value:.12g}" for value in values) + "\n")
        self.thermo.flush()

    def save(self, **state) -> None:
        """The state of now, in one piece or not at all; frames and rows reach the disk before it."""
        for file in (self.trajectory.backend.fd, self.thermo):
            file.flush()
            os.fsync(file.fileno())
        with whole_file(self.state_file) as part, open(part, "wb") as file:
            np.savez(file, n_frames=len(self.trajectory), thermo_bytes=self.thermo.tell(), **state)

    def close(self) -> None:
        """Closes what is open, and lets the folder go."""
        for name in ("trajectory", "thermo"):  # open from the first step on
            if hasattr(self, name):
                getattr(self, name).close()
        self.held.close()


def steps_done(folder: Path) -> int:
    """Steps of the run in a folder that count; 0 if there are none."""
    if not (folder / STATE).exists():
        return 0
    return int(read_state(folder / STATE)["step"])


def read_state(file: Path) -> dict[str, np.ndarray]:
    """What a run has saved. Raises InputError if the file is damaged."""
    try:
        with open(file, "rb") as opened, np.load(opened, allow_pickle=False) as archive:
            state = dict(archive)
        if lacking := NEEDED - state.keys():
            raise KeyError(", ".join(sorted(lacking)))
        return state
    except Exception as error:  # a damaged archive fails in many ways
        raise InputError(
            f"{file} is damaged ({error}): move it away to begin again, or choose another folder"
        ) from error
