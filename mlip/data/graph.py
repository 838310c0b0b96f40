"""Graphs: a structure as a dictionary of tensors with its neighbour list, and many of them as one batch."""

from collections.abc import Sequence

import numpy as np
import torch
import vesin
from ase import Atoms
from torch import Tensor

from mlip import keys
from mlip.errors import InputError, UnknownNameError

# labels of every graph, NaN where missing; the others travel only where a data set has them
ALWAYS = (keys.REF_ENERGY, keys.REF_FORCES, keys.REF_STRESS)
LABEL_SHAPES = {  # trailing shape, and whether it is per atom
    keys.REF_ENERGY: ((), False),
    keys.REF_STRESS: ((3, 3), False),
    keys.REF_FORCES: ((3,), True),
    keys.REF_CHARGES: ((), True),
    keys.REF_DIPOLES: ((3,), True),
    keys.REF_BORN_CHARGES: ((3, 3), True),
}


def neighbour_list(system: Atoms | tuple[np.ndarray, np.ndarray, np.ndarray], cutoff: float) -> tuple[Tensor, Tensor]:
    """All ordered pairs closer than the cutoff, images included.

    system   Atoms, or (positions [n_atoms, 3] Å, cell [3, 3] Å, pbc [3] bool); positions may lie outside the cell
    returns  edge_index [2, n_edges] int64, sorted by centre; edge_shift [n_edges, 3] float64 whole cells with
             edge_vector = r_neighbour + shift @ cell - r_centre
    """
    if cutoff <= 0:
        raise InputError(f"cutoff must be positive, got {cutoff} Å")
    positions, cell, pbc = (system.positions, system.cell.array, system.pbc) if isinstance(system, Atoms) else system
    positions = np.ascontiguousarray(positions, dtype=np.float64)
    cell = np.ascontiguousarray(cell, dtype=np.float64)
    pbc = np.asarray(pbc, dtype=bool)
    if not np.isfinite(positions).all():
        raise InputError(f"positions must be finite; atom {int(np.argwhere(~np.isfinite(positions))[0, 0])} is not")
    periodic = cell[pbc]
    if len(periodic) and np.linalg.matrix_rank(periodic) < len(periodic):
        raise InputError(f"periodic directions need independent lattice vectors, got {periodic.tolist()} Å")
    search = vesin.NeighborList(cutoff=cutoff, full_list=True, sorted=True)
    # vectors of directions that are not periodic do not matter, and may be zero: only periodic ones enter the search
    pairs, shifts = search.compute(positions, np.where(pbc[:, None], cell, 0.0), pbc, "PS")
    return torch.from_numpy(pairs.T.astype(np.int64)), torch.from_numpy(shifts.astype(np.float64))


def neighbour_vectors(
    system: Atoms | tuple[np.ndarray, np.ndarray, np.ndarray], cutoff: float
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """All ordered pairs closer than the cutoff, with their vectors, as numpy arrays.

    system   as in neighbour_list
    returns  i [n_pairs] centre, j [n_pairs] neighbour, vector [n_pairs, 3] Å from i to the image of j
    """
    positions, cell = (system.positions, system.cell.array) if isinstance(system, Atoms) else system[:2]
    (i, j), shift = (part.numpy() for part in neighbour_list(system, cutoff))
    return i, j, positions[j] + shift @ cell - positions[i]


def to_graph(
    atoms: Atoms, cutoff: float, levels: Sequence[str] = ("default",), config_types: Sequence[str] = ()
) -> dict[str, Tensor]:
    """One structure as a graph of one system, with every label it has.

    levels, config_types  names whose positions become keys.LEVEL and keys.CONFIG_TYPE; an unknown config_type is -1
    """
    graph = geometry(atoms)
    graph[keys.EDGE_INDEX], graph[keys.EDGE_SHIFT] = neighbour_list(atoms, cutoff)
    level = atoms.info.get("level", levels[0])
    if level not in levels:
        raise UnknownNameError(
            f"level {level!r} of {atoms.info.get('source', 'a structure')} is unknown; known: {levels}"
        )
    config_type = atoms.info.get("config_type", "default")
    graph[keys.LEVEL] = torch.tensor([levels.index(level)])
    graph[keys.CONFIG_TYPE] = torch.tensor([config_types.index(config_type) if config_type in config_types else -1])
    graph[keys.WEIGHT] = torch.tensor([float(atoms.info.get("weight", 1.0))], dtype=torch.float64)
    for key in LABEL_SHAPES:
        value = atoms.info.get(key, atoms.arrays.get(key))
        if value is not None:
            value = torch.as_tensor(np.array(value, dtype=np.float64))
            graph[key] = value if LABEL_SHAPES[key][1] else value[None]
        elif key in ALWAYS:
            graph[key] = missing(key, 1, len(atoms))
    return graph


def geometry(atoms: Atoms) -> dict[str, Tensor]:
    """What a structure is, without neighbours and labels: with its total charge, charge groups and field."""
    graph = {
        keys.POSITIONS: torch.from_numpy(np.array(atoms.positions, dtype=np.float64)),
        keys.ATOMIC_NUMBERS: torch.from_numpy(np.array(atoms.numbers, dtype=np.int64)),
        keys.CELL: torch.from_numpy(np.array(atoms.cell.array, dtype=np.float64))[None],
        keys.PBC: torch.from_numpy(np.array(atoms.pbc, dtype=bool))[None],
        keys.BATCH: torch.zeros(len(atoms), dtype=torch.int64),
        keys.TOTAL_CHARGE: torch.tensor([float(atoms.info.get(keys.TOTAL_CHARGE, 0.0))], dtype=torch.float64),
    }
    group, group_charge = charge_groups(atoms)
    if group is not None:
        graph[keys.CHARGE_GROUP], graph[keys.GROUP_CHARGE] = torch.from_numpy(group), torch.from_numpy(group_charge)
    if atoms.info.get(keys.FIELD) is not None:
        graph[keys.FIELD] = torch.as_tensor(np.array(atoms.info[keys.FIELD], dtype=np.float64)).reshape(1, 3)
    return graph


def charge_groups(atoms: Atoms) -> tuple[np.ndarray, np.ndarray] | tuple[None, None]:
    """charge_group [n_atoms] and group_charge [n_groups] e of a structure; None if it has none.

    Raises ValueError if only one of them is there, or an index has no charge.
    """
    group, charge = atoms.arrays.get(keys.CHARGE_GROUP), atoms.info.get(keys.GROUP_CHARGE)
    if group is None and charge is None:
        return None, None
    where = atoms.info.get("source", "a structure")
    if group is None or charge is None:
        raise InputError(
            f"charge groups need both atoms.arrays['charge_group'] and atoms.info['group_charge'], got one in {where}"
        )
    group, charge = np.array(group, dtype=np.int64), np.atleast_1d(np.array(charge, dtype=np.float64))
    if group.min() < 0 or group.max() >= len(charge) or not np.isfinite(charge).all():
        raise InputError(
            f"charge_group of {where} must hold indices into its group_charge (0..{len(charge) - 1}, finite numbers), "
            f"got {group.min()}..{group.max()} and {charge.tolist()}"
        )
    return group, charge


def missing(key: str, n_systems: int, n_atoms: int) -> Tensor:
    """A label that is not there: NaN in its shape."""
    shape, per_atom = LABEL_SHAPES[key]
    return torch.full((n_atoms if per_atom else n_systems, *shape), torch.nan, dtype=torch.float64)


def collate(graphs: Sequence[dict[str, Tensor]]) -> dict[str, Tensor]:
    """Many graphs as one: atoms, edges and systems are appended, indices moved along, missing labels filled with NaN.

    If one has a field or charge groups, the others get a field of zero, and one group of their total charge.
    """
    graphs = with_same_inputs(graphs)
    n_atoms = [len(graph[keys.POSITIONS]) for graph in graphs]
    n_systems = [len(graph[keys.CELL]) for graph in graphs]
    first_atom = np.cumsum([0, *n_atoms[:-1]]).tolist()
    first_system = np.cumsum([0, *n_systems[:-1]]).tolist()
    batch = {}
    for key in dict.fromkeys(key for graph in graphs for key in graph):
        if key == keys.EDGE_INDEX:
            batch[key] = torch.cat([g[key] + atom for g, atom in zip(graphs, first_atom, strict=True)], dim=1)
        elif key == keys.BATCH:
            batch[key] = torch.cat([g[key] + system for g, system in zip(graphs, first_system, strict=True)])
        elif key in LABEL_SHAPES:
            sizes = zip(graphs, n_systems, n_atoms, strict=True)
            batch[key] = torch.cat(
                [g[key] if key in g else missing(key, systems, atoms) for g, systems, atoms in sizes]
            )
        else:
            batch[key] = torch.cat([g[key] for g in graphs])
    return batch


def with_same_inputs(graphs: Sequence[dict[str, Tensor]]) -> list[dict[str, Tensor]]:
    """Copies with the same optional inputs: zero field, one charge group per remaining system; groups are counted on."""
    graphs = [dict(graph) for graph in graphs]
    if any(keys.FIELD in graph for graph in graphs):
        for graph in graphs:
            graph.setdefault(keys.FIELD, torch.zeros(len(graph[keys.CELL]), 3, dtype=torch.float64))
    if any(keys.CHARGE_GROUP in graph for graph in graphs):
        first = 0
        for graph in graphs:
            if keys.CHARGE_GROUP not in graph:
                graph[keys.CHARGE_GROUP] = graph[keys.BATCH]
                graph[keys.GROUP_CHARGE] = graph[keys.TOTAL_CHARGE]
            graph[keys.CHARGE_GROUP] = graph[keys.CHARGE_GROUP] + first
            first += len(graph[keys.GROUP_CHARGE])
    return graphs
