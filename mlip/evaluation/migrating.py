"""Migrating ions: those between sites, whose forces decide conductivity.

Errors on them follow diffusion better than errors on all atoms (Liu, He, Mo, npj Comput. Mater. 9, 174, 2023).
"""

from collections.abc import Hashable, Sequence

import numpy as np
from ase import Atoms
from ase.data import atomic_numbers
from ase.geometry import find_mic

from mlip.errors import InputError

THRESHOLD = 1.0  # Å from the nearest site, or of displacement between neighbouring frames; about a third of a Li hop


def migrating_ions(
    structures: Sequence[Atoms],
    mobile: str | None = None,
    reference: Atoms | None = None,
    threshold: float = THRESHOLD,
    trajectories: Sequence[Hashable] | None = None,
) -> tuple[list[np.ndarray], str]:
    """Masks [n_atoms] of migrating ions of each structure, and the criterion in a sentence.

    In this order: the array `migrating` that the file has; distance from the sites that `mobile` ions have in a
    reference lattice; displacement from the frame before or after. The sentence is empty if none applies.

    reference     one cell or a supercell of the lattice in the orientation of the structures
    threshold     Å, from the nearest site, or between neighbouring frames
    trajectories  of each frame: only frames of the same one are neighbours
    """
    if threshold <= 0:
        raise InputError(f"threshold must be positive, got {threshold} Å")
    nobody = [np.zeros(len(atoms), dtype=bool) for atoms in structures]
    if any("migrating" in atoms.arrays for atoms in structures):
        named = [
            atoms.arrays.get("migrating", none).astype(bool) for atoms, none in zip(structures, nobody, strict=True)
        ]
        return named, "named by the array `migrating` of the file"
    if mobile is None:
        return nobody, ""
    if reference is not None:
        masks = [off_site(atoms, reference, mobile, threshold) for atoms in structures]
        return masks, f"{mobile} farther than {threshold:g} Å from every {mobile} site of the reference lattice"
    names = trajectories or [None] * len(structures)
    masks, pairs = nobody, 0
    for i in range(len(structures) - 1):
        if names[i] == names[i + 1] and np.array_equal(structures[i].numbers, structures[i + 1].numbers):
            moved = displaced(structures[i], structures[i + 1], mobile, threshold)
            masks[i], masks[i + 1] = masks[i] | moved, masks[i + 1] | moved
            pairs += 1
    how = (f"{mobile} displaced by more than {threshold:g} Å from the frame before or after, the mean motion of the framework "
           "taken out")  # fmt: skip
    return masks, how if pairs else ""


def off_site(atoms: Atoms, reference: Atoms, mobile: str, threshold: float) -> np.ndarray:
    """Ions farther than the threshold from every site, [n_atoms] bool.

    The sites are stretched with the cell, repeated to its size, and moved with the framework if the structure has the
    atoms of the reference in their order.
    """
    repeats = np.maximum(np.rint(atoms.cell.lengths() / reference.cell.lengths()).astype(int), 1)
    lattice = reference.repeat(tuple(repeats))
    sites = lattice.get_scaled_positions()[lattice.numbers == atomic_numbers[mobile]] @ atoms.cell.array
    ions = np.flatnonzero(atoms.numbers == atomic_numbers[mobile])
    if len(sites) == 0:
        raise InputError(f"the reference lattice has no {mobile}: it holds {lattice.get_chemical_formula()}")
    if np.array_equal(lattice.numbers, atoms.numbers) and (framework := atoms.numbers != atomic_numbers[mobile]).any():
        moved = atoms.positions[framework] - lattice.get_scaled_positions()[framework] @ atoms.cell.array
        sites = sites + find_mic(moved, atoms.cell, atoms.pbc)[0].mean(axis=0)
    between = (atoms.positions[ions][:, None] - sites[None]).reshape(-1, 3)
    distance = find_mic(between, atoms.cell, atoms.pbc)[1].reshape(len(ions), len(sites)).min(axis=1)
    mask = np.zeros(len(atoms), dtype=bool)
    mask[ions[distance > threshold]] = True
    return mask


def displaced(before: Atoms, after: Atoms, mobile: str, threshold: float) -> np.ndarray:
    """Ions displaced by more than the threshold between two frames, relative to the mean motion of the framework; [n_atoms] bool."""
    fractional = after.get_scaled_positions(wrap=False) - before.get_scaled_positions(wrap=False)
    vectors = find_mic(fractional @ after.cell.array, after.cell, after.pbc)[0]
    framework = after.numbers != atomic_numbers[mobile]
    drift = vectors[framework].mean(axis=0) if framework.any() else np.zeros(3)
    return ~framework & (np.linalg.norm(vectors - drift, axis=1) > threshold)
