"""Unwrapping, drift, breathing cells, formats, and what is refused."""

import ase.io
import numpy as np
import pytest
from ase import Atoms
from walkers import crystal, hoppers

from mlip.evaluation.diffusion import analyse
from mlip.evaluation.displacements import assemble, from_frames, read_trajectory, unwrap, widths
from mlip.evaluation.increments import estimate


def frames(n=6, step=0.4, seed=0):
    """Two Li walking through the faces of a skewed cell, four S at rest, wrapped."""
    rng = np.random.default_rng(seed)
    cell = np.array([[6.0, 0, 0], [1.0, 7.0, 0], [0.5, 0.8, 8.0]])
    ions = np.array([[0.2, 0.2, 0.2], [3.0, 3.5, 7.8]]) + (step * rng.normal(size=(n, 2, 3)).clip(-2, 2)).cumsum(axis=0)
    framework = np.array([[0, 0, 0], [0.5, 0.5, 0], [0, 0.5, 0.5], [0.5, 0, 0.5]]) @ cell
    out = [Atoms("Li2S4", np.concatenate([x, framework]), cell=cell, pbc=True) for x in ions]
    for atoms in out:
        atoms.wrap()
    return out, ions


def test_wrapped_positions_become_the_walk_they_came_from():
    wrapped, ions = frames(40)
    trajectory = from_frames(wrapped, "Li", frame_interval_fs=100)
    assert np.allclose(trajectory.ions - trajectory.ions[0], ions - ions[0])
    assert trajectory.interval_ps == pytest.approx(0.1)


def test_a_drifting_frame_moves_nobody():
    rng = np.random.default_rng(1)
    ions = hoppers(rng, 1, 301, 6, 0.05)[0]
    still = crystal(ions)
    drift = np.cumsum(np.full((301, 1, 3), 0.15), axis=0)
    drifting = crystal(ions + drift, framework_motion=drift)
    assert np.allclose(np.diff(drifting.ions, axis=0), np.diff(still.ions, axis=0))
    assert np.allclose(drifting.drift[-1], 300 * 0.15)


def test_the_drift_is_that_of_the_host_and_not_of_all_atoms():
    # one ion of nine atoms walks straight: the centre of mass of all would take a ninth of its way
    ions = np.zeros((50, 1, 3))
    ions[:, 0, 0] = 0.3 * np.arange(50)
    assert crystal(ions).ions[-1, 0, 0] == pytest.approx(0.3 * 49)


def test_a_breathing_cell_moves_nobody():
    rng = np.random.default_rng(2)
    ions = hoppers(rng, 1, 401, 12, 0.05)[0]
    breath = 1 + 0.02 * np.sin(np.arange(401) / 7) + 0.005 * rng.normal(size=401)
    cells = np.diag([12.0, 13.0, 14.0]) * (breath / breath.mean())[:, None, None]
    breathing, still = crystal(ions, cell=cells), crystal(ions)
    scale = breathing.mean_cell[0, 0] / cells[0, 0, 0]  # ions were given in the first cell
    assert np.allclose(breathing.ions - breathing.ions[0], scale * (still.ions - still.ions[0]))
    assert estimate(breathing.ions, 1.0).value == pytest.approx(scale**2 * estimate(still.ions, 1.0).value)


def test_frames_too_far_apart_are_refused():
    far = np.random.default_rng(3).random((60, 5, 3))
    with pytest.raises(ValueError, match=r"half the width of the cell.*Save frames more often"):
        unwrap(far, np.broadcast_to(np.eye(3) * 8, (60, 3, 3)))


def test_the_width_of_a_skewed_cell_is_between_its_faces():
    cell = np.array([[4.0, 0, 0], [3.0, 3.0, 0], [0, 0, 5.0]])
    assert widths(cell) == pytest.approx([4 / np.sqrt(2), 3.0, 5.0])


@pytest.mark.parametrize("name", ["run.extxyz", "run.traj", "XDATCAR", "run.lammpstrj"])
def test_every_format_gives_the_same_walk(tmp_path, name):
    wrapped, ions = frames(12)
    path, elements = tmp_path / name, None
    if name == "XDATCAR":
        ase.io.write(path, wrapped, format="vasp-xdatcar")
    elif name.endswith("lammpstrj"):
        path.write_text("".join(lammps(atoms, step) for step, atoms in enumerate(wrapped)))
        elements = ["Li", "S"]
    else:
        ase.io.write(path, wrapped)
    trajectory = read_trajectory(path, "Li", frame_interval_fs=50, elements=elements)
    assert np.allclose(trajectory.ions - trajectory.ions[0], ions - ions[0], atol=2e-5)


def lammps(atoms, step):
    """A dump as LAMMPS writes it: types, not names; scrambled; bounds of a tilted box."""
    (xx, _, _), (xy, yy, _), (xz, yz, zz) = atoms.cell.array
    x, y = (0, xy, xz, xy + xz), (0, yz)
    rows = [f"{i + 1} {1 if s == 'Li' else 2} {p[0]:.8f} {p[1]:.8f} {p[2]:.8f}"
            for i, (s, p) in enumerate(zip(atoms.symbols, atoms.positions, strict=True))]  # fmt: skip
    head = [
        "ITEM: TIMESTEP", f"{step * 50}", "ITEM: NUMBER OF ATOMS", f"{len(atoms)}",
        "ITEM: BOX BOUNDS xy xz yz pp pp pp", f"{min(x)} {xx + max(x)} {xy}", f"{min(y)} {yy + max(y)} {xz}", f"0.0 {zz} {yz}",
        "ITEM: ATOMS id type x y z",
    ]  # fmt: skip
    return "\n".join([*head, *rows[::-1]]) + "\n"


def test_our_own_frames_carry_their_time():
    wrapped, _ = frames(5)
    for i, atoms in enumerate(wrapped):
        atoms.info["time_fs"] = 20.0 * i
    assert from_frames(wrapped, "Li").interval_ps == pytest.approx(0.02)
    with pytest.raises(ValueError, match="leave it out"):
        from_frames(wrapped, "Li", frame_interval_fs=10)
    wrapped[3].info["time_fs"] = 40.0  # a frame written twice at a restart
    with pytest.raises(ValueError, match="frames 2 and 3 are 0 fs apart"):
        from_frames(wrapped, "Li")


def spoil_composition(atoms):
    atoms[3].number = 17


def spoil_positions(atoms):
    atoms.positions[1, 2] = np.nan


def spoil_cell(atoms):
    atoms.set_cell(np.zeros((3, 3)))


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (spoil_composition, "frame 2 holds .* must not change"),
        (spoil_positions, r"frame 2 .*not finite \(atoms \[1\]\)"),
        (spoil_cell, "frame 2 has no full cell"),
        (None, "give frame_interval_fs"),
    ],
)
def test_bad_frames_are_named(spoil, message):
    wrapped, _ = frames(4)
    if spoil:
        spoil(wrapped[2])
    with pytest.raises(ValueError, match=message):
        from_frames(wrapped, "Li", frame_interval_fs=100 if spoil else None)


def test_one_frame_or_the_wrong_ion_is_no_trajectory():
    wrapped, _ = frames(4)
    with pytest.raises(ValueError, match="many frames, got 1"):
        from_frames(wrapped[:1], "Li", frame_interval_fs=100)
    with pytest.raises(ValueError, match="no Na in the trajectory; it has Li, S"):
        from_frames(wrapped, "Na", frame_interval_fs=100)
    with pytest.raises(ValueError, match="frame_interval_fs must be positive"):
        from_frames(wrapped, "Li", frame_interval_fs=0)
    with pytest.raises(ValueError, match="every atom is Li"):
        assemble(np.zeros((3, 2, 3)), np.broadcast_to(np.eye(3), (3, 3, 3)), np.array([3, 3]), 1.0, "Li")


def test_a_molten_host_fails_the_numbers_that_come_from_it():
    rng = np.random.default_rng(5)
    ions = hoppers(rng, 1, 401, 10, 0.05, hop=2.0)[0]
    melt = (0.2 * rng.normal(size=(401, 8, 3))).cumsum(axis=0)
    rows = {
        r.name: r
        for r in analyse(crystal(ions, framework_motion=melt), charge=1, temperature_K=900, hop_length_A=2.0).results
    }
    assert rows["framework_shift"].verdict == "fail"
    assert rows["tracer_diffusivity"].verdict == "fail"
    solid = crystal(ions, framework_motion=0.2 * rng.normal(size=(401, 8, 3)))
    rows = {r.name: r for r in analyse(solid, charge=1, temperature_K=900, hop_length_A=2.0).results}
    assert rows["framework_shift"].verdict == "pass"
