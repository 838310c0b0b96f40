"""A potential of a few numbers, and its data, for tests of the training alone."""

import numpy as np
import pytorch_lightning as pl
import torch
from ase import Atoms
from ase.build import bulk
from torch import nn

from mlip import keys
from mlip.data.graph import to_graph
from mlip.data.sampler import EdgeBatchSampler, GraphLoader
from mlip.training.losses import AtomLoss, EnergyLoss, Huber, StressLoss, WeightedSum
from mlip.training.module import TrainingModule
from mlip.training.optimizer import adamw
from mlip.training.schedule import WarmupCosine

CUTOFF = 4.0
STATISTICS = {
    "elements": [3, 9], "levels": ["default"], "atomic_energies": [[-1.0, -2.0]], "mean_neighbours": 12.0, "force_rms": 0.5,
}  # fmt: skip


class Embedding(nn.Module):
    def __init__(self, elements, width=4):
        super().__init__()
        self.elements = list(elements)
        self.weight = nn.Parameter(torch.randn(len(elements), width, dtype=torch.float64) * 0.3)


class Morse(nn.Module):
    """Pair energies d ((1 - exp(-a (r - r0)))^2 - 1) smoothly cut, with d and r0 from learned species vectors."""

    def __init__(self, statistics, noise=0.0):
        super().__init__()
        self.statistics, self.noise = statistics, noise
        self.elements, self.levels, self.cutoff = statistics["elements"], statistics["levels"], CUTOFF
        self.species = Embedding(self.elements)
        self.mix = nn.Linear(8, 6, dtype=torch.float64)
        self.out = nn.Linear(6, 2, dtype=torch.float64)
        self.register_buffer("shift", torch.tensor(statistics["atomic_energies"], dtype=torch.float64))

    def forward(self, graph):
        with torch.enable_grad():
            n_systems = graph[keys.CELL].shape[0]
            batch = graph[keys.BATCH]
            positions = graph[keys.POSITIONS].detach().clone().requires_grad_(True)
            strain = torch.zeros_like(graph[keys.CELL]).requires_grad_(True)
            deform = torch.eye(3, dtype=torch.float64) + 0.5 * (strain + strain.transpose(1, 2))
            centre, neighbour = graph[keys.EDGE_INDEX]
            shift = (graph[keys.EDGE_SHIFT].double()[:, None] @ graph[keys.CELL][batch[centre]])[:, 0]
            vector = ((positions[neighbour] + shift - positions[centre])[:, None] @ deform[batch[centre]])[:, 0]
            r = vector.norm(dim=1)
            row = torch.tensor([self.elements.index(int(z)) for z in graph[keys.ATOMIC_NUMBERS]])
            pair = torch.cat([self.species.weight[row[centre]], self.species.weight[row[neighbour]]], dim=1)
            depth, place = self.out(torch.tanh(self.mix(pair))).T
            if self.training and self.noise:  # draws random numbers, so that a wrong generator state shows
                depth = depth + self.noise * torch.randn_like(depth)
            energy = depth.exp() * ((1 - torch.exp(-1.2 * (r - 2.2 - place))) ** 2 - 1) * (1 - (r / CUTOFF) ** 2) ** 3
            energies = 0.5 * torch.zeros_like(positions[:, 0]).index_add(0, centre, energy)
            energies = energies + self.shift[graph[keys.LEVEL][batch], row]
            total = torch.zeros(n_systems, dtype=torch.float64).index_add(0, batch, energies)
            d_positions, d_strain = torch.autograd.grad(total.sum(), [positions, strain], create_graph=self.training)
        volume = torch.linalg.det(graph[keys.CELL]).abs()[:, None, None]
        return {"energy": total, "energies": energies, "forces": -d_positions, "stress": d_strain / volume}


def structures(n=10, seed=0):
    """Rattled LiF cells labelled by a Morse potential of the same form."""
    rng = np.random.default_rng(seed)
    torch.manual_seed(5)
    truth = Morse(STATISTICS).eval()
    frames = []
    for i in range(n):
        atoms = bulk("LiF", "rocksalt", a=4.0, cubic=bool(i % 2))
        atoms.rattle(0.15, rng=rng)
        results = truth(to_graph(atoms, CUTOFF))
        atoms.info[keys.REF_ENERGY] = float(results["energy"].detach())
        atoms.info[keys.REF_STRESS] = results["stress"][0].detach().numpy()
        atoms.arrays[keys.REF_FORCES] = results["forces"].detach().numpy()
        atoms.info["config_type"] = "cubic" if i % 2 else "primitive"
        frames.append(atoms)
    return frames


class Data(pl.LightningDataModule):
    """train, validation and test structures held in memory."""

    def __init__(self, frames: list[Atoms], batch_size=2, n_val=2, n_test=2):
        super().__init__()
        self.config_types = ["cubic", "primitive"]
        graphs = [to_graph(atoms, CUTOFF, config_types=self.config_types) for atoms in frames]
        self.batch_size = batch_size
        self.val, self.test, self.train = graphs[:n_val], graphs[n_val : n_val + n_test], graphs[n_val + n_test :]

    def loader(self, graphs, shuffle=False):
        world, rank = (self.trainer.world_size, self.trainer.global_rank) if self.trainer else (1, 0)
        n_edges = [graph[keys.EDGE_INDEX].shape[1] for graph in graphs]
        sampler = EdgeBatchSampler(n_edges, batch_size=self.batch_size, shuffle=shuffle, rank=rank, world_size=world)
        return GraphLoader(graphs, sampler)

    def train_dataloader(self):
        return self.loader(self.train, shuffle=True)

    def val_dataloader(self):
        return self.loader(self.val)

    def test_dataloader(self):
        return self.loader(self.test)


def loss():
    return WeightedSum(
        {
            "energy": EnergyLoss(Huber(0.01)),
            "forces": AtomLoss("forces", "ref_forces", Huber(0.1)),
            "stress": StressLoss(Huber(0.002)),
        },
        {"energy": [0.3, 1.0], "forces": 1.0, "stress": 0.1},
        second_stage=0.6,
    )


def module(noise=0.0, schedule=None, lr=0.02, l2_sp=0.0):
    torch.manual_seed(0)
    potential = Morse(STATISTICS, noise)
    return TrainingModule(
        potential, loss(), lambda p: adamw(p, lr, 1e-4, (0.9, 0.99)), schedule or WarmupCosine(0.05, 0.01), 0.99,
        STATISTICS, {"noise": noise}, ["cubic", "primitive"], log_every=5, l2_sp=l2_sp,
    )  # fmt: skip
