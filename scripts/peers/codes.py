"""The peers: where each lives, how it is trained by default and what its calculator loads."""

import os
from dataclasses import dataclass, field
from pathlib import Path

CUTOFF = 5.0  # Å, for every code


@dataclass(frozen=True)
class Code:
    name: str
    label: str
    worker: str
    environment: str = ""  # "" is the Python of our own package
    model: str = "model.pt"
    cpu_budget: float = 600.0  # s of training
    settings: dict = field(default_factory=dict)

    def python(self, environments: Path, ours: Path) -> Path:
        return environments / self.environment / "bin" / "python" if self.environment else ours


def mace(name: str, irreps: str, max_ell: int, budget: float, label: str) -> Code:
    """mace_run_train's defaults, but batch 1 and lr 0.02 with EMA and an annealed rate.

    Force RMSE of the 64 model after 60 CPU s, meV/Å, (batch, lr): (1, 0.02) 152, (1, 0.01) 191, (2, 0.02) 207,
    (1, 0.005) 235, (2, 0.01) 267, (4, 0.01) 338.
    """
    arguments = {"hidden_irreps": irreps, "max_ell": max_ell, "correlation": 3, "num_interactions": 2}
    arguments |= {"batch_size": 1, "lr": 0.02, "seed": 1}
    return Code(name, label, "mace_worker.py", "mace", "model.model", budget, {"ema": 0.99, "mace": arguments})


PEERS = {
    code.name: code
    for code in (
        mace("mace-64", "64x0e+64x1o", 2, 600.0, "MACE 64x0e+64x1o, L 2"),
        Code(  # lr 0.003 was better than the tutorial's 0.001 at 90 s: 242 against 302 meV/Å
            "allegro",
            "Allegro l 1, AOTInductor",
            "nequip_worker.py",
            "nequip",
            "model.nequip.pt2",
            settings={"config": "allegro", "nequip": {"lr": 0.003}},
        ),
        mace("mace-128", "128x0e+128x1o", 3, 900.0, "MACE 128x0e+128x1o, L 3"),
    )
}
INSTALL = {"mace": ["mace-torch==0.3.16"], "nequip": ["nequip==0.19.1", "nequip-allegro==0.8.3"]}
TORCH = os.environ.get("TORCH", "torch==2.13.0")  # first, so that no peer brings a CUDA build


def ours(name: str) -> Code:
    return Code(name, f"mlip {name}", "mlip_worker.py", model="run/model.pt")
