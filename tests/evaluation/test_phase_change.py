"""Phase changes between temperatures: none in noise, none in what vibrations do, each kind of real one."""

import numpy as np
from ase.build import bulk
from ase.calculators.emt import EMT
from ase.io.trajectory import Trajectory as AseTrajectory
from scipy.signal import lfilter

from mlip.evaluation.displacements import assemble, from_frames
from mlip.evaluation.phase_change import framework_rdfs, length_errors, phase_changes, rdf_changes
from mlip.evaluation.transport import changes_between
from mlip.md.ensemble import Bussi
from mlip.md.run import run

T = np.array([600.0, 700.0, 800.0, 900.0, 1000.0])
TETRAGONAL = np.array([1.012, 1.012, 0.976])  # LLZO against its cubic phase


def test_a_jump_of_the_cell_or_a_soft_host_is_a_phase_change():
    length = 13 * (1 + 2e-5 * (T - 600))
    cells = np.eye(3) * length[:, None, None]
    assert phase_changes(T, cells) == []
    tetragonal = cells.copy()
    tetragonal[:2] *= np.array([1.013, 1.013, 0.974])  # below 750 K; the volume stays
    (change,) = phase_changes(T, tetragonal)
    assert change[:2] == (700, 800)
    rmsd = np.sqrt(T) * 0.01
    assert phase_changes(T, framework_rmsds=rmsd) == []
    rmsd[4] *= 3
    assert phase_changes(T, framework_rmsds=rmsd)[0][:2] == (900, 1000)
    assert phase_changes(T, framework_rmsds=[0.0] * len(T)) == []  # a framework held fixed


def breathing(rng, edges, time_ps, correlation_ps=0.2, amplitude=0.01, interval_ps=0.02):
    """Cells [n_frames, 3, 3] whose edges fluctuate as those of 192 atoms of LLZO in NPT: 1 %, forgotten after 0.2 ps and more."""
    kept = np.exp(-interval_ps / correlation_ps)
    drawn = np.sqrt(1 - kept**2) * rng.normal(size=(round(time_ps / interval_ps), 3))
    noise = lfilter([1], [1, -kept], drawn, axis=0)
    return np.eye(3) * (edges * (1 + amplitude * noise))[:, :, None]


def changes_of(seed, strain=(1, 1, 1), time_ps=10.0, with_errors=True):
    """Changes between five temperatures; the two lowest strained."""
    rng = np.random.default_rng(seed)
    edges = [13 * (1 + 2e-5 * (t - 600)) * (np.asarray(strain) if t < 750 else np.ones(3)) for t in T]
    cells = [breathing(rng, each, time_ps) for each in edges]
    errors = np.array([length_errors(each) for each in cells]) if with_errors else None
    return [change[:2] for change in phase_changes(T, np.array([each.mean(axis=0) for each in cells]), errors=errors)]


def test_a_cell_that_breathes_is_no_phase_change_and_a_tetragonal_one_is():
    seeds = range(25)
    assert sum(bool(changes_of(seed, time_ps=2, with_errors=False)) for seed in seeds) > 12  # the alarm that was false
    assert [changes_of(seed) for seed in seeds] == [[]] * 25
    assert [changes_of(seed, TETRAGONAL) for seed in seeds].count([(700, 800)]) >= 19
    assert sum(bool(changes_of(seed, time_ps=2)) for seed in seeds) <= 1


def test_the_error_of_an_edge_is_the_scatter_of_its_mean():
    means, errors = zip(*((np.log(cells[:, 0, 0]).mean(), length_errors(cells)[1])
                          for cells in (breathing(np.random.default_rng(seed), np.ones(3), 10) for seed in range(60))), strict=True)  # fmt: skip
    assert 1 < np.mean(errors) / np.std(means) < 2  # from few blocks, so rather too large
    assert (length_errors(np.tile(np.eye(3), (50, 1, 1))) == 0).all() and np.isnan(
        length_errors(breathing(np.random.default_rng(0), np.ones(3), 0.06))
    ).all()
    assert phase_changes(T, np.eye(3) * np.array([1, 1, 1, 2, 2])[:, None, None], errors=np.full((5, 4), np.nan)) == []


def vibrating(temperature_K, strain=0.0, structure="rocksalt", u=0.15):
    """A crystal with u^2 in proportion to T, Li mobile in a framework of Cl."""
    atoms = bulk("LiCl", structure, a=5.14 * (1 if structure == "rocksalt" else 0.6), cubic=True).repeat(
        3 if structure == "rocksalt" else 5
    )
    atoms.set_cell(atoms.cell.array * np.array([1 + strain, 1 + strain, 1 - 2 * strain])[:, None], scale_atoms=True)
    rng = np.random.default_rng(round(temperature_K))
    moved = np.sqrt(temperature_K / 600) * u * rng.normal(size=(60, len(atoms), 3))
    fractional = atoms.get_scaled_positions() + moved @ np.linalg.inv(atoms.cell.array)
    cells = np.tile(atoms.cell.array, (60, 1, 1))
    return framework_rdfs(assemble(fractional, cells, atoms.numbers, 0.02, "Li", ["Cl"]))


def test_vibrations_change_no_gr_by_themselves_and_another_packing_does():
    assert rdf_changes(T, [vibrating(t) for t in T]) == []
    assert rdf_changes(T[[0, 4]], [vibrating(600), vibrating(1000)]) == []
    ((pair, text),) = rdf_changes(T, [vibrating(t, structure="rocksalt" if t < 850 else "cesiumchloride") for t in T])
    assert pair == 2 and "g(r) of Cl-Cl changes by" in text


def test_a_melt_is_another_phase_than_the_crystals_below_it(tmp_path):
    atoms = bulk("Cu", cubic=True).repeat(2)
    atoms.symbols[::16] = "Au"
    atoms.set_cell(1.03 * atoms.cell.array, scale_atoms=True)  # hot, at zero pressure
    run(atoms, EMT(), tmp_path / "melt", Bussi(3800), 300, 4.0, frame_every=300, progress=False)
    with AseTrajectory(str(tmp_path / "melt" / "trajectory.traj")) as frames:
        melt = frames[-1]
    melt.set_momenta(np.zeros((len(melt), 3)))
    runs = []
    for t, start in ((800.0, atoms), (1000.0, atoms), (1200.0, atoms), (1400.0, melt)):
        run(start, EMT(), tmp_path / f"{t:g}", Bussi(t), 300, 4.0, frame_every=5, progress=False)
        with AseTrajectory(str(tmp_path / f"{t:g}" / "trajectory.traj")) as frames:
            runs.append((t, from_frames([frames[i] for i in range(15, len(frames))], "Au")))
    ((low, high, why),) = changes_between(runs, {})
    assert (low, high) == (1200, 1400) and "g(r) of Cu-Cu" in why and "u^2/T" in why
