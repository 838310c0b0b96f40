"""Toy trainings on two processes that share one import, as torchrun would start them.

two_processes.py FOLDER: single (one process, two batches a step), whole (two processes), killed (one of the two kills
itself, then both start again).
"""

import os
import signal
import socket
import sys
from pathlib import Path

import pytorch_lightning as pl
import torch
import toy
from resume_run import die_at

from mlip.training.fit import train

KILLED_AT = 13  # between checkpoints


def fit(folder: Path, **settings) -> None:
    pl.seed_everything(0, verbose=False)
    # structures of two and of eight atoms, twelve to train on; three to validate, so that a process has one more
    data = toy.Data(toy.structures(17), batch_size=1, n_val=3, n_test=2)
    train(toy.module(), data, folder, max_steps=20, validate_every=6, checkpoint_every=5, resume=True, accelerator="cpu",
          **settings)  # fmt: skip


def child(work) -> int:
    """Process id of a child that does this work and exits."""
    process = os.fork()
    if process == 0:
        code = 1
        try:
            work()
            code = 0
        finally:
            os._exit(code)
    return process


def free_port() -> int:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return one.getsockname()[1]


def on_two(folder: Path, killed: int | None = None) -> list[int]:
    """Exit status of both processes; `killed` is the one that kills itself."""
    port = free_port()

    def work(rank: int) -> None:
        os.environ.update(MASTER_ADDR="127.0.0.1", MASTER_PORT=str(port), WORLD_SIZE="2", LOCAL_RANK=str(rank),
                          NODE_RANK="0")  # fmt: skip
        if rank == killed:
            die_at("step", KILLED_AT)
        fit(folder, devices=2, strategy="ddp")

    processes = [child(lambda rank=rank: work(rank)) for rank in (0, 1)]
    return [os.waitstatus_to_exitcode(os.waitpid(process, 0)[1]) for process in processes]


def main(folder: Path) -> None:
    torch.set_num_threads(1)
    single = child(lambda: fit(folder / "single", accumulate=2))
    assert os.waitpid(single, 0)[1] == 0
    assert on_two(folder / "whole") == [0, 0]
    codes = on_two(folder / "killed", killed=1)
    assert codes[1] == -signal.SIGKILL and codes[0] not in (0, -signal.SIGKILL), codes
    assert on_two(folder / "killed") == [0, 0]


if __name__ == "__main__":
    main(Path(sys.argv[1]))
