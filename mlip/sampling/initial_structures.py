"""Structures for a first model without labels: starts rattled, strained, compressed."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from ase import Atoms

from mlip.errors import InputError
from mlip.sampling.candidate import Candidate
from mlip.sampling.context import Proposal, SamplingContext
from mlip.transitions.perturbations import compressed, displaced, rattled, strained, without_overlaps

WIDTHS = (0.03, 0.06, 0.1, 0.15)  # Å per axis: 100 to 1500 K in a typical solid


def initial_structures(starts: Sequence[Atoms], n: int, seed: int) -> list[Candidate]:
    """n structures around the starts in turn.

    Unchanged, then rattled by WIDTHS under strains of 1.5 % or 4 % of volume.
    """
    if n < 1:
        raise InputError(
            f"a first model needs n_initial >= 1 labels, or labelled structures in data.files, got n_initial={n}"
        )
    rng = np.random.default_rng([seed, 3])
    out: list[Candidate] = []
    tries = 0
    while len(out) < n:
        atoms, turn = starts[tries % len(starts)], tries // len(starts)
        made = displaced(atoms, np.zeros((len(atoms), 3)), "unchanged")
        if turn > 0:
            (made,) = rattled(made, 1, rng, WIDTHS[turn % len(WIDTHS)])
            (made,) = strained(made, 1, rng, 0.015) if turn % 2 else compressed(made, [1 + 0.04 * (-1) ** (turn // 2)])
        parent = f"start{tries % len(starts)}, {made.info['perturbation']}"
        out += [Candidate(each, "start", parent=parent) for each in without_overlaps([made])]
        tries += 1
        if tries > 20 * n + 20:
            raise InputError(
                f"atoms overlap in nearly every structure around the starts ({starts[0].symbols}): look at them"
            )
    return out[:n]


@dataclass(frozen=True)
class DistortedStarts:
    """Proposer of the structures of `initial_structures`, of kind start."""

    structures: int

    def propose(self, context: SamplingContext) -> Proposal:
        return Proposal(initial_structures(context.starts, self.structures, context.seed))
