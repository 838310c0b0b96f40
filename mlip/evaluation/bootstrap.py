"""Bootstrap intervals of errors: trajectories, or stretches of them, are resampled."""

from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass

import numpy as np
from ase import Atoms
from scipy.stats import t as t_law

from mlip.evaluation.increments import TWO_SIGMA

ENOUGH = 10  # trajectories that can be drawn whole; fewer are cut into stretches
STRETCHES = 20
DRAWS = 400

# a statistic of the blocks' weights: [n_draws, n_blocks] -> [n_draws]; weights of one give the value itself
Statistic = Callable[[np.ndarray], np.ndarray]


@dataclass(frozen=True)
class Blocks:
    """Blocks of frames that are resampled as a whole.

    of_frame  [n_frames] int   block of each frame
    stratum   [n_blocks] int   blocks are exchanged within a stratum, so that every draw has as much of each
    whole     whether a block is a whole trajectory
    """

    of_frame: np.ndarray
    stratum: np.ndarray
    whole: bool

    def __len__(self) -> int:
        return len(self.stratum)

    def freedom(self, used: np.ndarray) -> int:
        """Blocks less strata among those used: the number of independent differences between blocks."""
        used = np.unique(used)
        return len(used) - len(np.unique(self.stratum[used]))

    def __str__(self) -> str:
        kind = "trajectories" if self.whole else "stretches of consecutive frames"
        lost = "" if self.whole else "; what differs from one trajectory to the next is not in them"
        return f"intervals (2 sigma) from drawing {len(self)} {kind} again{lost}"


def trajectory(atoms: Atoms) -> Hashable:
    """Trajectory of a frame: its file, `trajectory` if the file names it, and config_type."""
    source = str(atoms.info.get("source", "")).rpartition(":")[0]
    return source, str(atoms.info.get("trajectory", "")), str(atoms.info.get("config_type", "default"))


def blocks(trajectories: Sequence[Hashable]) -> Blocks:
    """Blocks of frames given the trajectory of each, in the order of time.

    Ten trajectories or more are drawn whole. Fewer are cut into about 20 stretches of consecutive frames, drawn again
    within their trajectory; single frames form one stratum of their own.
    """
    names = {name: i for i, name in enumerate(dict.fromkeys(trajectories))}
    of_frame = np.array([names[name] for name in trajectories], dtype=int)
    if len(names) >= ENOUGH:
        return Blocks(of_frame, np.zeros(len(names), dtype=int), True)
    block, stratum = np.empty(len(of_frame), dtype=int), []
    for i in range(len(names)):
        frames = np.flatnonzero(of_frame == i)
        n_stretches = min(len(frames), max(2, round(STRETCHES * len(frames) / len(of_frame))))
        for stretch in np.array_split(frames, n_stretches):
            block[stretch] = len(stratum)
            stratum.append(i if n_stretches > 1 else -1)
    return Blocks(block, np.array(stratum), False)


def draws(blocks: Blocks) -> np.ndarray:
    """Number of times that each block was drawn, [n_draws, n_blocks]; the same draws for every statistic."""
    rng = np.random.default_rng(0)
    weights = np.zeros((DRAWS, len(blocks)))
    for stratum in np.unique(blocks.stratum):
        members = np.flatnonzero(blocks.stratum == stratum)
        weights[:, members] = rng.multinomial(len(members), np.full(len(members), 1 / len(members)), size=DRAWS)
    return weights


def interval(
    statistic: Statistic, blocks: Blocks, used: np.ndarray | None = None, positive: bool = True
) -> tuple[float, float | None, float | None]:
    """Value and 2 sigma interval; None for its ends with too few blocks.

    used      blocks that the statistic's rows are in; None: all
    positive  the interval is taken of the logarithm: an error has no negative end

    The bootstrap gives the standard error, Student's law with the freedom of the blocks the width: percentiles of a
    dozen blocks are too narrow. A draw without any row of the statistic does not count.
    """
    used = np.arange(len(blocks)) if used is None else np.unique(used)
    freedom = blocks.freedom(used)
    value = float(statistic(np.ones((1, len(blocks))))[0])
    if not np.isfinite(value) or freedom < 1 or (positive and value <= 0):
        return value, None, None
    with np.errstate(divide="ignore", invalid="ignore"):
        drawn = statistic(draws(blocks))
        drawn = np.log(drawn) if positive else drawn
    drawn = drawn[np.isfinite(drawn)]
    if len(drawn) < DRAWS / 2:
        return value, None, None
    # a multinomial draw of n blocks scatters by (n - 1) / n too little
    error = drawn.std(ddof=1) * np.sqrt(len(used) / freedom)
    reach = float(error * t_law.ppf(0.5 + TWO_SIGMA / 2, freedom))
    return (value, value * np.exp(-reach), value * np.exp(reach)) if positive else (value, value - reach, value + reach)
