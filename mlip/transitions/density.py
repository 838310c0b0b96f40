"""Density of the ions of a trajectory on a grid of the cell."""

import numpy as np


def ion_density(ions: np.ndarray, cell: np.ndarray, spacing: float = 0.25) -> np.ndarray:
    """Ions per Å^3 on a grid over the cell [n_a, n_b, n_c].

    Mean times volume is the number of ions.

    ions  [n_frames, n_ions, 3] Å, relative to the framework, wrapped or not;  cell [3, 3] Å;  spacing Å, of the grid
    """
    shape = np.maximum(1, np.round(np.linalg.norm(cell, axis=1) / spacing).astype(int))
    fractional = np.linalg.solve(cell.T, ions.reshape(-1, 3).T).T % 1.0
    # a voxel is centred on its grid point, where peaks are then looked for
    index = np.round(fractional * shape).astype(int) % shape
    counts = np.bincount(np.ravel_multi_index(index.T, shape), minlength=int(shape.prod())).reshape(shape)
    return counts * shape.prod() / (len(ions) * abs(np.linalg.det(cell)))


def smooth(density: np.ndarray, cell: np.ndarray, width: float) -> np.ndarray:
    """Convolution with a Gaussian of this width (Å, one sigma), periodic, isotropic."""
    waves = np.stack(np.meshgrid(*[np.fft.fftfreq(n, 1 / n) for n in density.shape], indexing="ij"), axis=-1)
    k = 2 * np.pi * waves @ np.linalg.inv(cell).T  # [n_a, n_b, n_c, 3] Å^-1
    return np.fft.ifftn(np.fft.fftn(density) * np.exp(-0.5 * width**2 * (k**2).sum(axis=-1))).real


def value_at(density: np.ndarray, cell: np.ndarray, points: np.ndarray) -> np.ndarray:
    """The density at points [..., 3] Å: that of the nearest voxel."""
    shape = np.array(density.shape)
    index = np.round(points @ np.linalg.inv(cell) * shape).astype(int) % shape
    return density[tuple(np.moveaxis(index, -1, 0))]
