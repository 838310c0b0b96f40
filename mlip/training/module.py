"""The Lightning module: one potential, its weight average, a loss, an optimizer and a learning-rate schedule."""

import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import torch
from torch import Tensor, nn

from mlip import keys
from mlip.electrostatics.response import graph_born_charges, model_born_charges
from mlip.errors import DivergedError
from mlip.models.potential import Potential, strainable
from mlip.training.ema import WeightAverage
from mlip.training.energy_shifts import EnergyShifts, with_followed
from mlip.training.losses import WeightedSum
from mlip.training.metrics import Errors, Pairs
from mlip.training.randomness import random_state, set_random_state
from mlip.training.schedule import Budget


def with_born_charges(potential: Potential, batch: dict[str, Tensor]) -> dict[str, Tensor]:
    """Results of a potential in training mode, and the Born charges of the same charges; features are made once."""
    strained, positions, strain = strainable(batch)
    strained, energies = potential.described(strained)
    results = potential.derivatives(batch, strained, energies, positions, strain, True)
    return {**results, keys.BORN_CHARGES: graph_born_charges(strained, positions, True)}


class TrainingModule(pl.LightningModule):
    """Trains `potential`; validates and tests its weight average.

    loss          loss(results, graph, progress) -> (loss, parts)
    optimizer     called with the potential, gives a torch optimizer; its lr is the peak of the schedule
    schedule      factor(progress) of the peak learning rate; observe(validation loss)
    ema_decay     see WeightAverage
    statistics    of the training set, and
    config        resolved, plain: both stay in the checkpoint, so that the potential can be rebuilt from it alone
    config_types  names that graph["config_type"] indexes
    log_every     steps between two entries in the loggers; validations always write one
    l2_sp         weights decay towards those of `potential` as it is given, by the learning rate times this at every step
                  (L2-SP, arXiv:1802.01483); 0 lets them go
    """

    def __init__(
        self,
        potential: nn.Module,
        loss: WeightedSum,
        optimizer: Callable,
        schedule: Any,
        ema_decay: float,
        statistics: dict,
        config: dict,
        config_types: Sequence[str] = ("default",),
        log_every: int = 50,
        l2_sp: float = 0.0,
    ):
        super().__init__()
        self.potential = potential
        self.l2_sp = l2_sp
        self._start = [parameter.detach().clone() for parameter in potential.parameters()] if l2_sp else []
        self.average = WeightAverage(potential, ema_decay)
        self.shifts = EnergyShifts(potential, ema_decay)
        self.loss, self.make_optimizer, self.schedule = loss, optimizer, schedule
        self.statistics, self.config, self.config_types = statistics, config, list(config_types)
        self.log_every = log_every
        self.budget: Budget  # set by train()
        self.row: dict[str, float] = {}  # the newest validation: metrics.csv is made of these
        self.errors = Errors(self.config_types)
        self._sums: dict[str, Tensor] = {}  # training loss and parts since the last validation
        self._val_sums = torch.zeros(2)
        self._norm: tuple[Tensor, dict, Any] | None = None  # newest gradient norm, its batch
        self._random_state: dict | None = None

    def configure_optimizers(self) -> torch.optim.Optimizer:
        optimizer = self.make_optimizer(self.potential)
        for group in optimizer.param_groups:
            group["peak_lr"] = group["lr"]
        return optimizer

    def on_fit_start(self) -> None:
        self.budget.start()

    def on_train_batch_start(self, batch: dict[str, Tensor], batch_idx: int) -> None:
        if self._random_state is not None:  # here, because building loaders and weights has drawn numbers since
            set_random_state(self._random_state)
            self._random_state = None

    def training_step(self, batch: dict[str, Tensor], batch_idx: int) -> Tensor:
        results = self.results(self.potential, batch)
        loss, parts = self.loss(results, batch, self.budget.progress)
        self.shifts.observe(self.potential, results, batch)
        for name, value in {"loss": loss.detach(), **parts}.items():
            self._sums[name] = self._sums.get(name, 0.0) + value
        self._sums["steps"] = self._sums.get("steps", 0) + 1
        if self.budget.steps % self.log_every == 0:
            lr = self.trainer.optimizers[0].param_groups[0]["lr"]
            self._to_loggers(
                {"train/loss": loss.detach(), "lr": lr} | {f"train/{name}": v for name, v in parts.items()}
            )
        return loss

    def results(self, potential: nn.Module, batch: dict[str, Tensor]) -> dict[str, Tensor]:
        """Those of the potential, and Born charges where the loss asks for them: they are a derivative more."""
        if keys.BORN_CHARGES not in self.loss.asked:
            return potential(batch)
        if potential.training:
            return with_born_charges(potential, batch)
        return {**potential(batch), keys.BORN_CHARGES: model_born_charges(potential, batch)}

    def backward(self, loss: Tensor, *args: Any, **kwargs: Any) -> None:
        """Gradients of the weights alone: positions and strains, by which forces are derivatives, need no second one."""
        weights = [parameter for parameter in self.potential.parameters() if parameter.requires_grad]
        loss.backward(*args, inputs=weights, **kwargs)

    def configure_gradient_clipping(
        self, optimizer: torch.optim.Optimizer, gradient_clip_val: float | None = None, **kwargs: Any
    ) -> None:
        limit = math.inf if gradient_clip_val is None else gradient_clip_val
        norm = nn.utils.clip_grad_norm_(self.potential.parameters(), limit)
        state = self.trainer.train_dataloader.state_dict()
        if norm.is_cuda:  # looked at one step later, when it has arrived: the GPU never waits for it
            self.check_finite()
            arrived = torch.cuda.Event()
            self._norm = (norm.to("cpu", non_blocking=True), state, arrived)
            arrived.record()
        else:
            self._norm = (norm, state, None)
            self.check_finite()

    def check_finite(self) -> None:
        """Raises DivergedError, naming the structures, if the newest gradient is not finite."""
        if self._norm is None:
            return
        norm, state, arrived = self._norm
        if arrived is not None:
            arrived.synchronize()
        if not math.isfinite(norm.item()):
            frames = ", ".join(self.trainer.train_dataloader.frames(state))
            highest = max(group["peak_lr"] for group in self.trainer.optimizers[0].param_groups)
            last = Path(self.trainer.default_root_dir) / "checkpoints" / "last.ckpt"
            raise DivergedError(
                f"the gradient of the loss is not finite at step {self.budget.steps}, in a batch of {frames}: lower optimizer.lr (up to "
                f"{highest:g} here), look at large weights of the loss, and at these frames with `mlip data check`"
                + (f"; {last} is from before" if last.exists() else "")
            )

    def optimizer_step(
        self, epoch: int, batch_idx: int, optimizer: Any, optimizer_closure: Callable[[], Any] | None = None
    ) -> None:
        factor = self.schedule.factor(self.budget.progress)
        for group in optimizer.param_groups:
            group["lr"] = group["peak_lr"] * factor
        optimizer.step(closure=optimizer_closure)
        self.pull_to_start(optimizer.param_groups[0]["lr"])
        self.average.update(self.potential)
        self.shifts.follow(
            [self.potential, self.average.potential], lambda sums: self.trainer.strategy.reduce(sums, reduce_op="sum")
        )
        self.budget.steps += 1
        self.budget.epochs = self.trainer.train_dataloader.epochs

    @torch.no_grad()
    def pull_to_start(self, lr: float) -> None:
        """theta <- theta - lr l2_sp (theta - theta_start)."""
        if self.l2_sp:
            for parameter, start in zip(self.potential.parameters(), self._start, strict=True):
                parameter.lerp_(start.to(parameter), min(1.0, lr * self.l2_sp))

    def on_train_batch_end(self, outputs: Any, batch: dict[str, Tensor], batch_idx: int) -> None:
        if self.budget.progress >= 1:
            self.trainer.should_stop = True  # Lightning validates once more, then leaves

    def on_validation_epoch_start(self) -> None:
        self.errors = Errors(self.config_types)
        self._val_sums = torch.zeros(2, dtype=torch.float64, device=self.device)  # loss, structures

    def validation_step(self, batch: dict[str, Tensor], batch_idx: int) -> None:
        with torch.enable_grad():  # forces are derivatives
            results = self.results(self.average.potential, batch)
        self.errors.update(results, batch)
        n_systems = batch[keys.CELL].shape[0]
        # always with the weights of the last stage, so that "best" means the same throughout
        self._val_sums[0] += n_systems * self.loss({k: v.detach() for k, v in results.items()}, batch, 1.0)[0]
        self._val_sums[1] += n_systems

    def on_validation_epoch_end(self) -> None:
        self.errors.reduce()
        sums = self.trainer.strategy.reduce(self._val_sums, reduce_op="sum")
        val_loss = float(sums[0] / sums[1].clamp(min=1))
        self.row = self.training_row() | {"val_loss": val_loss}
        self.row |= {f"val_{name}": value for name, value in self.errors.total().items()}
        self.schedule.observe(val_loss)
        self._to_loggers(
            {name.replace("_", "/", 1): v for name, v in self.row.items() if name.startswith(("val_", "train_"))}
        )
        self.log("val_loss", val_loss, logger=False, sync_dist=True)  # for early stopping

    def training_sums(self) -> dict[str, float]:
        """Training loss and parts since the last validation, and the steps: sums, mean over processes."""
        if not self._sums:
            return {}
        values = torch.stack([torch.as_tensor(v, dtype=torch.float64, device=self.device) for v in self._sums.values()])
        values = self.trainer.strategy.reduce(values, reduce_op="mean")
        return dict(zip(self._sums, values.tolist(), strict=True))

    def training_row(self) -> dict[str, float]:
        """Where the training stands, and the mean training loss and parts since the last row."""
        sums = self.training_sums()
        n_steps = sums.pop("steps", 1)
        train = {f"train_{name}": value / n_steps for name, value in sums.items()}
        self._sums = {}
        return {
            "step": self.budget.steps, "epoch": self.budget.epochs, "progress": self.budget.progress,
            "cpu_s": self.budget.cpu_seconds, "wall_s": self.budget.wall_seconds,
            "lr": self.trainer.optimizers[0].param_groups[0]["lr"], **train,
        }  # fmt: skip

    def on_test_epoch_start(self) -> None:
        self.errors, self.pairs = Errors(self.config_types), Pairs()

    def test_step(self, batch: dict[str, Tensor], batch_idx: int) -> None:
        with torch.enable_grad():
            results = self.results(self.average.potential, batch)
        self.errors.update(results, batch)
        self.pairs.update(results, batch)

    def on_test_epoch_end(self) -> None:
        self.errors.reduce()

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        self.check_finite()
        checkpoint["mlip"] = {
            "statistics": with_followed(self.statistics, self.average.potential),
            "config": self.config,
            "budget": self.budget.state_dict(),
            "schedule": self.schedule.state_dict(),
            "train_sums": self.training_sums(),
            "random_state": random_state(),
            "energy_shifts": self.shifts.state_dict(),
        }

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        state = checkpoint["mlip"]
        self.budget.load_state_dict(state["budget"])
        self.schedule.load_state_dict(state["schedule"])
        self._sums = dict(state["train_sums"])
        self._random_state = state["random_state"]
        if "energy_shifts" in state:
            self.shifts.load_state_dict(state["energy_shifts"])

    def _to_loggers(self, values: dict[str, Any]) -> None:
        # past Lightning's own bookkeeping, which costs as much as a small network's step
        for logger in self.loggers:
            logger.log_metrics({name: float(value) for name, value in values.items()}, step=self.budget.steps)
