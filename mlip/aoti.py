"""AOTInductor: the exported potential compiled for this machine into a package that torch loads without our code.

One system of any size per call; the forces' derivative is part of what is compiled.
"""

import json
import logging
import os
import shutil
import warnings
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.fx.experimental.proxy_tensor import make_fx

from mlip import keys
from mlip.errors import InputError
from mlip.nn.scatter import native_sums

INPUTS = (
    keys.POSITIONS, keys.ATOMIC_NUMBERS, keys.CELL, keys.PBC, keys.EDGE_INDEX, keys.EDGE_SHIFT, keys.BATCH,
    keys.TOTAL_CHARGE,
)  # fmt: skip
GROWING = {keys.POSITIONS: 0, keys.ATOMIC_NUMBERS: 0, keys.EDGE_INDEX: 1, keys.EDGE_SHIFT: 0, keys.BATCH: 0}


def save(deployed: nn.Module, path: Path, metadata: dict, example: dict[str, Tensor]) -> None:
    """Traces the potential with its derivative, for any number of atoms and edges, and compiles it to `path`.

    deployed, example  an `deployed.Deployed` and a graph with at least one system of two atoms and two edges
    Raises ValueError where this machine or this potential cannot be compiled.
    """
    if shutil.which(os.environ.get("CXX", "g++")) is None:
        raise InputError("format=aoti needs a C++ compiler: install g++ or set CXX; format=torchscript needs none")
    inputs = prepared(single_systems(example)[0])
    outputs = metadata["outputs"]

    def results(*tensors: Tensor) -> tuple[Tensor, ...]:
        graph = dict(zip((*INPUTS, keys.NEIGHBOUR_SLOTS), tensors, strict=True))
        graph[keys.LEVEL] = torch.full_like(graph[keys.BATCH][:1], deployed.level)
        found = deployed.potential(graph)
        # one system: a plain sum. Inductor 2.13 cannot vectorise a segment sum into one segment
        found[keys.ENERGY] = found[keys.ENERGIES].sum().reshape(1)
        return tuple(found[name] for name in outputs)

    dynamic = torch.export.Dim.DYNAMIC
    shapes = (*({GROWING[name]: dynamic} if name in GROWING else None for name in INPUTS), {0: dynamic})
    # elementwise loops get as many threads as the process has now; code for any number is 1.5 times slower on one
    about = metadata | {"device": inputs[0].device.type, "threads": torch.get_num_threads()}
    settings = {"aot_inductor.metadata": {"mlip": json.dumps(about)}}
    logging.getLogger("torch._inductor.ir").setLevel(logging.ERROR)  # says that a determinant is not compiled
    try:
        with native_sums(), warnings.catch_warnings(action="ignore"):  # torch's own, about its own deprecations
            traced = make_fx(results, tracing_mode="symbolic", _allow_non_fake_inputs=True)(*inputs)
            program = torch.export.export(traced, tuple(inputs), dynamic_shapes=shapes, strict=False)
            torch._inductor.aoti_compile_and_package(program, package_path=str(path), inductor_configs=settings)
    except (RuntimeError, NotImplementedError, TypeError, AttributeError) as error:
        reason = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise InputError(f"this potential does not compile here ({reason}); use format=torchscript") from error


def load(path: Path, device: torch.device) -> tuple["Compiled", dict]:
    """The package as a function of `export.arguments(graph)`, and its metadata."""
    package = torch._inductor.aoti_load_package(str(path))
    metadata = json.loads(package.loader.get_metadata()["mlip"])
    if device.type != metadata["device"]:
        raise InputError(f"{path} is compiled for {metadata['device']}, asked is {device.type}: export it again there")
    return Compiled(package, metadata["outputs"]), metadata


class Compiled(nn.Module):
    """A package called with the arguments of `deployed.Deployed`, one system after another."""

    def __init__(self, package, outputs: list[str]):
        super().__init__()
        self.package, self.outputs = package, outputs

    def forward(self, *inputs: Tensor | None) -> dict[str, Tensor]:
        if any(value is not None for value in inputs[len(INPUTS) :]):
            raise InputError("a compiled package takes no charge groups and no field; use a torchscript export")
        graph = {name: value for name, value in zip(INPUTS, inputs, strict=False) if value is not None}
        results = [self.package(*prepared(system)) for system in single_systems(graph)]
        return {name: torch.cat(values) for name, values in zip(self.outputs, zip(*results, strict=True), strict=True)}


def single_systems(graph: dict[str, Tensor]) -> list[dict[str, Tensor]]:
    """The graphs of a batch, inputs only."""
    n_systems = len(graph[keys.CELL])
    if n_systems == 1:
        return [graph]
    n_atoms = torch.bincount(graph[keys.BATCH], minlength=n_systems).tolist()
    edge_system = graph[keys.BATCH][graph[keys.EDGE_INDEX][0]]
    systems, first = [], 0
    for system, n in enumerate(n_atoms):
        atoms, edges = slice(first, first + n), edge_system == system
        one = {name: graph[name][atoms] for name in (keys.POSITIONS, keys.ATOMIC_NUMBERS)}
        one |= {
            name: graph[name][system : system + 1] for name in (keys.CELL, keys.PBC, keys.TOTAL_CHARGE) if name in graph
        }
        one[keys.EDGE_INDEX], one[keys.EDGE_SHIFT] = (
            graph[keys.EDGE_INDEX][:, edges] - first,
            graph[keys.EDGE_SHIFT][edges],
        )
        one[keys.BATCH] = torch.zeros_like(graph[keys.BATCH][atoms])
        systems.append(one)
        first += n
    return systems


def prepared(graph: dict[str, Tensor]) -> list[Tensor]:
    """Inputs of the package. Sizes 0 and 1 mean something else to the compiler: not allowed for atoms and edges."""
    edge_index, positions = graph[keys.EDGE_INDEX], graph[keys.POSITIONS]
    if len(positions) < 2 or edge_index.shape[1] < 2:
        raise InputError(
            f"a compiled package needs at least two atoms and two neighbour pairs, got {len(positions)} and "
            f"{edge_index.shape[1]}; use a torchscript export, or a supercell"
        )
    most = max(int(torch.bincount(edge_index[0]).max()), 2)
    charge = graph.get(keys.TOTAL_CHARGE)
    if charge is None:
        charge = torch.zeros(1, dtype=torch.float64, device=positions.device)
    inputs = [graph[name].contiguous() for name in INPUTS[:-1]]
    return [*inputs, charge, torch.empty(most, device=positions.device)]
