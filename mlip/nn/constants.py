"""Constants of a module that stay exact whatever dtype the module is moved to."""

import torch
from torch import Tensor


def split(value: Tensor) -> Tensor:
    """A float64 constant as a buffer [2, ...] float32: rounded, and the rest.

    `Module.to(dtype)` rounds a floating buffer once and for all: a model made in float32 and moved to float64
    would turn with the crystal to 1e-8 only. The two parts survive every move.
    """
    rounded = value.to(torch.float32)
    return torch.stack([rounded, (value - rounded.to(torch.float64)).to(torch.float32)])


def joined(parts: Tensor) -> Tensor:
    """The constant in the dtype that its buffer has now, good to 1e-15 in float64."""
    return parts[0] + parts[1]
