"""Weights of an exported potential as the arrays that the native kernel reads."""

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from mlip import units

LANES = 16  # channels are filled up to a multiple: the rest has zero weights and stays zero
MAX_DEGREE = 4
PARITY = 1e-6  # a quadrature whose points have no opposite is not of ours
TERMS = ("AtomicEnergy", "NetworkEnergy", "ZBL", "Wall")
BESIDE = (  # evaluated by torch
    "FormalCharges", "EquilibratedCharges", "SplitCharges", "BondCharges", "AtomicCharges", "BornMayer"
)  # fmt: skip


class Unsupported(Exception):
    """A potential that the kernel does not compute; the message says which part of it."""


@dataclass(frozen=True)
class Weights:
    """Arrays and sizes of one potential.

    sizes    {CHANNELS, DEGREE, LAYERS, BASIS, SPECIES, HIDDEN} of sizes.h, which are compiled in
    arrays   float32, float64 or int32, in the order of mlip_create in kernel.cpp
    lookup   [119] int32, row of each atomic number, -1 if there is none
    charge_energy  mu of `AtomicEnergy`, eV/e
    """

    sizes: dict[str, int]
    cutoff: float
    n_elements: int
    n_points: int
    n_channels: int
    arrays: list[np.ndarray]
    lookup: np.ndarray
    charge_energy: float


def weights_of(deployed: nn.Module) -> Weights:
    """Weights of an `deployed.Deployed`, scripted or not. Raises Unsupported for what the kernel does not compute."""
    potential = deployed.potential
    if kind(potential) != "Potential":
        raise Unsupported(f"{kind(potential)} has no native kernel")
    network, terms = potential.network, {kind(term): term for term in potential.terms.children()}
    if kind(network) != "SphericalNetwork":
        raise Unsupported(f"{kind(network)} has no native kernel")
    if others := [name for name in terms if name not in TERMS + BESIDE]:
        raise Unsupported(f"{others[0]} has no native kernel")
    if polar := [name for name, term in terms.items() if name in BESIDE and getattr(term, "dipoles", False)]:
        raise Unsupported(f"{polar[0]} with dipoles reads vectors, which the native kernel does not give")
    if len(terms) != len(list(potential.terms.children())) or "NetworkEnergy" not in terms:
        raise Unsupported("the native kernel takes one term of each kind, and the energy of the network")
    if not hasattr(potential, "limits"):
        raise Unsupported("the file is from before the limits of the data: export it again")
    if network.density.weight.dtype != torch.float32:
        raise Unsupported("the native kernel is float32")
    degree = network.density.weight.shape[0] - 1
    if degree > MAX_DEGREE:
        raise Unsupported(f"the native kernel has degrees up to {MAX_DEGREE}, the model {degree}")
    layers = list(network.layers.children())
    n_basis, n_species = int(network.neighbourhood.n_basis), network.embedding.weight.shape[1]
    sphere, triple_per_pair = sphere_arrays(network.products, degree)
    arrays = [*sphere, single(network.scale * numbers(network.embedding.weight))]
    arrays += readout_arrays(terms["NetworkEnergy"], len(layers) + 1)
    arrays += coupling_arrays(layers, degree)
    arrays += short_range_arrays(potential, terms, int(deployed.level))
    arrays += layer_arrays(network.density, network.products, triple_per_pair, 1.0)
    for layer in layers:
        arrays += layer_arrays(layer.density, layer.products, triple_per_pair, 0.5**0.5)
        arrays += message_arrays(layer, 0.5**0.5)
    sizes = {"CHANNELS": up(network.density.weight.shape[2]), "DEGREE": degree, "LAYERS": len(layers) + 1, "BASIS": n_basis,
             "SPECIES": n_species, "HIDDEN": up(terms["NetworkEnergy"].hidden.weight.shape[0])}  # fmt: skip
    return Weights(sizes, float(network.cutoff), len(potential.elements), len(sphere[0]),
                   network.density.weight.shape[2], arrays, lookup_of(potential),
                   charge_energy_of(terms.get("AtomicEnergy"), int(deployed.level)))  # fmt: skip


def beside(deployed: nn.Module) -> dict[str, nn.Module]:
    """{kind: term} of the terms that are evaluated beside the kernel."""
    terms = {kind(term): term for term in deployed.potential.terms.children()}
    return {name: term for name, term in terms.items() if name in BESIDE}


def kind(module: nn.Module) -> str:
    """Name of a module's class, also of a scripted one."""
    return getattr(module, "original_name", type(module).__name__)


def numbers(tensor: Tensor) -> np.ndarray:
    """A tensor as float64, or as the whole numbers it holds."""
    array = tensor.detach().cpu().numpy()
    return array.astype(np.float64) if array.dtype.kind == "f" else array


def exact(parts: Tensor) -> np.ndarray:
    """A constant that a module keeps in two parts, `mlip.nn.constants`."""
    return numbers(parts).sum(0)


def single(array: np.ndarray) -> np.ndarray:
    """float32, in the order of its indices."""
    return np.ascontiguousarray(array, dtype=np.float32)


def up(n: int) -> int:
    """The next multiple of LANES."""
    return -(-n // LANES) * LANES


def filled(array: np.ndarray, *axes: int) -> np.ndarray:
    """Zeros behind the numbers of some axes, up to a multiple of LANES."""
    axes = tuple(axis % array.ndim for axis in axes)
    return np.pad(array, [(0, up(n) - n if axis in axes else 0) for axis, n in enumerate(array.shape)])


def lookup_of(potential: nn.Module) -> np.ndarray:
    """Row of each atomic number in the tables of elements."""
    return np.ascontiguousarray(numbers(potential.lookup), dtype=np.int32)


def charge_energy_of(term: nn.Module | None, level: int) -> float:
    """mu of a level of theory in eV/e; 0 for neutral labels, and for files from before there was one."""
    return float(term.charge_neV[level]) * 1e-9 if getattr(term, "charged", False) else 0.0


def sphere_arrays(products: nn.Module, degree: int) -> tuple[list[np.ndarray], float]:
    """sample [points, lm] and back, project [points, 4] at one point of each opposite pair; scale of triples by pairs'.

    Raises Unsupported if points have no opposite.
    """
    sample, pair, triple = exact(products.sample), exact(products.project_pair), exact(products.project_triple)
    sign = np.concatenate([np.full(2 * l + 1, (-1.0) ** l) for l in range(degree + 1)])
    difference = np.abs(sample[:, None] - sample * sign).max(2)
    opposite = difference.argmin(1)
    half = np.flatnonzero(opposite > np.arange(len(sample)))
    ratio = float((triple * pair).sum() / (pair * pair).sum())
    good = 2 * len(half) == len(sample) and difference.min(1).max() < PARITY
    if not good or np.abs(triple - ratio * pair).max() > PARITY:
        raise Unsupported("the native kernel needs a quadrature of opposite points")
    return [single(sample[half]), single(sample[half].T), single(pair[:, half].T)], ratio


def readout_arrays(term: nn.Module, n_layers: int) -> list[np.ndarray]:
    """linear [layers K], hidden [layers K, H] and back, bias [element, H], last [H], in eV."""
    linear, hidden, last = (numbers(part.weight) for part in (term.linear, term.hidden, term.out))
    hidden = filled(filled(hidden.reshape(len(hidden), n_layers, -1), 0, 2).reshape(up(len(hidden)), -1), 1)
    linear = filled(linear.reshape(n_layers, -1), 1).reshape(-1)
    bias = filled(numbers(term.bias.weight), 1)
    return [single(x) for x in (term.scale * linear, hidden.T, hidden, bias, filled(term.scale * last[0], 0))]


def sparse_arrays(matrix: np.ndarray) -> list[np.ndarray]:
    """start [rows + 1], column and value of the nonzero entries, row by row."""
    matrix = np.where(np.abs(matrix) > PARITY, matrix, 0.0)
    row, column = np.nonzero(matrix)
    start = np.searchsorted(row, np.arange(len(matrix) + 1))
    return [start.astype(np.int32), column.astype(np.int32), single(matrix[row, column])]


def coupling_arrays(layers: list[nn.Module], degree: int) -> list[np.ndarray]:
    """The coupling of moments and its transpose; empty for a single layer."""
    n = (degree + 1) ** 2
    paths = layers[0].messages.n_paths if layers else 0
    coupling = exact(layers[0].messages.coupling) if layers else np.zeros((0, 4 * n))
    if layers and paths != min(degree, 2) + 1:
        raise Unsupported(f"the native kernel has no coupling of {paths} paths")
    return [*sparse_arrays(coupling), *sparse_arrays(coupling.T)]


def short_range_arrays(potential: nn.Module, terms: dict[str, nn.Module], level: int) -> list[np.ndarray]:
    """Pair [element, element, 6] and Element [element, 7] of sizes.h: limits, ZBL, wall, lone atoms."""
    elements, limits = np.array(potential.elements), potential.limits
    n = len(elements)
    pairs, table = np.zeros((n, n, 6)), np.zeros((n, 7))
    pairs[..., 0] = numbers(limits.shortest).reshape(n, n)
    if "ZBL" in terms:
        radii = numbers(terms["ZBL"].radii)[elements]
        z = elements.astype(np.float64)
        pairs[..., 1] = radii[:, None] + radii
        pairs[..., 2] = units.COULOMB * z[:, None] * z
        pairs[..., 3] = (z[:, None] ** 0.23 + z**0.23) / (0.8854 * units.BOHR)
    table[:, 1], table[:, 2] = numbers(limits.most), np.inf
    if "AtomicEnergy" in terms:
        table[:, 0] = numbers(terms["AtomicEnergy"].table_neV)[level] * 1e-9
    if "Wall" in terms:
        wall = terms["Wall"]
        pairs[..., 4], pairs[..., 5] = numbers(wall.reach).reshape(n, n), numbers(wall.pair_strength).reshape(n, n)
        table[:, 2], table[:, 3] = numbers(wall.most), numbers(wall.crowding_strength)
        if hasattr(wall, "least"):  # files of before have no cohesion
            table[:, 4:] = np.stack([numbers(wall.least), numbers(wall.flat), numbers(wall.cohesion_strength)], axis=1)
    return [pairs, table]


def layer_arrays(density: nn.Module, products: nn.Module, triple_per_pair: float, factor: float) -> list[np.ndarray]:
    """density, maps, gains, out of Layer in sizes.h, the matrices also turned.

    factor           of the density in the field
    triple_per_pair  goes into the gains, so that both products are projected with the same numbers
    """
    first = filled(filled(factor * numbers(density.weight), 2), 1)
    maps = np.concatenate([filled(numbers(part.weight), 1, 2) for part in (products.second, products.third)], axis=2)
    gains = numbers(products.gains.weight).reshape(len(products.gains.weight), 2, -1) * [[1.0], [triple_per_pair]]
    out = numbers(products.out.weight)
    out = filled(out.reshape(2, 3, -1, out.shape[2]), 2, 3).reshape(2, -1, up(out.shape[2]))
    arrays = [first, turned(first), maps, turned(maps), filled(gains, 2), out, turned(out)]
    return [single(array) for array in arrays]


def message_arrays(layer: nn.Module, factor: float) -> list[np.ndarray]:
    """radial, mix, sender of Layer in sizes.h, mix also turned."""
    messages = layer.messages
    radial = filled(messages.scale * numbers(messages.radial), 2)
    mix = factor * numbers(messages.mix.weight)
    mix = filled(mix.reshape(len(mix), messages.n_paths, -1, mix.shape[2]), 2, 3)
    mix = mix.reshape(len(mix), -1, mix.shape[3])
    return [single(array) for array in (radial, mix, turned(mix), filled(numbers(layer.sender.weight), 1))]


def turned(matrices: np.ndarray) -> np.ndarray:
    """Each matrix of [l, in, out] transposed."""
    return matrices.transpose(0, 2, 1)
