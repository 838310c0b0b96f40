"""Trajectories with known hops: ions that vibrate at sites and cross between them, all scripted."""

import numpy as np


def scripted(n_frames, events, starts, n_ions, spacing, rng, vibration=0.25, crossing=6, correlation=3):
    """[n_frames, n_ions, 3] Å, unwrapped.

    events  (ion, frame of the middle, vector in sites);  starts [n_ions, 3] sites;  crossing frames of a hop
    vibration  Å per axis, rms, as correlated noise
    """
    path = np.broadcast_to(np.asarray(starts, float) * spacing, (n_frames, n_ions, 3)).copy()
    time = np.arange(n_frames)
    for ion, frame, vector in events:
        ramp = np.clip((time - frame) / crossing + 0.5, 0, 1)
        path[:, ion] += ramp[:, None] * np.asarray(vector) * spacing
    noise = rng.normal(size=(n_frames + correlation, n_ions, 3)).cumsum(axis=0)
    noise = (noise[correlation:] - noise[:-correlation]) / np.sqrt(correlation)
    return path + vibration * noise


def lattice(n):
    """All sites of an n[0] x n[1] x n[2] lattice, in units of its spacing."""
    return np.stack(np.meshgrid(*[np.arange(m) for m in n], indexing="ij"), -1).reshape(-1, 3).astype(float)


def random_events(rng, n_frames, n_ions, stay, axes=3):
    """Hops of random ions in random directions, each ion staying `stay` frames at least; and their number."""
    events = []
    for ion in range(n_ions):
        frame = stay + int(rng.integers(stay))
        while frame < n_frames - 2 * stay:
            vector = np.zeros(3)
            vector[rng.integers(axes)] = rng.choice([-1, 1])
            events.append((ion, frame, vector))
            frame += 2 * stay + int(rng.integers(2 * stay))
    return events
