"""Search for holes: pairs, triplets and whole cells are pushed together, cells pulled apart, and the energy must rise all the way.

A potential fitted to data is free beyond them. Where its energy falls again on the way in, or out, dynamics, bands and random
structures fall too, sooner or later. Any source of energies can be searched.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from itertools import combinations_with_replacement

import numpy as np
from ase import Atoms
from ase.data import chemical_symbols, covalent_radii
from ase.geometry import find_mic

from mlip.data.graph import neighbour_list
from mlip.errors import ConvergenceError

CLOSEST = 0.3  # Å, where a pair ends
SMALLEST_VOLUME, LARGEST_VOLUME = 0.2, 8.0  # of a frame, where a cell ends
LOOSEST_TRIPLET = 2.5  # of the data's shortest distances
OUT_OF_REACH = 3.0  # eV, of three atoms above their lowest energy on the way: 17 kT at 2000 K. A dent there is no hole
VAPOUR = 0.5  # eV per atom of a cell that is pulled apart, above its rest: no dynamics of a solid gets there
LOOSEST_START = (
    0.85  # of a frame's volume: a squeezed cell begins at its lowest energy above that, or while no pair is close
)

# of the data's shortest distances: hot ions get there, and a hole may be a few hundredths of an Å wide
NEAR_DATA = 0.75
LOOSEST_REST = 1.5  # of a frame's volume: a cell that is pulled apart begins at its lowest energy below that
CELLS = ("cell", "stretched_cell")

Energies = Callable[[list[Atoms]], np.ndarray]


@dataclass(frozen=True)
class Path:
    """Structures from loose to tight, of a stretched cell from tight to loose, and what measures it.

    kind         pair, pair_in_crystal, triplet, cell, stretched_cell
    elements     atomic numbers of what is pushed together; those of all atoms for a cell
    coordinate   [n]: distance in Å, longest side of a triplet, or volume by that of the frame
    clear        [n] bool: no reason for the energy to fall: all other pairs are farther, all sides of a triplet shorter
                 than the data's shortest
    """

    kind: str
    elements: tuple[int, ...]
    coordinate: np.ndarray
    structures: list[Atoms]
    clear: np.ndarray


@dataclass(frozen=True)
class Fall:
    """The largest fall of a path: eV, the coordinate at which it begins, and the lowest energy against the start, eV."""

    kind: str
    what: str
    fall_eV: float
    begins_at: float | None
    lowest_eV: float


def shortest_of(table: Mapping[str, float | None], one: int, two: int) -> float:
    """Shortest distance of two elements in the data, Å; 0.9 of the sum of covalent radii if the data hold none."""
    names = chemical_symbols[one], chemical_symbols[two]
    known = table.get("-".join(names), table.get("-".join(names[::-1])))
    return 0.9 * float(covalent_radii[one] + covalent_radii[two]) if known is None else known


def shortest_in(structures: Sequence[Atoms], cutoff: float = 6.0) -> dict[str, float | None]:
    """{"Li-O": Å}: the shortest distance of each pair of elements in some structures, None if none is within the cutoff."""
    numbers = sorted({int(z) for atoms in structures for z in atoms.numbers})
    table: dict[str, float | None] = {
        f"{chemical_symbols[a]}-{chemical_symbols[b]}": None for a, b in combinations_with_replacement(numbers, 2)
    }
    for atoms in structures:
        pairs, shift = neighbour_list(atoms, cutoff)
        vector = atoms.positions[pairs[1]] - atoms.positions[pairs[0]] + shift.numpy() @ atoms.cell.array
        elements, distance = np.sort(atoms.numbers[pairs.numpy()].T, axis=1), np.linalg.norm(vector, axis=1)
        for a, b in np.unique(elements, axis=0):
            name = f"{chemical_symbols[a]}-{chemical_symbols[b]}"
            table[name] = min(float(distance[(elements == (a, b)).all(1)].min()), table[name] or np.inf)
    return table


def pairs_alone(numbers: Sequence[int], table: Mapping[str, float | None], n_steps: int) -> Iterator[Path]:
    """Two atoms in vacuum, each pair of elements."""
    for one, two in combinations_with_replacement(sorted(set(numbers)), 2):
        distance = np.geomspace(shortest_of(table, one, two), CLOSEST, n_steps)
        structures = [Atoms([one, two], [[0, 0, 0], [r, 0, 0]]) for r in distance]
        yield Path("pair", (one, two), distance, structures, np.ones(n_steps, dtype=bool))


def pairs_in_crystal(
    atoms: Atoms,
    table: Mapping[str, float | None],
    n_steps: int,
    n_directions: int,
    rng: np.random.Generator,
    part: float | None = None,
) -> Iterator[Path]:
    """One atom moves onto another along the line between them: the nearest pairs of each two elements in a frame.

    part  of the distance at the start, where a path ends; None: at CLOSEST
    """
    distances = atoms.get_all_distances(mic=True)
    np.fill_diagonal(distances, np.inf)
    for one, two in combinations_with_replacement(sorted(set(atoms.numbers.tolist())), 2):
        rows, columns = np.flatnonzero(atoms.numbers == one), np.flatnonzero(atoms.numbers == two)
        for row in rng.permutation(rows)[:n_directions]:
            column = columns[distances[row, columns].argmin()]
            if not np.isfinite(distances[row, column]):
                continue
            vector = find_mic(atoms.positions[column] - atoms.positions[row], atoms.cell, atoms.pbc)[0]
            start = min(shortest_of(table, one, two), float(np.linalg.norm(vector)))
            distance = np.geomspace(start, CLOSEST if part is None else part * start, n_steps)
            direction = vector / np.linalg.norm(vector)
            structures = []
            for r in distance:
                structures.append(atoms.copy())
                structures[-1].positions[column] = atoms.positions[row] + r * direction
            others = np.delete(np.arange(len(atoms)), [row, column])
            away = atoms.positions[others] - atoms.positions[row] - distance[:, None, None] * direction
            gap = find_mic(away.reshape(-1, 3), atoms.cell, atoms.pbc)[1].reshape(n_steps, -1)
            limit = np.array([shortest_of(table, two, int(z)) for z in atoms.numbers[others]])
            yield Path("pair_in_crystal", (one, two), distance, structures, (gap >= limit).all(1))


def triplets_alone(numbers: Sequence[int], table: Mapping[str, float | None], n_steps: int) -> Iterator[Path]:
    """Three atoms in vacuum, two triangles that shrink: with sides as the data's shortest distances, and an equilateral one.

    They begin LOOSEST_TRIPLET times as wide: until all sides are as short as in the data the energy may fall, as it does
    when H and C that are farther apart than their bond attract.
    """
    for trio in combinations_with_replacement(sorted(set(numbers)), 3):
        shortest = np.array([shortest_of(table, trio[i], trio[j]) for i, j in ((1, 2), (0, 2), (0, 1))])
        longest = shortest.max()
        wide = shortest * max(1.0, longest / (shortest.sum() - longest))  # the two others reach the ends of the longest
        for sides in {tuple(np.minimum(wide, longest)): None, (longest, longest, longest): None}:
            a, b, c = sides
            x = (b**2 + c**2 - a**2) / (2.0 * c)
            triangle = np.array([[0, 0, 0], [c, 0, 0], [x, np.sqrt(max(b**2 - x**2, 0.0)), 0]])
            apart = np.geomspace(LOOSEST_TRIPLET, 1.0, n_steps // 3, endpoint=False)
            scale = np.append(apart, np.geomspace(1.0, CLOSEST / longest, n_steps - len(apart)))
            clear = (scale[:, None] * sides <= shortest * (1.0 + 1e-9)).all(1)
            yield Path("triplet", trio, scale * longest, [Atoms(trio, s * triangle) for s in scale], clear)


def squeezed_cell(atoms: Atoms, table: Mapping[str, float | None], n_steps: int) -> Path:
    """The whole frame in ever smaller volumes, see LOOSEST_START."""
    volumes = np.geomspace(1.0, SMALLEST_VOLUME, n_steps)
    structures = []
    for volume in volumes:
        structures.append(atoms.copy())
        structures[-1].set_cell(atoms.cell.array * volume ** (1 / 3), scale_atoms=True)
    pairs, shift = neighbour_list(atoms, 6.0)
    vector = atoms.positions[pairs[1]] - atoms.positions[pairs[0]] + shift.numpy() @ atoms.cell.array
    limit = np.array([shortest_of(table, int(a), int(b)) for a, b in atoms.numbers[pairs.numpy()].T])
    slack = np.min(np.linalg.norm(vector, axis=1) / limit, initial=np.inf)
    return Path("cell", tuple(atoms.numbers.tolist()), volumes, structures, volumes ** (1 / 3) * slack >= 1.0)


def stretched_cell(atoms: Atoms, n_steps: int) -> Path:
    """The whole frame in ever larger volumes, see LOOSEST_REST."""
    volumes = np.geomspace(1.0, LARGEST_VOLUME, n_steps)
    structures = [atoms.copy() for _ in volumes]
    for structure, volume in zip(structures, volumes, strict=True):
        structure.set_cell(atoms.cell.array * volume ** (1 / 3), scale_atoms=True)
    return Path("stretched_cell", tuple(atoms.numbers.tolist()), volumes, structures, np.ones(n_steps, dtype=bool))


def or_infinite(energies: Energies, *refusals: type[Exception]) -> Energies:
    """The same energies along a path, +inf from the first structure on that raises one of `refusals`."""

    def halved(structures: list[Atoms]) -> np.ndarray:
        try:
            return energies(structures)
        except refusals:
            if len(structures) == 1:
                return np.array([np.inf])
            half = len(structures) // 2
            first = halved(structures[:half])
            rest = np.full(len(structures) - half, np.inf) if np.isposinf(first[-1]) else halved(structures[half:])
            return np.concatenate([first, rest])

    return halved


def energies_along(path: Path, energies: Energies, atoms_per_call: int = 4000) -> np.ndarray:
    """Energies of a path's structures, [n] eV; +inf if there is no answer.

    Raises ConvergenceError if a frame itself has none, with which a squeezed cell begins: all paths would seem to end.
    """
    size = max(1, atoms_per_call // len(path.structures[0]))
    parts = [path.structures[start : start + size] for start in range(0, len(path.structures), size)]
    along = np.concatenate([energies(part) for part in parts])
    if path.kind in CELLS and np.isposinf(along[0]):
        raise ConvergenceError(f"no energy of a frame of the data, {path_name(path)}: its holes cannot be searched")
    return along


def fall_of(path: Path, energy: np.ndarray) -> Fall:
    """The largest fall along a path: what lies below an earlier energy. An energy that is no number has fallen for ever.

    energy  [n] eV, along the path; it ends before the first +inf
    A point at which the moved atom passes a third one may lie lower than those before, but not below the start: the first
    point that is clear, since an atom that is put down on a third one, as in a molecule, falls as it leaves.
    Of a triplet, energies OUT_OF_REACH are all the same, and of a stretched cell those of a VAPOUR.
    """
    energy = energy[: int(np.argmax(np.isposinf(energy)))] if np.isposinf(energy).any() else energy
    if len(energy) == 0:
        return Fall(path.kind, path_name(path), 0.0, None, 0.0)
    path = replace(path, coordinate=path.coordinate[: len(energy)], clear=path.clear[: len(energy)])
    is_cell = path.kind in CELLS
    if path.kind == "stretched_cell":
        first = int(energy[path.coordinate <= LOOSEST_REST].argmin())
    elif is_cell:
        first = int(energy[(path.coordinate >= LOOSEST_START) | path.clear].argmin())
    else:
        first = int(path.clear.argmax()) if path.clear.any() else len(energy) - 1
    reach = {"triplet": OUT_OF_REACH, "stretched_cell": VAPOUR * len(path.elements)}.get(path.kind, np.inf)
    energy = np.minimum(energy, energy[: first + 1].min() + reach)
    energy, clear, coordinate = energy[first:], path.clear[first:] | is_cell, path.coordinate[first:]
    what = path_name(path)
    if not np.isfinite(energy).all():
        return Fall(path.kind, what, float("inf"), float(coordinate[~np.isfinite(energy)][0]), float("-inf"))
    highest = np.maximum.accumulate(np.where(clear, energy, energy[0]))
    fall = np.where(clear, highest, energy[0]) - energy
    deepest = int(fall.argmax())
    begins = float(coordinate[int(energy[: deepest + 1].argmax())]) if fall[deepest] > 0 else None
    return Fall(path.kind, what, float(max(fall[deepest], 0.0)), begins, float(energy.min() - energy[0]))


def path_name(path: Path) -> str:
    """Li-O, Li-O-O, or the formula of a cell."""
    if path.kind in CELLS:
        return path.structures[0].get_chemical_formula()
    return "-".join(chemical_symbols[z] for z in path.elements)


def spread(structures: Sequence[Atoms], n: int) -> list[Atoms]:
    """The smallest n structures; evenly spaced among those of one size, since neighbours in a file are alike."""
    by_size = sorted(structures, key=len)
    last = len(by_size[min(n, len(by_size)) - 1])
    smaller, same = [a for a in by_size if len(a) < last], [a for a in by_size if len(a) == last]
    left = min(n - len(smaller), len(same))
    return smaller + [same[round(i * (len(same) - 1) / max(left - 1, 1))] for i in range(left)]


def search_paths(
    structures: Sequence[Atoms],
    shortest: Mapping[str, float | None],
    n_frames: int = 3,
    n_steps: int = 16,
    n_near: int = 8,
    seed: int = 0,
) -> list[Path]:
    """Every pair and triplet of elements alone, the pairs inside some frames, and these frames squeezed and stretched.

    structures  inside the data; the smallest n_frames serve
    shortest    {"Li-O": Å} of the data; a pair that they lack begins at 0.9 of the sum of covalent radii
    n_steps     of a path in a crystal; those in vacuum are finer
    n_near      frames of `near_paths`
    """
    numbers = sorted({int(z) for atoms in structures for z in atoms.numbers})
    rng = np.random.default_rng(seed)
    paths = [*pairs_alone(numbers, shortest, 4 * n_steps), *triplets_alone(numbers, shortest, 3 * n_steps)]
    for atoms in spread(structures, n_frames):
        paths += pairs_in_crystal(atoms, shortest, n_steps, 1, rng)
        if atoms.pbc.all():
            paths += [squeezed_cell(atoms, shortest, 2 * n_steps), stretched_cell(atoms, 2 * n_steps)]
    return paths + near_paths(structures, shortest, n_near, 3 * n_steps // 4, 1, rng)


def near_paths(
    structures: Sequence[Atoms],
    shortest: Mapping[str, float | None],
    n_frames: int,
    n_steps: int,
    n_directions: int,
    rng: np.random.Generator,
) -> list[Path]:
    """Pairs inside some frames that are pushed finely, to NEAR_DATA alone: where dynamics goes."""
    return [path for atoms in spread(structures, n_frames)
            for path in pairs_in_crystal(atoms, shortest, n_steps, n_directions, rng, part=NEAR_DATA)]  # fmt: skip


def worst(falls: Sequence[Fall]) -> dict[str, Fall]:
    """The largest fall of each kind of path."""
    kinds = dict.fromkeys(fall.kind for fall in falls)
    return {kind: max((fall for fall in falls if fall.kind == kind), key=lambda fall: fall.fall_eV) for kind in kinds}


def described(falls: Sequence[Fall]) -> dict:
    """The worst of each kind as plain numbers, for the metadata of a model."""
    return {kind: asdict(fall) for kind, fall in worst(falls).items()}
