"""Every shipped model config keeps the contract of a potential."""

from pathlib import Path

import contract
import pytest
import torch
from hydra import compose, initialize_config_dir
from hydra.utils import instantiate

CONFIGS = Path(__file__).parent.parent / "configs"
MODELS = sorted(path.stem for path in (CONFIGS / "model").glob("*.yaml"))


@pytest.fixture(scope="module", params=MODELS)
def potential(request):
    """The shipped config with 8 channels and off-zero parameters, in float64."""
    with initialize_config_dir(str(CONFIGS), version_base=None):
        config = compose("train", [f"model={request.param}"]).model
    if "n_channels" in config.network:  # a classical potential has no network
        config.network.n_channels = 8
    torch.manual_seed(0)
    potential = instantiate(config)(statistics=contract.STATISTICS).double().eval()
    with torch.no_grad():
        for parameter in potential.parameters():  # a start at zero would hide what a parameter does
            parameter.add_(0.05 * torch.randn_like(parameter))
    return potential


@pytest.mark.parametrize("owed", contract.OWED, ids=lambda owed: owed.__name__)
def test_contract(potential, owed):
    if owed in contract.SHORT_RANGE_ONLY and "charges" in contract.evaluate(potential, contract.crystal()):
        pytest.skip("charges act over any distance")
    owed(potential)
