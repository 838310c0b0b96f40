"""What the tests of bad input share: a model of a known formula, good frames, and the command's answer."""

from pathlib import Path

import numpy as np
from ase import Atoms
from ase.build import bulk
from morse import morse_potential

from mlip import cli
from mlip.data.graph import to_graph
from mlip.export import export


def crystal(seed: int | None = None) -> Atoms:
    """Rock salt of lithium chloride, eight atoms, rattled with a seed."""
    atoms = bulk("LiCl", "rocksalt", a=5.1, cubic=True)
    if seed is not None:
        atoms.rattle(0.05, seed=seed)
    return atoms


def labelled(n: int = 4) -> list[Atoms]:
    """Frames with labels of the size that DFT gives."""
    frames = []
    for seed in range(n):
        atoms = crystal(seed)
        atoms.info["REF_energy"] = -80.0 + 0.1 * seed
        forces = np.random.default_rng(seed).normal(size=(len(atoms), 3))
        atoms.arrays["REF_forces"] = forces - forces.mean(axis=0)
        atoms.info["REF_stress"] = 0.01 * np.ones(6)
        frames.append(atoms)
    return frames


def write_model(path: Path, **how) -> Path:
    """An exported Morse potential of Li and Cl."""
    export(morse_potential(**how), path, {"training_hash": "0"}, [to_graph(bulk("LiCl", "rocksalt", a=5.1), 4.0)])
    return path


def answer(capsys, *words) -> tuple[int, str]:
    """Exit code of the command and all that it said."""
    capsys.readouterr()
    code = cli.main([str(word) for word in words])
    out, err = capsys.readouterr()
    return code, out + err


def one_line(said: str) -> str:
    """The complaint: one line that begins with the command's name."""
    lines = [line for line in said.splitlines() if line.startswith("mlip: ")]
    assert len(lines) == 1, said
    return lines[0]


TINY = (
    "trainer.max_steps=2", "trainer.validate_every=1", "trainer.accelerator=cpu", "trainer.logger=null", "model.network.n_channels=4",
    "model.network.l_max=1", "max_fall_eV=null", "data.split.validation=2", "data.split.test=2",
)  # fmt: skip


def train_words(file: Path, folder: Path) -> list[str]:
    """The words of a training of two steps; its cache lies beside the file."""
    return ["train", *TINY, f"data.files={file}", f"data.cache={file.parent / 'cache'}", f"folder={folder}"]
