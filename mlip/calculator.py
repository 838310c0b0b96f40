"""ASE calculator of an exported model: atoms in; energy, forces, stress and charges out. No training code is needed."""

from collections.abc import Sequence
from copy import deepcopy
from functools import partial
from pathlib import Path
from typing import ClassVar

import numpy as np
import torch
from ase import Atoms
from ase.calculators.calculator import Calculator, all_changes, all_properties
from ase.calculators.singlepoint import SinglePointCalculator
from ase.data import chemical_symbols
from torch import Tensor

from mlip import keys
from mlip.blocks import in_blocks
from mlip.data.graph import collate, geometry
from mlip.data.structure_check import SHORTEST_DISTANCE, complaint, overlap
from mlip.data.total_charge import CHARGE_MISSED, total_charge
from mlip.data.verlet import VerletList
from mlip.errors import ConvergenceError, InputError
from mlip.export import arguments, load
from mlip.native.choice import Checked, with_kernel
from mlip.nn.memory import keep_freed_memory

STRUCTURE_INPUTS = (
    keys.TOTAL_CHARGE,
    keys.GROUP_CHARGE,
    keys.FIELD,
)  # read from atoms.info; charge_group from atoms.arrays
PER_ATOM = (keys.ENERGIES, keys.FORCES, keys.CHARGES, keys.DIPOLES, keys.ELECTRONEGATIVITY, keys.BORN_CHARGES,
            keys.FORCE_SIGMA)  # fmt: skip


def load_calculator(
    path: str | Path,
    device: str = "cpu",
    dtype: str | torch.dtype | None = None,
    skin: float = 0.5,
    kernel: str = "auto",
    **parameters,
) -> "ExportedCalculator":
    """Calculator of a file written by `mlip export`.

    dtype       "float64" for phonons and tight relaxations; None keeps the file's
    skin        Å, how far beyond the cutoff the neighbour list reaches: 0.5 suits solids, 1 liquids
    kernel      auto, native, torchscript: on the CPU a float32 network runs several times faster natively, in memory of a few kB
                an atom; the first time it is compiled for this machine. `calculator.kernel` says what runs
    parameters  total_charge (e), field (V/Å): for atoms whose info does not say
    """
    if isinstance(dtype, str):
        if dtype not in ("float32", "float64"):
            raise InputError(f"dtype={dtype}: must be float32 or float64, or None for the model's")
        dtype = getattr(torch, dtype)
    check_device(str(device))
    model, metadata = load(path, device, dtype)
    model, running = with_kernel(in_blocks(model, metadata), kernel, torch.device(device))
    return ExportedCalculator(
        model, metadata, Path(path).resolve(), torch.device(device), skin, kernel, running, **parameters
    )


def check_device(name: str) -> None:
    """Raise InputError for a device that does not exist, here or at all."""
    kind, _, number = name.partition(":")
    if kind not in ("cpu", "cuda", "mps", "xpu") or (number and not number.isdigit()):
        raise InputError(f"device={name}: must be cpu, cuda, cuda:0, cuda:1 ..., mps or xpu")
    if kind == "cuda" and int(number or 0) >= torch.cuda.device_count():
        raise InputError(f"device={name}: torch finds {torch.cuda.device_count()} CUDA devices here; choose device=cpu")
    if kind in ("mps", "xpu") and not getattr(torch, kind).is_available():
        raise InputError(f"device={name}: torch finds no such device here; choose device=cpu")


class ExportedCalculator(Calculator):
    """Calculator of an exported potential.

    Results: energy, free_energy, energies, forces, stress (Voigt, if there is a volume), and charges, dipoles,
    electronegativity, chemical_potential if the model has them (`results`, `get_property`).
    Read from the atoms: info["total_charge"] (e), info["field"] (V/Å), arrays["charge_group"] with
    info["group_charge"] (e). The caller's atoms are never changed. Pickled, it is loaded again from its file.
    """

    name = "mlip"
    default_parameters: ClassVar[dict] = {keys.TOTAL_CHARGE: 0.0, keys.FIELD: None}

    def __init__(
        self,
        model,
        metadata: dict,
        path: Path,
        device: torch.device,
        skin: float,
        kernel: str,
        running: str,
        **parameters,
    ):
        unknown = sorted(set(parameters) - set(self.default_parameters))
        if unknown:
            raise InputError(f"no calculator parameter {unknown}; there are {sorted(self.default_parameters)}")
        self.model, self.metadata, self.path, self.device = model, metadata, path, device
        self.skin = skin  # Å
        self.kernel_asked, self.running = kernel, running
        self.outputs = list(metadata["outputs"])
        self.implemented_properties = ["free_energy", *self.outputs]
        self.known = np.zeros(len(chemical_symbols), dtype=bool)
        self.known[metadata["elements"]] = True
        self.verlet = VerletList(metadata["cutoff"], skin)
        self.inputs = {}
        # charges (and dipoles) of the last steps: dynamics starts the next from them
        self.relaxed: list[np.ndarray] = []
        keep_freed_memory()
        super().__init__(**parameters)

    def __reduce__(self):
        parameters = {key: value for key, value in self.parameters.items() if value is not None}
        load_again = partial(
            load_calculator,
            self.path,
            str(self.device),
            self.metadata["dtype"],
            self.skin,
            self.kernel_asked,
            **parameters,
        )
        return load_again, ()

    def todict(self, skip_default: bool = True) -> dict:
        """What identifies the calculator in trajectories and databases of ASE."""
        return {
            "model": str(self.path), "training_hash": self.metadata.get("training_hash"), "level": self.metadata["level"],
            "dtype": self.metadata["dtype"], "device": str(self.device), "skin": self.skin,
            "kernel": self.kernel, **super().todict(skip_default),
        }  # fmt: skip

    @property
    def kernel(self) -> str:
        """The code that computes: native and its compiler, TorchScript or AOTI, and why not the native one."""
        if isinstance(self.model, Checked) and self.model.chosen is self.model.exported:
            return "TorchScript (the native kernel differs from it)"
        return self.running

    def check_state(self, atoms: Atoms, tol: float = 1e-15) -> list[str]:
        """What changed since the last calculation, to the last bit; charge, groups and field count too."""
        if self.atoms is None:
            return list(all_changes)
        changes = [
            name for name in ("numbers", "positions") if not np.array_equal(atoms.arrays[name], self.atoms.arrays[name])
        ]
        changes += [
            name for name in ("cell", "pbc") if not np.array_equal(getattr(atoms, name), getattr(self.atoms, name))
        ]
        return changes if same(self.inputs, inputs_of(atoms)) else [*changes, "info"]

    def calculate(self, atoms: Atoms | None = None, properties=("energy",), system_changes=all_changes) -> None:
        """All results of one structure, by ASE's rules."""
        super().calculate(atoms, properties, system_changes)
        if not {"positions", "cell"}.issuperset(system_changes):
            self.relaxed = []
        self.inputs = inputs_of(self.atoms)
        graph = self.graph(self.atoms, self.verlet)
        if self.relaxed:
            graph[keys.GUESS] = torch.as_tensor(extrapolated(self.relaxed))
        results = self.evaluate(graph)
        self.relaxed = continued(self.relaxed, results)
        self.results = per_structure(results, self.atoms, 0, slice(None))
        self.check_charges(self.atoms, self.results)

    def calculate_many(self, structures: list[Atoms]) -> list[Atoms]:
        """Copies of the structures with their results attached, from one call of the model."""
        if not structures:
            return []
        fresh = VerletList(self.verlet.cutoff, 0.0)
        batch = self.evaluate(collate([self.graph(atoms, fresh) for atoms in structures]))
        answered, first = [], 0
        for system, atoms in enumerate(structures):
            copy = atoms.copy()
            results = per_structure(batch, copy, system, slice(first, first + len(copy)))
            self.check_charges(copy, results)
            copy.calc = SinglePointCalculator(copy, **{k: v for k, v in results.items() if k in all_properties})
            copy.calc.results.update(results)
            copy.calc.name = self.name
            answered.append(copy)
            first += len(copy)
        return answered

    def evaluate(self, graph: dict[str, Tensor]) -> dict[str, np.ndarray]:
        """The model's results as arrays."""
        inputs = [value if value is None else value.to(self.device) for value in arguments(graph)]
        try:
            results = self.model(*inputs)
        except torch.jit.Error as error:  # charges or shells that do not relax; the last line is the message
            raise ConvergenceError(str(error).strip().splitlines()[-1].partition(": ")[2]) from error
        return {name: value.cpu().numpy() for name, value in results.items()}

    def graph(self, atoms: Atoms, verlet: VerletList) -> dict[str, Tensor]:
        """The structure with its neighbours, after a look at whether the model can answer for it."""
        self.check_structure(atoms)
        graph = geometry(atoms)
        positions, cell = graph[keys.POSITIONS].numpy(), graph[keys.CELL][0].numpy()
        graph[keys.EDGE_INDEX], graph[keys.EDGE_SHIFT], square = verlet.pairs(positions, cell, atoms.pbc)
        if len(square) and float(square.min()) < SHORTEST_DISTANCE**2:
            edge = int(square.argmin())
            i, j = graph[keys.EDGE_INDEX][:, edge].tolist()
            raise InputError(overlap(atoms, i, j, float(square[edge]) ** 0.5))
        inputs = {key: value for key, value in self.parameters.items() if value is not None} | inputs_of(atoms)
        graph[keys.TOTAL_CHARGE] = torch.tensor([float(inputs[keys.TOTAL_CHARGE])], dtype=torch.float64)
        if keys.FIELD in inputs:
            graph[keys.FIELD] = torch.as_tensor(np.array(inputs[keys.FIELD], dtype=np.float64)).reshape(1, 3)
        return graph

    def check_structure(self, atoms: Atoms) -> None:
        """ValueError for a structure that has no answer."""
        if problem := complaint(atoms, pairs=False):
            raise InputError(problem)
        if not self.known[atoms.numbers].all():
            foreign = sorted({chemical_symbols[z] for z in atoms.numbers[~self.known[atoms.numbers]]})
            known = [chemical_symbols[z] for z in np.flatnonzero(self.known)]
            raise InputError(
                f"the model has no parameters for {', '.join(foreign)}, only for {', '.join(known)}. Train or fine-tune it"
            )
        has_group, has_charge = keys.CHARGE_GROUP in atoms.arrays, keys.GROUP_CHARGE in atoms.info
        if has_group != has_charge:
            raise InputError(
                "charge groups need both atoms.arrays['charge_group'] and atoms.info['group_charge'], got one"
            )
        if keys.CHARGES not in self.outputs and (
            has_group or (keys.FIELD in atoms.info or self.parameters[keys.FIELD])
        ):
            raise InputError("charge groups and an electric field need a model with charges; this one has none")
        for key in (keys.FIELD, keys.GROUP_CHARGE):
            if atoms.info.get(key) is not None and not np.isfinite(np.asarray(atoms.info[key], dtype=float)).all():
                raise InputError(f"{key} must be finite numbers, got {atoms.info[key]}")

    def check_charges(self, atoms: Atoms, results: dict) -> None:
        """ValueError for a total charge that was asked for and that formal charges do not have."""
        given = total_charge(atoms.info)
        asked = self.parameters[keys.TOTAL_CHARGE] or None if given is None else given
        if asked is not None and keys.CHARGES in results and abs(results[keys.CHARGES].sum() - asked) > CHARGE_MISSED:
            raise InputError(
                f"a total charge of {asked:g} e was asked for, and the charges of this model add up to "
                f"{results[keys.CHARGES].sum():g} e for {atoms.get_chemical_formula()}: it holds formal charges fixed. Leave "
                "total_charge out, or take a model whose charges adapt (model/head=bond_charges, qeq)"
            )


def calculate_many(calculator, structures: Sequence[Atoms]) -> list[Atoms]:
    """Copies of the structures with results attached: in one call where the calculator has one, else one by one.

    calculator  ours, or any of ASE: energy and forces, and stress where it has one and the cell has a volume
    """
    if hasattr(calculator, "calculate_many"):
        return calculator.calculate_many(list(structures))
    answered = []
    for atoms in structures:
        copy = atoms.copy()
        copy.calc = calculator
        results = {"energy": copy.get_potential_energy(), "forces": copy.get_forces(apply_constraint=False)}
        if "stress" in calculator.implemented_properties and copy.cell.rank == 3:
            results["stress"] = copy.get_stress(apply_constraint=False)
        results = {**deepcopy(calculator.results), **results}  # some calculators reuse their arrays
        copy.calc = SinglePointCalculator(copy, **{k: v for k, v in results.items() if k in all_properties})
        copy.calc.results.update(results)
        copy.calc.name = getattr(calculator, "name", None) or type(calculator).__name__
        answered.append(copy)
    return answered


def continued(last: list[np.ndarray], results: dict[str, np.ndarray]) -> list[np.ndarray]:
    """The last three states [n_atoms, 1 or 4] of charges (and dipoles) of one system, with that of these results."""
    if keys.CHARGES not in results:
        return []
    columns = [results[keys.CHARGES][:, None], *([results[keys.DIPOLES]] if keys.DIPOLES in results else [])]
    state = np.concatenate(columns, axis=1)
    return [*last[-2:], state] if np.isfinite(state).all() else []


def extrapolated(last: list[np.ndarray]) -> np.ndarray:
    """The polynomial through up to three equidistant values, one step on."""
    weights = {1: (1.0,), 2: (-1.0, 2.0), 3: (1.0, -3.0, 3.0)}[len(last)]
    return sum(weight * value for weight, value in zip(weights, last, strict=True))


def inputs_of(atoms: Atoms) -> dict:
    """What the atoms ask of the electrons: total charge, groups, field."""
    inputs = {key: atoms.info[key] for key in STRUCTURE_INPUTS if atoms.info.get(key) is not None}
    charge = total_charge(atoms.info)
    if charge is not None:
        inputs[keys.TOTAL_CHARGE] = charge
    if keys.CHARGE_GROUP in atoms.arrays:
        inputs[keys.CHARGE_GROUP] = atoms.arrays[keys.CHARGE_GROUP]
    return inputs


def same(one: dict, other: dict) -> bool:
    """Whether two requests are equal, arrays included."""
    return one.keys() == other.keys() and all(np.array_equal(one[key], other[key]) for key in one)


def per_structure(batch: dict[str, np.ndarray], atoms: Atoms, system: int, rows: slice) -> dict:
    """Results of one system in ASE's form: floats, Voigt stress, and no stress where there is no volume."""
    results = {name: value[rows] if name in PER_ATOM else value[system] for name, value in batch.items()}
    results[keys.ENERGY] = results["free_energy"] = float(results[keys.ENERGY])
    if keys.CHEMICAL_POTENTIAL in results:
        results[keys.CHEMICAL_POTENTIAL] = float(results[keys.CHEMICAL_POTENTIAL])
    stress = results.pop(keys.STRESS)
    if abs(np.linalg.det(atoms.cell.array)) > 0:
        results[keys.STRESS] = stress[[0, 1, 2, 1, 0, 0], [0, 1, 2, 2, 2, 1]]  # Voigt: xx, yy, zz, yz, xz, xy
    return results
