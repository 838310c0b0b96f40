"""Walkers whose diffusion coefficient is known exactly, many runs at once."""

import numpy as np

from mlip.evaluation.displacements import assemble


def hoppers(rng, runs, n_frames, n_ions, rate, hop=1.0, back=0.0, vibration=0.1):
    """[runs, n_frames, n_ions, 3] Å on a cubic lattice; a hop per frame with probability `rate`.

    `back` of the hops undo the one before, so that <cos> = -back + ... = -back between successive hops, and with
    f = (1 - back) / (1 + back) the exact D is rate hop^2 f / 6 per frame.
    """
    shape = (n_frames, runs, n_ions)
    hops = rng.random(shape) < rate
    hops[0] = False
    steps = np.zeros((*shape, 3))
    sign = rng.choice([-hop, hop], shape)
    np.put_along_axis(steps, rng.integers(0, 3, shape)[..., None], sign[..., None], axis=-1)
    steps *= hops[..., None]
    if back:
        undo, last = rng.random(shape) < back, np.zeros((runs, n_ions, 3))
        for t in range(1, n_frames):
            turned = undo[t] & hops[t] & last.any(axis=-1)
            steps[t][turned] = -last[turned]
            last[hops[t]] = steps[t][hops[t]]
    positions = steps.cumsum(axis=0) + vibration * rng.normal(size=steps.shape)
    return positions.transpose(1, 0, 2, 3)


def exact(rate, hop=1.0, back=0.0):
    """D in Å^2 per frame."""
    return rate * hop**2 / 6 * (1 - back) / (1 + back)


def crystal(ions, cell=None, framework_motion=None, mobile_number=3, framework_number=8, interval_ps=1.0, wrap=True):
    """A Trajectory of the given ions [n_frames, n_ions, 3] Å in a vibrating framework of eight atoms.

    framework_motion  [n_frames, 8, 3] Å added to the framework; drift is for the caller to add to both
    """
    cell = np.diag([12.0, 13.0, 14.0]) if cell is None else cell
    cells = np.broadcast_to(cell, (len(ions), 3, 3)) if cell.ndim == 2 else cell
    sites = np.array([[i, j, k] for i in (0, 0.5) for j in (0, 0.5) for k in (0, 0.5)]) @ cells[0]
    framework = np.broadcast_to(sites, (len(ions), 8, 3)) + (0 if framework_motion is None else framework_motion)
    fractional = np.concatenate([ions, framework], axis=1) @ np.linalg.inv(cells[0])
    numbers = np.array([mobile_number] * ions.shape[1] + [framework_number] * 8)
    return assemble(fractional % 1.0 if wrap else fractional, cells, numbers, interval_ps, "Li")
