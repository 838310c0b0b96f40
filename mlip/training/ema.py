"""Exponential moving average of the weights: what is validated, tested and exported."""

import copy

import torch
from torch import Tensor, nn

from mlip.errors import InputError


class WeightAverage(nn.Module):
    """theta_avg <- theta_avg + (1 - d) (theta - theta_avg),  d = min(decay, (1 + t) / (10 + t)) at update t = 0, 1, ...

    The warm-up of d keeps the random first weights from lingering. The average is a second copy of the
    potential: nothing is swapped in or out, so an exception in validation cannot leave the wrong weights behind.
    decay: 0.99 to 0.9999; about 1 / (1 - decay) last steps are averaged, a few per cent of the training is a good choice
    """

    def __init__(self, potential: nn.Module, decay: float):
        super().__init__()
        if not 0 <= decay < 1:
            raise InputError(f"the decay of the weight average must be in [0, 1), got {decay}")
        self.decay = decay
        self.potential = copy.deepcopy(potential).requires_grad_(False).eval()
        self.updates = 0

    def update(self, potential: nn.Module) -> None:
        decay = min(self.decay, (1 + self.updates) / (10 + self.updates))
        with torch.no_grad():
            torch._foreach_lerp_(list(self.potential.parameters()), list(potential.parameters()), 1 - decay)
        self.updates += 1

    def forward(self, graph: dict[str, Tensor]) -> dict[str, Tensor]:
        return self.potential(graph)

    def train(self, mode: bool = True) -> "WeightAverage":
        return super().train(False)  # results of the average are never differentiated with respect to the weights

    def get_extra_state(self) -> int:  # travels in the state_dict, on the host: reading it never stalls a GPU
        return self.updates

    def set_extra_state(self, state: int) -> None:
        self.updates = state
