"""Limits of the data and the wall beyond them."""

from functools import partial

import numpy as np
import pytest
import torch
from ase import Atoms

from mlip import keys
from mlip.data.graph import to_graph
from mlip.holes import Path
from mlip.models.classical.featureless import Featureless
from mlip.models.data_limits import DataLimits
from mlip.models.potential import Potential
from mlip.models.wall import Wall, rise
from mlip.nn.edges import edge_vectors
from mlip.nn.radial import soft_floor
from mlip.training.walls import stiffen, trusted_distances, trusted_part

STATISTICS = {"elements": [3, 8], "shortest_distances": [[2.4, 1.6], [1.6, None]], "largest_crowding": [1.5, 1.5]}


def derivatives(function, x: float, order: int) -> list[float]:
    """Value and derivatives of a function of one number."""
    point = torch.tensor([x], dtype=torch.float64, requires_grad=True)
    values, current = [], function(point)
    for _ in range(order + 1):
        values.append(float(current.detach()))
        if current.requires_grad:
            current = torch.autograd.grad(current.sum(), point, create_graph=True)[0]
    return values


@pytest.mark.parametrize(
    ("function", "joint"), [(soft_floor, 1.0), (soft_floor, 0.9), (lambda y: rise(y.clamp(min=0.0)), 0.0)]
)
def test_three_derivatives_are_continuous_where_a_limit_begins_and_ends(function, joint):
    """The fourth is below 1e5, so the third may differ by 0.02 over 2e-7; a kink would show thousands."""
    before, after = derivatives(function, joint - 1e-7, 3), derivatives(function, joint + 1e-7, 3)
    assert before == pytest.approx(after, abs=0.02)


def test_floor_is_the_identity_above_and_five_per_cent_below_the_limit():
    x = torch.tensor([3.0, 1.0, 0.9, 0.1], dtype=torch.float64)
    assert torch.allclose(soft_floor(x), torch.tensor([3.0, 1.0, 0.95, 0.95], dtype=torch.float64), atol=1e-14)


def seen(atoms: Atoms) -> dict:
    graph = to_graph(atoms, 5.0)
    graph[keys.EDGE_VECTOR] = edge_vectors(graph)
    return DataLimits(STATISTICS, 5.0)(graph)


def test_the_network_sees_no_pair_closer_than_the_data_and_none_that_they_lack():
    assert float(seen(Atoms("LiO", [[0, 0, 0], [0.3, 0, 0]]))[keys.EDGE_DISTANCE][0]) == pytest.approx(0.95 * 0.8 * 1.6)
    assert float(seen(Atoms("LiO", [[0, 0, 0], [1.3, 0, 0]]))[keys.EDGE_DISTANCE][0]) == pytest.approx(1.3, abs=1e-15)
    assert float(seen(Atoms("O2", [[0, 0, 0], [2.0, 0, 0]]))[keys.EDGE_DISTANCE][0]) == pytest.approx(0.95 * 5.0)


def test_density_of_a_crowded_atom_stops_growing():
    """Many neighbours count as 1.05 x 1.1 times the most that the data hold."""
    crowd = Atoms("LiO4", [[0, 0, 0], [1.7, 0, 0], [0, 1.7, 0], [0, 0, 1.7], [-1.7, 0, 0]])
    graph = seen(crowd)
    assert float(graph[keys.CROWDING][0]) > 3
    assert float(graph[keys.DENSITY_SCALE][0] * graph[keys.CROWDING][0]) == pytest.approx(1.05 * 1.1 * 1.5)
    assert float(seen(Atoms("LiO", [[0, 0, 0], [1.7, 0, 0]]))[keys.DENSITY_SCALE][0]) == 1


def wall_energy(atoms: Atoms, statistics: dict = STATISTICS) -> float:
    return float(Wall(statistics, pair_strength=200.0, crowding_strength=20.0)(seen(atoms)).sum())


def test_wall_of_a_pair_follows_its_formula_and_is_zero_inside_the_data():
    y = 1 - 1.1 / (0.8 * 1.6)
    assert wall_energy(Atoms("LiO", [[0, 0, 0], [1.1, 0, 0]])) == pytest.approx(200 * y**4 / (y + 0.1) ** 2)
    assert wall_energy(Atoms("LiO", [[0, 0, 0], [0.8 * 1.6 + 1e-9, 0, 0]])) == 0
    reach = 0.9 * 2 * 0.66  # covalent radius of oxygen: the data hold no O-O
    assert wall_energy(Atoms("O2", [[0, 0, 0], [reach - 0.3, 0, 0]])) > 0.1
    assert wall_energy(Atoms("O2", [[0, 0, 0], [reach + 1e-9, 0, 0]])) == 0


@pytest.mark.parametrize(("slope_eV_A", "part"), [(12.0, 0.8 ** (2 / 7)), (6.0, 0.8 ** (4 / 7)), (1.0, 0.8)])
def test_limits_lie_where_the_energy_has_risen_by_one_eV(slope_eV_A, part):
    """Steep pairs have little room beyond the data, soft ones all of the margin; the wall begins there."""
    statistics = {
        **STATISTICS,
        "levels": ["default"],
        "atomic_energies": [[0.0, 0.0]],
        "mean_neighbours": 4.0,
        "force_rms": 1.0,
    }
    potential = Potential(partial(Featureless, cutoff=5.0), {"wall": Wall}, statistics)
    pair = Atoms("LiO", [[0, 0, 0], [1.9, 0, 0]], cell=[20, 20, 20], pbc=True)

    def energies(structures: list[Atoms]) -> np.ndarray:
        return np.array([slope_eV_A * (1.6 - atoms.get_distance(0, 1, mic=True)) for atoms in structures])

    trusted_distances(potential, [pair], energies)
    expected = [0.8 * 2.4, part * 1.6, part * 1.6]
    assert potential.limits.shortest.tolist() == pytest.approx([*expected, 5.0])
    assert potential.terms[-1].reach.tolist()[:3] == pytest.approx(expected)


@pytest.mark.parametrize(("energy", "part"), [
    ([0.0, 0.3, 0.6, 0.2, 0.1, 2.0], 0.92), ([0.0, 1.2, 0.6, 0.0, 0.0, 0.0], 0.96), ([0.0, 0.3, 0.25, 0.4, 0.5, 1.1], 0.8),
    ([9.0, 8.0, 7.0, 8.0, 9.0, 9.5], 0.8),
])  # fmt: skip
def test_an_energy_is_believed_until_it_has_risen_by_one_eV_or_turns(energy, part):
    """A fall of 0.05 eV is no turn, and one from the start on is another pair's."""
    distance = np.linspace(1.5, 1.2, 6)
    structures = [Atoms("LiO", [[0, 0, 0], [r, 0, 0]]) for r in distance]
    path = Path("pair_in_crystal", (3, 8), distance, structures, np.ones(6, dtype=bool))
    assert trusted_part(path, np.array(energy), 1.0) == pytest.approx(part)


def test_lonely_atoms_are_drawn_back_to_where_the_data_end():
    """Between 0.6 of the least crowding and half of that; nothing above, the same for every lone atom and molecule below."""
    statistics = {**STATISTICS, "largest_crowding": [20.0, 20.0], "least_crowding": [12.0, 12.0]}

    lone = 20.0 * 0.525**4 / 0.625**2
    assert wall_energy(Atoms("Li"), statistics) == pytest.approx(lone)
    for distance in (2.5, 2.9):  # of six O, which are lonely themselves
        atoms = Atoms("LiO6", [[0, 0, 0], *(distance * np.vstack([np.eye(3), -np.eye(3)]))])
        crowding = seen(atoms)[keys.CROWDING].numpy()
        assert 3.6 < crowding[0] < 7.2 and (crowding[1:] < 0.9 * 3.6).all()
        y = 1 - crowding[0] / 7.2
        assert wall_energy(atoms, statistics) == pytest.approx(20.0 * y**4 / (y + 0.1) ** 2 + 6 * lone)
    for close in (Atoms("LiO", [[0, 0, 0], [1.9, 0, 0]]), Atoms("LiOLi", [[0, 0, 0], [1.9, 0, 0], [3.8, 0, 0]])):
        assert wall_energy(close, statistics) == pytest.approx(len(close) * lone)
        assert wall_energy(close, {**statistics, "least_crowding": [3.7, 0.0]}) == 0  # data with molecules


def fallen(kind: str, elements: tuple[int, ...], begins_at: float) -> tuple[Path, float]:
    triangle = begins_at * np.array([[0, 0, 0], [1, 0, 0], [0.5, np.sqrt(0.75), 0]])
    structure = Atoms(elements, triangle[: len(elements)])
    return Path(kind, elements, np.array([begins_at]), [structure], np.ones(1, dtype=bool)), begins_at


@pytest.fixture
def limits_and_wall() -> tuple[DataLimits, Wall]:
    return DataLimits(STATISTICS, 5.0), Wall(STATISTICS, pair_strength=200.0, crowding_strength=20.0)


def test_a_fall_at_the_wall_doubles_it_and_leaves_the_margin(limits_and_wall):
    limits, wall = limits_and_wall
    stiffen([wall], limits, [3, 8], [fallen("triplet", (3, 3, 8), 1.27)])  # 0.8 x 1.6 is 1.28, 0.8 x 2.4 is 1.92
    assert wall.pair_strength.tolist() == [400, 400, 400, 200]
    assert limits.shortest.tolist() == pytest.approx([0.8 * 2.4, 0.8 * 1.6, 0.8 * 1.6, 5.0])
    stiffen([wall], limits, [3, 8], [fallen("triplet", (3, 3, 8), 1.4)])  # Li-Li only
    assert wall.pair_strength.tolist() == [800, 400, 400, 200]


def test_each_side_of_a_triangle_is_judged_by_its_own_length(limits_and_wall):
    limits, wall = limits_and_wall
    (path, begins_at), sides = fallen("triplet", (3, 3, 8), 2.0), np.array([[0, 0, 0], [2.0, 0, 0], [1.0, 1.4, 0]])
    path.structures[0].positions[:] = sides  # Li-Li 2.0, both Li-O 1.72
    stiffen([wall], limits, [3, 8], [(path, begins_at)])
    assert wall.pair_strength.tolist() == [400, 200, 200, 200]


def test_a_fall_before_any_wall_brings_that_of_the_pairs_that_the_data_hold_no_closer(limits_and_wall):
    limits, wall = limits_and_wall
    for remains in (0.9, 0.95):
        stiffen([wall], limits, [3, 8], [fallen("triplet", (3, 3, 8), 2.35)])  # Li-O comes to 1.6 in the data
        assert limits.shortest.tolist() == pytest.approx([remains * 2.4, 0.8 * 1.6, 0.8 * 1.6, 5.0])
        assert wall.reach.tolist()[:3] == limits.shortest.tolist()[:3]
    assert wall.pair_strength.tolist() == [200] * 4
    stiffen([wall], limits, [3, 8], [fallen("pair", (3, 8), 1.2)], narrow=True)
    assert limits.shortest.tolist() == pytest.approx([0.95 * 2.4, 0.9 * 1.6, 0.9 * 1.6, 5.0])
    assert wall.pair_strength.tolist() == [200, 400, 400, 200]


def test_a_cell_that_falls_doubles_the_crowding_and_at_last_halves_its_margin(limits_and_wall):
    limits, wall = limits_and_wall
    stiffen([wall], limits, [3, 8], [fallen("cell", (3, 8), 0.5)])
    assert wall.crowding_strength.tolist() == [40, 40] and limits.most.tolist() == pytest.approx([1.65, 1.65])
    stiffen([wall], limits, [3, 8], [fallen("cell", (3, 8), 0.5)], narrow=True)
    assert limits.most.tolist() == wall.most.tolist() == pytest.approx([1.575, 1.575])


def test_a_stretched_cell_that_falls_doubles_the_cohesion_and_at_last_halves_its_margin():
    wall = Wall({**STATISTICS, "least_crowding": [10.0, 5.0]})
    limits = DataLimits(STATISTICS, 5.0)
    stiffen([wall], limits, [3, 8], [fallen("stretched_cell", (3, 8), 3.0)])
    assert wall.cohesion_strength.tolist() == [40, 40] and wall.crowding_strength.tolist() == [20, 20]
    assert wall.least.tolist() == pytest.approx([6.0, 3.0])
    stiffen([wall], limits, [3, 8], [fallen("stretched_cell", (3, 8), 3.0)], narrow=True)
    assert wall.least.tolist() == pytest.approx([8.0, 4.0])


def test_wall_of_strengths_that_are_not_positive_is_refused():
    with pytest.raises(ValueError, match="must be positive, got 0"):
        Wall(STATISTICS, pair_strength=0)
