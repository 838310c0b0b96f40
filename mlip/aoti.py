"""AOTInductor: the exported potential compiled for this machine into a package that torch loads without our code."""

from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor, nn


def save(deployed: nn.Module, path: Path, metadata: dict, example: dict[str, Tensor]) -> None:
    """Compiles `deployed` (an `export.Deployed`) to `path`."""
    raise NotImplementedError


def load(path: Path, device: torch.device) -> tuple[Callable, dict]:
    """The compiled model and its metadata."""
    raise NotImplementedError
