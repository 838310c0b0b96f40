"""How far a training is, and which learning rate belongs there."""

import math
import time

from mlip.errors import InputError


class Budget:
    """What a training may use. progress = the largest used fraction of steps, epochs and CPU seconds, from 0 to 1.

    max_seconds counts CPU time of this process (all threads), so that trainings on a shared machine compare
    fairly; the time used travels in the checkpoint. With steps or epochs alone a resumed run repeats bit for bit.
    """

    def __init__(self, max_steps: int | None = None, max_epochs: int | None = None, max_seconds: float | None = None):
        self.limits = {"steps": max_steps, "epochs": max_epochs, "seconds": max_seconds}
        if all(limit is None for limit in self.limits.values()):
            raise InputError("a training needs an end: give max_steps, max_epochs or max_seconds")
        for name, limit in self.limits.items():
            if limit is not None and limit <= 0:
                raise InputError(f"max_{name} must be positive, got {limit}")
        self.steps, self.epochs = 0, 0.0
        self._cpu_before, self._wall_before = 0.0, 0.0
        self.start()

    def start(self) -> None:
        """The clock runs from here."""
        self._cpu_start, self._wall_start = time.process_time(), time.monotonic()

    @property
    def cpu_seconds(self) -> float:
        return self._cpu_before + time.process_time() - self._cpu_start

    @property
    def wall_seconds(self) -> float:
        return self._wall_before + time.monotonic() - self._wall_start

    @property
    def progress(self) -> float:
        used = {
            "steps": self.steps,
            "epochs": self.epochs,
            "seconds": self.cpu_seconds if self.limits["seconds"] else 0,
        }
        return min(1.0, max(used[name] / limit for name, limit in self.limits.items() if limit is not None))

    def state_dict(self) -> dict:
        return {"steps": self.steps, "epochs": self.epochs, "cpu_s": self.cpu_seconds, "wall_s": self.wall_seconds}

    def load_state_dict(self, state: dict) -> None:
        self.steps, self.epochs = state["steps"], state["epochs"]
        self._cpu_before, self._wall_before = state["cpu_s"], state["wall_s"]
        self.start()


class WarmupCosine:
    """factor(p) = p / w for p < w, then f + (1 - f) (1 + cos(pi (p - w) / (1 - w))) / 2;  p = progress from 0 to 1.

    warmup w: fraction of the training, 0.01 to 0.05; final f: last factor
    A function of progress alone: nothing to store, and it anneals within whatever budget was given.
    """

    def __init__(self, warmup: float, final: float):
        if not (0 <= warmup < 1 and 0 <= final <= 1):
            raise InputError(f"warmup must be in [0, 1) and final in [0, 1], got {warmup} and {final}")
        self.warmup, self.final = warmup, final

    def factor(self, progress: float) -> float:
        if progress < self.warmup:
            return progress / self.warmup
        phase = (progress - self.warmup) / (1 - self.warmup)
        return self.final + (1 - self.final) * 0.5 * (1 + math.cos(math.pi * min(phase, 1.0)))

    def observe(self, loss: float) -> None:
        """A cosine does not look at the validation."""

    def state_dict(self) -> dict:
        return {}

    def load_state_dict(self, state: dict) -> None:
        """Nothing is stored."""


class Plateau:
    """Factor that falls when the validation loss does not.

    After the warm-up it is multiplied by `decay` whenever the loss has not fallen by the fraction `threshold` for
    `patience` validations; never below `final`.
    """

    def __init__(self, warmup: float, decay: float, patience: int, threshold: float, final: float):
        if not 0 < decay < 1:
            raise InputError(f"decay must be between 0 and 1, got {decay}")
        self.warmup, self.decay, self.patience, self.threshold, self.final = warmup, decay, patience, threshold, final
        self.level, self.best, self.waited = 1.0, math.inf, 0

    def factor(self, progress: float) -> float:
        return self.level * (min(1.0, progress / self.warmup) if self.warmup > 0 else 1.0)

    def observe(self, loss: float) -> None:
        if loss < self.best * (1 - self.threshold):
            self.best, self.waited = loss, 0
            return
        self.waited += 1
        if self.waited > self.patience:
            self.level, self.waited = max(self.final, self.level * self.decay), 0

    def state_dict(self) -> dict:
        return {"level": self.level, "best": self.best, "waited": self.waited}

    def load_state_dict(self, state: dict) -> None:
        self.level, self.best, self.waited = state["level"], state["best"], state["waited"]
