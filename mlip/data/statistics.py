"""What the model must know of the training set before it starts: elements, reference energies, scales."""

from collections.abc import Mapping, Sequence

import numpy as np
from ase.data import atomic_numbers as number_of
from ase.data import chemical_symbols

from mlip.errors import InputError, UnknownNameError

TYPICAL_ATOM = 10.0  # eV, spread of reference energies around their mean that the data may ask for


def fit_atomic_energies(
    compositions: np.ndarray,
    energies: np.ndarray,
    fixed: Mapping[int, float] | None = None,
    charges: np.ndarray | None = None,
) -> np.ndarray:
    """Reference energies e_Z that explain total energies, E ~ sum_Z n_Z e_Z + Q mu, for any set of compositions.

    compositions [n_frames, n_elements] counts; energies [n_frames] eV; fixed {column: eV} known beforehand
    charges      [n_frames] e, total charges Q of the frames: electrons come from a reservoir at mu, and the zero of the
                 potential in a charged cell is a convention of the labels
    returns      [n_elements] eV; with charges [n_elements + 1], mu V the last, zero if all are neutral

    Per atom, E / n = sum_Z x_Z e_Z with fractions x_Z that sum to one. The fit is e_Z = m + d_Z: the deviations d are
    ridge regression (prior: zero, with 10 eV standard deviation against the noise of the best fit), so directions the
    compositions do not determine stay at the mean instead of growing; m makes the mean residual per atom exactly zero.
    Q / n is one more such deviation. With one stoichiometry all elements share the mean energy per atom. Exactly
    additive energies are recovered exactly.
    """
    compositions = np.asarray(compositions, dtype=np.float64)
    fixed = dict(fixed or {})
    energies = np.asarray(energies, dtype=np.float64)
    counts = compositions.sum(axis=1)
    if len(counts) == 0 or not np.isfinite(energies).all():
        raise InputError(f"atomic energies need finite total energies, got {len(energies)} of which "
                         f"{np.isfinite(energies).sum()} are finite; give data.atomic_energies as a table")  # fmt: skip
    free = [column for column in range(compositions.shape[1]) if column not in fixed]
    known = np.zeros(compositions.shape[1])
    known[list(fixed)] = list(fixed.values())
    result = known.copy() if charges is None else np.append(known, 0.0)
    fractions = compositions[:, free] / counts[:, None]  # [n_frames, n_free]
    target = (energies - compositions @ known) / counts
    share = fractions.sum(axis=1)  # of the atoms whose element is free: one where nothing is fixed
    if not free or not share.any():
        result[free] = 0.0
        return result

    mean = share @ target / (share @ share)
    rest = target - mean * share
    if charges is not None:
        fractions = np.column_stack([fractions, np.asarray(charges, dtype=np.float64) / counts])
    gram, right = fractions.T @ fractions, fractions.T @ rest
    values, vectors = np.linalg.eigh(gram)
    kept = values > 1e-10 * values[-1]
    exact = vectors[:, kept] @ (vectors[:, kept].T @ right / values[kept])
    noise = np.mean((rest - fractions @ exact) ** 2)
    noise = noise if noise > 1e-16 * max(1.0, np.mean(target**2)) else 0.0
    shrunk = values[kept] + noise / TYPICAL_ATOM**2
    deviation = vectors[:, kept] @ (vectors[:, kept].T @ right / shrunk)
    mean += (rest - fractions @ deviation).sum() / share.sum()
    result[free] = mean + deviation[: len(free)]
    if charges is not None:
        result[-1] = deviation[-1]
    return result


def atomic_energy_table(table: Mapping, levels: Sequence[str]) -> dict[str, dict[int, float]]:
    """A user's table as {level: {atomic number: eV}}; written as {Li: -0.19, ...} for all levels, or per level."""

    def numbers(part: Mapping) -> dict[int, float]:
        for symbol in part:
            if symbol not in number_of:
                raise UnknownNameError(
                    f"atomic_energies: {symbol!r} is no element; write {{Li: -0.19, ...}} in eV, "
                    f"or one such table under each of the levels {list(levels)}"
                )
        return {number_of[symbol]: float(energy) for symbol, energy in part.items()}

    if any(isinstance(value, Mapping) for value in table.values()):
        if unknown := [level for level in table if level not in levels]:
            raise UnknownNameError(f"atomic_energies: no level {unknown[0]!r} in the data; levels: {list(levels)}")
        return {level: numbers(table.get(level, {})) for level in levels}
    return {level: numbers(table) for level in levels}


def statistics(
    elements: Sequence[int],
    levels: Sequence[str],
    compositions: np.ndarray,
    energies: np.ndarray,
    level: np.ndarray,
    isolated: np.ndarray,
    mean_neighbours: float,
    force_rms: float,
    extremes: tuple[Mapping[tuple[int, int], float], Mapping[int, float], Mapping[int, float]] = ({}, {}, {}),
    atomic_energies: Mapping | str = "auto",
    previous: dict | None = None,
) -> dict:
    """The dictionary stored with every model.

    elements, levels, atomic_energies eV, mean_neighbours, force_rms eV/Å; shortest_distances Å [n_elements, n_elements],
    largest_crowding and least_crowding [n_elements] (`limits`).

    compositions     [n_frames, n_elements] counts of the training frames; energies [n_frames] eV, NaN where missing
    level            [n_frames] index into levels
    isolated         [n_frames] bool, single atoms without neighbours: under "auto" their energies are taken as they are
    extremes         shortest distance of pairs, largest and least crowding of elements in the training set (`GraphDataset`)
    atomic_energies  "auto", "least_squares", or a table (`atomic_energy_table`); what a table lacks is fitted
    previous         statistics of the model being fine-tuned: its elements, levels, energies and scales stay,
                     new elements and levels are added
    """
    table = atomic_energy_table(atomic_energies, levels) if isinstance(atomic_energies, Mapping) else {}
    if not table and atomic_energies not in ("auto", "least_squares"):
        raise InputError(f"atomic_energies is 'auto', 'least_squares' or a table, got {atomic_energies!r}")
    elements, levels = list(map(int, elements)), list(levels)
    every = sorted({*elements, *(previous["elements"] if previous else ())})
    names = [*(previous["levels"] if previous else ()), *(x for x in levels if not previous or x not in
                                                           previous["levels"])]  # fmt: skip
    rows = []
    for name in names:
        known = _known(name, every, previous)
        if name in levels:
            chosen = (level == levels.index(name)) & np.isfinite(energies)
            fixed = {elements.index(z): e for z, e in {**known, **table.get(name, {})}.items() if z in elements}
            if atomic_energies == "auto":
                for column in np.unique(compositions[chosen & isolated].argmax(axis=1)) if isolated.any() else ():
                    alone = chosen & isolated & (compositions[:, column] > 0)
                    fixed.setdefault(int(column), float(energies[alone].mean()))
            if len(fixed) < len(elements) and not chosen.any():
                lacking = ", ".join(chemical_symbols[z] for i, z in enumerate(elements) if i not in fixed)
                raise InputError(
                    f"no energies at level {name!r} to fit atomic energies of {lacking}; "
                    "give data.atomic_energies as a table, e.g. {Li: -0.19}"
                )
            fitted = (fit_atomic_energies(compositions[chosen], energies[chosen], fixed) if len(fixed) < len(elements)
                      else np.array([fixed[i] for i in range(len(elements))]))  # fmt: skip
            known |= dict(zip(elements, map(float, fitted), strict=True))
        average = float(np.mean(list(known.values()))) if known else 0.0
        rows.append([known.get(z, average) for z in every])  # an element this level never shows: nothing depends on it
    return {
        "elements": every,
        "levels": names,
        "atomic_energies": rows,
        "mean_neighbours": float(previous["mean_neighbours"] if previous else mean_neighbours),
        "force_rms": float(previous["force_rms"] if previous else force_rms),
        **limits(every, *extremes, previous),
    }


def limits(
    elements: Sequence[int],
    shortest: Mapping[tuple[int, int], float],
    most: Mapping[int, float],
    least: Mapping[int, float],
    previous: dict | None,
) -> dict[str, list]:
    """Where the data end: shortest_distances [n, n] Å, None for a pair never seen within the cutoff; largest_crowding, least_crowding [n].

    What an earlier training set held (`previous`) stays inside; if it does not tell its least crowding, that is zero.
    """
    shortest, most, least = dict(shortest), dict(most), dict(least)
    if previous is not None and "shortest_distances" in previous:
        lonely = previous.get("least_crowding") or [0.0] * len(previous["elements"])
        for i, a in enumerate(previous["elements"]):
            most[a] = max(most.get(a, 0.0), previous["largest_crowding"][i])
            least[a] = min(least.get(a, lonely[i]), lonely[i])
            for b, distance in zip(previous["elements"], previous["shortest_distances"][i], strict=True):
                if distance is not None:
                    pair = (min(a, b), max(a, b))
                    shortest[pair] = min(shortest.get(pair, distance), distance)
    return {
        "shortest_distances": [[shortest.get((min(a, b), max(a, b))) for b in elements] for a in elements],
        "largest_crowding": [most.get(z, 0.0) for z in elements],
        "least_crowding": [least.get(z, 0.0) for z in elements],
    }


def _known(level: str, elements: Sequence[int], previous: dict | None) -> dict[int, float]:
    if previous is None or level not in previous["levels"]:
        return {}
    row = previous["atomic_energies"][previous["levels"].index(level)]
    return dict(zip(previous["elements"], row, strict=True))
