"""One name per tensor: the graph is a `Dict[str, Tensor]` and these are its keys.

Units eV, Å, e; shapes beside the names. Rows of a cell are lattice vectors. Many systems share
one graph: `batch` says which system an atom belongs to. Positions and cells are float64 whatever
the network's dtype, because a lattice sum or a total energy of 10^4 atoms needs it.
"""

from typing import Final

# what a graph is made of
POSITIONS: Final[str] = "positions"  # [n_atoms, 3] Å, float64
ATOMIC_NUMBERS: Final[str] = "atomic_numbers"  # [n_atoms] int64
CELL: Final[str] = "cell"  # [n_systems, 3, 3] Å, float64, rows are lattice vectors; zero where not periodic
PBC: Final[str] = "pbc"  # [n_systems, 3] bool
BATCH: Final[str] = "batch"  # [n_atoms] int64, ascending
EDGE_INDEX: Final[str] = "edge_index"  # [2, n_edges] int64: centre, neighbour; full list, sorted by centre
EDGE_SHIFT: Final[str] = "edge_shift"  # [n_edges, 3] whole cells, int or float

# what may be asked of a system
TOTAL_CHARGE: Final[str] = "total_charge"  # [n_systems] e
CHARGE_GROUP: Final[str] = "charge_group"  # [n_atoms] int64, index into group_charge; groups never span systems
GROUP_CHARGE: Final[str] = "group_charge"  # [n_groups] e, total charge of each group
FIELD: Final[str] = "field"  # [n_systems, 3] V/Å, static and uniform
LEVEL: Final[str] = "level"  # [n_systems] int64, level of theory: which table of energy shifts
GUESS: Final[str] = (
    "guess"  # [n_atoms, 1 or 4] charge e (and dipole e Å) from which relaxation starts, e.g. the last step's
)
NEIGHBOUR_SLOTS: Final[str] = (
    "neighbour_slots"  # [most neighbours of an atom] of any dtype: a row length that a compiler can see
)

# geometry of the edges, made by the potential
EDGE_VECTOR: Final[str] = "edge_vector"  # [n_edges, 3] Å, r_neighbour + shift @ cell - r_centre
EDGE_DISTANCE: Final[str] = (
    "edge_distance"  # [n_edges] Å, length of edge_vector, but never much below the shortest in the data
)
EDGE_ENVELOPE: Final[str] = (
    "edge_envelope"  # [n_edges], smooth cutoff of edge_distance: one at zero, zero at the cutoff
)
CROWDING: Final[str] = "crowding"  # [n_atoms], sum of the edge_envelope of its neighbours
DENSITY_SCALE: Final[str] = "density_scale"  # [n_atoms], one, or less for an atom more crowded than any in the data

# features, made by the network
NODE_SCALARS: Final[str] = "node_scalars"  # [n_atoms, n_channels], invariant
NODE_VECTORS: Final[str] = "node_vectors"  # [n_atoms, 3, n_channels], rotate like a polar vector (x, y, z)
LAST_LAYER: Final[str] = (
    "last_layer"  # [n_atoms, n_last], eV per weight: gradient of an atom's energy by the last weights
)

# results
ENERGY: Final[str] = "energy"  # [n_systems] eV, float64
ENERGIES: Final[str] = "energies"  # [n_atoms] eV, float64
FORCES: Final[str] = "forces"  # [n_atoms, 3] eV/Å
STRESS: Final[str] = "stress"  # [n_systems, 3, 3] eV/Å^3, ASE sign: (1/V) dE/d(strain)
CHARGES: Final[str] = "charges"  # [n_atoms] e
DIPOLES: Final[str] = "dipoles"  # [n_atoms, 3] e Å
REFERENCE_CHARGES: Final[str] = "reference_charges"  # [n_atoms] e, charges less what bonds transfer
BOND_DIPOLES: Final[str] = "bond_dipoles"  # [n_atoms, 3] e Å, of the charge that bonds transfer, half at either end
ELECTRONEGATIVITY: Final[str] = "electronegativity"  # [n_atoms] V (eV/e)
CHEMICAL_POTENTIAL: Final[str] = "chemical_potential"  # [n_systems] eV/e, -dE/dQ
BORN_CHARGES: Final[str] = "born_charges"  # [n_atoms, 3, 3] e, Z*[a, b] = dP_a / dr_b
ENERGY_SIGMA: Final[str] = "energy_sigma"  # [n_systems] eV, spread of the energy: one standard deviation
ENERGY_SPREAD: Final[str] = (
    "energy_spread"  # [n_systems, n] eV, its length is energy_sigma; |spread_a - spread_b| the sigma of E_a - E_b
)
FORCE_SIGMA: Final[str] = (
    "force_sigma"  # [n_atoms] eV/Å, spread of the force vector: root of the sum of its three variances
)

# labels; a missing one is NaN
REF_ENERGY: Final[str] = "ref_energy"  # [n_systems] eV
REF_FORCES: Final[str] = "ref_forces"  # [n_atoms, 3] eV/Å
REF_STRESS: Final[str] = "ref_stress"  # [n_systems, 3, 3] eV/Å^3
REF_CHARGES: Final[str] = "ref_charges"  # [n_atoms] e
REF_DIPOLES: Final[str] = "ref_dipoles"  # [n_atoms, 3] e Å
REF_BORN_CHARGES: Final[str] = "ref_born_charges"  # [n_atoms, 3, 3] e
WEIGHT: Final[str] = "weight"  # [n_systems] weight of the structure in the loss
CONFIG_TYPE: Final[str] = "config_type"  # [n_systems] int64, index into the data set's names
