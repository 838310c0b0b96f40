"""Choice between the native kernel and the exported model itself, checked on the user's own structure."""

import sys

import torch
from torch import Tensor, nn

from mlip import keys
from mlip.errors import InputError
from mlip.export import TOLERANCE
from mlip.native.build import NoCompilerError, find_compiler
from mlip.native.model import NativeModel
from mlip.native.weights import Unsupported, weights_of

KERNELS = ("auto", "native", "torchscript")
ROUNDING = 10.0  # of the tolerance of an export: sums in another order


def with_kernel(model: nn.Module, kernel: str, device: torch.device) -> tuple[nn.Module, str]:
    """The model that runs, and one line that says which it is.

    model    of `export.load`
    kernel   auto: native if model and machine allow, else the model as it is; native: raise InputError if they do not
    """
    if kernel not in KERNELS:
        raise InputError(f"kernel={kernel}: must be one of {', '.join(KERNELS)}")
    scripted = getattr(model, "module", None)
    form = "TorchScript" if scripted is not None else "AOTI"
    if kernel == "torchscript":
        return model, form
    if scripted is None:
        return left_aside(model, kernel, "a compiled package (.pt2) has no native kernel", form)
    if device.type != "cpu":
        return left_aside(model, kernel, f"the native kernel runs on the CPU, asked is {device}", form)
    try:
        return Checked(model, NativeModel(weights_of(scripted))), f"native, {find_compiler()[1]}"
    except Unsupported as error:
        return left_aside(model, kernel, str(error), form)
    except (NoCompilerError, OSError) as error:
        answer = left_aside(model, kernel, str(error), form)
        print(f"mlip: no native kernel, {form} runs: {error}", file=sys.stderr)
        return answer


def left_aside(model: nn.Module, kernel: str, reason: str, form: str) -> tuple[nn.Module, str]:
    """The model as it is. Raises InputError if the native kernel was asked for by name."""
    if kernel == "native":
        raise InputError(f"kernel=native: {reason}; use kernel=auto")
    return model, f"{form} ({reason})"


class Checked(nn.Module):
    """The native kernel, if it gives the exported model's numbers for the first structures with neighbours.

    chosen   None before such structures came; then the model that runs
    """

    def __init__(self, exported: nn.Module, native: nn.Module):
        super().__init__()
        self.exported, self.native = exported, native
        self.chosen: nn.Module | None = None

    def forward(self, *inputs: Tensor | None) -> dict[str, Tensor]:
        if self.chosen is not None:
            return self.chosen(*inputs)
        expected = self.exported(*inputs)
        edge_index = inputs[4]
        if edge_index is None or edge_index.shape[1] == 0:
            return expected
        found = self.native(*inputs)
        if complaint := difference(expected, found):
            print(f"mlip: the native kernel differs from the model ({complaint}): TorchScript runs", file=sys.stderr)
            self.chosen = self.exported
            return expected
        self.chosen = self.native
        return found


def difference(expected: dict[str, Tensor], found: dict[str, Tensor]) -> str | None:
    """What differs by more than rounding; None if nothing does. Large values may differ by more, a NaN is a difference."""
    for name, value in expected.items():
        limit = ROUNDING * TOLERANCE[torch.float32]["energies" if name == keys.ENERGY else name]
        scale = value.abs().max().clamp(min=1.0) if value.numel() else 1.0
        error = (found[name] - value).abs().max() if value.numel() else torch.zeros(())
        if not error <= limit * scale:
            return f"{name} by {float(error):.1e}"
    return None
