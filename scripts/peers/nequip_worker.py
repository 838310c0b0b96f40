"""Allegro (or NequIP): `train SETTINGS.json` through nequip-train and nequip-compile, or `serve MODEL.nequip.pt2`."""

import json
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path

from serve import serve

HERE = Path(__file__).resolve().parent


def load(path):
    from nequip.integrations.ase import NequIPCalculator  # here, because training must not pay for it twice

    calculator = NequIPCalculator.from_compiled_model(path, device="cpu")
    names = ("nequip", "nequip-allegro", "torch", "e3nn", "ase")
    return calculator, ["Li", "P", "S"], {name: version(name) for name in names}


def train(settings):
    """nequip-train in this process, so that its CPU clock is the budget's; then AOTInductor, not counted."""
    from nequip.scripts import train as nequip_train

    folder = Path(settings["model"]).parent
    overrides = {
        "train_file": settings["train"],
        "folder": folder,
        "cpu_budget": settings["cpu_budget"],
        "cutoff_radius": settings["cutoff"],
        "hydra.run.dir": folder,
        "hydra.output_subdir": "null",
        **settings["nequip"],
    }
    words = ["-cp", str(HERE), "-cn", settings["config"], *(f"{key}={value}" for key, value in overrides.items())]
    sys.argv = ["nequip-train", *words]
    for old in folder.glob("*.ckpt"):
        old.unlink()
    nequip_train.main()
    target = ["--mode", "aotinductor", "--device", "cpu", "--target", "ase"]
    compiler = Path(sys.executable).parent / "nequip-compile"
    subprocess.run([compiler, folder / "last.ckpt", settings["model"], *target], check=True, stdout=sys.stderr)


if __name__ == "__main__":
    verb, argument = sys.argv[1:]
    if verb == "train":
        train(json.loads(Path(argument).read_text()))
    else:
        serve(load, argument)
