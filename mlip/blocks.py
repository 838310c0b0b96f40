"""A large system through an exported model in blocks of atoms: memory is a block, and a few kB for each atom.

Features of the layers before the last are computed block by block without a graph, then energies of the last layer with
one, then every layer again from the last to the first, which carries the derivatives by its features to the edges.
"""

from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from mlip import keys
from mlip.export import OPTIONAL, REQUIRED
from mlip.models.potential import stress_of

ABOVE = 10_000  # atoms; in one piece the network takes 100 to 400 kB for each
BLOCK = 1000  # atoms


class Block(NamedTuple):
    """Rows first .. last of a system, and what their edges lead to."""

    first: int
    last: int
    members: Tensor  # [n_atoms + n_ghosts] rows of the system: own atoms, then ghosts
    edge_index: Tensor  # [2, n_edges] places among the members
    edge_vector: Tensor  # [n_edges, 3] Å


class InBlocks(nn.Module):
    """An exported model, called as it is; above ABOVE atoms one system runs in blocks, with the same numbers.

    stages  of the file's metadata
    """

    def __init__(self, model: nn.Module, stages: dict):
        super().__init__()
        self.model, self.stages = model, stages
        self.module: Any = model.module  # scripted

    def forward(self, *inputs: Tensor | None) -> dict[str, Tensor]:
        """Results of `Deployed.forward`."""
        graph = {key: value for key, value in zip(REQUIRED + OPTIONAL, inputs, strict=False) if value is not None}
        whole = keys.CHARGE_GROUP in graph or keys.FIELD in graph or len(graph[keys.CELL]) > 1
        if whole or len(graph[keys.POSITIONS]) <= ABOVE:
            return self.model(*inputs)
        for key in (keys.POSITIONS, keys.CELL, keys.EDGE_SHIFT):
            graph[key] = graph[key].to(torch.float64)
        with torch.jit.optimized_execution(False):
            return self.evaluate(graph)

    def evaluate(self, graph: dict[str, Tensor]) -> dict[str, Tensor]:
        """Results of one system."""
        n_layers = self.stages["n_layers"]
        degree = torch.bincount(graph[keys.EDGE_INDEX][0], minlength=len(graph[keys.POSITIONS]))
        ends = [0, *torch.cumsum(degree, 0).tolist()]
        with torch.no_grad():
            features: list[Tensor] = []
            for _ in range(n_layers - 1):
                parts = [
                    self.run(graph, block, of_block(features, block))[keys.FEATURES] for block in blocks(graph, ends)
                ]
                features.append(torch.cat(parts, dim=1))
        results = self.solve(graph, ends, features)
        by_features = [torch.zeros_like(part) for part in features]
        for layer in reversed(range(n_layers)):
            for block in blocks(graph, ends):
                self.pull(graph, block, features, by_features, layer, results)
        results[keys.STRESS] = stress_of(results.pop(keys.VIRIAL), graph[keys.CELL])
        for name in (keys.NODE_SCALARS, keys.NODE_VECTORS):
            results.pop(name, None)
        return {keys.ENERGY: results[keys.ENERGIES].sum()[None], **results}

    def run(self, graph: dict[str, Tensor], block: Block, sent: list[Tensor]) -> dict[str, Tensor]:
        """The stages of a block as far as there are features [4, n_members, K] of the layers before."""
        numbers = graph[keys.ATOMIC_NUMBERS][block.members]
        described = self.module.begin(block.edge_vector, block.edge_index, numbers, block.last - block.first)
        for layer, features in enumerate(sent, 1):
            described = self.module.proceed(described, features, layer)
        return described

    def solve(self, graph: dict[str, Tensor], ends: list[int], features: list[Tensor]) -> dict[str, Tensor]:
        """Energies, forces and virial of the terms that are not local, and their derivatives by the features."""
        positions = graph[keys.POSITIONS]
        if not self.stages["global"]:
            return {keys.ENERGIES: self.of_charge(graph), keys.FORCES: torch.zeros_like(positions),
                    keys.VIRIAL: torch.zeros_like(graph[keys.CELL])}  # fmt: skip
        scalars: list[Tensor] = []
        vectors: list[Tensor] = []
        with torch.no_grad():
            for block in blocks(graph, ends):
                described = self.module.finish(self.run(graph, block, of_block(features, block)))
                scalars.append(described[keys.NODE_SCALARS])
                some = described[keys.NODE_VECTORS]
                vectors.append(some if self.stages["vectors"] else some[:0])
        charge = graph.get(keys.TOTAL_CHARGE, torch.zeros_like(positions[:1, 0])).to(torch.float64)
        with torch.enable_grad():
            return self.module.solve(
                positions, graph[keys.ATOMIC_NUMBERS], graph[keys.CELL], graph[keys.PBC], torch.cat(scalars),
                torch.cat(vectors), charge, graph.get(keys.GUESS),
            )  # fmt: skip

    def of_charge(self, graph: dict[str, Tensor]) -> Tensor:
        """Energy of the total charge, of every atom [n_atoms] eV; 0 for files from before there was one."""
        lone = next(self.module.potential.terms.children())
        if not hasattr(lone, "of_charge"):
            return torch.zeros_like(graph[keys.POSITIONS][:, 0])
        level = torch.full([1], self.module.level, device=graph[keys.BATCH].device)
        return lone.of_charge({**graph, keys.LEVEL: level})

    def pull(
        self,
        graph: dict[str, Tensor],
        block: Block,
        features: list[Tensor],
        by_features: list[Tensor],
        layer: int,
        results: dict[str, Tensor],
    ) -> None:
        """Adds what follows from the features of one layer of a block: forces, virial, derivatives by those before."""
        rows = slice(block.first, block.last)
        block = block._replace(edge_vector=block.edge_vector.requires_grad_(True))
        sent = [part.requires_grad_(True) for part in of_block(features[:layer], block)]
        with torch.enable_grad():
            described = self.run(graph, block, sent)
            if layer == self.stages["n_layers"] - 1:
                described = self.module.finish(described)
                total = described[keys.ENERGIES].sum()
                for name in (keys.NODE_SCALARS, keys.NODE_VECTORS):
                    if name in results and len(results[name]):
                        total = total + (described[name] * results[name][rows]).sum()
                results[keys.ENERGIES][rows] += described[keys.ENERGIES].detach()
            else:
                total = (described[keys.FEATURES] * by_features[layer][:, rows]).sum()
            gradients = torch.autograd.grad(
                total, [block.edge_vector, *sent], materialize_grads=True, allow_unused=True
            )
        vector, slope = block.edge_vector.detach(), gradients[0]
        centre, neighbour = block.members[block.edge_index]
        results[keys.FORCES].index_add_(0, centre, slope).index_add_(0, neighbour, slope, alpha=-1.0)
        results[keys.VIRIAL] += vector.T @ slope
        for whole, part in zip(by_features, gradients[1:], strict=False):
            whole.index_add_(1, block.members, part)


def of_block(features: list[Tensor], block: Block) -> list[Tensor]:
    """Features [4, n_members, K] of each layer, of [4, n_atoms, K]."""
    return [part[:, block.members] for part in features]


def blocks(graph: dict[str, Tensor], ends: list[int]):
    """The blocks of a system, one after another; ends [n_atoms + 1]: where the edges of each atom begin."""
    positions, cell = graph[keys.POSITIONS], graph[keys.CELL][0]
    for first in range(0, len(positions), BLOCK):
        last = min(first + BLOCK, len(positions))
        edges = slice(ends[first], ends[last])
        centre, neighbour = graph[keys.EDGE_INDEX][:, edges]
        vector = positions[neighbour] + graph[keys.EDGE_SHIFT][edges] @ cell - positions[centre]
        own = (neighbour >= first) & (neighbour < last)
        ghosts = torch.unique(neighbour[~own])
        place = torch.where(own, neighbour - first, last - first + torch.searchsorted(ghosts, neighbour))
        members = torch.cat([torch.arange(first, last, device=ghosts.device), ghosts])
        yield Block(first, last, members, torch.stack([centre - first, place]), vector)


def in_blocks(model: nn.Module, metadata: dict) -> nn.Module:
    """The model, in blocks if it is scripted and its file says that it has stages; charge along bonds has none here."""
    stages = metadata.get("stages", {"refused": "the file is from before the stages"})
    if not hasattr(model, "module") or "refused" in stages or stages.get("bond_width", 0):
        return model
    return InBlocks(model, stages)
