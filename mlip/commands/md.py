"""Molecular dynamics with an exported model."""

from omegaconf import DictConfig, OmegaConf

import mlip
from mlip import keys
from mlip.config import make
from mlip.data.structures import read_one
from mlip.data.total_charge import set_total_charge
from mlip.md.plots import plot
from mlip.md.run import run


def md(cfg: DictConfig) -> None:
    """Molecular dynamics with an exported model."""
    calculator = mlip.load_calculator(cfg.model, device=cfg.device, dtype=cfg.dtype, skin=cfg.skin, kernel=cfg.kernel)
    print(f"kernel: {calculator.kernel}")
    settings = ["steps", "timestep_fs", "repeat", "initial_temperature_K", "masses", "seed", "frame_every", "thermo_every",
                "state_every"]  # fmt: skip
    settings = {name: OmegaConf.to_container(cfg)[name] for name in settings}
    start = read_one(cfg.structure)
    if cfg.total_charge is not None:
        set_total_charge(start.info, float(cfg.total_charge))
    if cfg.field_V_per_A is not None:
        start.info[keys.FIELD] = list(cfg.field_V_per_A)
    summary = run(start, calculator, cfg.folder, make(cfg.ensemble), guard=make(cfg.guard), **settings)
    plot(cfg.folder)
    numbers = {name: value for name, value in summary.items() if isinstance(value, int | float)}
    print(f"{cfg.folder}: " + ", ".join(f"{name} {value:.4g}" for name, value in numbers.items()))
    for warning in summary["warnings"]:
        print(f"warning: {warning}")
