"""A Lightning callback that ends NequIP's training, annealed, when a budget of CPU seconds is spent."""

import json
import sys
import time

import lightning
from serve import cosine_of_budget


class CpuBudget(lightning.Callback):
    """Learning rate lr (1 + cos(pi t / seconds)) / 2 with t the CPU time of this process; stops at t = seconds."""

    def __init__(self, seconds: float, lr: float):
        self.seconds, self.lr = seconds, lr

    def on_train_batch_start(self, trainer, module, batch, batch_idx):
        factor = cosine_of_budget(self.seconds)
        for group in trainer.optimizers[0].param_groups:
            group["lr"] = self.lr * (factor or 0.0)
        trainer.should_stop = factor is None

    def on_train_batch_end(self, trainer, module, outputs, batch, batch_idx):
        if trainer.global_step % 200 == 0:
            cpu, loss = time.process_time(), float(outputs["loss"])
            print(f"{cpu:.0f} CPU s  step {trainer.global_step}  loss {loss:.4f}", file=sys.stderr, flush=True)

    def on_train_end(self, trainer, module):
        figures = {
            "cpu_s": time.process_time(),
            "steps": trainer.global_step,
            "epochs": trainer.global_step / trainer.num_training_batches,
            "parameters": sum(p.numel() for p in module.model.parameters()),
        }
        print(json.dumps(figures), flush=True)
