"""Native kernel of an exported model for the pair style: one file with the weights and the path of the library."""

import json
import zlib
from pathlib import Path

import numpy as np

from mlip.compiled import NoCompilerError, processor
from mlip.export import load
from mlip.files import whole_file
from mlip.lammps.plugin import kernel_folder
from mlip.native.beside import WITHOUT_EDGES
from mlip.native.build import library_file
from mlip.native.model import LEAN_ABOVE
from mlip.native.weights import Unsupported, beside, weights_of


def write_kernel(model: Path) -> Path:
    """Compile the kernel for the network of an exported file and this processor, and write what the pair style reads.

    Its name is the size and checksum of the model and the checksum of the processor: another file, or another kind of
    machine that shares this cache, has its own.
    Raises Unsupported for a model that the kernel does not compute, NoCompilerError without a compiler.
    """
    path = kernel_folder() / kernel_name(model)
    module = getattr(load(model)[0], "module", None)
    if module is None:
        raise Unsupported("a compiled package (.pt2) has no native kernel")
    weights = weights_of(module)
    with_bonds = {"BondCharges"} if hasattr(module, "begin_bonds") else set()
    if others := sorted(set(beside(module)) - set(WITHOUT_EDGES) - with_bonds):
        raise Unsupported(f"{others[0]} reads the edges: in LAMMPS the native kernel leaves such a term to TorchScript")
    arrays = [np.ascontiguousarray(array) for array in (weights.lookup, *weights.arrays)]
    header = {
        "library": str(library_file(weights.sizes)), "cutoff": weights.cutoff, "n_elements": weights.n_elements,
        "n_points": weights.n_points, "n_channels": weights.n_channels, "filled": weights.sizes["CHANNELS"],
        "n_layers": weights.sizes["LAYERS"], "lean_above": LEAN_ABOVE, "bytes": [array.nbytes for array in arrays],
    }  # fmt: skip
    with whole_file(path) as part, open(part, "wb") as file:
        file.write(json.dumps(header).encode() + b"\n")
        file.writelines(array.tobytes() for array in arrays)
    return path


def say_kernel(model: Path) -> str:
    """Write the kernel of a model if there can be one; returns the line that says which code will run in LAMMPS."""
    try:
        return f"{model} runs with the native kernel: {write_kernel(model)}"
    except (Unsupported, NoCompilerError, OSError) as error:
        return f"{model} runs in TorchScript: {error}"


def kernel_name(model: Path) -> str:
    """Name of the kernel file, as native_kernel.cpp makes it."""
    content = Path(model).read_bytes()
    return f"{len(content)}-{zlib.crc32(content):08x}-{zlib.crc32(processor().encode()):08x}.kernel"
