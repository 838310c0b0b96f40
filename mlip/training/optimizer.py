"""AdamW that decays only what is a matrix."""

import torch
from torch import nn

from mlip.errors import InputError


def adamw(
    potential: nn.Module, lr: float, weight_decay: float, betas: tuple[float, float], amsgrad: bool = False
) -> torch.optim.AdamW:
    """Decoupled weight decay on matrices; none on biases, gains and embeddings (arXiv:1711.05101).

    lr: reached after the warm-up, 1e-3 to 1e-2 for these networks; parameters that need no gradient are left out
    """
    embeddings = {
        id(p) for module in potential.modules() if isinstance(module, nn.Embedding) for p in module.parameters()
    }
    decayed, plain = [], []
    for name, parameter in potential.named_parameters():
        if parameter.requires_grad:
            exempt = parameter.dim() < 2 or id(parameter) in embeddings or "embedding" in name
            (plain if exempt else decayed).append(parameter)
    groups = [{"params": decayed, "weight_decay": weight_decay}, {"params": plain, "weight_decay": 0.0}]
    groups = [group for group in groups if group["params"]]
    if not groups:
        raise InputError("the potential has nothing to train: no parameter needs a gradient")
    # fused: one kernel for all parameters; a step of a small network is short enough to notice the difference
    return torch.optim.AdamW(groups, lr=lr, betas=tuple(betas), amsgrad=amsgrad, fused=True)
