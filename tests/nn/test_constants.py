"""Constants survive a change of dtype."""

import torch
from torch import nn

from mlip.nn.constants import joined, split


def test_a_constant_is_exact_in_float64_after_a_detour_through_float32():
    module = nn.Module()
    value = torch.tensor([1 / 3, 2**0.5, -1e-3], dtype=torch.float64)
    module.register_buffer("value", split(value))
    assert joined(module.float().value).dtype == torch.float32
    assert (joined(module.double().value) - value).abs().max() < 1e-15
