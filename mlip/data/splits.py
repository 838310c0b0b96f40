"""Which frames train, which validate, which test: fixed before training, never overlapping."""

from collections.abc import Sequence

import numpy as np

from mlip.errors import InputError, UnknownNameError

TRAIN, VALIDATION, TEST = "train", "validation", "test"


def split(
    trajectory: np.ndarray,
    order: np.ndarray,
    config_types: np.ndarray,
    validation: float | Sequence[str] = 0.1,
    test: float | Sequence[str] = 0.1,
    method: str = "block",
    seed: int = 0,
) -> dict[str, np.ndarray]:
    """Numbers of the frames of each part, test first.

    trajectory, order  [n_frames] which trajectory a frame belongs to, and where it stands in it
    config_types       [n_frames] names
    validation, test   a fraction of all frames, a number of frames, or a list of config_types
    method             "block": the last frames of every trajectory test, those before them validate, because neighbours
                       in time are nearly the same structure; "random" only where frames are independent draws
    """
    if method not in ("block", "random"):
        raise InputError(f"split.method is 'block' or 'random', got {method!r}")
    total = len(trajectory)
    left = np.ones(total, dtype=bool)
    rng = np.random.default_rng(seed)
    parts = {}
    for name, part in ((TEST, test), (VALIDATION, validation)):
        if isinstance(part, int | float):
            wanted = _wanted(name, part, total)
            chosen = _blocks(left, trajectory, order, wanted) if method == "block" else _random(left, wanted, rng)
        else:
            chosen = _of_types(name, part, config_types) & left
        left &= ~chosen
        parts[name] = np.flatnonzero(chosen)
    if not left.any():
        raise InputError(
            f"no frame is left for training: of {total}, {len(parts[TEST])} test and "
            f"{len(parts[VALIDATION])} validate; lower split.test or split.validation"
        )
    return {TRAIN: np.flatnonzero(left), **parts}


def _wanted(name: str, part: float, total: int) -> int:
    if part < 0 or (isinstance(part, float) and part >= 1) or part > total:
        raise InputError(f"split.{name} is a fraction below 1, a number of frames up to {total}, or a list of "
                         f"config_types, got {part!r}")  # fmt: skip
    return part if isinstance(part, int) else round(part * total)


def _of_types(name: str, wanted: Sequence[str], config_types: np.ndarray) -> np.ndarray:
    wanted = [wanted] if isinstance(wanted, str) else list(wanted)
    known = sorted(set(config_types))
    if unknown := [w for w in wanted if w not in known]:
        raise UnknownNameError(f"split.{name}: no frame has config_type {unknown[0]!r}; there are: {', '.join(known)}")
    return np.isin(config_types, wanted)


def _blocks(left: np.ndarray, trajectory: np.ndarray, order: np.ndarray, wanted: int) -> np.ndarray:
    """The last frames of every trajectory, as many in proportion to its length as make `wanted` in all."""
    frames = np.flatnonzero(left)
    frames = frames[np.lexsort((frames, order[frames], trajectory[frames]))]
    _, starts, lengths = np.unique(trajectory[frames], return_index=True, return_counts=True)
    # rounding the running sum keeps the total exact and takes every tenth of many single-frame files
    part = min(1.0, wanted / max(1, len(frames)))
    share = np.diff(np.floor(np.cumsum(lengths) * part + 0.5), prepend=0).astype(int)
    chosen = np.zeros(len(left), dtype=bool)
    for start, length, count in zip(starts, lengths, share, strict=True):
        chosen[frames[start + length - count : start + length]] = True
    return chosen


def _random(left: np.ndarray, wanted: int, rng: np.random.Generator) -> np.ndarray:
    chosen = np.zeros(len(left), dtype=bool)
    chosen[rng.permutation(np.flatnonzero(left))[:wanted]] = True
    return chosen


def without_repeats(parts: dict[str, np.ndarray], geometry: np.ndarray) -> tuple[dict[str, np.ndarray], int]:
    """Parts whose structures do not come back in another: a training frame that equals a test frame is dropped.

    geometry  [n_frames, 16] hashes of the structures. Returns the parts and the number of frames dropped.
    """
    names = np.ascontiguousarray(geometry).view("V16").ravel()
    names = np.unique(names, return_inverse=True)[1].ravel()
    kept, seen, dropped = {}, np.empty(0, dtype=names.dtype), 0
    for part in (TEST, VALIDATION, TRAIN):
        fresh = ~np.isin(names[parts[part]], seen)
        kept[part] = parts[part][fresh]
        dropped += int((~fresh).sum())
        seen = np.union1d(seen, names[parts[part]])
    return kept, dropped
