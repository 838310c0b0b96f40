"""Network without features, for potentials whose terms need only positions and elements."""

from typing import Any

import torch
from torch import Tensor, nn

from mlip import keys
from mlip.errors import InputError


class Featureless(nn.Module):
    """Node features of width zero; the cutoff (Å) is that of the pairs that terms may use.

    Its stages are those of a network of one layer.
    """

    def __init__(self, statistics: dict[str, Any], cutoff: float):
        super().__init__()
        if cutoff <= 0:
            raise InputError(f"cutoff must be positive, got {cutoff} Å")
        self.cutoff = float(cutoff)
        self.n_features, self.n_layers, self.n_channels = 0, 1, 0
        self.register_buffer("nothing", torch.zeros(0), persistent=False)  # has the dtype of terms with weights

    def forward(self, graph: dict[str, Tensor]) -> dict[str, Tensor]:
        """Adds empty node_scalars and node_vectors to the graph."""
        return self.finish(graph)

    def begin(self, graph: dict[str, Tensor]) -> dict[str, Tensor]:
        """Adds features without channels."""
        nothing = torch.zeros_like(graph[keys.POSITIONS][:, :0], dtype=self.nothing.dtype)
        graph[keys.FEATURES] = nothing.unsqueeze(0).expand(4, -1, -1)
        return graph

    def proceed(self, graph: dict[str, Tensor], features: Tensor, layer: int) -> dict[str, Tensor]:
        """The graph: there are no further layers."""
        return graph

    def finish(self, graph: dict[str, Tensor]) -> dict[str, Tensor]:
        """Adds empty node_scalars and node_vectors to the graph."""
        positions = graph[keys.POSITIONS]
        graph[keys.NODE_SCALARS] = torch.zeros_like(positions[:, :0], dtype=self.nothing.dtype)
        graph[keys.NODE_VECTORS] = torch.zeros_like(positions, dtype=self.nothing.dtype).unsqueeze(2)[:, :, :0]
        return graph
