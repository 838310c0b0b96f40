"""Labels under one name: whatever a file calls its energy, forces and stress, they come out as keys.REF_*."""

from collections.abc import Mapping

import numpy as np
from ase import Atoms
from ase.data import atomic_numbers as number_of
from ase.stress import voigt_6_to_full_3x3_stress

from mlip import keys
from mlip.data.total_charge import set_total_charge, total_charge
from mlip.errors import InputError, UnknownNameError

PER_STRUCTURE = {keys.REF_ENERGY: (), keys.REF_STRESS: (3, 3)}
PER_ATOM = {keys.REF_FORCES: (3,), keys.REF_CHARGES: (), keys.REF_DIPOLES: (3,), keys.REF_BORN_CHARGES: (3, 3)}

# names in order of trust: an explicit REF_ label, then what ASE put into a calculator, then plain info and arrays.
# free_energy comes before energy because the forces of a smeared calculation are its derivative.
NAMES = {
    keys.REF_ENERGY: ("free_energy", "energy"),
    keys.REF_FORCES: ("forces", "force"),
    keys.REF_STRESS: ("stress",),
    keys.REF_CHARGES: ("charges",),
    keys.REF_DIPOLES: ("dipoles",),
    keys.REF_BORN_CHARGES: ("born_effective_charges", "bec", "born_charges"),
}
SHORT = {name.removeprefix("ref_"): name for name in NAMES}  # what a user writes under `keys:`


def stress_matrix(stress: np.ndarray, where: str) -> np.ndarray:
    """Stress [3, 3] eV/Å^3 from ASE's Voigt order (xx, yy, zz, yz, xz, xy), nine numbers or a matrix; sign unchanged."""
    stress = np.asarray(stress, dtype=float)
    if stress.size == 6:
        return voigt_6_to_full_3x3_stress(stress.ravel())
    if stress.size == 9:
        return stress.reshape(3, 3)
    raise InputError(f"stress of {where} has shape {stress.shape}; it must have 6 (ASE's Voigt order) or 9 numbers")


def canonical(atoms: Atoms, where: str, chosen: Mapping[str, str | None] | None = None) -> Atoms:
    """A copy of the structure whose labels stand under keys.REF_* and nowhere else; a missing label is left out.

    chosen  which of the file's names to take, e.g. {"energy": "r2scan_energy", "forces": None}: None drops a label
    result  info: ref_energy eV, ref_stress [3, 3] eV/Å^3 (ASE sign), total_charge e; arrays: ref_forces [n, 3] eV/Å,
            ref_charges [n] e, ref_dipoles [n, 3] e Å, ref_born_charges [n, 3, 3] e. Virials become stress = -W / V.
    Raises ValueError for a label of the wrong shape, KeyError for a chosen name that the frame lacks.
    """
    found = {**atoms.info.pop("data", {}), **atoms.info.pop("key_value_pairs", {})} if "unique_id" in atoms.info else {}
    found.update(atoms.info)
    found.update({name: array for name, array in atoms.arrays.items() if name not in ("numbers", "positions")})
    results = dict(atoms.calc.results) if atoms.calc is not None else {}
    # ASE reads the extrapolated energy from GPAW's text and leaves the free energy beside it
    if "free energy" in (parts := getattr(atoms.calc, "energy_contributions", {})):
        results.setdefault("free_energy", parts["free energy"])
    labels = {}
    for key, names in NAMES.items():
        short = key.removeprefix("ref_")
        if chosen is not None and short in chosen:
            labels[key] = _chosen(chosen[short], found, results, short, where)
        else:
            labels[key] = _first(key, names, found, results)
    if labels[keys.REF_STRESS] is None and (chosen is None or "stress" not in chosen):
        virial = _first("ref_virial", ("virial", "virials"), found, results)
        if virial is not None:
            labels[keys.REF_STRESS] = -stress_matrix(virial, where) / atoms.get_volume()
    return _with_labels(atoms, labels, found, where)


def energy_names(atoms: Atoms) -> dict[str, float]:
    """Energies of ASE's results under their names, eV: free_energy, energy; empty if the file names one REF_energy."""
    if any(name.lower() == keys.REF_ENERGY for name in atoms.info):
        return {}
    results = {**atoms.info, **(atoms.calc.results if atoms.calc is not None else {})}
    return {name: float(results[name]) for name in NAMES[keys.REF_ENERGY] if np.isscalar(results.get(name))}


def _chosen(name, found, results, short, where):
    if name is None:
        return None
    for place in (found, results):
        if name in place:
            return place[name]
    raise UnknownNameError(
        f"no {name!r} for {short} in {where}; found: {', '.join(sorted([*found, *results])) or 'nothing'}"
    )


def _first(key, names, found, results):
    for name in found:
        if name.lower() == key:
            return found[name]
    for name in names:
        if name in results:
            return results[name]
    return next((found[name] for name in names if name in found), None)


def _with_labels(atoms, labels, found, where) -> Atoms:
    clean = Atoms(atoms.numbers, atoms.positions, cell=atoms.cell, pbc=atoms.pbc)
    known = {*(name for names in NAMES.values() for name in names), "virial", "virials", *(f"ref_{s}" for s in SHORT)}
    clean.info = {name: value for name, value in atoms.info.items() if name.lower() not in known | {"ref_virial"}}
    for name, array in atoms.arrays.items():
        if name.lower() not in known | {"numbers", "positions"}:
            clean.set_array(name, array)
    for key, value in labels.items():
        if value is None or is_missing(value, key, where):
            continue
        if key == keys.REF_STRESS:
            clean.info[key] = stress_matrix(value, where)
        elif key in PER_STRUCTURE:
            clean.info[key] = float(value)
        else:
            clean.set_array(key, per_atom(key, value, len(atoms), where))
    try:
        set_total_charge(clean.info, total_charge(found) or 0.0)
    except InputError as error:
        raise InputError(f"{where}: {error}") from error
    return clean


def is_missing(value, key: str, where: str) -> bool:
    """Whether a label is NaN as a whole, which is how files with one column for all frames leave it out."""
    try:
        numbers = np.asarray(value, dtype=float)
    except (TypeError, ValueError) as error:
        raise InputError(f"{key.removeprefix('ref_')} of {where} must be numbers, got {value!r}") from error
    return numbers.size > 0 and bool(np.isnan(numbers).all())


def per_atom(key: str, value: np.ndarray, n_atoms: int, where: str) -> np.ndarray:
    """A per-atom label in its shape of keys.py; nine numbers per atom become a matrix."""
    value = np.asarray(value, dtype=float)
    shape = (n_atoms, *PER_ATOM[key])
    if value.size != np.prod(shape):
        raise InputError(f"{key} of {where} has shape {value.shape}; {n_atoms} atoms need {shape}")
    return value.reshape(shape)


def shifted(atoms: Atoms, shift: float | Mapping[str, float]) -> None:
    """Adds a file's own energy shift in place: eV per atom, or eV per atom of each element, {"Li": 0.2, ...}."""
    if keys.REF_ENERGY not in atoms.info:
        return
    if isinstance(shift, Mapping):
        table = {number_of[symbol]: value for symbol, value in shift.items()}
        missing = sorted({atom.symbol for atom in atoms if atom.number not in table})
        if missing:
            raise UnknownNameError(f"energy_shift has no value for {', '.join(missing)}; it names {', '.join(shift)}")
        atoms.info[keys.REF_ENERGY] += sum(table[number] for number in atoms.numbers)
    else:
        atoms.info[keys.REF_ENERGY] += float(shift) * len(atoms)
