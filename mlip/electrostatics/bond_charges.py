"""Bond charges: formal charges and what each bond transfers, without a solve; the charges of an insulator."""

import math
from typing import Any, Final

import torch
from ase.data import chemical_symbols
from torch import Tensor, nn

from mlip import keys, units
from mlip.electrostatics.batch import RelaxationSettings, relax_batch, systems_of
from mlip.electrostatics.functional import unconstrained
from mlip.electrostatics.kernels import width_of_cutoff
from mlip.electrostatics.parameters import check_not_all_zero, formal_charge_table
from mlip.electrostatics.slab import positions_in_field
from mlip.errors import InputError
from mlip.nn.radial import bessel_basis
from mlip.nn.scatter import gather_rows, segment_sum
from mlip.nn.species import SpeciesTable, species_lookup

UNFITTED: Final[float] = 4.0  # eps_inf of an insulator of which nothing else is known


class ChargeTransfer(nn.Module):
    """Charge that flows along every edge from the neighbour to the centre, p_ij = -p_ji, [n_edges] e float64.

    p_ij = f_c(r_ij) tanh[ sum_k R_k(r_ij) (a_ik b_jk - a_jk b_ik) / 50 ],  R_k = sum_n W_nk b_n(r_ij)

    So no bond transfers more than 1 e. a and b are a row per element plus a linear map of the invariant features. b
    starts at zero and a does not, so that training starts from no transfer with a gradient that does not vanish; the
    factor lets charges drift slowly from there (0.02 e and more of an atom in a step of Muon is too fast).
    """

    scale: Final[float] = 0.02

    def __init__(self, elements: list[int], n_features: int, cutoff: float, n_channels: int, n_basis: int):
        super().__init__()
        if min(n_channels, n_basis) < 1:
            raise InputError(f"n_channels and n_basis must be at least 1, got {n_channels}, {n_basis}")
        self.cutoff, self.n_basis = float(cutoff), n_basis
        self.giver = SpeciesTable(elements, torch.randn(len(elements), n_channels))
        self.taker = SpeciesTable(elements, torch.zeros(len(elements), n_channels))
        self.giver_map = nn.Linear(n_features, n_channels, bias=False)
        self.taker_map = nn.Linear(n_features, n_channels, bias=False)
        nn.init.zeros_(self.taker_map.weight)
        self.radial = nn.Parameter(torch.randn(n_basis, n_channels) / math.sqrt(n_basis * n_channels))

    @torch.no_grad()
    @torch.jit.unused
    def begin_with(self, pairs: list[list[Any]]) -> None:
        """Starts from p_ij = f_c tanh sum_n c_n b_n(r_ij) for bonds of element rows, pairs [row i, row j, [c_n]].

        A channel each, the first ones: a of i and b of j are one, there is nothing of the features yet.
        """
        for channel, (i, j, coefficients) in enumerate(pairs):
            for table, row in ((self.giver, i), (self.taker, j)):
                table.weight[:, channel] = 0.0
                table.weight[row, channel] = 1.0
            self.giver_map.weight[channel] = 0.0
            self.radial[:, channel] = torch.tensor(coefficients) / self.scale

    @torch.jit.export
    def ends(self, scalars: Tensor, species: Tensor) -> Tensor:
        """a and b of every atom, [n_atoms, 2 n_channels]."""
        giver, taker = self.giver(species) + self.giver_map(scalars), self.taker(species) + self.taker_map(scalars)
        return torch.cat([giver, taker], 1)

    def forward(self, graph: dict[str, Tensor], ends: Tensor) -> Tensor:
        """[n_edges] e; zero at the cutoff with two derivatives, and between charge groups."""
        centre, neighbour = graph[keys.EDGE_INDEX][0], graph[keys.EDGE_INDEX][1]
        dtype = self.radial.dtype
        here, there = gather_rows(ends, centre), gather_rows(ends, neighbour)
        n = self.radial.shape[1]
        exchange = here[:, :n] * there[:, n:] - there[:, :n] * here[:, n:]
        radial = bessel_basis(graph[keys.EDGE_DISTANCE].to(dtype), self.cutoff, self.n_basis) @ self.radial
        transfer = torch.tanh(self.scale * (exchange * radial).sum(1)).to(torch.float64)
        transfer = transfer * graph[keys.EDGE_ENVELOPE].to(torch.float64)
        if keys.CHARGE_GROUP in graph:
            group = graph[keys.CHARGE_GROUP]
            transfer = transfer * (group[centre] == group[neighbour]).to(torch.float64)
        return transfer


class BondCharges(nn.Module):
    """Coulomb energy of charges that bonds transfer, q_i = z_i + sum_j p_ij, p_ij = -p_ji, in a medium of eps_inf.

        E_i = (q_i phi_i - k_e q_i^2 / (s sqrt(pi))) / (2 eps_inf) - m_i (1/eps_inf - 1/eps_0),  phi = A q

    The stiff limit of split charges (Nistor, Polihronov, Mueser, Mosey, J. Chem. Phys. 125, 094108 (2006)): nothing is
    solved, the sum of charges is that of z to rounding, fragments that share no bond exchange nothing, and a field
    moves bounded charge. z is the formal charge; what it lacks of total_charge (or of a group_charge) is shared
    evenly. The self-energy is left out: what a transfer costs on site, the network learns. Electrons screen what ions
    feel of each other at a distance by eps_inf, so the long range is that of a dielectric (Leontyev and Stuchebrukhov,
    Phys. Chem. Chem. Phys. 13, 2613 (2011)); charges, Born charges and a field inside are not scaled. eps_0 is the start
    and m_i, of the element (`coulomb_energies` of the statistics), what the first term is worth in the training set
    without screening, so that energies do not move by eV per atom while eps_inf is learned.

    formal_charges  symbol -> e, instead of the usual oxidation state
    fit_transfer    what bonds transfer starts from `bond_transfer` of the statistics, a fit to the training forces
                    (`mlip.training.transfer_start`), and not from zero: for Born charges far from formal ones
    learn_formal_charges  z is learned for every element from there: if no oxidation state is right, as in molecules
    dielectric      eps_inf where it is known: it is held, 1: nothing screens. None: learned, from `dielectric` of the
                    statistics, a fit to the training forces (`mlip.training.dielectric_start`), 4 without one
    cutoff_error_eV_A  force between unit charges at the cutoff that their Gaussians leave to the network, which ends
                    there: decides their width (`width_of_cutoff`)
    n_channels, n_basis  size of the transfer, see ChargeTransfer
    tolerance       of the waves left out; forces err by about as much, eV/Å
    mesh_above      atoms from which the particle mesh is taken
    Reads total_charge, charge_group and group_charge, field; adds charges and bond_dipoles. In stages, each process sums
    what bonds transfer to its own atoms (`bond_ends`, `transferred`), and `forward` reads that instead of edges.
    """

    local: Final[bool] = False
    dipoles: Final[bool] = False
    learn_formal_charges: Final[bool]
    lookup: Tensor
    formal: Tensor
    zero: Tensor

    def __init__(
        self,
        statistics: dict[str, Any],
        formal_charges: dict[str, float] | None = None,
        learn_formal_charges: bool = False,
        fit_transfer: bool = False,
        dielectric: float | None = None,
        cutoff_error_eV_A: float = 0.01,
        n_channels: int = 16,
        n_basis: int = 6,
        tolerance: float = 1e-5,
        mesh_above: int = 2000,
    ):
        super().__init__()
        learned = dielectric is None
        start = float(statistics.get("dielectric", UNFITTED)) if dielectric is None else float(dielectric)
        if start < 1:
            raise InputError(f"dielectric must be at least 1 (vacuum), got {start}")
        elements, cutoff = list(statistics["elements"]), float(statistics["cutoff"])
        self.tolerance, self.mesh_above, self.learn_formal_charges = tolerance, mesh_above, learn_formal_charges
        self.width = width_of_cutoff(cutoff, cutoff_error_eV_A)
        self.register_buffer("lookup", species_lookup(elements))
        symbols = [chemical_symbols[z] for z in elements]
        self.register_buffer("formal", formal_charge_table(symbols, formal_charges))
        check_not_all_zero(symbols, self.formal)
        self.shift = SpeciesTable(elements, torch.zeros(len(elements), 1))
        self.shift.weight.requires_grad_(learn_formal_charges)
        self.transfer = ChargeTransfer(elements, int(statistics["n_features"]), cutoff, n_channels, n_basis)
        self.fit_transfer, self.bond_width = fit_transfer, 2 * n_channels
        self.transfer.begin_with(statistics.get("bond_transfer") or [])
        self.susceptibility = start - 1.0
        self.log_susceptibility = nn.Parameter(torch.zeros(1), requires_grad=learned)
        zero = torch.tensor(statistics.get("coulomb_energies") or [0.0] * len(elements), dtype=torch.float64)
        self.register_buffer("zero", zero, persistent=False)

    @torch.jit.export
    def dielectric(self) -> Tensor:
        """eps_inf = 1 + (start - 1) exp(weight), [1] float64."""
        return 1.0 + self.susceptibility * self.log_susceptibility.to(torch.float64).exp()

    @torch.jit.export
    def element_charges(self, species: Tensor) -> Tensor:
        """Charges z [n] e, float64, of rows of the table of elements."""
        charges = self.formal.to(torch.float64)[species]
        if self.learn_formal_charges:
            charges = charges + 0.1 * self.shift(species)[:, 0].to(torch.float64)
        return charges

    @torch.jit.export
    def element_energies(self, species: Tensor) -> Tensor:
        """-m (1/eps_inf - 1/eps_0) [n] eV of rows of the table of elements."""
        since_start = 1.0 / self.dielectric() - 1.0 / (1.0 + self.susceptibility)
        return -self.zero.to(torch.float64)[species] * since_start

    @torch.jit.export
    def bond_ends(self, graph: dict[str, Tensor]) -> Tensor:
        """What each atom brings into its bonds, [n_atoms, 2 n_channels]."""
        scalars = graph[keys.NODE_SCALARS]
        return self.transfer.ends(scalars, self.lookup[graph[keys.ATOMIC_NUMBERS][: scalars.shape[0]]])

    @torch.jit.export
    def transferred(self, graph: dict[str, Tensor], ends: Tensor) -> Tensor:
        """Charge that bonds bring each atom, [n_atoms] e float64, from the ends of atoms and ghosts."""
        return segment_sum(self.transfer(graph, ends), graph[keys.EDGE_INDEX][0], graph[keys.POSITIONS].shape[0])

    @torch.jit.export
    def reference(self, graph: dict[str, Tensor]) -> Tensor:
        """z of every atom with its share of the total charge, [n_atoms] e float64."""
        return with_total(graph, self.element_charges(self.lookup[graph[keys.ATOMIC_NUMBERS]]))

    @torch.jit.export
    def unscreened(self, graph: dict[str, Tensor], charges: Tensor) -> Tensor:
        """Coulomb energies of charges [n_atoms] e in vacuum, less those of lone Gaussians, [n_atoms] eV."""
        without_field = graph.copy()
        if keys.FIELD in without_field:
            without_field.pop(keys.FIELD)
        settings = RelaxationSettings(self.tolerance, self.mesh_above, self.training)
        return gaussian_energies(without_field, charges, self.width, settings)

    def forward(self, graph: dict[str, Tensor]) -> Tensor:  # [n_atoms] eV
        """Energies; adds charges [n_atoms] e and bond_dipoles [n_atoms, 3] e Å to the graph."""
        species = self.lookup[graph[keys.ATOMIC_NUMBERS]]
        reference = self.reference(graph)
        transfer = reference[:0]
        if keys.TRANSFERRED in graph:
            charges = reference + graph[keys.TRANSFERRED]
        else:
            transfer = self.transfer(graph, self.bond_ends(graph))
            centre, n_atoms = graph[keys.EDGE_INDEX][0], species.shape[0]
            charges = reference + segment_sum(transfer, centre, n_atoms)
            edge_vector = graph[keys.EDGE_VECTOR].to(torch.float64)
            graph[keys.BOND_DIPOLES] = bond_dipoles(transfer, edge_vector, centre, n_atoms)
        graph[keys.CHARGES] = charges
        graph[keys.REFERENCE_CHARGES] = reference

        dielectric = self.dielectric()
        energy = self.unscreened(graph, charges) / dielectric + self.element_energies(species)
        if keys.FIELD in graph:
            energy = energy + field_energies(graph, reference, transfer, dielectric)
        return energy


def gaussian_energies(graph: dict[str, Tensor], charges: Tensor, width: float, settings: RelaxationSettings) -> Tensor:
    """Coulomb energies of Gaussian charges [n_atoms] e of one width Å, less those of lone ones, [n_atoms] eV."""
    zero = torch.zeros_like(charges)
    functional = unconstrained(zero, zero, charges.new_zeros(0, 3), charges.new_zeros(0))
    _, energy = relax_batch(graph, functional, torch.full_like(charges[:1], width), charges, settings)
    return energy - 0.5 * units.COULOMB / (width * math.sqrt(math.pi)) * charges.square()


def with_total(graph: dict[str, Tensor], charges: Tensor) -> Tensor:
    """Charges [n_atoms] e shifted evenly to the group charges of the graph, or the total charge of each system."""
    segment, target = graph[keys.BATCH], charges[:0]
    if keys.CHARGE_GROUP in graph:
        segment, target = graph[keys.CHARGE_GROUP], graph[keys.GROUP_CHARGE].to(charges.dtype)
        if int(segment.min()) < 0 or int(segment.max()) >= target.shape[0]:
            raise InputError(
                f"charge_group must hold one index into group_charge (0..{target.shape[0] - 1}) for every atom, "
                f"got {int(segment.min())}..{int(segment.max())}: give every atom a group"
            )
    elif keys.TOTAL_CHARGE in graph:
        target = graph[keys.TOTAL_CHARGE].to(charges.dtype)
    else:
        return charges
    sums = torch.zeros_like(target).index_add(0, segment, charges)
    counts = torch.zeros_like(target).index_add(0, segment, torch.ones_like(charges))
    return charges + ((target - sums) / counts.clamp(min=1.0))[segment]


def bond_dipoles(transfer: Tensor, edge_vector: Tensor, centre: Tensor, n_atoms: int) -> Tensor:
    """Dipole that bonds make, -1/2 sum_j p_ij r_ij, half of each bond at either end, [n_atoms, 3] e Å.

    p_ij e go from j to i, and r_ij = r_j - r_i (+ the image's cell) is that of the edge: no image is preferred.
    """
    return segment_sum(-0.5 * transfer[:, None] * edge_vector, centre, n_atoms)


def field_energies(graph: dict[str, Tensor], reference: Tensor, transfer: Tensor, dielectric: Tensor) -> Tensor:
    """-E.P of reference charges and bond dipoles, and in a bulk that of its electrons, [n_atoms] eV.

    Along periodic directions the field of the graph is the one inside, of a fixed voltage across the cell
    (`positions_in_field`); along open ones it is that of the vacuum, and eps_inf times smaller inside.
    Electrons: -(eps_inf - 1) V E^2 / (8 pi k_e), so that the energy's curvature in the field is eps_inf.
    """
    centre, edge_vector = graph[keys.EDGE_INDEX][0], graph[keys.EDGE_VECTOR].to(torch.float64)
    energies: list[Tensor] = []
    for system, field, first, last, first_edge, last_edge in systems_of(graph):
        lattice = system.cell[system.pbc].detach()
        inside = field @ torch.linalg.pinv(lattice) @ lattice
        inside = inside + (field - inside) / dielectric
        moved = positions_in_field(system.positions, system.cell, system.pbc)
        edges = positions_in_field(edge_vector[first_edge:last_edge], system.cell, system.pbc)
        atoms = centre[first_edge:last_edge] - first
        moment = bond_dipoles(transfer[first_edge:last_edge], edges, atoms, last - first)
        energy = -(reference[first:last] * (moved @ inside)) - moment @ inside
        if bool(system.pbc.all()):
            strained = torch.linalg.solve(system.cell, system.cell.detach() @ field)  # the voltage E.a stays
            volume = torch.linalg.det(system.cell).abs()
            electrons = volume * strained.square().sum() * (dielectric - 1) / (8 * math.pi * units.COULOMB)
            energy = energy - electrons / (last - first)
        energies.append(energy)
    return torch.cat(energies)
