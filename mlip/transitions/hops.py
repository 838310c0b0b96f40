"""Hops of ions in a trajectory: between sites, or without sites for glasses and melts."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import pairwise

import numpy as np

from mlip.errors import InputError
from mlip.transitions.sites import Sites, arrived, check_ions, density_sites


@dataclass(frozen=True)
class Hop:
    """Hop of one ion from one site to the next.

    ion           index among the mobile ions, as in Trajectory.ions
    start_site, end_site  indices of sites, -1 without sites; both the same for a hop to a site's own image
    start_frame   the last in the core of the old site;  end_frame: the first in that of the new one
    middle_frame  nearest to the midpoint
    start_ps, middle_ps, end_ps  their times
    origin        [3] Å, the old site, the image nearest to the ion's unwrapped position
    vector        [3] Å, to the new site
    group         hops of one number happen together, as one event
    """

    ion: int
    start_site: int
    end_site: int
    start_frame: int
    middle_frame: int
    end_frame: int
    start_ps: float
    middle_ps: float
    end_ps: float
    origin: np.ndarray
    vector: np.ndarray
    group: int = -1

    @property
    def length(self) -> float:
        """Å"""
        return float(np.linalg.norm(self.vector))


def count_hops(
    ions: np.ndarray, cell: np.ndarray, interval_ps: float, residence_ps: float = 0.4
) -> tuple[list[Hop], int]:
    """Hops between the peaks of the ions' own density, and the number of these sites.

    Without peaks, hops without sites and 0. Arguments as in free_hops. Raises ValueError if the frames are too few, or too
    far apart in time.
    """
    try:
        sites = density_sites(ions, cell, interval_ps)
    except ValueError:  # no place holds ions for long
        return free_hops(ions, cell, interval_ps, residence_ps=residence_ps), 0
    return site_hops(ions, interval_ps, sites, residence_ps), len(sites)


def site_hops(
    ions: np.ndarray,
    interval_ps: float,
    sites: Sites,
    residence_ps: float = 0.4,
    reach: float = 4.5,
    together_ps: float = 0.15,
) -> list[Hop]:
    """Hops between sites, in order of time.

    An ion belongs to its last site until it enters the core of another; a visit is a stay when its frames in the core,
    first to last, span residence_ps. So vibrations, and rattling into a site and back, are no hops.
    ions          [n_frames, n_ions, 3] Å, unwrapped, relative to the framework
    residence_ps  0.3-0.5: longer than a vibration, shorter than a stay. Stays cut off by the ends of the run do not count
    reach (Å), together_ps  hops of ions this near, this close in time, are one event (see concerted)
    """
    ions = check_ions(ions, interval_ps)
    check_residence(residence_ps, interval_ps)
    site, whole = arrived(ions, sites)
    hops = []
    for ion in range(ions.shape[1]):
        stays = stays_of(site[:, ion], whole[:, ion], max(1, round(residence_ps / interval_ps)))
        for old, new in pairwise(stays):
            origin = sites.positions[old.site] + np.array(old.whole) @ sites.cell
            target = sites.positions[new.site] + np.array(new.whole) @ sites.cell
            hops.append(hop_of(ions, interval_ps, ion, (old.site, new.site), (old.last, new.first), origin, target))
    return concerted(sorted(hops, key=lambda hop: (hop.middle_frame, hop.ion)), ions, sites.cell, reach, together_ps)


@dataclass
class Stay:
    """Frames first to last in the core of one image of a site."""

    site: int
    whole: tuple[int, ...]
    first: int
    last: int


def stays_of(site: np.ndarray, whole: np.ndarray, n_frames: int) -> list[Stay]:
    """Visits of one ion that span n_frames, successive ones at different places.

    site [n], whole [n, 3]
    """
    inside = np.flatnonzero(site >= 0)
    if len(inside) == 0:
        return []
    place = np.column_stack([site, whole])[inside]
    cuts = np.flatnonzero((place[1:] != place[:-1]).any(axis=1)) + 1
    stays: list[Stay] = []
    for run in np.split(np.arange(len(inside)), cuts):
        first, last = int(inside[run[0]]), int(inside[run[-1]])
        if last - first + 1 < n_frames:
            continue
        image = (int(place[run[0], 0]), tuple(place[run[0], 1:].tolist()))
        if stays and (stays[-1].site, stays[-1].whole) == image:
            stays[-1].last = last
        else:
            stays.append(Stay(*image, first, last))
    return stays


def free_hops(
    ions: np.ndarray,
    cell: np.ndarray,
    interval_ps: float,
    threshold: float = 1.5,
    residence_ps: float = 0.4,
    reach: float = 4.5,
    together_ps: float = 0.15,
) -> list[Hop]:
    """Hops without sites, in order of time: settled places more than `threshold` apart.

    It is settled in a window of residence_ps if its rms distance from the mean of the window is below 0.7 threshold, which two
    places together exceed. Its place is the mean over the windows of its stay.
    threshold  Å, about half of a hop: above the amplitude of vibrations, below the distance of neighbouring sites
    cell       [3, 3] Å, for distances between ions; the rest as in site_hops. For glasses and disordered frameworks
    """
    ions = check_ions(ions, interval_ps)
    check_residence(residence_ps, interval_ps)
    if not threshold > 0:
        raise InputError(f"threshold must be positive, got {threshold} Å")
    length = max(1, round(residence_ps / interval_ps))
    if len(ions) < 2 * length:
        raise InputError(
            f"hops need at least two stays of {residence_ps} ps, the run has {len(ions) * interval_ps:g} ps"
        )
    begins = np.arange(0, len(ions) - length + 1, max(1, length // 4))
    means, spreads = windows(ions, begins, length)
    hops = []
    for ion in range(ions.shape[1]):
        stays = rests_of(means[:, ion], spreads[:, ion], threshold)
        for old, new in pairwise(stays):
            window = int(begins[old.last]), int(begins[new.first]) + length
            frames = crossing(ions[:, ion], old.place, new.place, threshold / 2, *window)
            hops.append(hop_of(ions, interval_ps, ion, (-1, -1), frames, old.place, new.place))
    return concerted(
        sorted(hops, key=lambda hop: (hop.middle_frame, hop.ion)), ions, np.asarray(cell), reach, together_ps
    )


@dataclass
class Rest:
    """Windows first to last around one place [3] Å, the mean of theirs."""

    place: np.ndarray
    first: int
    last: int
    count: int = 1


def rests_of(means: np.ndarray, spreads: np.ndarray, threshold: float) -> list[Rest]:
    """Places of one ion, successive ones farther from each other than the threshold.

    means [n_windows, 3], spreads [n_windows] Å
    """
    rests: list[Rest] = []
    k = 0
    while k < len(means):
        away = np.linalg.norm(means[k] - rests[-1].place) if rests else np.inf
        if away > threshold:
            k += int(spreads[k : k + 5].argmin())  # within a residence, where it has come to rest
            away = np.linalg.norm(means[k] - rests[-1].place) if rests else np.inf
        if spreads[k] < 0.7 * threshold:
            if away > threshold:
                rests.append(Rest(means[k], k, k))
            elif away < threshold / 2:
                home = rests[-1]
                home.count, home.last = home.count + 1, k
                home.place = home.place + (means[k] - home.place) / home.count
        k += 1
    return rests


def windows(ions: np.ndarray, begins: np.ndarray, length: int) -> tuple[np.ndarray, np.ndarray]:
    """Mean position and rms distance from it in windows of `length` frames.

    returns  [n_windows, n_ions, 3], [n_windows, n_ions]
    """
    near = ions - ions[0]  # small numbers: no digits are lost in the squares
    first = np.concatenate([np.zeros_like(near[:1]), near.cumsum(axis=0)])
    second = np.concatenate([np.zeros_like(near[:1, :, 0]), (near**2).sum(axis=-1).cumsum(axis=0)])
    mean = (first[begins + length] - first[begins]) / length
    square = (second[begins + length] - second[begins]) / length - (mean**2).sum(axis=-1)
    return mean + ions[0], np.sqrt(np.maximum(square, 0.0))


def crossing(path: np.ndarray, old: np.ndarray, new: np.ndarray, near: float, begin: int, end: int) -> tuple[int, int]:
    """Last frame near the old place and first near the new one, between begin and end."""
    part = path[begin:end]
    at_new = np.flatnonzero(np.linalg.norm(part - new, axis=1) < near)
    at_old = np.flatnonzero(np.linalg.norm(part - old, axis=1) < near)
    last_old = at_old[-1] if len(at_old) else 0
    after = at_new[at_new > last_old]
    first_new = after[0] if len(after) else len(part) - 1
    return begin + int(last_old), begin + int(first_new)


def hop_of(
    ions: np.ndarray, interval_ps: float, ion: int, sites: tuple[int, int], frames: tuple[int, int], origin, target
) -> Hop:
    """A hop with its middle and times."""
    way = progress_of(ions[frames[0] : frames[1] + 1, ion], origin, target - origin)
    middle = frames[0] + int(np.abs(way).argmin())
    start_ps, middle_ps, end_ps = (frame * interval_ps for frame in (frames[0], middle, frames[1]))
    return Hop(
        ion, sites[0], sites[1], frames[0], middle, frames[1], start_ps, middle_ps, end_ps, origin, target - origin
    )


def progress_of(path: np.ndarray, origin: np.ndarray, vector: np.ndarray) -> np.ndarray:
    """Coordinate of a hop, -1 at the old site, 0 half way, 1 at the new one.  path [n, 3] Å"""
    return 2 * (path - origin) @ vector / (vector @ vector) - 1


def frames_along(hop: Hop, ions: np.ndarray, progress: Sequence[float] = (-0.6, -0.3, 0.0, 0.3, 0.6)) -> list[int]:
    """Frames of a hop nearest to these coordinates, in order of time, each once."""
    way = progress_of(ions[hop.start_frame : hop.end_frame + 1, hop.ion], hop.origin, hop.vector)
    return sorted({hop.start_frame + int(np.abs(way - wanted).argmin()) for wanted in progress})


def concerted(
    hops: Sequence[Hop], ions: np.ndarray, cell: np.ndarray, reach: float = 4.5, together_ps: float = 0.15
) -> list[Hop]:
    """The hops with a group: hops of neighbours that pass their midpoints together; chains too.

    reach        Å, between the two ions
    together_ps  between their middle times. Start to end would be too long: in a superionic there is always some ion on
                 its way, and all hops of a run became one chain (Li6PS5Cl at 700 K: 35 of 39)
    """
    parent = list(range(len(hops)))

    def root(n: int) -> int:
        while parent[n] != n:
            n = parent[n]
        return n

    order = sorted(range(len(hops)), key=lambda n: hops[n].middle_ps)
    for i, first in enumerate(order):
        for second in order[i + 1 :]:
            one, other = hops[first], hops[second]
            if other.middle_ps - one.middle_ps > together_ps + 1e-9:
                break
            frame = (one.middle_frame + other.middle_frame) // 2
            between = np.linalg.solve(cell.T, ions[frame, one.ion] - ions[frame, other.ion])
            if np.linalg.norm((between - np.round(between)) @ cell) < reach:
                parent[root(second)] = root(first)
    names = {label: n for n, label in enumerate(dict.fromkeys(root(n) for n in range(len(hops))))}
    return [replace(hop, group=names[root(n)]) for n, hop in enumerate(hops)]


def check_residence(residence_ps: float, interval_ps: float) -> None:
    """Raises ValueError if frames are too far apart in time to resolve a stay."""
    if not residence_ps > 0:
        raise InputError(f"residence_ps must be positive, got {residence_ps}")
    if interval_ps > residence_ps:
        raise InputError(
            f"frames {interval_ps:g} ps apart cannot show a stay of {residence_ps} ps, nor an ion on its way: save frames at "
            "least that often (0.02-0.05 ps shows hops)"
        )
