"""A drawn ion makes its hop, and nothing else is pushed."""

import numpy as np
import pytest
from ase.calculators.fd import calculate_numerical_forces
from cosine import BARRIER, SITE, Cosine, crystal

from mlip.md.ensemble import Langevin, NoseHoover
from mlip.transitions.biased import Restraint, pull
from mlip.transitions.quench import quench


def test_a_restraint_is_a_potential_that_pushes_no_crystal_and_sees_no_drift():
    atoms = crystal((2, 2, 2))
    restraint = Restraint(Cosine(atoms), atoms, 0, [SITE, 0.5, 0])
    atoms.rattle(0.1, seed=0)
    atoms.calc = restraint
    restraint.centre = 1.0
    np.testing.assert_allclose(atoms.get_forces(), calculate_numerical_forces(atoms, eps=1e-5), atol=1e-6)
    np.testing.assert_allclose(atoms.get_forces().sum(axis=0), 0, atol=1e-12)
    before, there = atoms.get_potential_energy(), restraint.coordinate(atoms.positions)
    atoms.positions += [3.3, -1.0, 20.0]
    assert atoms.get_potential_energy() == pytest.approx(before, abs=1e-9)
    assert restraint.coordinate(atoms.positions) == pytest.approx(there)


def test_moving_the_centre_asks_the_model_nothing_new():
    atoms = crystal((2, 2, 2))
    model = Cosine(atoms)
    restraint = Restraint(model, atoms, 0, [SITE, 0, 0])
    atoms.calc = restraint
    atoms.get_forces()
    for restraint.centre in (0.5, 1.0):
        assert atoms.get_forces()[0, 0] == pytest.approx(5 * restraint.centre)
    assert model.calls == 1


def test_a_cold_ion_is_drawn_over_its_barrier_and_stays_there():
    atoms = crystal((2, 2, 2))
    model = Cosine(atoms)
    frames, work = pull(atoms, model, 0, [SITE, 0, 0], Langevin(100, 100.0), steps=800, timestep_fs=5)
    progress = [frame.info["progress"] for frame in frames]
    assert progress[0] < -0.8 and progress[-1] > 0.8 and np.min(np.abs(progress)) < 0.15
    top = max(frame.get_potential_energy() for frame in frames)
    assert top > BARRIER, "heat comes on top"
    last = frames[-1].copy()
    (rest,) = quench([last], model, fmax=0.01)
    host = (rest.positions - atoms.positions)[1:].mean(axis=0)
    np.testing.assert_allclose(rest.positions[0] - atoms.positions[0] - host, [SITE, 0, 0], atol=0.02)
    assert -0.1 < work < 0.3, "there and down again costs only friction"


def test_frames_hold_the_models_forces_without_the_bias():
    atoms = crystal((2, 2, 2))
    model = Cosine(atoms)
    frames, _ = pull(atoms, model, 0, [SITE, 0, 0], NoseHoover(200), steps=60, timestep_fs=5)
    for frame in frames:
        plain = frame.copy()
        plain.calc = Cosine(atoms)
        np.testing.assert_allclose(frame.get_forces(), plain.get_forces(), atol=1e-10)
        assert frame.get_potential_energy() == pytest.approx(plain.get_potential_energy())


def test_a_pull_into_a_structure_without_an_answer_keeps_its_frames():
    class Limited(Cosine):
        def calculate(self, atoms=None, *more):
            if atoms.positions[0, 0] > 0.6:
                raise ValueError("atoms 0 and 1 overlap")
            super().calculate(atoms, *more)

    atoms = crystal((2, 2, 2))
    with pytest.warns(UserWarning, match=r"ended at step \d+ of 400, xi 0\.\d+ Å: atoms 0 and 1 overlap"):
        frames, _ = pull(
            atoms, Limited(atoms), 0, [SITE, 0, 0], Langevin(100), steps=400, timestep_fs=5, frame_every=10
        )
    assert 1 < len(frames) < 40 and all(frame.positions[0, 0] <= 0.6 for frame in frames)


def test_a_hop_that_leads_nowhere_is_refused():
    atoms = crystal((2, 2, 2))
    with pytest.raises(ValueError, match="not all zero"):
        Restraint(Cosine(atoms), atoms, 0, [0, 0, 0])
    with pytest.raises(ValueError, match="stiffness"):
        Restraint(Cosine(atoms), atoms, 0, [1, 0, 0], stiffness=-1)
    with pytest.raises(ValueError, match="no atom 50"):
        Restraint(Cosine(atoms), atoms, 50, [1, 0, 0])
    with pytest.raises(ValueError, match="every atom is Li"):
        Restraint(Cosine(atoms), atoms[:1], 0, [1, 0, 0])
