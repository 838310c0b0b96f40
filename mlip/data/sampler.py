"""Batches bounded by edges or structures, the same number in every epoch and on every rank, resumable inside an epoch."""

import heapq
from collections.abc import Iterator

import numpy as np
import torch
from torch.utils.data import DataLoader, Sampler

from mlip.data.graph import collate
from mlip.errors import InputError


class EdgeBatchSampler(Sampler):
    """Batches of frame numbers, shuffled by seed + epoch.

    n_edges          [n_frames] edges of each frame
    edges_per_batch  bound on the edges of a batch: bounds the memory of a step
    batch_size       bound on the structures of a batch
    rank, world_size this process' share. Shuffled, ranks get equally many batches, and a frame may repeat to fill the last;
                     else every frame comes once, unless there are fewer batches than ranks

    Memory and speed follow the number of edges, so batches are packed evenly: frames are put into size classes (10 %
    steps), the classes are packed once into the fewest batches that keep both bounds, and each epoch deals shuffled
    frames into that fixed pattern. Hence every epoch has the same number of batches, which schedulers and resuming need.
    A shuffled pass that was given up, or loaded, goes on where it stopped, and the next one is the next epoch: a
    trainer's own count of epochs, which may be off after resuming, is not asked. Without shuffling a pass is always whole.
    """

    def __init__(self, n_edges, edges_per_batch: int | None = None, batch_size: int | None = None, shuffle: bool = True,
                 seed: int = 0, rank: int = 0, world_size: int = 1):  # fmt: skip
        if edges_per_batch is None and batch_size is None:
            raise InputError("give edges_per_batch or batch_size: a batch needs a bound")
        for name, value in (("edges_per_batch", edges_per_batch), ("batch_size", batch_size)):
            if value is not None and value < 1:
                raise InputError(f"{name} must be at least 1, got {value}")
        if not 0 <= rank < world_size:
            raise InputError(f"rank must lie in 0 ... {world_size - 1}, got {rank}")
        self.n_edges = np.asarray(n_edges, dtype=np.int64)
        if len(self.n_edges) == 0:
            raise InputError("no frames to sample from; is this split empty?")
        self.shuffle, self.seed, self.rank, self.world_size = shuffle, seed, rank, world_size
        self.sizes = size_classes(self.n_edges, edges_per_batch)
        self.by_size = np.argsort(-self.sizes, kind="stable")
        self.slots, self.n_batches = pack(self.sizes[self.by_size], edges_per_batch, batch_size, world_size)
        self.epoch = self.position = self.first = 0  # first: where the current pass began
        self.length = self.n_batches // world_size if shuffle else len(self.batches(0))

    def __len__(self) -> int:
        return self.length

    def batches(self, epoch: int) -> list[np.ndarray]:
        """All batches of this rank in one epoch."""
        frames = self.by_size
        order = np.arange(self.n_batches)
        if self.shuffle:
            rng = np.random.default_rng([self.seed, epoch])
            # frames of one size class change places; sorting by (class, random number) is that shuffle
            frames = np.lexsort((rng.random(len(self.sizes)), -self.sizes))
            order = rng.permutation(self.n_batches)
        slots = np.argsort(self.slots, kind="stable")
        parts = np.split(frames[slots], np.searchsorted(self.slots[slots], np.arange(1, self.n_batches)))
        filled = [part for part in parts if len(part)]
        if not self.shuffle and len(filled) >= self.world_size:
            return filled[self.rank :: self.world_size]  # metrics: no frame counts twice
        parts = [part if len(part) else filled[i % len(filled)] for i, part in enumerate(parts)]
        return [parts[i] for i in order[self.rank :: self.world_size]]

    def set_epoch(self, epoch: int) -> None:
        """The next pass is this epoch, from its beginning."""
        self.epoch, self.position = epoch, 0

    def state_dict(self) -> dict[str, int]:
        """Epoch and number of batches already given."""
        return {"epoch": self.epoch, "position": self.position, "seed": self.seed, "n_batches": len(self)}

    def load_state_dict(self, state: dict[str, int]) -> None:
        """Goes to that position; raises if it belongs to another set of batches."""
        for name, mine in (("seed", self.seed), ("n_batches", len(self))):
            if state[name] != mine:
                raise InputError(
                    f"the checkpoint's {name} is {state[name]}, this run's is {mine}: resume with the same "
                    "data, batch bounds, seed and number of processes, or start a new run from the weights"
                )
        self.epoch, self.position = int(state["epoch"]), int(state["position"])

    def __iter__(self) -> Iterator[list[int]]:
        if self.position >= len(self):
            self.epoch, self.position = self.epoch + 1, 0
        elif not self.shuffle:
            self.position = 0
        self.first = self.position
        for batch in self.batches(self.epoch)[self.first :]:
            self.position += 1
            yield batch.tolist()


def size_classes(n_edges: np.ndarray, edges_per_batch: int | None) -> np.ndarray:
    """Sizes rounded up to steps of 10 % (never above the bound itself); all equal when edges are not bounded."""
    if edges_per_batch is None:
        return np.zeros_like(n_edges)
    largest = int(n_edges.argmax())
    if n_edges[largest] > edges_per_batch:
        raise InputError(
            f"frame {largest} has {n_edges[largest]} edges, more than edges_per_batch = {edges_per_batch}; "
            f"set edges_per_batch to at least {n_edges[largest]} or lower the cutoff"
        )
    steps = np.unique(np.ceil(1.1 ** np.arange(np.ceil(np.log(edges_per_batch) / np.log(1.1)) + 1)).astype(np.int64))
    return np.minimum(steps[np.searchsorted(steps, n_edges)], edges_per_batch)


def pack(
    sizes: np.ndarray, edges_per_batch: int | None, batch_size: int | None, multiple: int
) -> tuple[np.ndarray, int]:
    """Batch number of each slot (sizes descending) and the number of batches, a multiple of `multiple`.

    The largest first, each into the batch with fewest edges that has room; more batches until the bound holds.
    """
    bound = edges_per_batch or np.inf
    count = max(1, -(-int(sizes.sum()) // int(bound)) if edges_per_batch else 1,
                -(-len(sizes) // batch_size) if batch_size else 1)  # fmt: skip
    while True:
        count = -(-count // multiple) * multiple
        open_batches = [(0, 0, number) for number in range(count)]  # edges, structures, number
        slots = np.empty(len(sizes), dtype=np.int64)
        for slot, size in enumerate(sizes.tolist()):
            if not open_batches or open_batches[0][0] + size > bound:
                break
            edges, structures, number = heapq.heappop(open_batches)
            slots[slot] = number
            if batch_size is None or structures + 1 < batch_size:
                heapq.heappush(open_batches, (edges + size, structures + 1, number))
        else:
            return slots, count
        count = max(count + 1, int(count * 1.02))


class GraphLoader(DataLoader):
    """Batched graphs, with the position of the last batch handed out as its state.

    Workers read ahead of training, so the position is counted here and not in the sampler.
    """

    def __init__(self, dataset, sampler: EdgeBatchSampler, num_workers: int = 0, pin_memory: bool = False):
        # its own generator: starting an epoch must not draw from the global one, or a resumed run differs
        super().__init__(dataset, batch_sampler=sampler, collate_fn=collate, num_workers=num_workers,
                         pin_memory=pin_memory, generator=torch.Generator().manual_seed(sampler.seed))  # fmt: skip
        self._given: dict | None = None

    def __iter__(self):
        sampler = self.batch_sampler
        if self._given is not None:  # workers of a pass given up have drawn more batches than were handed out
            sampler.load_state_dict(self._given)
        for number, batch in enumerate(super().__iter__(), 1):
            self._given = {**sampler.state_dict(), "position": sampler.first + number}
            yield batch

    def state_dict(self) -> dict[str, int]:
        """Position of the last batch handed out."""
        return dict(self._given or self.batch_sampler.state_dict())

    def load_state_dict(self, state: dict[str, int]) -> None:
        """The next batch is the one after that position."""
        self.batch_sampler.load_state_dict(state)
        self._given = None
