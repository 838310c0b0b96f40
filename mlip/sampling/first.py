"""Structures for a first model, where there are no labels yet: the starts displaced, strained, compressed."""

from collections.abc import Sequence

import numpy as np
from ase import Atoms

from mlip.sampling.candidate import Candidate
from mlip.transitions.offpath import compressed, displaced, far_enough, rattled, strained

WIDTHS = (0.03, 0.06, 0.1, 0.15)  # Å per axis: 100 to 1500 K in a typical solid


def first_structures(starts: Sequence[Atoms], n: int, seed: int) -> list[Candidate]:
    """n structures around the starts in turn: as they are, then rattled by WIDTHS under strains of 1.5 % and 4 % of volume."""
    if n < 1:
        raise ValueError(f"a first model needs first >= 1 labels, or labelled structures in data.files, got first={n}")
    rng = np.random.default_rng([seed, 3])
    out: list[Candidate] = []
    tries = 0
    while len(out) < n:
        atoms, turn = starts[tries % len(starts)], tries // len(starts)
        made = displaced(atoms, np.zeros((len(atoms), 3)), "as given")
        if turn > 0:
            (made,) = rattled(made, 1, rng, WIDTHS[turn % len(WIDTHS)])
            (made,) = strained(made, 1, rng, 0.015) if turn % 2 else compressed(made, [1 + 0.04 * (-1) ** (turn // 2)])
        out += [Candidate(each, "start", parent=f"start{tries % len(starts)}, {made.info['offpath']}") for each in far_enough([made])]
        tries += 1
        if tries > 20 * n + 20:
            raise ValueError(f"atoms overlap in nearly every structure around the starts ({starts[0].symbols}): look at them")
    return out[:n]
