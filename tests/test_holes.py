"""The search for holes finds those that were dug, and none in a potential that only repels."""

import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk

from mlip.errors import ConvergenceError
from mlip.holes import energies_along, fall_of, or_infinite, search_paths, shortest_in, spread, triplets_alone, worst

SHORTEST = {"Ar-Ar": 3.3}


def pair_energy(function):
    """Energies of structures from a pair function, images within 8 Å included."""
    from mlip.data.graph import neighbour_list

    def energies(structures: list[Atoms]) -> np.ndarray:
        result = []
        for atoms in structures:
            pairs, shift = neighbour_list(atoms, 8.0)
            vector = atoms.positions[pairs[1]] - atoms.positions[pairs[0]] + shift.numpy() @ atoms.cell.array
            result.append(0.5 * function(np.linalg.norm(vector, axis=1)).sum())
        return np.array(result)

    return energies


def lennard_jones(r):
    return 0.0104 * 4 * ((3.4 / r) ** 12 - (3.4 / r) ** 6)


def with_hole(r):
    return lennard_jones(np.maximum(r, 2.0)) - 60.0 * np.clip(2.0 - r, 0.0, None)


def fall_along(path, function):
    return fall_of(path, energies_along(path, pair_energy(function)))


def with_narrow_hole(r):
    """A dent of 0.1 Å, where hot atoms get to: between 3.1 and 3.0 Å, the data's shortest distance being 3.3 Å."""
    return lennard_jones(r) - 1.0 * np.exp(-(((r - 3.05) / 0.03) ** 2))


CRYSTAL = bulk("Ar", "fcc", a=5.26, cubic=True).repeat((2, 2, 2))


def test_a_potential_that_binds_and_repels_has_no_hole():
    falls = worst([fall_along(path, lennard_jones) for path in search_paths([CRYSTAL], SHORTEST)])
    assert set(falls) == {"pair", "triplet", "pair_in_crystal", "cell", "stretched_cell"}
    assert all(fall.fall_eV < 1e-6 and fall.begins_at is None for fall in falls.values()), falls


def test_a_narrow_hole_just_beyond_the_data_is_stepped_on():
    """Steps of a tenth of the distance walked over one of 0.06 Å: Li and O in Li7La3Zr2O12 fell at 900 K."""
    paths = [path for path in search_paths([CRYSTAL], SHORTEST) if path.kind == "pair_in_crystal"]
    fine = [path for path in paths if path.coordinate[-1] > 2.4]
    assert fine and max(fall_along(path, with_narrow_hole).fall_eV for path in fine) > 0.3
    assert max(fall_along(path, with_narrow_hole).fall_eV for path in paths if path.coordinate[-1] < 2.4) < 0.1


def test_near_paths_are_spread_over_the_frames():
    """The smallest first, and evenly spaced among those of one size: neighbours in a file are alike."""
    frames = [Atoms("Ar" * n, info={"number": k}) for k, n in enumerate([3, 2, 3, 3, 1, 3, 3])]
    assert [atoms.info["number"] for atoms in spread(frames, 4)] == [4, 1, 0, 6]
    assert [atoms.info["number"] for atoms in spread(frames, 9)] == [4, 1, 0, 2, 3, 5, 6]


def test_a_crystal_whose_pieces_lie_below_it_has_a_hole_outwards():
    """It binds at its own distances; farther out than 5 Å atoms gain 0.1 eV a pair again."""
    (path,) = [path for path in search_paths([CRYSTAL], SHORTEST) if path.kind == "stretched_cell"]
    outwards = fall_along(path, lambda r: lennard_jones(r) - 0.1 * np.clip(r - 5.0, 0.0, 1.0) * (r < 7.5))
    assert outwards.fall_eV > 1 and outwards.begins_at >= 1
    assert fall_along(path, lennard_jones).fall_eV < 1e-6
    loose = search_paths([Atoms("Ar", cell=[4.2] * 3, pbc=True)], SHORTEST)[-1]  # comes to rest at 0.75 of its volume
    assert loose.kind == "stretched_cell" and fall_along(loose, lennard_jones).fall_eV < 1e-6


def test_an_atom_that_is_put_down_on_a_third_one_does_not_fall_when_it_leaves():
    """C-C-O in a row: O is put 1.2 Å from the first C, on the way there it stands on the second."""
    molecule = Atoms("CCO", [[0, 0, 0], [1.5, 0, 0], [2.7, 0, 0]])
    shortest = {"C-C": 1.5, "C-O": 1.2, "O-O": None}
    path, near = [
        path for path in search_paths([molecule], shortest) if (path.kind, path.elements) == ("pair_in_crystal", (6, 8))
    ]
    assert near.coordinate[-1] == pytest.approx(0.75 * 1.2) and len(near.coordinate) == 12
    assert not path.clear[0]
    assert fall_along(path, lambda r: r**-8).fall_eV == 0
    assert fall_along(path, lambda r: np.where(r < 0.32, np.nan, r**-8)).fall_eV == np.inf


def test_atoms_that_bind_fall_to_their_bond_and_no_farther():
    """H and C bind at 1.1 Å, two H come no closer than 1.6: at that distance from both of them C is drawn in."""

    def energies(bottom_eV: float):
        def of(structures: list[Atoms]) -> np.ndarray:
            pairs = [(atoms.get_distance(0, 1), atoms.get_distance(0, 2)) for atoms in structures]
            h, c = np.array(pairs).T
            return (1.6 / h) ** 6 + 2 * 5.0 * ((1 - np.exp(-2.0 * (c - 1.1))) ** 2 - 1) - bottom_eV * (c < 0.8)

        return of

    triangles = [
        path for path in triplets_alone([1, 6], {"H-H": 1.6, "C-H": 1.1, "C-C": 1.3}, 32) if path.elements == (1, 1, 6)
    ]
    assert len(triangles) == 2
    assert all(fall_of(path, energies(0.0)(path.structures)).fall_eV == 0 for path in triangles)
    assert all(fall_of(path, energies(300.0)(path.structures)).fall_eV > 20 for path in triangles)


def test_a_hole_is_found_with_its_depth_and_its_edge():
    pair = next(path for path in search_paths([CRYSTAL], SHORTEST) if path.kind == "pair")
    fall = fall_along(pair, with_hole)
    assert fall.what == "Ar-Ar"
    assert fall.fall_eV == pytest.approx(60 * (2.0 - 0.3), rel=0.02)
    assert fall.begins_at == pytest.approx(2.0, rel=0.05)


def test_an_energy_that_is_not_finite_has_fallen_for_ever():
    pair = search_paths([CRYSTAL], SHORTEST)[0]
    assert fall_along(pair, lambda r: np.where(r < 1, np.nan, 1 / r)).fall_eV == np.inf


def test_a_potential_that_answers_for_no_frame_is_not_said_to_be_free_of_holes():
    def refuses(structures):
        raise ConvergenceError("not this one")

    cell = next(path for path in search_paths([CRYSTAL], SHORTEST) if path.kind == "cell")
    with pytest.raises(ConvergenceError, match="no energy of a frame of the data, Ar32"):
        energies_along(cell, or_infinite(refuses, ConvergenceError))


def test_only_a_refusal_is_infinite():
    squeezed = next(path for path in search_paths([CRYSTAL], SHORTEST) if path.kind == "cell")
    energies = pair_energy(lennard_jones)
    assert np.isfinite(energies_along(squeezed, energies)).all()

    def refuses_small_cells(structures):
        if any(atoms.get_volume() < 0.5 * CRYSTAL.get_volume() for atoms in structures):
            raise ConvergenceError("too small")
        return energies(structures)

    along = energies_along(squeezed, or_infinite(refuses_small_cells, ConvergenceError))
    assert np.array_equal(np.isposinf(along), squeezed.coordinate < 0.5)
    with pytest.raises(ConvergenceError):
        energies_along(squeezed, or_infinite(refuses_small_cells, ValueError))


def test_the_shortest_distances_of_structures_come_with_their_images():
    assert shortest_in([CRYSTAL]) == {"Ar-Ar": pytest.approx(5.26 / np.sqrt(2))}
    assert shortest_in([Atoms("ArNe", [[0, 0, 0], [0, 0, 9.0]])]) == {"Ne-Ne": None, "Ne-Ar": None, "Ar-Ar": None}
