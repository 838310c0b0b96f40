"""Ions on a cubic lattice that hinder each other: many runs at once, their D known from runs that are far longer.

Kinetic Monte Carlo with rejection, on L^3 sites and at most one ion to a site. In an attempt one ion of each run
tries one of six neighbours; the hop happens with probability min(1, exp(-(E_to - E_from) / kT)).
"""

import numpy as np

NEIGHBOURS = np.array([[1, 0, 0], [-1, 0, 0], [0, 1, 0], [0, -1, 0], [0, 0, 1], [0, 0, -1]])


class LatticeGas:
    """Runs of one family, all on the same site energies.

    size         L, sites along an edge;  n_ions  in each run
    disorder_kT  standard deviation of the site energies, kT
    string       ions that move as one: a blocked hop pushes the ions in its way one site on, if at most so many are
                 in line. 1: they block
    """

    def __init__(self, rng, runs, size, n_ions, disorder_kT=0.0, string=1):
        self.rng, self.size, self.string = rng, size, string
        self.energies = disorder_kT * np.random.default_rng(5).normal(size=size**3)
        self.sites = np.array([rng.permutation(size**3)[:n_ions] for _ in range(runs)])
        self.owner = np.full((runs, size**3), -1)
        np.put_along_axis(self.owner, self.sites, np.arange(n_ions)[None], axis=1)
        self.steps = np.zeros((runs, n_ions, 3), int)
        grid = np.stack(np.unravel_index(np.arange(size**3), (size,) * 3), axis=1)
        shifted = (grid[:, None] + NEIGHBOURS) % size
        self.neighbour = np.ravel_multi_index(tuple(np.moveaxis(shifted, -1, 0)), (size,) * 3)  # [sites, 6]

    def attempt(self):
        runs, n_ions = self.sites.shape
        every = np.arange(runs)
        ion, way, chance = self.rng.integers(n_ions, size=runs), self.rng.integers(6, size=runs), self.rng.random(runs)
        chain = [self.sites[every, ion]]  # the sites of those that move, then the empty one
        free = np.zeros(runs, bool)
        length = np.zeros(runs, int)
        for _ in range(self.string):
            chain.append(self.neighbour[chain[-1], way])
            now = (self.owner[every, chain[-1]] < 0) & ~free
            length[now] = len(chain) - 1
            free |= now
        chain = np.array(chain)
        rise = self.energies[chain[length, every]] - self.energies[chain[0]]  # those between change places
        moved = free & (chance < np.exp(-np.maximum(rise, 0.0)))
        for place in range(self.string - 1, -1, -1):  # the foremost first
            some = np.flatnonzero(moved & (length > place))
            who = self.owner[some, chain[place, some]]
            self.owner[some, chain[place, some]] = -1
            self.owner[some, chain[place + 1, some]] = who
            self.sites[some, who] = chain[place + 1, some]
            self.steps[some, who] += NEIGHBOURS[way[some]]

    def run(self, n_frames, attempts, vibration=0.0):
        """[runs, n_frames, n_ions, 3] Å (1 Å between sites), so many attempts in each run between frames."""
        frames = np.empty((self.steps.shape[0], n_frames, *self.steps.shape[1:]), np.float32)
        for frame in range(n_frames):
            if frame:
                for _ in range(attempts):
                    self.attempt()
            frames[:, frame] = self.steps
        return frames + vibration * self.rng.normal(size=frames.shape).astype(np.float32)


def long_run_diffusivity(gas, time, attempts):
    """D in Å^2 per frame from displacements over `time` frames after the runs, and its standard error over runs."""
    start = gas.steps.copy()
    for _ in range(time * attempts):
        gas.attempt()
    each = ((gas.steps - start) ** 2).sum(-1).mean(-1) / (6 * time)
    return each.mean(), each.std(ddof=1) / np.sqrt(len(each))
