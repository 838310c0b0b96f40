"""Training batches without end, one epoch after another, that go on from any batch."""

from collections.abc import Iterator
from typing import Any, Protocol

import pytorch_lightning as pl
from torch.utils.data import DataLoader


class StatefulLoader(Protocol):
    """Loader of batches that continues from any of them; its state has the "epoch" and "position" of the last batch."""

    dataset: Any
    batch_sampler: Any

    def __iter__(self) -> Iterator[Any]: ...
    def __len__(self) -> int: ...
    def state_dict(self) -> dict[str, int]: ...
    def load_state_dict(self, state: dict[str, int]) -> None: ...


class Stream:
    """Iterates over a loader again and again; Lightning sees one long epoch, and the budget ends it.

    loader: has state_dict() and load_state_dict() with the "epoch" and "position" of the last batch handed out
    (not of the last one read: workers read ahead), and goes on from there
    """

    def __init__(self, loader: StatefulLoader):
        self.loader = loader

    def __iter__(self) -> Iterator[Any]:
        while True:
            yield from self.loader

    def __len__(self) -> int:
        return 2**40  # given a length, Lightning reads nothing ahead, so the position is that of the optimizer

    @property
    def epochs(self) -> float:
        """Epochs done, e.g. 2.25."""
        state = self.loader.state_dict()
        return state["epoch"] + state["position"] / len(self.loader)

    def frames(self, state: dict[str, int]) -> list[str]:
        """Where the structures of the batch last handed out at that state came from."""
        numbers = self.loader.batch_sampler.batches(state["epoch"])[state["position"] - 1]
        dataset = self.loader.dataset
        names = dataset.sources() if hasattr(dataset, "sources") else [f"frame {i}" for i in range(len(dataset))]
        return [names[i] for i in numbers]

    def state_dict(self) -> dict[str, int]:
        return self.loader.state_dict()

    def load_state_dict(self, state: dict[str, int]) -> None:
        self.loader.load_state_dict(state)


class StreamedData(pl.LightningDataModule):
    """A data module whose training batches have no end; validation and test are as they were."""

    def __init__(self, data: pl.LightningDataModule):
        super().__init__()
        self.data = data

    def prepare_data(self) -> None:
        self.data.prepare_data()

    def setup(self, stage: str) -> None:
        self.data.trainer = self.trainer  # tells rank and number of processes
        self.data.setup(stage)

    def train_dataloader(self) -> Stream:
        return Stream(self.data.train_dataloader())

    def val_dataloader(self) -> DataLoader:
        return self.data.val_dataloader()

    def test_dataloader(self) -> DataLoader:
        return self.data.test_dataloader()
