"""Ions with shells: polarisability, rest, derivatives, and the rigid ion as their limit."""

import io

import numpy as np
import pytest
import torch
from ase import Atoms

from mlip import keys
from mlip.data.graph import collate, to_graph
from mlip.models.classical import core_shell, shell_relaxation
from mlip.models.classical.buckingham import Buckingham
from mlip.models.classical.core_shell import CoreShell
from mlip.models.classical.core_shell_energy import core_shell_energies
from mlip.models.classical.featureless import Featureless
from mlip.models.classical.point_charges import PointCharges
from mlip.models.potential import Potential
from mlip.units import COULOMB

CUTOFF, WIDTH = 6.0, 0.75
STATISTICS = {
    "elements": [3, 8, 17], "levels": ["default"], "atomic_energies": [[0.0, 0.0, 0.0]], "mean_neighbours": 12.0, "force_rms": 1.0,
}  # fmt: skip


def potential(**settings):
    def term(statistics):
        return CoreShell(statistics, CUTOFF, WIDTH, tolerance=1e-9, **settings)

    return (
        Potential(lambda statistics: Featureless(statistics, CUTOFF), {"core_shell": term}, STATISTICS).double().eval()
    )


def rigid():
    terms = {
        "buckingham": lambda statistics: Buckingham(statistics, CUTOFF),
        "electrostatics": lambda statistics: PointCharges(statistics, CUTOFF, WIDTH, tolerance=1e-9),
    }
    return Potential(lambda statistics: Featureless(statistics, CUTOFF), terms, STATISTICS).double().eval()


def salt(pbc=True, seed=0) -> Atoms:
    """Two Li2O and a LiCl, off symmetry, no two ions closer than 1.7 Å."""
    rng = np.random.default_rng(seed)
    grid = np.stack(np.meshgrid(*[[0.0, 0.5]] * 3), -1).reshape(-1, 3)
    cell = 4.5 * np.eye(3) + 0.3 * rng.normal(size=(3, 3))
    return Atoms([3, 8, 3, 17, 3, 8, 3, 3], (grid + 0.03 * rng.normal(size=grid.shape)) @ cell, cell=cell, pbc=pbc)


def graph(atoms):
    return collate([to_graph(atoms, CUTOFF, ["default"])])


def ions_of(model, atoms, monkeypatch):
    """The CoreShellSystem that the term hands to the relaxation."""
    caught = []
    monkeypatch.setattr(
        core_shell,
        "relax_shells",
        lambda ions, tolerance: caught.append(ions) or shell_relaxation.relax_shells(ions, tolerance),
    )
    model(graph(atoms))
    return caught[0]


BOUNDARIES = {"bulk": True, "slab": [True, True, False], "isolated": False}


def test_a_free_ion_has_the_polarisability_of_its_spring():
    """d mu / dE = Y^2 / k, by finite differences: 0.1099 e^2 Å^2 / eV = 1.58 Å^3 for Y = -2.86902 e, k = 74.92 eV/Å^2."""
    model, moments = potential(shells={"O": [-2.86902, 74.92]}), []
    for strength in (1e-3, -1e-3):
        inputs = graph(Atoms("O", [[0.3, 0.1, 0.0]]))
        inputs[keys.FIELD] = torch.tensor([[0.0, strength, 0.0]], dtype=torch.float64)
        results = model(inputs)
        moments.append(results["dipoles"][0])
        # the whole ion feels its charge
        assert results["forces"][0, 1].item() == pytest.approx(-2 * strength, abs=1e-9)
    slope = (moments[0] - moments[1]) / 2e-3
    assert slope[1].item() == pytest.approx(2.86902**2 / 74.92, rel=1e-6)
    assert slope[1].item() * COULOMB == pytest.approx(1.582, abs=1e-3)
    assert slope[[0, 2]].abs().max() < 1e-12


@pytest.mark.parametrize("boundary", BOUNDARIES)
def test_relaxed_shells_feel_no_force_and_have_left_their_cores(boundary, monkeypatch):
    ions = ions_of(potential(), salt(BOUNDARIES[boundary]), monkeypatch)
    u = shell_relaxation.relax_shells(ions)
    assert u.norm(dim=1).max() > 0.01
    assert shell_relaxation.energy_and_slope(ions, u)[1].abs().max() < 1e-9
    moved = u + 1e-3 * torch.randn(u.shape, dtype=u.dtype, generator=torch.Generator().manual_seed(0))
    assert core_shell_energies(ions, moved).sum() > core_shell_energies(ions, u).sum()


@pytest.mark.parametrize("boundary", BOUNDARIES)
def test_curvature_is_the_second_derivative_of_the_energy(boundary, monkeypatch):
    """The matrix written by hand against autograd's."""
    ions = ions_of(potential(), salt(BOUNDARIES[boundary]), monkeypatch)
    u = 0.1 * torch.randn(3, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    exact = torch.autograd.functional.hessian(lambda x: core_shell_energies(ions, x).sum(), u).reshape(9, 9)
    assert (shell_relaxation.curvature(ions, u) - exact).abs().max() < 1e-8


@pytest.mark.parametrize("boundary", ["bulk", "isolated"])
def test_stiff_springs_leave_rigid_ions(boundary):
    """k to infinity: energy and forces become those of Buckingham and formal point charges, the difference as 1 / k."""
    atoms, distance = graph(salt(BOUNDARIES[boundary])), []
    exact = rigid()(atoms)
    for k in (1e6, 1e7):
        results = potential(shells={"O": [-2.8, k], "Cl": [-2.0, k]})(atoms)
        distance.append((results["energy"] - exact["energy"]).abs().item())
    assert distance[1] < 1e-4 and distance[1] == pytest.approx(distance[0] / 10, rel=0.01)
    assert (results["forces"] - exact["forces"]).abs().max() < 1e-4


def test_forces_and_stress_are_derivatives_of_the_relaxed_energy():
    """Central differences, in which the shells relax anew each time."""
    model, atoms, step = potential(), salt(), 1e-4
    results = model(graph(atoms))

    def slope(change):
        energies = []
        for sign in (1, -1):
            moved = atoms.copy()
            change(moved, sign * step)
            energies.append(model(graph(moved))["energy"].item())
        return (energies[0] - energies[1]) / (2 * step)

    def shift(moved, by):
        moved.positions[1, 2] += by  # an O

    def shear(moved, by):
        strain = np.eye(3)
        strain[0, 1] = strain[1, 0] = by / 2
        moved.set_cell(atoms.cell.array @ strain, scale_atoms=True)

    assert -results["forces"][1, 2].item() == pytest.approx(slope(shift), rel=1e-6)
    assert results["stress"][0, 0, 1].item() * atoms.get_volume() == pytest.approx(slope(shear), rel=1e-6)


def test_training_on_forces_and_stress_has_the_right_gradient_by_spring_and_shell_charge():
    """Central differences over k and Y, in which the shells relax anew: with shells held the gradient is far off."""
    model, inputs = potential(), graph(salt())
    weight = model.terms[1].shells.weight
    target = torch.randn(8, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(0))

    def loss():
        results = model(inputs)
        return (results["forces"] * target).sum() + 10 * results["stress"].square().sum()

    def slope(row, column, step=1e-5):
        values = []
        for sign in (1, -1):
            with torch.no_grad():
                weight[row, column] += sign * step
                model.eval()
            values.append(loss().item())
            with torch.no_grad():
                weight[row, column] -= sign * step
        return (values[0] - values[1]) / (2 * step)

    gradient = torch.autograd.grad(loss(), weight)[0] if model.train() else None
    for row in (1, 2):
        for column in (0, 1):
            assert gradient[row, column].item() == pytest.approx(slope(row, column), rel=1e-5, abs=1e-7)
    assert gradient[1:].abs().min() > 1e-3 and not gradient[0].any()


def test_scripted_is_eager():
    model, buffer = potential(), io.BytesIO()
    torch.jit.save(torch.jit.script(model), buffer)
    buffer.seek(0)
    loaded = torch.jit.load(buffer)
    for boundary in BOUNDARIES.values():
        inputs = graph(salt(boundary))
        eager, scripted = model(inputs), loaded(inputs)
        for key in eager:
            assert (eager[key] - scripted[key]).abs().max() < 1e-10, key


def test_wrong_shells_are_refused():
    with pytest.raises(ValueError, match="no anions"):
        potential(shells={"Li": [1.0, 10.0]})
    with pytest.raises(ValueError, match="spring k > 0"):
        potential(shells={"O": [-2.0, 0.0]})
    with pytest.raises(ValueError, match="stiffening positive"):
        potential(stiffening=0.0)
