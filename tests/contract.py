"""What every potential owes, as functions of a potential in float64. tests/test_contract.py walks them over configs/model.

The structures are small, off symmetry and hold every element; nothing here knows a network or a term.
"""

import copy
import io

import numpy as np
import torch
from ase import Atoms
from scipy.spatial.transform import Rotation

from mlip.data.graph import collate, to_graph
from mlip.models.wall import Wall
from mlip.training.walls import raise_wall

ELEMENTS = [3, 8, 17]  # Li O Cl
STATISTICS = {
    "elements": ELEMENTS,
    "levels": ["pbe", "r2scan"],
    "atomic_energies": [[-1.9, -432.1, -400.3], [-2.0, -433.0, -401.0]],
    "mean_neighbours": 12.0,
    "force_rms": 0.7,
    "shortest_distances": [[1.5, 1.3, 1.6], [1.3, 1.6, 1.7], [1.6, 1.7, 1.8]],
    "largest_crowding": [20.0, 20.0, 20.0],
}


def crystal(n_atoms=8, length=5.2, seed=0, pbc=True) -> Atoms:
    """A triclinic cell of atoms at least 1.6 Å apart."""
    rng = np.random.default_rng(seed)
    cell = length * np.eye(3) + 0.4 * rng.normal(size=(3, 3))
    grid = np.stack(np.meshgrid(*[[0.0, 0.5]] * 3), -1).reshape(-1, 3)[:n_atoms]
    positions = (grid + 0.05 * rng.normal(size=grid.shape)) @ cell
    return Atoms(numbers=np.resize(ELEMENTS, n_atoms), positions=positions, cell=cell, pbc=pbc)


def molecule(seed=1) -> Atoms:
    """Five atoms in vacuum."""
    return Atoms(crystal(5, seed=seed).numbers, crystal(5, 4.4, seed=seed).positions, pbc=False)


def evaluate(potential, atoms) -> dict:
    """Results of one structure, or of a list as one batch."""
    graphs = [to_graph(a, potential.cutoff, potential.levels) for a in (atoms if isinstance(atoms, list) else [atoms])]
    return potential(collate(graphs))


def close(a, b, tolerance, what):
    """Fail with the largest difference."""
    difference = float((a - b).abs().max())
    assert difference < tolerance, f"{what}: differ by {difference:.2e}, allowed {tolerance:.0e}"


def energy_turns_with_the_crystal(potential):
    atoms = crystal()
    before = evaluate(potential, atoms)
    rotation = Rotation.from_rotvec([0.3, -1.1, 0.7]).as_matrix()
    for matrix in (rotation, -rotation):  # proper, and with a reflection
        turned = Atoms(atoms.numbers, atoms.positions @ matrix.T, cell=atoms.cell.array @ matrix.T, pbc=True)
        after, m = evaluate(potential, turned), torch.from_numpy(matrix)
        close(after["energies"], before["energies"], 1e-9, "energy under rotation")
        close(after["forces"], before["forces"] @ m.T, 1e-9, "forces under rotation")
        close(after["stress"][0], m @ before["stress"][0] @ m.T, 1e-9, "stress under rotation")
        if "dipoles" in before:
            close(after["dipoles"], before["dipoles"] @ m.T, 1e-8, "dipoles under rotation")


def translation_permutation_and_images_change_nothing(potential):
    atoms = crystal()
    before = evaluate(potential, atoms)
    order = np.random.default_rng(0).permutation(len(atoms))
    moved = atoms[order]
    moved.positions += [0.3, -7.0, 1.9]
    moved.positions[3] += np.array([2, -1, 3]) @ atoms.cell.array  # any image of an atom is the atom
    after = evaluate(potential, moved)
    close(after["energies"], before["energies"][order], 1e-9, "energy")
    close(after["forces"], before["forces"][order], 1e-9, "forces")
    close(after["stress"], before["stress"], 1e-9, "stress")


def a_doubled_cell_has_twice_the_energy(potential):
    atoms = crystal()
    one, two = evaluate(potential, atoms), evaluate(potential, atoms.repeat((2, 1, 1)))
    close(two["energy"], 2 * one["energy"], 1e-8, "energy")
    close(two["forces"], one["forces"].repeat(2, 1), 1e-8, "forces")
    close(two["stress"], one["stress"], 1e-9, "stress")


def forces_and_stress_are_derivatives(potential):
    for atoms in (
        crystal(),
        crystal(pbc=[True, True, False]),
        molecule(),
        crystal(length=3.4),
    ):  # the last beyond the data
        results, step = evaluate(potential, atoms), 2e-4
        for atom, axis in ((0, 0), (1, 2), (4, 1)):
            shifted = []
            for sign in (1, -1):
                moved = atoms.copy()
                moved.positions[atom, axis] += sign * step
                shifted.append(float(evaluate(potential, moved)["energy"]))
            force = -(shifted[0] - shifted[1]) / (2 * step)
            close(results["forces"][atom, axis], torch.tensor(force), 2e-5 * max(1.0, abs(force) / 10), "force")
        assert float(results["forces"].sum(0).abs().max()) < 1e-8, "forces of a free system must sum to zero"
        if not atoms.pbc.all():
            continue
        step = 5e-5  # beyond the data energies bend quickly
        for a, b in ((0, 0), (1, 2), (2, 2)):
            shifted = []
            for sign in (1, -1):
                strain = np.zeros((3, 3))
                strain[a, b] += sign * step / 2
                strain[b, a] += sign * step / 2
                strained = atoms.copy()
                strained.set_cell(atoms.cell.array @ (np.eye(3) + strain), scale_atoms=True)
                shifted.append(float(evaluate(potential, strained)["energy"]))
            stress = (shifted[0] - shifted[1]) / (2 * step) / atoms.get_volume()  # ASE sign: tension is positive
            close(results["stress"][0, a, b], torch.tensor(stress), 2e-6 * max(1.0, abs(stress)), "stress")


def gradients_of_a_force_loss_are_right(potential):
    """d(loss of forces and stress)/d(parameters) along one direction against central differences."""
    graph = collate([to_graph(a, potential.cutoff, potential.levels) for a in (crystal(), crystal(6, 4.8, seed=3))])
    target = torch.randn(14, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    parameters = [p for p in potential.parameters() if p.requires_grad]

    def loss():
        results = potential(graph)
        return (results["forces"] * target).sum() + (results["stress"] * results["stress"]).sum() * 30

    potential.train()
    try:
        gradients = torch.autograd.grad(loss(), parameters, allow_unused=True)
        generator = torch.Generator().manual_seed(1)
        direction = [torch.randn(p.shape, dtype=p.dtype, generator=generator) for p in parameters]
        expected = sum(float((g * d).sum()) for g, d in zip(gradients, direction, strict=True) if g is not None)
        values, step = [], 1e-5
        for sign in (1, -1):
            with torch.no_grad():
                for p, d in zip(parameters, direction, strict=True):
                    p.add_(d, alpha=sign * step)
            values.append(float(loss().detach()))
            with torch.no_grad():
                for p, d in zip(parameters, direction, strict=True):
                    p.sub_(d, alpha=sign * step)
    finally:
        potential.eval()
    numeric = (values[0] - values[1]) / (2 * step)
    assert abs(numeric - expected) < 1e-5 * max(1.0, abs(numeric)), (numeric, expected)


def energy_is_smooth_through_the_cutoff(potential):
    """An atom crosses the cutoff of another in steps of 1e-4 Å: force and its slope do not jump."""
    positions = np.array([[0.0, 0, 0], [1.9, 0.2, 0.1], [0.4, 2.0, -0.3]])
    forces = []
    for x in potential.cutoff + np.linspace(-1e-3, 1e-3, 21):
        atoms = Atoms([3, 8, 3, 17], np.vstack([positions, [x, 0, 0]]), pbc=False)
        forces.append(evaluate(potential, atoms)["forces"])
    forces = torch.stack(forces)
    second_difference = forces[2:] - 2 * forces[1:-1] + forces[:-2]
    assert float(second_difference.abs().max()) < 1e-6, float(second_difference.abs().max())


def far_fragments_add(potential):
    """Beyond the reach of a short-range potential two molecules do not know of each other."""
    one, two = molecule(1), molecule(2)
    two.positions += [60.0, 0, 0]
    together, apart = evaluate(potential, one + two), [evaluate(potential, one), evaluate(potential, two)]
    close(together["energy"], apart[0]["energy"] + apart[1]["energy"], 1e-9, "energy")
    close(together["forces"], torch.cat([apart[0]["forces"], apart[1]["forces"]]), 1e-9, "forces")


def a_lone_atom_has_its_reference_energy(potential):
    for level, table in zip(potential.levels, STATISTICS["atomic_energies"], strict=True):
        for number, energy in zip(ELEMENTS, table, strict=True):
            atoms = Atoms([number], [[0.3, 0, 0]], info={"level": level})
            results = evaluate(potential, atoms)
            close(results["energy"], torch.tensor([energy], dtype=torch.float64), 1e-8, "energy of a lone atom")
            assert not results["stress"].any() and not results["forces"].any()


def a_batch_is_its_systems_one_by_one(potential):
    systems = [crystal(), crystal(4, 6.0, seed=5), molecule()]
    systems[1].info["level"] = "r2scan"
    together, apart = evaluate(potential, systems), [evaluate(potential, s) for s in systems]
    for key in ("energy", "energies", "forces", "stress"):
        close(together[key], torch.cat([r[key] for r in apart]), 1e-9, key)


def scripted_is_eager(potential):
    buffer = io.BytesIO()
    torch.jit.save(torch.jit.script(potential), buffer)
    buffer.seek(0)
    loaded = torch.jit.load(buffer)
    for atoms in (crystal(), molecule()):
        graph = to_graph(atoms, potential.cutoff, potential.levels)
        eager = potential(graph)
        for _ in range(3):  # the profiling executor compiles on the second call
            scripted = loaded(graph)
        for key in eager:
            close(scripted[key], eager[key], 1e-10, key)


def float32_is_near_float64(potential):
    graph = to_graph(crystal(), potential.cutoff, potential.levels)
    exact = potential(graph)
    try:
        rounded = potential.float()(graph)
    finally:
        potential.double()
    assert rounded["energy"].dtype == torch.float64
    close(rounded["energies"], exact["energies"], 2e-4, "energy")
    close(rounded["forces"], exact["forces"], 1e-3, "forces")


def the_callers_graph_is_untouched(potential):
    graph = to_graph(crystal(), potential.cutoff, potential.levels)
    before = {key: value.clone() for key, value in graph.items()}
    potential(graph)
    assert graph.keys() == before.keys()
    for key, value in before.items():
        assert torch.equal(graph[key].nan_to_num(), value.nan_to_num()) and not graph[key].requires_grad, key


def a_small_skewed_cell_is_a_large_one(potential):
    """Cells smaller than the cutoff, skewed and partly periodic equal their 3-fold repetition: every image counts."""
    skewed = Atoms([3, 17], [[0, 0, 0], [1.6, 1.1, 1.2]], cell=[[3.1, 0, 0], [2.4, 3.0, 0], [-1.9, 2.2, 3.3]], pbc=True)
    for atoms, repeat in ((skewed, (3, 3, 3)), (crystal(2, 3.4, pbc=[True, True, False]), (4, 4, 1))):
        small, large = evaluate(potential, atoms), evaluate(potential, atoms.repeat(repeat))
        copies = int(np.prod(repeat))
        close(large["energy"] / copies, small["energy"], 1e-8, "energy per cell")
        close(large["forces"], small["forces"].repeat(copies, 1), 1e-8, "forces")


def inside_the_data_limits_change_nothing(potential):
    """The same weights without limits and wall give the same numbers, to the last bit."""
    limited, free = evaluate(potential, crystal()), copy.deepcopy(potential)
    free.limits.shortest.zero_(), free.limits.most.fill_(torch.inf)
    for wall in walls(free):
        wall.reach.zero_(), wall.most.fill_(torch.inf)
    for key, value in evaluate(free, crystal()).items():
        assert torch.equal(value, limited[key]), key
    tight = crystal(length=3.4)
    assert abs(float((evaluate(free, tight)["energy"] - evaluate(potential, tight)["energy"]).detach())) > 1, (
        "the limits do nothing"
    )


def walls(potential):
    return [term for term in potential.terms if isinstance(term, Wall)]


def what_is_pushed_together_meets_a_wall(potential):
    """Pairs, triplets, pairs in a crystal and squeezed cells."""
    falls = raise_wall(copy.deepcopy(potential).requires_grad_(False), [crystal()], doublings=40, n_steps=6)
    largest = max(falls, key=lambda fall: fall.fall_eV)
    assert largest.fall_eV <= 0.1, largest


SHORT_RANGE_ONLY = [far_fragments_add, a_lone_atom_has_its_reference_energy]
OWED = [
    energy_turns_with_the_crystal,
    translation_permutation_and_images_change_nothing,
    a_doubled_cell_has_twice_the_energy,
    forces_and_stress_are_derivatives,
    gradients_of_a_force_loss_are_right,
    energy_is_smooth_through_the_cutoff,
    a_batch_is_its_systems_one_by_one,
    scripted_is_eager,
    float32_is_near_float64,
    the_callers_graph_is_untouched,
    a_small_skewed_cell_is_a_large_one,
    inside_the_data_limits_change_nothing,
    what_is_pushed_together_meets_a_wall,
    *SHORT_RANGE_ONLY,
]
