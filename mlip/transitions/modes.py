"""Curvatures of the energy: Hessian of some atoms, lowest modes of all of them."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from ase import Atoms

from mlip.calculator import calculate_many

STEP = 0.02  # Å; smaller ones drown in the rounding of a float32 model, larger ones in the third derivative
AT_ONCE = 64  # structures in one call


@dataclass(frozen=True)
class Modes:
    """Curvatures and modes, lowest first.

    curvatures [n] eV/Å^2; vectors [n, n_atoms, 3], unit length; residuals [n] eV/Å^2, |H v - c v|
    """

    curvatures: np.ndarray
    vectors: np.ndarray
    residuals: np.ndarray


def forces_of(calculator, atoms: Atoms, positions: np.ndarray) -> np.ndarray:
    """Forces of the same atoms at many positions [k, n_atoms, 3] -> [k, n_atoms, 3] eV/Å."""
    forces = []
    for first in range(0, len(positions), AT_ONCE):
        structures = []
        for place in positions[first : first + AT_ONCE]:
            structures.append(atoms.copy())
            structures[-1].positions = place
        forces += [answer.get_forces() for answer in calculate_many(calculator, structures)]
    return np.array(forces).reshape(positions.shape)


def hessian_times(
    atoms: Atoms, calculator, vectors: np.ndarray, forces: np.ndarray | None = None, step: float = STEP
) -> np.ndarray:
    """H v  [k, n_atoms, 3] eV/Å^2 of unit vectors, by central differences.

    forces  at the positions themselves: then by one-sided differences, half the work
    """
    ahead = atoms.positions + step * vectors
    if forces is not None:
        return (forces - forces_of(calculator, atoms, ahead)) / step
    both = forces_of(calculator, atoms, np.concatenate([ahead, atoms.positions - step * vectors]))
    return (both[len(vectors) :] - both[: len(vectors)]) / (2 * step)


def hessian_modes(atoms: Atoms, calculator, among: Sequence[int], step: float = STEP) -> Modes:
    """All modes of these atoms with the others held: 6 force calls for each.

    Holding atoms raises curvatures (Cauchy's interlacing): a negative one is real, a missing one may need more atoms.
    """
    moved = np.asarray(among)
    vectors = np.zeros((len(moved) * 3, len(atoms), 3))
    vectors[np.arange(len(vectors)), moved.repeat(3), np.tile([0, 1, 2], len(moved))] = 1.0
    rows = hessian_times(atoms, calculator, vectors, step=step)[:, moved].reshape(len(vectors), -1)
    values, modes = np.linalg.eigh(0.5 * (rows + rows.T))
    return Modes(values, np.einsum("km,kai->mai", modes, vectors), np.zeros(len(values)))


def lowest_modes(
    atoms: Atoms,
    calculator,
    n: int = 3,
    start: np.ndarray | None = None,
    tolerance: float = 0.05,
    max_vectors: int = 120,
    forces: np.ndarray | None = None,
    step: float = STEP,
    guard: int = 3,
) -> Modes:
    """The n lowest modes of all atoms, without the three rigid shifts, by block Lanczos.

    start      [k, n_atoms, 3] guesses, e.g. the tangent of a path; random vectors fill up
    tolerance  eV/Å^2, of |H v - c v|;  max_vectors  tried; the error left is in `residuals`
    forces     at the positions: one-sided differences
    guard      more vectors in the block, which need not converge: a mode is not taken for the next lowest because a
               lower one has not appeared yet. 0 to follow one known mode
    """
    width = min(n + guard, 3 * len(atoms) - 3)
    n = min(n, width)
    new = np.random.default_rng(0).normal(size=(width, len(atoms), 3))
    if start is not None:
        new[: len(start)] = start[:width]
    basis = np.zeros((0, 3 * len(atoms)))
    products = basis.copy()
    while True:
        new = orthonormal(without_shift(new), basis)
        if len(new) == 0:
            break
        answer = without_shift(hessian_times(atoms, calculator, new.reshape(-1, len(atoms), 3), forces, step))
        basis, products = np.concatenate([basis, new]), np.concatenate([products, answer])
        small = basis @ products.T
        values, weights = np.linalg.eigh(0.5 * (small + small.T))
        vectors, images = weights[:, :width].T @ basis, weights[:, :width].T @ products
        rest = images - values[:width, None] * vectors
        residuals = np.linalg.norm(rest, axis=1)
        open_ones = residuals > tolerance
        if not open_ones[:n].any() or len(basis) + open_ones.sum() > min(max_vectors, 3 * len(atoms) - 3):
            break
        new = rest[open_ones]
    return Modes(values[:n], vectors[:n].reshape(-1, len(atoms), 3), residuals[:n])


def without_shift(vectors: np.ndarray) -> np.ndarray:
    """Vectors [k, n_atoms, 3] or [k, 3 n_atoms] without rigid shift, as [k, 3 n_atoms]."""
    vectors = vectors.reshape(len(vectors), -1, 3)
    return (vectors - vectors.mean(axis=1, keepdims=True)).reshape(len(vectors), -1)


def orthonormal(vectors: np.ndarray, basis: np.ndarray) -> np.ndarray:
    """Unit vectors that span what these add to the basis, both as rows."""
    out = basis
    for vector in vectors:
        size = np.linalg.norm(vector)
        for _ in range(2):  # once is not enough for nearly dependent vectors
            vector = vector - out.T @ (out @ vector)
        if np.linalg.norm(vector) > 1e-6 * size:
            out = np.concatenate([out, vector[None] / np.linalg.norm(vector)])
    return out[len(basis) :]
