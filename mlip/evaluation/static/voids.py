"""Sites of defects: symmetry-distinct atoms for vacancies, largest voids for interstitials."""

import numpy as np
from ase import Atoms
from scipy.ndimage import maximum_filter
from scipy.spatial import cKDTree

from mlip.data.symmetry import symmetry_dataset
from mlip.errors import InputError
from mlip.evaluation.static.relaxation import repeats

SPACING = 0.3  # Å of the grid on which voids are looked for
REACH = 5.0  # Å, around the cell in which neighbours of a void are looked for
SYMMETRY = 0.01  # Å
NEIGHBOURS = 8  # whose distances distinguish two voids
ALIKE = 0.4  # Å, between such distances: what a grid leaves uncertain


def distinct_sites(atoms: Atoms, species: str) -> list[int]:
    """One atom of the species from each class that symmetry makes equal."""
    chosen = np.flatnonzero(np.array(atoms.get_chemical_symbols()) == species)
    if len(chosen) == 0:
        raise InputError(f"no {species} in {atoms.symbols}: there is none to take out")
    symmetry = symmetry_dataset(atoms.cell.array, atoms.get_scaled_positions(), atoms.numbers, SYMMETRY)
    classes = np.arange(len(atoms)) if symmetry is None else symmetry.equivalent_atoms
    return [int(np.flatnonzero(classes == label)[0]) for label in dict.fromkeys(classes[chosen].tolist())]


def largest_voids(atoms: Atoms, n: int) -> np.ndarray:
    """Up to n local maxima of the distance from all atoms, with different surroundings, largest first, [m, 3] Å."""
    shape = np.ceil(atoms.cell.lengths() / SPACING).astype(int)
    grid = [np.arange(count) / count for count in shape]
    points = np.stack(np.meshgrid(*grid, indexing="ij"), axis=-1).reshape(-1, 3) @ atoms.cell.array
    copies = 1 + 2 * np.array(repeats(atoms.cell.array, REACH))
    around = atoms.copy()
    around.wrap()
    around = around.repeat(copies)
    around.positions -= ((copies - 1) // 2) @ atoms.cell.array
    distances, neighbours = cKDTree(around.positions).query(points, k=NEIGHBOURS)
    chosen: list[int] = []
    kinds = np.sort(around.numbers[neighbours], axis=1)
    depth = distances[:, 0].reshape(shape)
    tops = np.flatnonzero((depth >= maximum_filter(depth, size=3, mode="wrap")).ravel())
    for i in tops[distances[tops, 0].argsort(kind="stable")[::-1]]:
        if not any((kinds[i] == kinds[j]).all() and np.abs(distances[i] - distances[j]).max() < ALIKE for j in chosen):
            chosen.append(int(i))
        if len(chosen) == n:
            break
    return points[chosen]
