"""Input files of LAMMPS."""

from pathlib import Path

from omegaconf import DictConfig

from mlip.data.structures import read_one
from mlip.lammps.inputs import write_input
from mlip.lammps.kernel import say_kernel


def lammps_input(cfg: DictConfig) -> None:
    """Write the data file and the script that run a structure with an exported model in LAMMPS."""
    atoms = read_one(cfg.structure).repeat(tuple(cfg.repeat))
    script = Path(cfg.output)
    stages = write_input(
        Path(cfg.model), atoms, script, cfg.temperature_K, cfg.timestep_fs, cfg.steps, cfg.skin, cfg.seed
    )
    beyond = f"; {', '.join(stages['global'])}: see docs/howto/lammps.md" if stages["global"] else ""
    print(f"{script}, {script.with_suffix('.data')}: {len(atoms)} atoms{beyond}")
    print(say_kernel(Path(cfg.model)))
