"""Choice between the native kernel and the exported model itself, checked on the user's own structure."""

import sys

import torch
from torch import Tensor, nn

from mlip import keys
from mlip.compiled import NoCompilerError, find_compiler
from mlip.errors import InputError
from mlip.export import OPTIONAL, REQUIRED, TOLERANCE, arguments
from mlip.native.beside import Beside
from mlip.native.model import NativeModel
from mlip.native.weights import Unsupported, beside, weights_of

KERNELS = ("auto", "native", "torchscript")
ROUNDING = 10.0  # of the tolerance of an export: sums in another order
PIECE = 1000  # atoms of a larger structure on which the kernel is checked: the model itself takes 100 times its memory


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
        weights, others = weights_of(scripted), beside(scripted)
        native = NativeModel(weights, Beside(scripted.potential.limits, others) if others else None)
        return Checked(model, native), f"native, {find_compiler()[1]}"
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

    Of a structure of more than PIECE atoms, for a piece.

    chosen   None before such structures came; then the model that runs
    """

    def __init__(self, exported: nn.Module, native: nn.Module):
        super().__init__()
        self.exported, self.native = exported, native
        self.chosen: nn.Module | None = None

    def forward(self, *inputs: Tensor | None) -> dict[str, Tensor]:
        if self.chosen is not None:
            return self.chosen(*inputs)
        graph = {key: value for key, value in zip(REQUIRED + OPTIONAL, inputs, strict=False) if value is not None}
        if graph[keys.EDGE_INDEX].shape[1] == 0:
            return self.exported(*inputs)
        whole = len(graph[keys.POSITIONS]) <= PIECE
        compared = inputs if whole else arguments(piece(graph, PIECE))
        expected, found = self.exported(*compared), self.native(*compared)
        self.chosen = self.native
        if complaint := difference(expected, found):
            print(f"mlip: the native kernel differs from the model ({complaint}): TorchScript runs", file=sys.stderr)
            self.chosen = self.exported
        if whole:
            return expected if complaint else found
        return self.chosen(*inputs)


def piece(graph: dict[str, Tensor], n_atoms: int) -> dict[str, Tensor]:
    """About so many connected atoms as a molecule of one system, with the edges among them that cross no boundary.

    The cell gives the stress a volume; total charge, groups, field and guess are left out.
    """
    (centre, neighbour), shift = graph[keys.EDGE_INDEX], graph[keys.EDGE_SHIFT]
    inside = (shift == 0).all(1)
    kept = torch.zeros(len(graph[keys.POSITIONS]), dtype=torch.bool)
    kept[centre[inside][:1]] = True
    n_kept = 0
    while n_kept < int(kept.sum()) < n_atoms:
        n_kept = int(kept.sum())
        kept[neighbour[inside & kept[centre]]] = True
    among = inside & kept[centre] & kept[neighbour]
    number = torch.cumsum(kept, 0) - 1
    positions = graph[keys.POSITIONS][kept]
    return {
        keys.POSITIONS: positions,
        keys.ATOMIC_NUMBERS: graph[keys.ATOMIC_NUMBERS][kept],
        keys.CELL: 3.0 * len(positions) ** (1 / 3) * torch.eye(3, dtype=positions.dtype)[None],
        keys.PBC: torch.zeros(1, 3, dtype=torch.bool),
        keys.EDGE_INDEX: number[graph[keys.EDGE_INDEX][:, among]],
        keys.EDGE_SHIFT: shift[among],
        keys.BATCH: torch.zeros(len(positions), dtype=torch.int64),
    }


def difference(expected: dict[str, Tensor], found: dict[str, Tensor]) -> str | None:
    """What differs by more than rounding; None if nothing does. Large values may differ by more, a NaN is a difference."""
    for name, value in expected.items():
        limits = TOLERANCE[torch.float32]
        limit = ROUNDING * limits.get("energies" if name == keys.ENERGY else name, limits["other"])
        scale = value.abs().max().clamp(min=1.0) if value.numel() else 1.0
        error = (found[name] - value).abs().max() if value.numel() else torch.zeros(())
        if not error <= limit * scale:
            return f"{name} by {float(error):.1e}"
    return None
