"""What an exported file offers: the potential behind plain tensors, as a whole or in stages."""

from typing import Any

import torch
from ase.data import chemical_symbols
from torch import Tensor, nn

from mlip import keys
from mlip.electrostatics import BondCharges, EquilibratedCharges, FormalCharges


class Deployed(nn.Module):
    """The potential behind plain tensors: what TorchScript, LAMMPS or C++ call.

    positions [n_atoms, 3] Å, atomic_numbers [n_atoms], cell [n_systems, 3, 3] Å, pbc [n_systems, 3],
    edge_index [2, n_edges] (centre ascending, neighbour), edge_shift [n_edges, 3], batch [n_atoms];
    total_charge [n_systems] e, charge_group [n_atoms], group_charge [n_groups] e, field [n_systems, 3] V/Å.
    Returns the potential's results: energy [n_systems], energies, forces, stress and what else it has.
    """

    def __init__(self, potential: nn.Module, level: int):
        super().__init__()
        self.potential = potential
        self.level = level

    def forward(
        self,
        positions: Tensor,
        atomic_numbers: Tensor,
        cell: Tensor,
        pbc: Tensor,
        edge_index: Tensor,
        edge_shift: Tensor,
        batch: Tensor,
        total_charge: Tensor | None = None,
        charge_group: Tensor | None = None,
        group_charge: Tensor | None = None,
        field: Tensor | None = None,
        guess: Tensor | None = None,
    ) -> dict[str, Tensor]:
        graph: dict[str, Tensor] = {
            keys.POSITIONS: positions,
            keys.ATOMIC_NUMBERS: atomic_numbers,
            keys.CELL: cell,
            keys.PBC: pbc,
            keys.EDGE_INDEX: edge_index,
            keys.EDGE_SHIFT: edge_shift,
            keys.BATCH: batch,
            keys.LEVEL: torch.full([cell.shape[0]], self.level, dtype=torch.long, device=cell.device),
        }
        if total_charge is not None:
            graph[keys.TOTAL_CHARGE] = total_charge
        if charge_group is not None:
            graph[keys.CHARGE_GROUP] = charge_group
        if group_charge is not None:
            graph[keys.GROUP_CHARGE] = group_charge
        if field is not None:
            graph[keys.FIELD] = field
        if guess is not None:
            graph[keys.GUESS] = guess
        return self.potential(graph)


class Staged(Deployed):
    """The same, and its stages, for processes that share a crystal (`mlip lammps`).

    A process has rows for its own atoms; its edges may end at ghosts, atoms of others, as far as one cutoff away:

        graph = begin(...);  graph = proceed(graph, features of own atoms and ghosts, layer) for layer = 1 .. n_layers - 1
        graph = finish(graph);  graph["energies"] is differentiable by edge_vector

    If that holds bond_ends, charges move along bonds: graph = bond(graph, ends of own atoms and ghosts) adds transferred.
    Where another code evaluates the network, begin_bonds stands before that instead.
    Terms that are not local then take the positions, features and transferred charges of all atoms: `solve`.
    """

    @torch.jit.export
    def begin(self, edge_vector: Tensor, edge_index: Tensor, atomic_numbers: Tensor, n_atoms: int) -> dict[str, Tensor]:
        """Graph with the features of the first layer.

        edge_vector [n_edges, 3] Å, edge_index [2, n_edges] (centre < n_atoms, ascending), atomic_numbers
        [n_atoms + n_ghosts]
        """
        return self.potential.begin(self.share(edge_vector, edge_index, atomic_numbers, n_atoms))

    def share(self, edge_vector: Tensor, edge_index: Tensor, atomic_numbers: Tensor, n_atoms: int) -> dict[str, Tensor]:
        """Graph of a process's atoms."""
        cell = torch.zeros([1, 3, 3], dtype=edge_vector.dtype, device=edge_vector.device)
        return {
            keys.POSITIONS: torch.zeros([n_atoms, 3], dtype=edge_vector.dtype, device=edge_vector.device),
            keys.ATOMIC_NUMBERS: atomic_numbers,
            keys.CELL: cell,
            keys.EDGE_INDEX: edge_index,
            keys.EDGE_VECTOR: edge_vector,
            keys.BATCH: torch.zeros_like(atomic_numbers[:n_atoms]),
            keys.LEVEL: torch.full([1], self.level, dtype=torch.long, device=cell.device),
        }

    @torch.jit.export
    def proceed(self, graph: dict[str, Tensor], features: Tensor, layer: int) -> dict[str, Tensor]:
        """Graph with the features of one more layer; features [4, n_atoms + n_ghosts, n_channels] of the one before."""
        return self.potential.proceed(graph, features, layer)

    @torch.jit.export
    def finish(self, graph: dict[str, Tensor]) -> dict[str, Tensor]:
        """Graph with node features, and the energies of local terms, the lone atoms' included."""
        return self.potential.finish(graph)

    @torch.jit.export
    def begin_bonds(
        self, edge_vector: Tensor, edge_index: Tensor, atomic_numbers: Tensor, scalars: Tensor
    ) -> dict[str, Tensor]:
        """Graph with bond_ends, from node_scalars [n_atoms, n_features] of the network that another code evaluated."""
        graph = self.share(edge_vector, edge_index, atomic_numbers, scalars.shape[0])
        graph[keys.NODE_SCALARS] = scalars
        return self.potential.begin_bonds(graph)

    @torch.jit.export
    def bond(self, graph: dict[str, Tensor], ends: Tensor) -> dict[str, Tensor]:
        """Graph with the charge transferred to own atoms; ends [n_atoms + n_ghosts, bond_width]."""
        return self.potential.bond(graph, ends)

    @torch.jit.export
    def on_site(self, atomic_numbers: Tensor, scalars: Tensor) -> dict[str, Tensor]:
        """electronegativity [n_atoms] V and energies [n_atoms] eV without charge, for a code that equilibrates by itself."""
        return self.potential.on_site({keys.ATOMIC_NUMBERS: atomic_numbers, keys.NODE_SCALARS: scalars})

    @torch.jit.export
    def solve(
        self,
        positions: Tensor,
        atomic_numbers: Tensor,
        cell: Tensor,
        pbc: Tensor,
        scalars: Tensor,
        vectors: Tensor,
        total_charge: Tensor,
        guess: Tensor | None = None,
        transferred: Tensor | None = None,
    ) -> dict[str, Tensor]:
        """Results of the other terms for one system, `Potential.solve`, from what `finish` and `bond` added."""
        batch = torch.zeros_like(atomic_numbers)
        graph = {
            keys.POSITIONS: positions,
            keys.ATOMIC_NUMBERS: atomic_numbers,
            keys.CELL: cell,
            keys.PBC: pbc,
            keys.EDGE_INDEX: batch[:0].unsqueeze(0).expand(2, -1),
            keys.EDGE_SHIFT: positions[:0],
            keys.BATCH: batch,
            keys.TOTAL_CHARGE: total_charge,
            keys.LEVEL: torch.full([1], self.level, dtype=torch.long, device=cell.device),
            keys.NODE_SCALARS: scalars,
            keys.NODE_VECTORS: vectors,
        }
        if guess is not None:
            graph[keys.GUESS] = guess
        if transferred is not None:
            graph[keys.TRANSFERRED] = transferred
        return self.potential.solve(graph)


def stages_of(potential: nn.Module, level: int) -> dict[str, Any]:
    """What a process needs to run a potential in stages; {"refused": reason} for one that has none.

    elements              {"Li": 3, ...}
    n_layers, n_channels  of the network
    vectors               whether `solve` reads the vector features
    bond_width            of bond_ends, 0 without charges that move along bonds
    global                names of the terms that `solve` evaluates
    fixed                 {"charges": {"Li": 1.0, ...} e, "width": Å} if the only such term is fixed Gaussian charges, which
                          a lattice sum of another code can evaluate; else None
    bonded                the same, "dielectric", and "energies", eV by symbol, which are no lattice sum, if the only such
                          term is charges that bonds change from these; else None
    equilibrated          {"charges": ..., the start, "width": Å, the largest, "hardness": {"Li": eV/e^2, ...}, "widths":
                          {"Li": Å, ...}} if the only such term is charges that flow, without dipoles; else None
    charge_energy         eV/e, energy by the total charge at this level of theory: in no local term, but in `solve`
    """
    if not hasattr(potential, "network"):
        return {"refused": f"a {type(potential).__name__} has no stages: export one run, without uncertainty"}
    network = potential.network
    if not all(hasattr(network, name) for name in ("begin", "proceed", "finish", "n_layers", "n_channels")):
        return {"refused": f"the network {type(network).__name__} has no stages (begin, proceed, finish)"}
    terms = dict(zip(potential.term_names, potential.terms, strict=True))
    if silent := [name for name, term in terms.items() if not hasattr(term, "local")]:
        named = ", ".join(f"{name} ({type(terms[name]).__name__})" for name in silent)
        return {"refused": f"the terms {named} do not say whether they are local: they cannot be split over processes"}
    beyond = {name: term for name, term in terms.items() if not term.local}
    return {
        "elements": {chemical_symbols[z]: int(z) for z in potential.elements},
        "n_layers": int(network.n_layers),
        "n_channels": int(network.n_channels),
        "vectors": any(getattr(term, "dipoles", True) for term in beyond.values()),
        "bond_width": sum(term.bond_width for term in beyond.values() if hasattr(term, "bond_ends")),
        "global": list(beyond),
        "fixed": fixed_charges(next(iter(beyond.values())), potential.elements) if len(beyond) == 1 else None,
        "bonded": bonded_charges(next(iter(beyond.values())), potential.elements) if len(beyond) == 1 else None,
        "equilibrated": equilibrated_charges(next(iter(beyond.values())), potential.elements)
        if len(beyond) == 1
        else None,
        "charge_energy": 1e-9 * float(potential.terms[0].charge_neV[level]),
    }


def fixed_charges(term: nn.Module, elements: list[int]) -> dict[str, Any] | None:
    """Charges by symbol and width of fixed Gaussian charges without dipoles, None for another term."""
    if not isinstance(term, FormalCharges) or term.dipoles:
        return None
    symbols = [chemical_symbols[z] for z in elements]
    return {"charges": dict(zip(symbols, term.formal.tolist(), strict=True)), "width": float(term.width)}


def bonded_charges(term: nn.Module, elements: list[int]) -> dict[str, Any] | None:
    """Charges by symbol before bonds transfer any, width, dielectric constant, energies of atoms; None for another term."""
    if not isinstance(term, BondCharges):
        return None
    rows = torch.arange(len(elements), device=term.formal.device)
    charges = term.element_charges(rows).tolist()
    symbols = [chemical_symbols[z] for z in elements]
    return {"charges": dict(zip(symbols, charges, strict=True)), "width": float(term.width),
            "dielectric": float(term.dielectric()),
            "energies": dict(zip(symbols, term.element_energies(rows).tolist(), strict=True))}  # fmt: skip


def equilibrated_charges(term: nn.Module, elements: list[int]) -> dict[str, Any] | None:
    """Formal charges, hardness and widths by symbol, and the largest width; None for another term, or with dipoles."""
    if not isinstance(term, EquilibratedCharges) or term.dipoles:
        return None
    rows = torch.arange(len(elements), device=term.lookup.device)
    widths = term.width(rows).tolist()
    numbers = {
        "charges": term.electronegativity.formal.tolist(),
        "hardness": term.hardness(rows).tolist(),
        "widths": widths,
    }
    symbols = [chemical_symbols[z] for z in elements]
    tables = {name: dict(zip(symbols, values, strict=True)) for name, values in numbers.items()}
    return {**tables, "width": max(widths)}
