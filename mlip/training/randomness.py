"""The state of every random generator, as plain data that a checkpoint may hold."""

import random

import numpy as np
import torch


def random_state() -> dict:
    """States of torch (CPU and GPUs), NumPy and Python."""
    name, numbers, *rest = np.random.get_state(legacy=True)
    return {
        "torch": torch.get_rng_state(),
        "cuda": torch.cuda.get_rng_state_all() if torch.cuda.is_available() else [],
        "numpy": [name, np.asarray(numbers).tolist(), *rest],
        "python": random.getstate(),
    }


def set_random_state(state: dict) -> None:
    """Puts them back; states of GPUs that are not there are left out."""
    torch.set_rng_state(state["torch"].cpu())
    if torch.cuda.is_available() and len(state["cuda"]) == torch.cuda.device_count():
        torch.cuda.set_rng_state_all([gpu.cpu() for gpu in state["cuda"]])
    np.random.set_state(tuple(state["numpy"]))
    random.setstate(state["python"])
