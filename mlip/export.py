"""Export: a potential becomes one file that needs no `mlip` to run. The only file that names torch.jit.

    torchscript   model.pt,   `torch.jit.load` anywhere (Python, C++, LAMMPS), native operations only
    aoti          model.pt2,  AOTInductor package: the same functions compiled for this machine

A file gets its final name only after it was loaded again and gave the live potential's numbers.
"""

import copy
import io
import json
import math
import platform
import warnings
from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor, nn

import mlip
from mlip import aoti, keys
from mlip.archive import check_archive, first_line
from mlip.deployed import Deployed, Staged, stages_of
from mlip.errors import InputError
from mlip.files import whole_file

UNITS = {"energy": "eV", "length": "Å", "forces": "eV/Å", "stress": "eV/Å^3", "charge": "e", "field": "V/Å"}
REQUIRED = [
    keys.POSITIONS, keys.ATOMIC_NUMBERS, keys.CELL, keys.PBC, keys.EDGE_INDEX, keys.EDGE_SHIFT, keys.BATCH
]  # fmt: skip
OPTIONAL = [keys.TOTAL_CHARGE, keys.CHARGE_GROUP, keys.GROUP_CHARGE, keys.FIELD, keys.GUESS]

EXPORT_AGAIN = "`mlip export RUN` writes one"

# largest allowed |file - live|; energies in eV per atom, the others in their own unit
TOLERANCE = {
    torch.float32: {"energy": 1e-6, "energies": 1e-5, "forces": 1e-5, "stress": 1e-6, "other": 1e-4},
    torch.float64: {"energy": 1e-10, "energies": 1e-9, "forces": 1e-10, "stress": 1e-10, "other": 1e-9},
}


def arguments(graph: dict[str, Tensor]) -> list[Tensor | None]:
    """The graph as positional arguments of an exported model, in the fixed order of `Deployed.forward`.

    What is missing at the end is left out: files from before an argument existed still answer.
    """
    present = [key for key in OPTIONAL if key in graph]
    optional = OPTIONAL[: OPTIONAL.index(present[-1]) + 1] if present else ()
    return [graph[key] for key in REQUIRED] + [graph.get(key) for key in optional]


def script(module: nn.Module) -> torch.jit.ScriptModule:
    """TorchScript of a module, not frozen: freezing gains nothing here and would fix the device and dtype."""
    with warnings.catch_warnings():  # deprecated in favour of torch.export, which LAMMPS and older torch do not read
        warnings.filterwarnings("ignore", message=".*torch.jit", category=DeprecationWarning)
        return torch.jit.script(module)


def save_torchscript(deployed: Deployed, path: Path, metadata: dict, example: dict[str, Tensor]) -> None:
    """Scripts, looks whether every part of the potential is there, and saves with metadata.json in the extra files."""
    scripted = script(deployed)
    lost = {name for name, _ in deployed.named_modules()} - {name for name, _ in scripted.named_modules()}
    if lost:
        raise InputError(f"{', '.join(sorted(lost))} would not be in the file: not exported")
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=".*torch.jit", category=DeprecationWarning)
        whole = io.BytesIO()  # a disk that fills up under torch's own writer would abort the process
        torch.jit.save(scripted, whole, _extra_files={"metadata.json": json.dumps(metadata)})
    path.write_bytes(whole.getbuffer())


def load_torchscript(path: Path, device: torch.device) -> tuple[Callable, dict]:
    """The model as a function of `arguments(graph)`, and the metadata."""
    extra = {"metadata.json": ""}
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=".*torch.jit", category=DeprecationWarning)
        try:
            module = torch.jit.load(str(path), map_location=device, _extra_files=extra)
        except Exception as error:  # a checkpoint, a state dict: another archive of torch
            raise InputError(f"{path} is no exported model ({first_line(error)}): {EXPORT_AGAIN}") from error
    if not extra["metadata.json"]:
        raise InputError(f"{path} holds no metadata.json: it was not written by mlip export")
    metadata = json.loads(extra["metadata.json"])
    if lacking := {"elements", "cutoff", "outputs", "dtype", "level"} - metadata.keys():
        raise InputError(f"{path} was not written by mlip export: its metadata lacks {', '.join(sorted(lacking))}")
    return Interpreted(module), metadata


class Interpreted(nn.Module):
    """A scripted module run as it stands.

    The profiling executor is off: on 416 atoms it saved nothing, and its recompilations stop calls 2 and 3, and some
    later ones with new shapes, for 0.3 to 0.6 s each.
    """

    def __init__(self, module: torch.jit.ScriptModule):
        super().__init__()
        self.module = module

    def forward(self, *inputs: Tensor | None) -> dict[str, Tensor]:
        with torch.jit.optimized_execution(False):
            return self.module(*inputs)


def load(path, device="cpu", dtype: torch.dtype | None = None) -> tuple[Callable, dict]:
    """An exported file as (model, metadata): model(*arguments(graph)) -> results.

    dtype casts the weights after loading; None keeps the file's. A compiled package has one dtype and one device.
    """
    path, device = Path(path), torch.device(device)
    check_archive(path, "exported model", EXPORT_AGAIN)
    if path.suffix == ".pt2":
        model, metadata = aoti.load(path, device)
    else:
        model, metadata = load_torchscript(path, device)
    if dtype is not None and dtype != getattr(torch, metadata["dtype"]):
        if path.suffix == ".pt2":
            raise InputError(f"{path} is compiled for {metadata['dtype']}; export it again with dtype={dtype}")
        model = model.to(dtype)
        metadata = dict(metadata, dtype=str(dtype).removeprefix("torch."))
    return model, metadata


FORMATS = {"torchscript": (".pt", save_torchscript), "aoti": (".pt2", aoti.save)}


def deviation(expected: dict[str, Tensor], found: dict[str, Tensor], n_atoms: Tensor) -> dict[str, float]:
    """Largest |found - expected| of each result; the energy per atom. NaN counts as infinite.

    n_atoms [n_systems]. Raises ValueError when a result is missing.
    """
    missing = sorted(set(expected) - set(found))
    if missing:
        raise InputError(f"the file does not return {missing}, which the live potential does")
    largest = {}
    for name, value in expected.items():
        error = (found[name].cpu().double() - value.double()).abs()
        if name == keys.ENERGY:
            error = error / n_atoms
        largest[name] = float(torch.nan_to_num(error, nan=math.inf).max()) if error.numel() else 0.0
    return largest


def check_parity(
    deployed: Deployed, path: Path, graphs: list[dict[str, Tensor]], dtype: torch.dtype
) -> dict[str, float]:
    """Largest deviation of the file from the live potential over the graphs; ValueError beyond the tolerance."""
    device = graphs[0][keys.POSITIONS].device
    model, _ = load(path, device)
    worst: dict[str, float] = {}
    for graph in graphs:
        n_atoms = torch.bincount(graph[keys.BATCH]).cpu()
        live = {name: value.cpu() for name, value in deployed(*arguments(graph)).items()}
        for name, value in deviation(live, model(*arguments(graph)), n_atoms).items():
            worst[name] = max(worst.get(name, 0.0), value)
    limits = TOLERANCE[dtype]
    for name, value in worst.items():
        limit = limits.get(name, limits["other"])
        if value > limit:
            raise InputError(
                f"the exported file differs from the live potential: {name} by {value:.2e}, allowed {limit:.0e} "
                f"({dtype}); nothing was written. Export in float64, or report the network that scripts wrongly"
            )
    return worst


def level_index(levels: list[str], level: str | None) -> int:
    """Position of the level of theory whose energy shifts go into the file."""
    if level is None and len(levels) > 1:
        raise InputError(f"the potential has several levels of theory: choose level= one of {levels}")
    if level is not None and level not in levels:
        raise InputError(f"no level of theory {level!r}; the potential has {levels}")
    return 0 if level is None else levels.index(level)


def export(
    potential: nn.Module,
    path,
    metadata: dict,
    example_graphs: list[dict[str, Tensor]],
    format: str = "torchscript",
    dtype: torch.dtype | None = None,
    level: str | None = None,
) -> dict:
    """Writes `potential` to `path` (.pt, or .pt2 for aoti) after a parity check; returns the metadata in the file.

    metadata        JSON-able: training-set hash, config, ...; elements, cutoff, units, dtype, versions are added
    example_graphs  training frames on which the reloaded file must give the live potential's numbers
    dtype           casts the network; None keeps its own. float64 for phonons and tight relaxations
    level           level of theory, needed if the potential has several

    The caller's potential is not changed. Raises ValueError, and leaves no file, where the reloaded file differs
    from the live potential, misses a result, or a term was lost.
    """
    path = Path(path)
    if format not in FORMATS:
        raise InputError(f"format must be one of {list(FORMATS)}, got {format!r}")
    suffix, save = FORMATS[format]
    if path.suffix != suffix:
        raise InputError(f"format={format} writes a {suffix} file, got the path {path}")
    if not example_graphs:
        raise InputError("export needs at least one example graph (a training frame) for its parity check")
    live = copy.deepcopy(potential).eval().requires_grad_(False)
    dtype = dtype or next((p.dtype for p in live.parameters()), torch.float64)
    live = live.to(dtype)
    index = level_index(live.levels, level)
    stages = stages_of(live, index)
    deployed = (Deployed if "refused" in stages else Staged)(live, index).eval()
    metadata = {
        **metadata,
        "format": format,
        "elements": [int(z) for z in live.elements],
        "cutoff": float(live.cutoff),
        "level": live.levels[deployed.level],
        "dtype": str(dtype).removeprefix("torch."),
        "units": UNITS,
        "terms": list(live.term_names),
        "stages": stages,
        "outputs": sorted(deployed(*arguments(example_graphs[0]))),
        "versions": {"mlip": mlip.__version__, "torch": torch.__version__, "python": platform.python_version()},
    }
    with whole_file(path, suffix) as part:
        save(deployed, part, metadata, example_graphs[0])
        metadata["parity"] = check_parity(deployed, part, example_graphs, dtype)
    return metadata
