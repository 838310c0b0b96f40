"""Symmetry operations of a crystal (spglib)."""

import warnings
from collections.abc import Sequence

import numpy as np

with warnings.catch_warnings():  # spglib announces its next error handling on import
    warnings.simplefilter("ignore", DeprecationWarning)
    import spglib


def symmetry_dataset(cell: np.ndarray, fractional: np.ndarray, kinds: Sequence[int], tolerance: float):
    """Rotations, translations and equivalent_atoms of spglib, translations of a supercell too; None if it finds none.

    cell [3, 3] Å;  fractional [n, 3];  kinds [n], equal for sites that may be exchanged;  tolerance Å
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        return spglib.get_symmetry_dataset((cell, fractional, kinds), symprec=tolerance)
