"""The calculator: any cell, any boundary, a list that is reused and never wrong."""

import numpy as np
import pytest
import torch
from ase import Atoms
from ase.build import bulk
from ase.calculators.emt import EMT
from ase.calculators.fd import calculate_numerical_forces, calculate_numerical_stress
from morse import morse_by_brute_force, morse_potential

from mlip import keys, load_calculator
from mlip.calculator import calculate_many
from mlip.data.graph import to_graph
from mlip.data.verlet import VerletList
from mlip.export import export

SKEWED = [[3.1, 0.2, -0.1], [1.9, 2.9, 0.3], [-1.2, 1.1, 3.4]]


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    path = tmp_path_factory.mktemp("model") / "model.pt"
    export(morse_potential(), path, {}, [to_graph(bulk("LiCl", "rocksalt", a=5.1), 4.0)])
    return path


def lattice(cell, pbc, n: int = 2) -> Atoms:
    """n ions in a cell, off any symmetric place, one of them outside."""
    scaled = [[0.05, 0.1, 0.0], [1.45, 0.55, -0.6]][:n]
    return Atoms("LiCl"[: 2 * n], positions=np.array(scaled) @ np.array(cell), cell=cell, pbc=pbc)


@pytest.mark.parametrize("pbc", [(1, 1, 1), (1, 1, 0), (0, 1, 0), (0, 0, 0)])
@pytest.mark.parametrize("n", [1, 2])
def test_skewed_cells_smaller_than_the_cutoff_equal_a_sum_over_images(model, pbc, n):
    atoms = lattice(SKEWED, np.array(pbc, dtype=bool), n)
    atoms.calc = load_calculator(model)
    assert atoms.get_potential_energy() == pytest.approx(morse_by_brute_force(atoms), abs=1e-9)


def test_a_slab_without_a_third_vector_is_a_slab(model):
    atoms = lattice([*SKEWED[:2], [0.3, 0.2, 9.0]], np.array([True, True, False]))
    with_vector = load_calculator(model).get_potential_energy(atoms)
    atoms.cell[2] = 0.0
    calculator = load_calculator(model)
    assert calculator.get_potential_energy(atoms) == pytest.approx(with_vector, abs=1e-12)
    assert "stress" not in calculator.results


def test_forces_and_stress_are_derivatives_of_the_energy(model):
    atoms = lattice(SKEWED, True).repeat((2, 1, 1))
    atoms.rattle(0.1, seed=0)
    atoms.calc = load_calculator(model)
    forces, stress = atoms.get_forces(), atoms.get_stress()
    np.testing.assert_allclose(forces, calculate_numerical_forces(atoms, eps=1e-5), atol=1e-7)
    np.testing.assert_allclose(stress, calculate_numerical_stress(atoms, eps=1e-5), atol=1e-7)


def test_atomic_energies_add_to_the_total(model):
    atoms = lattice(SKEWED, True)
    atoms.calc = load_calculator(model)
    assert atoms.get_potential_energies().sum() == pytest.approx(atoms.get_potential_energy(), abs=1e-12)
    assert atoms.get_potential_energy(force_consistent=True) == atoms.get_potential_energy()


def edges(index, shift, *_) -> set:
    return {(*pair, *cells) for pair, cells in zip(index.T.tolist(), shift.tolist(), strict=True)}


@pytest.mark.parametrize("pbc", [(1, 1, 1), (1, 0, 1)])
def test_a_list_with_a_skin_equals_a_fresh_one_along_a_strained_walk(pbc):
    """Affine steps, random steps, rotations of the cell: the list is reused, and never misses a pair."""
    rng = np.random.default_rng(0)
    pbc = np.array(pbc, dtype=bool)
    atoms = lattice(SKEWED, pbc).repeat((3, 2 if pbc[1] else 1, 2))
    kept = VerletList(4.0, 0.6)
    for _ in range(300):
        strain = np.eye(3) + rng.normal(scale=0.004, size=(3, 3))
        atoms.set_cell(atoms.cell.array @ strain, scale_atoms=True)
        atoms.positions += rng.normal(scale=0.03, size=atoms.positions.shape)
        fresh = VerletList(4.0, 0.0).pairs(atoms.positions, atoms.cell.array, pbc)
        mine = kept.pairs(atoms.positions, atoms.cell.array, pbc)
        assert edges(*mine) == edges(*fresh)
        assert torch.equal(mine[0], fresh[0])  # the same order too: sums are equal to the last bit
    assert 10 < kept.n_builds < 200


def test_compression_alone_makes_a_new_list():
    """No atom moves against the lattice, and yet pairs enter the cutoff."""
    atoms = bulk("LiCl", "rocksalt", a=5.1)
    kept = VerletList(4.0, 0.5)
    kept.pairs(atoms.positions, atoms.cell.array, atoms.pbc)
    for factor, builds in [(0.95, 1), (0.85, 2)]:
        squeezed = atoms.copy()
        squeezed.set_cell(atoms.cell.array * factor, scale_atoms=True)
        mine = kept.pairs(squeezed.positions, squeezed.cell.array, squeezed.pbc)
        assert edges(*mine) == edges(*VerletList(4.0, 0.0).pairs(squeezed.positions, squeezed.cell.array, squeezed.pbc))
        assert kept.n_builds == builds


def test_many_structures_at_once_equal_one_by_one(model):
    calculator = load_calculator(model)
    structures = [lattice(SKEWED, True), lattice(SKEWED, False), bulk("LiCl", "rocksalt", a=4.9), Atoms("Li")]
    answered = calculator.calculate_many(structures)
    for atoms, answer in zip(structures, answered, strict=True):
        assert atoms.calc is None and answer is not atoms
        one = load_calculator(model)
        assert answer.get_potential_energy() == pytest.approx(one.get_potential_energy(atoms), abs=1e-12)
        np.testing.assert_allclose(answer.get_forces(), one.get_forces(atoms), atol=1e-12)
        if atoms.cell.rank == 3:
            np.testing.assert_allclose(answer.get_stress(), one.get_stress(atoms), atol=1e-12)
    assert answered[3].get_potential_energy() == -3.0
    assert calculator.calculate_many([]) == []


def test_the_callers_atoms_stay_as_they_were(model):
    atoms = lattice(SKEWED, True)
    atoms.info["total_charge"] = 0.0
    before = atoms.copy()
    calculator = load_calculator(model)
    calculator.get_forces(atoms)
    calculator.calculate_many([atoms])
    assert atoms == before and atoms.info == before.info and atoms.calc is None
    assert set(atoms.arrays) == set(before.arrays)


def test_a_change_of_charge_is_a_new_calculation(model):
    atoms = lattice(SKEWED, True)
    calculator = load_calculator(model)
    calculator.get_potential_energy(atoms)
    assert not calculator.calculation_required(atoms, ["energy"])
    atoms.info["total_charge"] = 1.0
    assert calculator.calculation_required(atoms, ["energy"])


class SharedCharge(torch.nn.Module):
    """Every atom takes its share of the total charge (or of its group's) and feels the field: E_i = -q_i field . r_i."""

    def forward(self, graph: dict[str, torch.Tensor]) -> torch.Tensor:
        positions = graph[keys.POSITIONS]
        group, charge = graph[keys.BATCH], graph[keys.TOTAL_CHARGE]
        if keys.CHARGE_GROUP in graph:
            group, charge = graph[keys.CHARGE_GROUP], graph[keys.GROUP_CHARGE]
        members = torch.zeros_like(charge).index_add(0, group, torch.ones_like(positions[:, 0]))
        charges = (charge / members)[group]
        graph[keys.CHARGES] = charges
        energy = torch.zeros_like(charges)
        if keys.FIELD in graph:
            energy = -charges * (graph[keys.FIELD][graph[keys.BATCH]] * positions).sum(1)
        return energy


def test_total_charge_groups_and_field_reach_the_model_and_charges_come_back(tmp_path):
    potential = morse_potential()
    potential.terms.append(SharedCharge())
    potential.term_names.append("shared")
    atoms = lattice(SKEWED, False)
    export(potential, tmp_path / "model.pt", {}, [to_graph(atoms, 4.0)])
    plain = load_calculator(tmp_path / "model.pt")
    without = plain.get_forces(atoms)
    atoms.info["total_charge"] = 1.0
    assert plain.get_charges(atoms).tolist() == [0.5, 0.5]
    atoms.info["field"] = [0.0, 0.0, 0.2]
    np.testing.assert_allclose(plain.get_forces(atoms) - without, [[0, 0, 0.1], [0, 0, 0.1]], atol=1e-12)
    del atoms.info["field"]
    field = load_calculator(tmp_path / "model.pt", field=[0.0, 0.2, 0.0])
    np.testing.assert_allclose(field.get_forces(atoms) - without, [[0, 0.1, 0], [0, 0.1, 0]], atol=1e-12)
    grouped = atoms.copy()
    grouped.set_array("charge_group", np.array([1, 0]))
    grouped.info["group_charge"] = [-1.0, 2.0]
    assert [a.get_charges().tolist() for a in plain.calculate_many([atoms, grouped])] == [[0.5, 0.5], [2.0, -1.0]]


def test_structures_without_an_answer_are_named(model):
    calculator = load_calculator(model)
    with pytest.raises(ValueError, match="no parameters for Na, only for Li, Cl"):
        calculator.get_potential_energy(Atoms("LiNa", positions=[[0, 0, 0], [2, 0, 0]]))
    with pytest.raises(ValueError, match="atom 1 is at"):
        calculator.get_potential_energy(Atoms("Li2", positions=[[0, 0, 0], [np.nan, 0, 0]]))
    with pytest.raises(ValueError, match=r"atoms 0 \(Li\) and 2 \(Cl\) overlap: 0.100"):
        calculator.get_potential_energy(Atoms("Li2Cl", positions=[[0, 0, 0], [2, 0, 0], [0, 0, 0.1]]))
    with pytest.raises(ValueError, match="independent lattice vector"):
        calculator.get_potential_energy(Atoms("Li", pbc=True))
    with pytest.raises(ValueError, match="at least one atom"):
        calculator.get_potential_energy(Atoms())
    with pytest.raises(ValueError, match="model with charges"):
        load_calculator(model, field=[0, 0, 0.1]).get_potential_energy(Atoms("Li"))


def test_float64_on_request_and_float32_near_it(tmp_path):
    atoms = lattice(SKEWED, True)
    export(morse_potential(), tmp_path / "model.pt", {}, [to_graph(atoms, 4.0)], dtype=torch.float32)
    single, double = load_calculator(tmp_path / "model.pt"), load_calculator(tmp_path / "model.pt", dtype="float64")
    assert single.metadata["dtype"] == "float32" and double.metadata["dtype"] == "float64"
    np.testing.assert_allclose(single.get_forces(atoms), double.get_forces(atoms), atol=1e-5)


def test_any_ase_calculator_answers_for_many_structures_and_each_keeps_its_own_results():
    first = bulk("Cu", cubic=True)
    first.rattle(0.1, seed=0)
    second = bulk("Cu", a=3.7, cubic=True)
    second.rattle(0.1, seed=1)
    answered = calculate_many(EMT(), [first, second])
    for atoms, given in zip(answered, (first, second), strict=True):
        alone = given.copy()
        alone.calc = EMT()
        np.testing.assert_allclose(atoms.get_forces(), alone.get_forces(), atol=1e-12)
        np.testing.assert_allclose(atoms.calc.results["energies"], alone.calc.results["energies"], atol=1e-12)
        np.testing.assert_allclose(atoms.get_stress(), alone.get_stress(), atol=1e-12)
        assert given.calc is None
