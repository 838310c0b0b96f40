"""Export of a run, or of a committee of runs, to one file."""

from pathlib import Path

from omegaconf import DictConfig

from mlip.errors import InputError
from mlip.training.export_uncertainty import export_with_uncertainty
from mlip.training.run import Run


def export(cfg: DictConfig) -> None:
    """Turn a run into a file that works without mlip: TorchScript, or AOTInductor for this machine."""
    runs = [Run(folder) for folder in ([cfg.run] if isinstance(cfg.run, str) else cfg.run)]
    if cfg.uncertainty not in (None, "last_layer"):
        raise InputError(f"uncertainty is last_layer or null, got {cfg.uncertainty!r}; several runs make a committee")
    if cfg.uncertainty and len(runs) > 1:
        raise InputError("a committee of last layers is not offered: give one run, or leave uncertainty=null")
    name = "committee" if len(runs) > 1 else cfg.uncertainty or "model"
    folder = runs[0].folder.parent if len(runs) > 1 else runs[0].folder
    path = Path(cfg.path or folder / f"{name}{'.pt2' if cfg.format == 'aoti' else '.pt'}")
    how = {key: cfg[key] for key in ("format", "dtype", "level", "n_frames", "max_fall_eV")}
    if name == "model":
        metadata = runs[0].export(path, **how)
    else:
        metadata = export_with_uncertainty(runs, path, cfg.n_draws, cfg.calibrate, **how)
        found = metadata["uncertainty"]
        scales = ", ".join(f"{name} {value:.2f}" for name, value in found["force_scale"].items())
        print(
            f"sigma calibrated on {found['frames']} frames: energy times {found['energy_scale']:.2f}, forces times {scales}"
        )
    worst = metadata["parity"]
    print(f"{path}: {metadata['dtype']}, energy within {worst['energy']:.1e} eV/atom and forces within "
          f"{worst['forces']:.1e} eV/Å of the live potential")  # fmt: skip
