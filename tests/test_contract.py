"""Every shipped model config keeps the contract of a potential."""

from pathlib import Path

import contract
import pytest
import torch
from hydra import compose, initialize_config_dir
from hydra.utils import instantiate
from omegaconf import DictConfig

CONFIGS = Path(__file__).parent.parent / "configs"


def names(group: str) -> list[str]:
    return sorted(path.stem for path in (CONFIGS / group).glob("*.yaml"))


def shrunk(*choice: str) -> DictConfig:
    """The shipped config with 8 channels."""
    with initialize_config_dir(str(CONFIGS), version_base=None):
        config = compose("train", list(choice)).model
    if "n_channels" in config.network:
        config.network.n_channels = 8
        config.terms.network.n_hidden = 8
    elif choice[-1] in ("model/head=qeq", "model/head=qeq_dipoles", "model/head=split_charges"):
        # a learned width moves the split of the Ewald sum: its error stands alone here, beside no gradient of a network
        config.terms.electrostatics.tolerance = 1e-9
    return config


CHOICES = {name: [f"model={name}"] for name in names("model")} | {
    f"{network}-{head}": [f"model/network={network}", f"model/head={head}"]
    for network in names("model/network") for head in names("model/head")
} | {f"pair-{pair}": [f"model/pair={pair}"] for pair in names("model/pair")}  # fmt: skip
SHRUNK = {name: shrunk(*choice) for name, choice in CHOICES.items()}
# networks that differ in channels only, and presets that name a network and a head, are tested once
MODELS = [name for i, name in enumerate(SHRUNK) if SHRUNK[name] not in list(SHRUNK.values())[:i]]


@pytest.fixture(scope="module", params=MODELS)
def potential(request):
    """The model with off-zero parameters, in float64."""
    config = SHRUNK[request.param]
    torch.manual_seed(0)
    potential = instantiate(config)(statistics=contract.STATISTICS).double().eval()
    with torch.no_grad():
        for parameter in potential.parameters():  # a start at zero would hide what a parameter does
            parameter.add_(0.05 * torch.randn_like(parameter))
    return potential


@pytest.mark.filterwarnings("ignore:Initializing zero-element tensors")  # weights of no features
@pytest.mark.parametrize("owed", contract.OWED, ids=lambda owed: owed.__name__)
def test_contract(potential, owed):
    if owed in contract.SHORT_RANGE_ONLY and "charges" in contract.evaluate(potential, contract.crystal()):
        pytest.skip("charges act over any distance")
    if owed is contract.gradients_of_a_force_loss_are_right and not any(
        p.requires_grad for p in potential.parameters()
    ):
        pytest.skip("nothing to fit")
    owed(potential)
