"""No potential with a hole is written: its wall is raised until the energy rises along every path inwards, and outwards."""

from collections.abc import Sequence
from itertools import combinations

import numpy as np
import torch
from ase import Atoms
from ase.data import chemical_symbols
from torch import nn

from mlip import keys
from mlip.data.graph import collate, to_graph
from mlip.errors import ConvergenceError, InputError
from mlip.holes import (
    CELLS,
    Energies,
    Fall,
    Path,
    described,
    energies_along,
    fall_of,
    near_paths,
    or_infinite,
    pairs_in_crystal,
    search_paths,
    spread,
    worst,
)
from mlip.models.data_limits import DISTANCE_MARGIN, DataLimits
from mlip.models.potential import Potential, strainable
from mlip.models.wall import Wall
from mlip.nn.scatter import segment_sum

# times that walls are raised before margins are narrowed instead, and before both: steps of 2 fs fail for Li in a wall of 3200 eV
STRENGTH_FIRST, MARGIN_FIRST = 2, 8
TRUSTED_RISE = 1.0  # eV, of the energy beyond the data: 10 kT at 1160 K
ALLOWED_FALL = 0.1  # eV
NEAR = 0.95  # of the distance at which an energy falls: a wall from there on can stop it


def shortest_distances(potential: nn.Module) -> dict[str, float | None]:
    """{"Li-O": Å}: the shortest distance of each pair in the training set, None for a pair that it lacks."""
    first = next(one for one in potential.modules() if isinstance(one, Potential))
    rows = first.statistics.get("shortest_distances")
    names = [chemical_symbols[z] for z in first.elements]
    if rows is None:
        return {}
    return {f"{a}-{b}": rows[i][j] for i, a in enumerate(names) for j, b in enumerate(names) if i <= j}


def energies_of(potential: Potential) -> Energies:
    """Energies of structures by a live potential, [n] eV; +inf for one whose charges or shells do not converge."""

    def energies(structures: list[Atoms]) -> np.ndarray:
        graph = collate([to_graph(atoms, potential.cutoff, potential.levels) for atoms in structures])
        with torch.no_grad():
            strained = strainable(graph)[0]
        per_atom = potential.described(strained)[1].detach().double()  # not in no_grad: shells relax along gradients
        return segment_sum(per_atom, graph[keys.BATCH], len(structures)).numpy()

    return or_infinite(energies, ConvergenceError)


def trusted_distances(
    potential: Potential,
    structures: Sequence[Atoms],
    energies: Energies,
    rise_eV: float = TRUSTED_RISE,
    n_frames: int = 4,
) -> None:
    """Moves the limits of pairs to where the energy has risen by `rise_eV` beyond the data's shortest distance, or falls again.

    Hot ions climb that far, and no farther: steep pairs (O-Zr) have little room beyond the data, soft ones (Li-Li) all of
    DISTANCE_MARGIN. The median over paths in frames of the training set; a pair that none of them holds keeps its limit.
    """
    limits, n = potential.limits, len(potential.elements)
    table, rng = shortest_distances(potential), np.random.default_rng(0)
    room: dict[tuple[int, ...], list[float]] = {}
    for atoms in spread(structures, n_frames):
        for path in pairs_in_crystal(atoms, table, 8, 1, rng, part=DISTANCE_MARGIN):
            room.setdefault(path.elements, []).append(trusted_part(path, energies_along(path, energies), rise_eV))
    for pair, distances in room.items():
        one, two = (potential.elements.index(z) for z in pair)
        for number in (one * n + two, two * n + one):
            if limits.data_shortest[number] < limits.cutoff:
                limits.shortest[number] = np.median(distances) * limits.data_shortest[number]
    known = limits.data_shortest < limits.cutoff
    for wall in potential.terms:
        if isinstance(wall, Wall):
            wall.reach[known] = limits.shortest[known]


def trusted_part(path: Path, energy: np.ndarray, rise_eV: float) -> float:
    """Part of the distance at the start of a path down to which its energy, [n] eV, is believed: it rises, and not too far.

    An energy that falls from the start on says nothing of this pair: the atom was moved far out of its place.
    """
    closer, fall = path.coordinate / path.coordinate[0], fall_of(path, energy)
    beyond = np.flatnonzero(energy - energy[0] >= rise_eV)
    risen = float(closer[beyond[0]]) if len(beyond) else DISTANCE_MARGIN
    turned = fall.begins_at / path.coordinate[0] if fall.fall_eV > ALLOWED_FALL else 1.0
    return risen if turned == 1.0 else max(risen, turned)


def raise_wall(
    potential: Potential,
    structures: Sequence[Atoms],
    allowed_eV: float = ALLOWED_FALL,
    doublings: int = 20,
    n_steps: int = 16,
) -> list[Fall]:
    """Doubles the strength of the wall, or brings it nearer to the data, along each path on which the energy falls.

    Pairs that fell inside a frame are pushed along other paths until those rise too. Returns what remains after at most so
    many times.

    structures  frames of the training set. The wall is zero on all of them, and the network's limits lie beyond them:
                their energies do not change
    A potential without a wall is only searched.
    """
    energies = energies_of(potential)
    walls = [term for term in potential.terms if isinstance(term, Wall)]
    if walls:
        trusted_distances(potential, structures, energies)
    table, fresh = shortest_distances(potential), np.random.default_rng(1)
    paths = [path for path in search_paths(structures, table, n_steps=n_steps)
             if path.kind != "stretched_cell" or is_bound(potential, path.elements)]  # fmt: skip
    found, left = [], doublings if walls else 0
    while paths:
        falls = [fall_of(path, energies_along(path, energies)) for path in paths]
        fell = {path.elements for path, fall in zip(paths, falls, strict=True)
                if path.kind == "pair_in_crystal" and not fall.fall_eV <= allowed_eV}  # fmt: skip
        while left and (holes := [number for number, fall in enumerate(falls) if not fall.fall_eV <= allowed_eV]):
            fallen = [(paths[number], falls[number].begins_at) for number in holes]
            times = doublings - left
            stiffen(walls, potential.limits, potential.elements, fallen, narrow=times >= STRENGTH_FIRST,
                    double=not STRENGTH_FIRST <= times < MARGIN_FIRST)  # fmt: skip
            for number in holes:
                falls[number] = fall_of(paths[number], energies_along(paths[number], energies))
            left -= 1
        found += falls
        # other paths of the pairs that fell: what was mended may be one of many
        others = near_paths(structures, table, 8, n_steps, 2, fresh) if fell and left else []
        paths = [path for path in others if path.elements in fell]
    return found


def is_bound(potential: Potential, elements: Sequence[int]) -> bool:
    """Whether the wall draws lonely atoms of these elements back; it does not where the data hold lone ones."""
    places = [potential.elements.index(z) for z in set(elements)]
    return any(isinstance(term, Wall) and bool((term.least[places] > 0).all()) for term in potential.terms)


def pushed_to(path: Path, begins_at: float | None, elements: list[int]) -> np.ndarray:
    """Distances of the pairs that a path pushes together, [n_elements, n_elements] Å; inf for the others.

    begins_at  coordinate at which they are asked for; None: the end of the path
    """
    step = len(path.coordinate) - 1 if begins_at is None else int(np.abs(path.coordinate - begins_at).argmin())
    out = np.full((len(elements), len(elements)), np.inf)
    if path.kind == "pair_in_crystal":
        distances = np.array([[np.inf, path.coordinate[step]], [path.coordinate[step], np.inf]])
    else:
        distances = path.structures[step].get_all_distances()
    places = [elements.index(z) for z in path.elements]
    for one, two in combinations(range(len(places)), 2):
        for place in ((places[one], places[two]), (places[two], places[one])):
            out[place] = min(out[place], distances[one, two])
    return out


def stiffen(
    walls: Sequence[Wall],
    limits: DataLimits,
    elements: list[int],
    fallen: Sequence[tuple[Path, float | None]],
    narrow: bool = False,
    double: bool = True,
) -> None:
    """Doubles the strength of the walls that stand where the energies of paths fall, or brings walls there.

    fallen  paths, and the coordinate from which each energy falls. Pairs near or beyond their limit there have a wall,
            which is doubled; if none has one, the margin of those that are closer than in the data is halved
    narrow  halves the margin all the same
    double  False raises no wall of pairs that have a margin
    """
    n = len(elements)
    doubled, narrowed = np.zeros((n, n), dtype=bool), np.zeros((n, n), dtype=bool)
    crowded, lonely = np.zeros(n, dtype=bool), np.zeros(n, dtype=bool)
    limit, of_data = limits.shortest.numpy().reshape(n, n), limits.data_shortest.numpy().reshape(n, n)
    unknown = of_data >= limits.cutoff
    for path, begins_at in fallen:
        if path.kind in CELLS:
            (crowded if path.kind == "cell" else lonely)[np.isin(elements, path.structures[0].numbers)] = True
            continue
        distance = pushed_to(path, begins_at, elements)
        pressed = np.isfinite(distance)
        walled, closer = pressed & (unknown | (limit > NEAR * distance)), pressed & ~unknown & (of_data > distance)
        doubled |= walled if double else walled & unknown
        if narrow or not (walled & ~unknown).any():
            narrowed |= closer if closer.any() else pressed
    strengthened, nearer, full, sparse = (
        torch.from_numpy(mask.flatten()) for mask in (doubled, narrowed, crowded, lonely)
    )
    limits.shortest[nearer] = 0.5 * (limits.shortest + limits.data_shortest)[nearer]
    if narrow:
        limits.most[full] = 0.5 * (limits.most + limits.data_most)[full]
    known = torch.from_numpy(~unknown.flatten())
    for wall in walls:
        wall.reach[known], wall.most[:] = limits.shortest[known], limits.most
        wall.pair_strength[strengthened] *= 2.0
        wall.crowding_strength[full] *= 2.0
        wall.cohesion_strength[sparse] *= 2.0
        if narrow:
            wall.least[sparse] = 0.5 * (wall.least + wall.data_least)[sparse]


def without_holes(potential: nn.Module, structures: Sequence[Atoms], largest_fall_eV: float | None) -> dict:
    """Raises the walls inside `potential` and returns what the search found, for the metadata.

    potential        a `Potential`, or what holds one or more of them
    largest_fall_eV  refuses a larger one; None refuses none
    Raises ValueError if the energy still falls by more.
    """
    trained = [weight for weight in potential.parameters() if weight.requires_grad]
    potential.requires_grad_(False)  # their gradients would double the time
    try:
        falls = [
            fall for one in potential.modules() if isinstance(one, Potential) for fall in raise_wall(one, structures)
        ]
    finally:
        for weight in trained:
            weight.requires_grad_(True)
    largest = max(falls, key=lambda fall: fall.fall_eV)
    if largest_fall_eV is not None and not largest.fall_eV <= largest_fall_eV:
        holes = "; ".join(
            f"{fall.kind} {fall.what} by {fall.fall_eV:.3g} eV from {fall.begins_at:.2f} on"
            for fall in worst(falls).values() if not fall.fall_eV <= largest_fall_eV
        )  # fmt: skip
        raise InputError(
            f"the potential has holes, its energy falls as atoms are pushed together or pulled apart: {holes}; allowed are "
            f"{largest_fall_eV} eV. Train with the term `wall`, or write it all the same with max_fall_eV=null"
        )
    return described(falls)
