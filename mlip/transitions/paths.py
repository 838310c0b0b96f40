"""Interpolated paths between two structures: linear without drift, and IDPP."""

import numpy as np
from ase import Atoms
from ase.geometry import find_mic
from scipy.optimize import linear_sum_assignment, minimize

from mlip.data.graph import neighbour_list
from mlip.errors import InputError


def displacements(start: Atoms, end: Atoms) -> np.ndarray:
    """Minimum-image displacements [n_atoms, 3] Å relative to the crystal.

    The median displacement is zero. A rigid shift of the end, of any size, and wrapped atoms change nothing. Right as long
    as most atoms stay.
    """
    vectors = end.positions - start.positions
    if start.pbc.any():
        # seen from an atom that few others move against, no atom of the crystal is near half a cell
        periodic, cell = start.pbc, start.cell.complete()
        fractional = np.linalg.solve(cell.T, vectors.T).T
        between = fractional[:, None] - fractional[None]
        between -= np.where(periodic, np.round(between), 0.0)
        still = np.median(np.linalg.norm(between @ cell, axis=-1), axis=1).argmin()
        vectors = find_mic(vectors - vectors[still], start.cell, periodic)[0]
    return vectors - np.median(vectors, axis=0)


def in_order_of(start: Atoms, end: Atoms, max_length_A: float = 4.5) -> Atoms:
    """The end of a path with its equal atoms in the order of the start; as it is if that is the order of a hop.

    Files of two calculations often differ in it. If several atoms would move farther than max_length_A, or the elements
    stand in another order, atoms of one element are assigned so that the sum of squared distances is smallest.
    Raises InputError if several atoms move farther even then: the ends belong to different crystals.
    """
    if sorted(start.numbers) != sorted(end.numbers):
        return end  # `check_endpoints` says so
    same = (start.numbers == end.numbers).all()
    if same and (np.linalg.norm(displacements(start, end), axis=1) > max_length_A).sum() < 2:
        return end
    order = np.empty(len(start), dtype=int)
    for element in np.unique(start.numbers):
        here, there = np.flatnonzero(start.numbers == element), np.flatnonzero(end.numbers == element)
        vectors = end.positions[there][None] - start.positions[here][:, None]
        distance = find_mic(vectors.reshape(-1, 3), start.cell, start.pbc)[1].reshape(len(here), len(there))
        order[here] = there[linear_sum_assignment(distance**2)[1]]
    assigned = end[order]
    far = np.linalg.norm(displacements(start, assigned), axis=1) > max_length_A
    if far.sum() > 1:
        raise InputError(
            f"{far.sum()} atoms move farther than {max_length_A:g} Å between the ends of a path, atoms "
            f"{', '.join(map(str, np.flatnonzero(far)[:4]))} ...: are they two states of one crystal, in one cell?"
        )
    return assigned


def check_endpoints(start: Atoms, end: Atoms, min_displacement: float = 0.3) -> np.ndarray:
    """Displacements between the two ends of a path; ValueError if they can be none.

    min_displacement  Å; some atom must move farther. Sites of one ion are 1.5-4 Å apart
    """
    for name, atoms in (("start", start), ("end", end)):
        if not (np.isfinite(atoms.positions).all() and np.isfinite(atoms.cell.array).all()):
            raise InputError(
                f"the {name} of a path has positions or a cell that are not finite; relax from another structure"
            )
    if sorted(start.numbers) != sorted(end.numbers):
        raise InputError(f"the ends of a path must have one composition, got {start.symbols} and {end.symbols}")
    if (start.numbers != end.numbers).any():
        atom = int(np.flatnonzero(start.numbers != end.numbers)[0])
        raise InputError(
            f"the ends of a path must have their atoms in one order; atom {atom} is {start.symbols[atom]} at the start and "
            f"{end.symbols[atom]} at the end: reorder one of them"
        )
    if (start.pbc != end.pbc).any() or not np.allclose(start.cell.array, end.cell.array, rtol=0, atol=1e-6):
        raise InputError(
            f"the ends of a path must have one cell, got {start.cell.cellpar().round(4).tolist()} and "
            f"{end.cell.cellpar().round(4).tolist()} Å, deg: relax both with the cell fixed"
        )
    vectors = displacements(start, end)
    farthest = np.linalg.norm(vectors, axis=1).max(initial=0.0)
    if farthest <= min_displacement:
        raise InputError(
            f"the ends of a path must differ: no atom moves more than {farthest:.3f} Å, at least {min_displacement} Å are needed. "
            "They may have relaxed to the same minimum: the ion's new site is then no site of its own"
        )
    return vectors


def straight(start: Atoms, end: Atoms, n_images: int) -> list[Atoms]:
    """n_images structures on the line between two, ends included, without drift."""
    vectors = check_endpoints(start, end)
    images = []
    for part in np.linspace(0, 1, n_images):
        image = start.copy()
        image.positions = start.positions + part * vectors
        images.append(image)
    return images


def idpp(images: list[Atoms], cutoff: float = 5.0) -> list[Atoms]:
    """Image-dependent pair potential path: distances interpolated from those of the ends.

    Each image minimises  S = sum_{i<j} w(d_ij) (d_ij - d_ij^k)^2,  w = d^-4,  d^k linear from start to end: atoms step out of
    each other's way. J. Chem. Phys. 140, 214106 (2014). Pairs beyond the cutoff (Å) in all images do not count.
    """
    ends = np.array([images[0].positions, images[-1].positions])
    pairs, shifts = pairs_of(images, cutoff)
    shifts = shifts @ images[0].cell.array
    i, j = pairs.T
    lengths = np.linalg.norm(ends[:, j] - ends[:, i] + shifts, axis=-1)
    out = [images[0]]
    for k, image in enumerate(images[1:-1], 1):
        part = k / (len(images) - 1)
        arguments = (i, j, shifts, (1 - part) * lengths[0] + part * lengths[1])
        minimum = minimize(mismatch, image.positions.ravel(), args=arguments, jac=True, method="L-BFGS-B", tol=1e-6)
        better = image.copy()
        better.positions = minimum.x.reshape(-1, 3)
        # S does not hold the crystal in place
        better.positions -= np.median(better.positions - image.positions, axis=0)
        out.append(better)
    return [*out, images[-1]]


def mismatch(
    x: np.ndarray, i: np.ndarray, j: np.ndarray, shifts: np.ndarray, target: np.ndarray
) -> tuple[float, np.ndarray]:
    """S of idpp and its gradient.

    x [3 n_atoms] Å, pairs i, j [n_pairs], shifts [n_pairs, 3] Å, target [n_pairs] Å
    """
    positions = x.reshape(-1, 3)
    vector = positions[j] - positions[i] + shifts
    d = np.linalg.norm(vector, axis=1)
    off = d - target
    pull = ((2 * off / d**4 - 4 * off**2 / d**5) / d)[:, None] * vector
    gradient = np.zeros_like(positions)
    np.add.at(gradient, j, pull)
    np.add.at(gradient, i, -pull)
    return float((off**2 / d**4).sum()), gradient.ravel()


def pairs_of(images: list[Atoms], cutoff: float) -> tuple[np.ndarray, np.ndarray]:
    """Pairs i < j near each other in any image [n_pairs, 2], and whole cells [n_pairs, 3]."""
    pairs_and_shifts = []
    for image in images:
        pairs, shift = neighbour_list(image, cutoff)
        pairs_and_shifts.append(np.column_stack([pairs.numpy().T, shift.numpy().round().astype(int)]))
    rows = np.unique(np.concatenate(pairs_and_shifts), axis=0)
    rows = rows[rows[:, 0] < rows[:, 1]]  # distances to an atom's own images are those of the cell
    return rows[:, :2], rows[:, 2:]
