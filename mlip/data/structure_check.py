"""Whether a structure can be one: the look that every structure gets where it enters, from a file or through a calculator."""

import numpy as np
from ase import Atoms
from ase.data import chemical_symbols

from mlip.data.graph import neighbour_list
from mlip.data.total_charge import total_charge
from mlip.errors import InputError

SHORTEST_DISTANCE = 0.2  # Å; no bond is that short
OVERLAP_SEARCH = 1.0  # Å; boxes as small as the distance itself are so many that they take most of the search
MOST_CELLS = 1000  # between an atom and the origin; neighbours are kept as whole cells in 16 bits
FARTHEST = 1e5  # Å; coordinates and lattice vectors
FULL = 1e-3  # of an occupancy: 1 within the digits of a file


def check_structure(atoms: Atoms, where: str) -> None:
    """Raise InputError, beginning with `where` ("file:index"), for a structure that has no physical answer."""
    if problem := complaint(atoms):
        raise InputError(f"{where}: {problem}")


def complaint(atoms: Atoms, pairs: bool = True) -> str | None:
    """What makes the structure impossible, and the remedy, in words; None if nothing does.

    pairs   False leaves out the search for overlapping atoms, where a neighbour list follows anyway
    """
    return (
        atoms_complaint(atoms)
        or occupancy_complaint(atoms)
        or cell_complaint(atoms)
        or position_complaint(atoms)
        or charge_complaint(atoms)
        or (overlap_complaint(atoms) if pairs else None)
    )


def atoms_complaint(atoms: Atoms) -> str | None:
    """No atoms, or atoms that are none."""
    if len(atoms) == 0:
        return "a structure needs at least one atom, got none"
    strange = np.flatnonzero((atoms.numbers < 1) | (atoms.numbers >= len(chemical_symbols)))
    if len(strange):
        symbol = "X" if atoms.numbers[strange[0]] == 0 else f"number {atoms.numbers[strange[0]]}"
        return f"atom {strange[0]} is {symbol}, which is no element; ghost atoms and vacancies must be taken out"
    return None


def occupancy_complaint(atoms: Atoms) -> str | None:
    """Sites that are shared or partly empty: ASE reads the most frequent element as if it filled the site."""
    sites = atoms.info.get("occupancy")
    if isinstance(sites, dict):
        for site in sites.values():
            if len(site) > 1 or abs(sum(site.values()) - 1) > FULL:
                held = " ".join(f"{symbol} {share:g}" for symbol, share in site.items())
                return (
                    f"partial occupancies (a site with {held}): the file describes no single crystal. Give an ordered "
                    "structure; mlip evaluate disordered.cif=FILE samples orderings and writes them"
                )
    for name in ("occupancy", "occupancies"):
        shares = atoms.arrays.get(name)
        if shares is not None and shares.dtype.kind in "fiu" and shares.any() and (abs(shares - 1) > FULL).any():
            atom = int(np.flatnonzero(abs(shares - 1) > FULL)[0])
            return (
                f"partial occupancies (atom {atom}, {atoms.symbols[atom]} {shares[atom]:g}): the file describes no single "
                "crystal. Give an ordered structure; mlip evaluate disordered.cif=FILE samples orderings and writes them"
            )
    return None


def cell_complaint(atoms: Atoms) -> str | None:
    """Periodic directions without a cell of their own."""
    cell = atoms.cell.array
    periodic = cell[atoms.pbc]
    if not np.isfinite(cell).all() or np.abs(cell).max() > FARTHEST:
        return f"lattice vectors must be finite and below {FARTHEST:g} Å, got {cell.tolist()} Å; correct the cell"
    if len(periodic) and np.linalg.matrix_rank(periodic) < len(periodic):
        return (
            f"pbc {atoms.pbc.tolist()} needs an independent lattice vector in each periodic direction, got the cell "
            f"{cell.tolist()} Å; set the cell, or pbc=False"
        )
    return None


def position_complaint(atoms: Atoms) -> str | None:
    """Coordinates that are no numbers, or lie too far out to be meant."""
    positions, cell = atoms.positions, atoms.cell.array[atoms.pbc]
    if not np.isfinite(positions).all():
        atom = int(np.argwhere(~np.isfinite(positions))[0, 0])
        return f"positions must be finite; atom {atom} is at {positions[atom].tolist()} Å"
    far = np.abs(positions).max(axis=1)
    if far.max() > FARTHEST:
        atom = int(far.argmax())
        return f"atom {atom} ({atoms.symbols[atom]}) is at {positions[atom].tolist()} Å, farther out than {FARTHEST:g} Å; correct it"
    if len(cell):
        cells = np.abs(positions @ np.linalg.pinv(cell)).max(axis=1)
        if cells.max() > MOST_CELLS:
            atom = int(cells.argmax())
            return (
                f"atom {atom} ({atoms.symbols[atom]}) lies {cells[atom]:.0f} cells from the origin, more than {MOST_CELLS}; "
                "wrap the positions into the cell"
            )
    return None


def charge_complaint(atoms: Atoms) -> str | None:
    """A total charge that is no number, or that no such atoms can carry."""
    try:
        charge = total_charge(atoms.info) or 0.0
    except InputError as error:
        return str(error)
    most = max(8, 2 * len(atoms))
    if abs(charge) > most:
        return (
            f"total_charge {charge:g} e on {len(atoms)} atoms is {charge / len(atoms):.3g} e per atom, which no solid "
            f"carries (at most {most} e here); correct it, or leave it out for 0"
        )
    return None


def overlap_complaint(atoms: Atoms) -> str | None:
    """Two atoms, or an atom and its image, on one place."""
    pairs, shift = neighbour_list(atoms, OVERLAP_SEARCH)
    vector = atoms.positions[pairs[1]] + shift.numpy() @ atoms.cell.array - atoms.positions[pairs[0]]
    distance = np.linalg.norm(vector, axis=1)
    if distance.min(initial=np.inf) >= SHORTEST_DISTANCE:
        return None
    i, j = pairs[:, distance.argmin()].tolist()
    return overlap(atoms, i, j, float(distance.min()))


def overlap(atoms: Atoms, i: int, j: int, distance: float) -> str:
    """Sentence about two atoms that are too near, distance in Å."""
    return (
        f"atoms {i} ({atoms.symbols[i]}) and {j} ({atoms.symbols[j]}) overlap: {distance:.3f} Å apart, less than "
        f"{SHORTEST_DISTANCE} Å; look at the structure, or at the step that led to it"
    )
