"""Atomic charges: read off the neighbourhood of each atom, with an exact total; for molecules and their ions."""

from typing import Any, Final

import torch
from ase.data import chemical_symbols, covalent_radii
from torch import Tensor, nn

from mlip import keys
from mlip.electrostatics.batch import RelaxationSettings, systems_of
from mlip.electrostatics.bond_charges import ChargeTransfer, gaussian_energies, with_total
from mlip.electrostatics.kernels import width_of_cutoff
from mlip.electrostatics.slab import open_field
from mlip.nn.scatter import gather_rows, segment_sum
from mlip.nn.species import SpeciesTable, species_lookup

BOND, NO_BOND = 1.25, 1.6  # of the sum of covalent radii: no bond is longer, no contact or second neighbour is nearer
GAIN: Final[float] = 0.05  # charges that are learned drift slowly: near forces hardly decide them


class AtomicCharges(nn.Module):
    """Coulomb energy of charges that depend on what an atom is bound to, at the total charge of the system.

        E_i = (q_i phi_i - k_e q_i^2 / (s sqrt(pi))) / 2,  phi = A q,   q_i = q0_i + (Q - sum_j q0_j) / n
        q0_i = z_i + sum_j u(r_ij) (w_ij + sum_k u(r_jk) v_ik + p_ij),  u one for a bond and zero without one (`bonded`)

    q minimises sum_i J (q_i - q0_i)^2 / 2 at the total charge Q: equilibrated charges (Rappe and Goddard, J. Phys. Chem. 95,
    3358 (1991)) that are harder than their interaction, so that nothing is solved. z is a number of the element and w_ij = a_i . b_j
    one of two elements, v_ik = c_i . d_k of an atom and those bound to its neighbours: the nitrogens of NH3 and NH4+ differ by more than
    bonds transfer, which no oxidation state gives, and the hydrogens of two CH3 by what is bound to them. A bond that
    vibrates changes neither: the charge of a molecule would otherwise pull at its bonds wherever there is a potential.
    p_ij = -p_ji is what a bond transfers, of the features (`ChargeTransfer`): a molecule keeps its charge. z, w and v are held as found in
    the forces between the molecules of the training set (`atomic_charges` of the statistics, `mlip.training.fragment_start`), and
    training moves p only: near forces decide the charge of a molecule to some per cent, the long range asks for less than one.
    Without molecules in the training set, z starts from formal_charges and small charges at random, and is learned with w and v.

    formal_charges  symbol -> e, start of z; zero if not given
    n_channels, n_basis  size of the transfer, and n_channels that of a to d
    cutoff_error_eV_A, tolerance, mesh_above  as in `BondCharges`
    Reads total_charge, charge_group and group_charge, and field along open directions; adds charges. In stages as `BondCharges`.
    """

    local: Final[bool] = False
    dipoles: Final[bool] = False
    gain: Final[float] = GAIN
    lookup: Tensor
    formal: Tensor
    radius: Tensor

    def __init__(
        self,
        statistics: dict[str, Any],
        formal_charges: dict[str, float] | None = None,
        n_channels: int = 16,
        n_basis: int = 6,
        cutoff_error_eV_A: float = 0.01,
        tolerance: float = 1e-5,
        mesh_above: int = 2000,
    ):
        super().__init__()
        elements, cutoff = list(statistics["elements"]), float(statistics["cutoff"])
        self.tolerance, self.mesh_above = tolerance, mesh_above
        self.transfer = ChargeTransfer(elements, int(statistics["n_features"]), cutoff, n_channels, n_basis)
        self.bond_width = 1 + 3 * n_channels
        self.width = width_of_cutoff(cutoff, cutoff_error_eV_A)
        self.register_buffer("lookup", species_lookup(elements))
        self.register_buffer("radius", torch.tensor(covalent_radii[elements], dtype=torch.float64))
        formal = [float((formal_charges or {}).get(chemical_symbols[z], 0.0)) for z in elements]
        self.register_buffer("formal", torch.tensor(formal, dtype=torch.float64))
        shift = torch.randn(len(elements))  # not zero: energies are even in all charges
        bonds = second = torch.zeros(len(elements), len(elements))
        start = statistics.get("atomic_charges")
        if start:
            shift = (torch.tensor(start["elements"], dtype=torch.float64) - self.formal).float() / GAIN
            bonds, second = torch.tensor(start["neighbours"]), torch.tensor(start["second_neighbours"])
        (giver, taker), (far_giver, far_taker) = factors(bonds, n_channels), factors(second, n_channels)
        self.shift = SpeciesTable(elements, shift[:, None])
        self.giver, self.taker = SpeciesTable(elements, giver), SpeciesTable(elements, taker)
        self.far_giver, self.far_taker = SpeciesTable(elements, far_giver), SpeciesTable(elements, far_taker)
        for table in (self.shift, self.giver, self.taker, self.far_giver, self.far_taker):
            table.weight.requires_grad_(not start)

    @torch.jit.export
    def bonds(self, graph: dict[str, Tensor]) -> Tensor:
        """u of every edge, [n_edges] float64."""
        radius = self.radius.to(torch.float64)[self.lookup[graph[keys.ATOMIC_NUMBERS]]]
        ends = graph[keys.EDGE_INDEX]
        return bonded(graph[keys.EDGE_DISTANCE].to(torch.float64), radius[ends[0]] + radius[ends[1]])

    @torch.jit.export
    def bond_ends(self, graph: dict[str, Tensor]) -> Tensor:
        """What each atom is, and brings into its bonds: z e, its neighbours' d, ends of the transfer; [n_atoms, 1 + 3 n_channels]."""
        scalars, edges = graph[keys.NODE_SCALARS], graph[keys.EDGE_INDEX]
        every = self.lookup[graph[keys.ATOMIC_NUMBERS]]
        species = every[: scalars.shape[0]]
        own = self.formal.to(torch.float64)[species][:, None] + self.gain * self.shift(species).to(torch.float64)
        brought = self.bonds(graph)[:, None] * self.far_taker(every[edges[1]]).to(torch.float64)
        around = segment_sum(brought, edges[0], scalars.shape[0])
        bounded = scalars / (1.0 + scalars.square().mean(1, keepdim=True)).sqrt()
        return torch.cat([own, around, self.transfer.ends(bounded, species).to(torch.float64)], 1)

    @torch.jit.export
    def transferred(self, graph: dict[str, Tensor], ends: Tensor) -> Tensor:
        """q0 of every atom, [n_atoms] e float64, from the ends of atoms and ghosts."""
        centre, neighbour = graph[keys.EDGE_INDEX][0], graph[keys.EDGE_INDEX][1]
        n_atoms = graph[keys.POSITIONS].shape[0]
        species = self.lookup[graph[keys.ATOMIC_NUMBERS]]
        here = species[centre]
        bound = (self.giver(here) * self.taker(species[neighbour])).sum(1).to(torch.float64)
        far_giver = self.far_giver(here).to(torch.float64)
        last = 1 + far_giver.shape[1]
        bound = bound + (far_giver * gather_rows(ends[:, 1:last], neighbour)).sum(1)
        moved = self.transfer(graph, ends[:, last:].to(self.transfer.radial.dtype))
        return ends[:n_atoms, 0] + segment_sum(self.bonds(graph) * (bound + moved), centre, n_atoms)

    def forward(self, graph: dict[str, Tensor]) -> Tensor:  # [n_atoms] eV
        """Energies; adds charges [n_atoms] e to the graph."""
        if keys.TRANSFERRED in graph:
            charges = graph[keys.TRANSFERRED]
        else:
            charges = self.transferred(graph, self.bond_ends(graph))
        charges = with_total(graph, charges)
        graph[keys.CHARGES] = charges
        if keys.FIELD in graph:
            for system, field, _, _, _, _ in systems_of(graph):
                open_field(field, system.cell, system.pbc)
        settings = RelaxationSettings(self.tolerance, self.mesh_above, self.training)
        return gaussian_energies(graph, charges, self.width, settings)


def bonded(distance: Tensor, radii: Tensor, longest: float = BOND, none: float = NO_BOND) -> Tensor:
    """One up to `longest` times the sum of covalent radii [n] Å, zero from `none` times it on, with two derivatives between, [n]."""
    t = ((distance / radii - longest) / (none - longest)).clamp(0.0, 1.0)
    return 1.0 - t * t * t * (10.0 - 15.0 * t + 6.0 * t * t)


def factors(matrix: Tensor, rank: int) -> tuple[Tensor, Tensor]:
    """A, B [n, rank] with A B^T the nearest to matrix [n, n] of that rank; where a column of A is zero, B is small and random."""
    left, sizes, right = torch.linalg.svd(matrix)
    kept = min(rank, len(sizes))
    root = sizes[:kept].sqrt()
    a, b = torch.zeros(len(matrix), rank), torch.zeros(len(matrix), rank)
    a[:, :kept], b[:, :kept] = left[:, :kept] * root, right[:kept].T * root
    return a, b + (a == 0).all(0) * GAIN * torch.randn_like(b)
