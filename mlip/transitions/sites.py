"""Sites of the mobile ions: of a reference crystal, or peaks of their own density.

Positions are Å in the mean cell of the trajectory, relative to its framework (mlip.evaluation.displacements.Trajectory).
"""

from dataclasses import dataclass

import numpy as np
from ase import Atoms
from scipy.ndimage import maximum_filter
from scipy.spatial import cKDTree

from mlip.errors import InputError
from mlip.transitions.density import ion_density, smooth, value_at
from mlip.transitions.paths import displacements

MAX_CORE = 1.2  # Å
SAME_SITE = 0.7  # two peaks are one site when the density between them stays above this part of the lower


@dataclass(frozen=True)
class Sites:
    """positions [n_sites, 3] Å; cell [3, 3] Å; core [n_sites] Å, radius of arrival."""

    positions: np.ndarray
    cell: np.ndarray
    core: np.ndarray

    def __len__(self) -> int:
        return len(self.positions)


def sites_at(positions: np.ndarray, cell: np.ndarray, core_fraction: float = 0.35) -> Sites:
    """Sites at these positions.

    Core radius: core_fraction of the distance to the nearest other site, at most MAX_CORE.

    core_fraction  below 0.5. 0.35 leaves ions between two sites to the one that they came from
    """
    positions, cell = np.asarray(positions, float).reshape(-1, 3), np.asarray(cell, float)
    if len(positions) == 0:
        raise InputError("there are no sites: an ion needs two to hop between")
    if not 0 < core_fraction < 0.5:
        raise InputError(
            f"cores of neighbouring sites must not touch: core_fraction must be between 0 and 0.5, got {core_fraction}"
        )
    images, _, _ = with_images(positions, cell, 1.0)
    nearest = cKDTree(images).query(positions, k=2)[0][:, 1]
    if nearest.min() < 0.3:
        raise InputError(f"two sites are {nearest.min():.2f} Å apart: sites this near are one; merge them")
    return Sites(positions, cell, np.minimum(core_fraction * nearest, MAX_CORE))


def with_images(positions: np.ndarray, cell: np.ndarray, reach: float) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Points and their images within `reach` cells of the first cell.

    returns  positions [n, 3], indices [n], whole cells [n, 3] from the point to its image
    """
    fractional = np.linalg.solve(cell.T, positions.T).T
    home = -np.floor(fractional)
    shifts = np.stack(np.meshgrid(*[[-1, 0, 1]] * 3, indexing="ij"), -1).reshape(-1, 3)
    moved = (fractional + home)[None] + shifts[:, None]
    near = ((moved >= -reach) & (moved <= 1 + reach)).all(axis=-1)
    number = np.broadcast_to(np.arange(len(positions)), near.shape)[near]
    return moved[near] @ cell, number, (shifts[:, None] + home[None])[near].astype(int)


def reference_sites(reference: Atoms, mobile: str, framework: Atoms, core_fraction: float = 0.35) -> Sites:
    """Sites of the mobile species in a reference, mapped onto the framework of a trajectory.

    reference  atoms with an ion of the species at every site, in the cell of the trajectory (repeat it first)
    framework  its mean positions in the trajectory, in the mean cell
    The two frameworks may be shifted against each other. Raises ValueError if they hold other atoms.
    """
    is_site = np.array(reference.get_chemical_symbols()) == mobile
    if not is_site.any():
        raise InputError(f"the reference {reference.symbols} has no {mobile}: put one at every site")
    scaled = reference.copy()
    scaled.set_cell(framework.cell, scale_atoms=True)
    scaled.pbc = framework.pbc
    frame = scaled[~is_site]
    if len(frame) != len(framework) or (frame.numbers != framework.numbers).any():
        raise InputError(
            f"the framework of the reference is {frame.symbols}, that of the trajectory {framework.symbols}: they must hold the same "
            "atoms in the same order; repeat or reorder the reference"
        )
    vectors = displacements(frame, framework)
    shift = (framework.positions - frame.positions - vectors)[0] + vectors.mean(axis=0)
    return sites_at(scaled.positions[is_site] + shift, framework.cell.array, core_fraction)


def density_sites(
    ions: np.ndarray,
    cell: np.ndarray,
    interval_ps: float,
    width: float = 0.35,
    min_distance: float = 1.0,
    min_time_ps: float = 1.0,
    core_fraction: float = 0.35,
) -> Sites:
    """Sites at the peaks of the ions' density, each at the mean of the positions around it.

    ions          [n_frames, n_ions, 3] Å, relative to the framework;  interval_ps between frames
    width         Å, of the Gaussian that turns counts into a density. 0.3-0.4 suits 300-1000 K
    min_distance  Å, between two sites
    min_time_ps   that all ions together spend at a site
    Peaks are one site when the density between them does not fall below SAME_SITE of the lower.
    """
    ions, cell = check_ions(ions, interval_ps), np.asarray(cell, float)
    density = smooth(ion_density(ions, cell), cell, width)
    peaks = peaks_of(density, cell, min_distance)
    time = np.zeros(len(peaks))
    for _ in range(2):
        peaks, time = centred(peaks, ions, cell, interval_ps)
    stays = time >= min_time_ps
    if not stays.any():
        raise InputError(
            f"no place holds ions for {min_time_ps} ps in {len(ions) * interval_ps:g} ps: a longer run, a smaller min_time_ps, or "
            "hops without sites (free_hops) for a liquid"
        )
    return sites_at(peaks[stays], cell, core_fraction)


def peaks_of(density: np.ndarray, cell: np.ndarray, min_distance: float) -> np.ndarray:
    """Maxima of the density, highest first [n, 3] Å, those that are one site once."""
    top = (density == maximum_filter(density, size=3, mode="wrap")) & (density > 1e-3 * density.max())
    index = np.argwhere(top)
    index = index[np.argsort(-density[tuple(index.T)], kind="stable")]
    points, heights = index / density.shape @ cell, density[tuple(index.T)]
    kept: list[int] = []
    steps = np.linspace(0, 1, 12)[:, None, None]
    for n in range(len(points)):
        vectors = points[n] - points[kept]
        fractional = vectors @ np.linalg.inv(cell)
        vectors = (fractional - np.round(fractional)) @ cell
        lowest = value_at(density, cell, points[n] - steps * vectors).min(axis=0)
        distance = np.linalg.norm(vectors, axis=1)
        # far along a channel the line between two peaks says nothing
        joined = (distance < min_distance) | ((distance < 3 * min_distance) & (lowest > SAME_SITE * heights[n]))
        if not joined.any():
            kept.append(n)
    return points[kept]


def centred(peaks: np.ndarray, ions: np.ndarray, cell: np.ndarray, interval_ps: float) -> tuple[np.ndarray, np.ndarray]:
    """Mean of the positions in the core of each peak, and the time spent there, ps."""
    sites = sites_at(peaks, cell, 0.45)
    number, whole = arrived(ions, sites)
    inside = number >= 0
    offset = ions[inside] - peaks[number[inside]] - whole[inside] @ cell
    count = np.bincount(number[inside], minlength=len(peaks))
    mean = (
        np.stack([np.bincount(number[inside], offset[:, a], len(peaks)) for a in range(3)], -1)
        / np.maximum(count, 1)[:, None]
    )
    return peaks + mean, count * interval_ps


def arrived(ions: np.ndarray, sites: Sites) -> tuple[np.ndarray, np.ndarray]:
    """Site in whose core each ion is [n_frames, n_ions], -1 between; whole cells [..., 3]."""
    cell = sites.cell
    fractional = np.linalg.solve(cell.T, ions.reshape(-1, 3).T).T
    floor = np.floor(fractional)
    reach = float((sites.core.max() * np.linalg.norm(np.linalg.inv(cell), axis=0)).max())
    images, number, whole = with_images(sites.positions, cell, reach)
    distance, nearest = cKDTree(images).query((fractional - floor) @ cell, distance_upper_bound=sites.core.max())
    inside = np.isfinite(distance)
    inside[inside] = distance[inside] < sites.core[number[nearest[inside]]]
    site, shift = np.full(len(fractional), -1), np.zeros((len(fractional), 3), int)
    site[inside] = number[nearest[inside]]
    shift[inside] = whole[nearest[inside]] + floor[inside].astype(int)
    return site.reshape(ions.shape[:2]), shift.reshape(ions.shape)


def check_ions(ions: np.ndarray, interval_ps: float) -> np.ndarray:
    """The positions as an array; ValueError if they cannot be a trajectory."""
    ions = np.asarray(ions, float)
    if ions.ndim != 3 or ions.shape[2] != 3:
        raise InputError(f"positions of ions must be [n_frames, n_ions, 3], got {list(ions.shape)}")
    if ions.shape[1] == 0:
        raise InputError("there are no mobile ions; name the species that hops")
    if len(ions) < 2:
        raise InputError(f"hops need many frames, got {len(ions)}; give the trajectory, not one structure of it")
    if not np.isfinite(ions).all():
        frame, ion, _ = np.argwhere(~np.isfinite(ions))[0]
        raise InputError(f"ion {ion} of frame {frame} is at {ions[frame, ion].tolist()} Å: the run has broken up there")
    if not (np.isfinite(interval_ps) and interval_ps > 0):
        raise InputError(f"the time between frames must be positive, got {interval_ps} ps")
    return ions
