"""What the doctor finds in one file, and from which value on it speaks."""

from dataclasses import dataclass

import numpy as np
from ase.data import chemical_symbols

from mlip import units
from mlip.data.consistency import (
    BOTH_ATOMIC,
    ENERGY_FACTORS,
    ENOUGH_ENERGY,
    ENOUGH_STRESS,
    STRESS_FACTORS,
    nearest_unit,
    pair_rulers,
    work_ruler,
)
from mlip.data.convergence import is_silent, unconverged
from mlip.data.statistics import fit_atomic_energies
from mlip.data.summary import Summary

ERROR, WARN, UNKNOWN, OK = "error", "warn", "not checked", "ok"
NET_FORCE = 0.1  # eV/Å, sum over the atoms of a frame
SHORT = 0.5  # distance over the sum of covalent radii
LONG = 1.5  # the same: 0.6 to 1.2 in solids and molecules, twice that if positions are in bohr
NOBLE = (2, 10, 18, 36, 54, 86)
OVERLAP = 0.5  # Å
USUAL_FORCE = 0.02, 10.0  # eV/Å, root mean square of frames away from rest
HUGE_FORCE = 300.0  # eV/Å


@dataclass(frozen=True)
class Finding:
    """One line of the doctor's report; severity is "error", "warn", "not checked" (the frames do not tell) or "ok"."""

    severity: str
    check: str
    file: str
    message: str
    remedy: str = ""


def examine(summary: Summary) -> list[Finding]:
    """All findings on one file; a check that finds nothing says so in an "ok" line."""
    return [*_labels(summary), *_geometry(summary), *_forces(summary), *_energies(summary), *_units(summary),
            *_convergence(summary)]  # fmt: skip


def _some(mask: np.ndarray) -> str:
    numbers = np.flatnonzero(mask)
    return ", ".join(map(str, numbers[:4])) + (", ..." if len(numbers) > 4 else "")


def _labels(summary: Summary) -> list[Finding]:
    path, total, findings = summary.source.path, len(summary), []
    broken = summary.array("broken").astype(bool)
    if broken.any():
        findings.append(Finding(ERROR, "labels", path, f"{broken.sum()} of {total} frames have NaN or infinite labels "
                                f"(frames {_some(broken)})", "remove these frames, or leave the label out"))  # fmt: skip
    has = {name: summary.array(f"has_{name}").astype(bool) for name in ("energy", "forces", "stress")}
    if not (has["energy"].any() or has["forces"].any()):
        return [
            *findings,
            Finding(
                ERROR,
                "labels",
                path,
                "no energy and no forces in any frame",
                "name them REF_energy, REF_forces, or tell the names with keys={energy: ...}",
            ),
        ]
    for name, present in has.items():
        if not present.any():
            lost = {"energy": "energies are not trained", "forces": "forces are not trained",
                    "stress": "pressure, elastic constants and NPT are not trained"}[name]  # fmt: skip
            findings.append(Finding(WARN, "labels", path, f"no {name} in any frame: {lost}"))
        elif not present.all():
            findings.append(Finding(WARN, "labels", path, f"{(~present).sum()} of {total} frames lack {name} "
                                    f"(frames {_some(~present)})", "their other labels are used"))  # fmt: skip
    skew = summary.array("skew") > 1e-4 + 1e-3 * np.nan_to_num(summary.array("stress"))
    if skew.any():
        findings.append(Finding(WARN, "labels", path, f"stress is not symmetric in {skew.sum()} frames (frames "
                                f"{_some(skew)})", "check the order of its nine numbers"))  # fmt: skip
    other = summary.array("other")
    if other.any():
        findings.append(Finding(WARN, "labels", path, f"free_energy and energy differ by up to {other.max():.2g} eV/atom (frames "
                                f"{_some(other > 0)}); free_energy is taken", "is one of them stale? keys: {energy: energy}"))  # fmt: skip
    if not findings:
        findings.append(Finding(OK, "labels", path, f"{total} frames with energy, forces and stress"))
    return findings


def _geometry(summary: Summary) -> list[Finding]:
    path, shortest, relative = summary.source.path, summary.array("shortest"), summary.array("relative")
    impossible, overlap = np.isnan(shortest), shortest < OVERLAP
    short = (relative < SHORT) & ~overlap
    findings = []
    if impossible.any():
        findings.append(Finding(ERROR, "geometry", path, f"frames {_some(impossible)} have positions that are not "
                                "finite or a periodic cell without volume", "remove or repair them"))  # fmt: skip
    if overlap.any():
        findings.append(Finding(ERROR, "distances", path, f"atoms closer than {OVERLAP} Å in frames {_some(overlap)}: "
                                f"down to {np.nanmin(shortest):.2f} Å", "remove them; are positions in Å?"))  # fmt: skip
    if short.any():
        findings.append(Finding(WARN, "distances", path, f"atoms closer than {SHORT:g} of their covalent distance in "
                                f"frames {_some(short)}: down to {shortest[short].min():.2f} Å",
                                "keep them only if repulsion is meant to be learned"))  # fmt: skip
    across = summary.array("across").astype(bool)
    if across.any():
        findings.append(Finding(ERROR, "pbc", path, f"atoms are bonded across faces of the cell that are not periodic in frames "
                                f"{_some(across)}: clusters would be trained", "is this a crystal? Set pbc='T T T'"))  # fmt: skip
    solid = [not set(composition) <= set(NOBLE) for composition in summary.compositions]
    apart = relative[np.array(solid) & np.isfinite(relative)]
    if len(apart) and apart.min() > LONG:
        findings.append(Finding(
            ERROR, "distances", path, f"the nearest atoms are {apart.min():.2f} of their covalent distance apart, "
            f"{shortest.min():.2f} Å, and more in every frame", "are positions in bohr? Convert to Å",
        ))  # fmt: skip
    return findings or [Finding(OK, "distances", path, f"shortest distance {shortest.min():.2f} Å")]


def _forces(summary: Summary) -> list[Finding]:
    path, largest, net = summary.source.path, summary.array("largest"), summary.array("net")
    if not np.isfinite(largest).any():
        return [Finding(UNKNOWN, "forces", path, "no forces", "frames with forces teach as much as dozens without")]
    findings = []
    typical, rms = np.nanmedian(largest), np.sqrt(np.nanmean(summary.array("square")))
    huge = largest > HUGE_FORCE
    outlier = (largest > max(5.0, 8 * typical)) & ~huge
    if huge.any():
        findings.append(Finding(ERROR, "forces", path, f"forces up to {np.nanmax(largest):.3g} eV/Å in frames "
                                f"{_some(huge)}", "remove them; is the unit eV/Å?"))  # fmt: skip
    if outlier.any():
        findings.append(Finding(WARN, "forces", path, f"outliers up to {largest[outlier].max():.3g} eV/Å in frames "
                                f"{_some(outlier)}; the largest force of a frame is {typical:.2g} in the median",
                                "look at these frames; the Huber loss weighs them less"))  # fmt: skip
    if rms == 0 and len(summary) > 1 and np.nanstd(summary.array("energy")) > 0:
        findings.append(Finding(WARN, "forces", path, "all forces are exactly zero", "are they placeholders? Drop them "
                                "with keys={forces: null}"))  # fmt: skip
    elif rms > USUAL_FORCE[1]:
        findings.append(Finding(WARN, "forces", path, f"rms {rms:.3g} eV/Å, more than hot solids have",
                                "is the unit eV/Å? kcal/mol/Å and kJ/mol/Å are 23 and 96 times larger"))  # fmt: skip
    elif rms < USUAL_FORCE[0]:
        findings.append(Finding(UNKNOWN, "force unit", path, f"rms {rms:.2g} eV/Å: structures at rest, or Hartree/bohr (51 "
                                "times smaller)", "frames away from rest would tell"))  # fmt: skip
    per_atom = net / summary.array("n_atoms")
    if (per_atom > max(0.01, 0.2 * rms)).any():
        findings.append(Finding(ERROR, "net force", path, f"forces add up to {np.nanmax(net):.3g} eV/Å in a frame, "
                                f"{np.nanmax(per_atom):.2g} per atom against a typical {rms:.2g}: frames "
                                f"{_some(per_atom > max(0.01, 0.2 * rms))}",
                                "are forces of constrained atoms missing, or rows swapped?"))  # fmt: skip
    elif (net > NET_FORCE).any():
        findings.append(Finding(WARN, "net force", path, f"forces of a frame add up to as much as {np.nanmax(net):.2g} "
                                f"eV/Å (frames {_some(net > NET_FORCE)}); no potential can have that",
                                "remove_net_force: true subtracts the mean"))  # fmt: skip
    return findings or [Finding(OK, "forces", path, f"rms {rms:.3g}, largest {np.nanmax(largest):.3g}, net at most "
                                f"{np.nanmax(net):.2g} eV/Å")]  # fmt: skip


def _energies(summary: Summary) -> list[Finding]:
    energy = summary.array("energy")
    good = np.isfinite(energy)
    carried = carried_energies(summary, energy)
    if carried.any():
        return [Finding(ERROR, "energy", summary.source.path, f"{carried.sum()} frames (frames {_some(carried)}) have different "
                        f"positions and one energy, {energy[carried][0]:.6g} eV: that of another structure was carried along",
                        "label them anew (mlip label), or leave the energy out")]  # fmt: skip
    if good.sum() < 8:
        return [Finding(UNKNOWN, "energy", summary.source.path, f"{good.sum()} frames with energy: too few to tell an outlier "
                        "(8)")]  # fmt: skip
    elements = sorted({z for composition in summary.compositions for z in composition})
    rows = summary.composition_rows(elements)[good]
    residual = (energy[good] - rows @ fit_atomic_energies(rows, energy[good])) / rows.sum(axis=1)
    residual = np.abs(residual - np.median(residual))
    outlier = np.zeros(len(summary), dtype=bool)
    outlier[np.flatnonzero(good)] = residual > max(1.0, 15 * np.median(residual))
    outlier &= summary.array("n_atoms") > 1
    if outlier.any():
        return [Finding(WARN, "energy", summary.source.path, f"energies up to {residual.max():.3g} eV/atom away from the "
                        f"others in frames {_some(outlier)}", "another level of theory, or a failed run?")]  # fmt: skip
    return [Finding(OK, "energy", summary.source.path, f"spread {residual.std():.2g} eV/atom around a sum of atoms")]


def carried_energies(summary: Summary, energy: np.ndarray, least: int = 3) -> np.ndarray:
    """Frames [n_frames] bool whose energy is, to the last bit, that of at least `least` different structures of one formula.

    Structures at rest are left out: one crystal may be written in several settings.
    """
    moving = np.sqrt(summary.array("square")) > USUAL_FORCE[0]
    formulas = [tuple(sorted(composition.items())) for composition in summary.compositions]
    same = list(zip(formulas, energy.tolist(), strict=True))
    structures: dict[tuple, set[bytes]] = {}
    for key, geometry in zip(same, summary.geometries, strict=True):
        structures.setdefault(key, set()).add(geometry)
    return np.array([len(structures[key]) >= least for key in same]) & moving & np.isfinite(energy)


def _units(summary: Summary) -> list[Finding]:
    path, (energy, pair), work = summary.source.path, pair_rulers(summary.sample), work_ruler(summary.sample)
    findings = []
    if energy.decides(ENOUGH_ENERGY):
        unit, sign = nearest_unit(energy.ratio, ENERGY_FACTORS)
        if unit == BOTH_ATOMIC and np.sqrt(np.nanmean(summary.array("square"))) > USUAL_FORCE[0]:
            unit = "eV and eV/Å"  # far-reaching charges make energies look larger, too
        evidence = (
            f"energy changes are {energy.ratio:.3g} times what forces predict (correlation {energy.correlation:.2f})"
        )
        if sign < 0:
            findings.append(Finding(ERROR, "force sign", path, evidence, "forces are gradients: multiply them by -1"))
        elif ENERGY_FACTORS[unit] != 1.0:
            findings.append(Finding(ERROR, "energy and force units", path, f"{evidence}: looks like {unit}",
                                    "convert to eV and eV/Å"))  # fmt: skip
        else:
            findings.append(
                Finding(OK, "energy and force units", path, f"{evidence}; a factor common to both does not show")
            )
    else:
        n, correlation = ENOUGH_ENERGY
        findings.append(Finding(
            UNKNOWN, "energy and force units", path,
            f"{energy.n} comparable frames, correlation {abs(energy.correlation):.2f} of energies and forces; {n} and "
            f"{correlation} would tell sign and unit", "more frames of one composition, with forces",
        ))  # fmt: skip
    if not summary.array("has_stress").any():
        return findings
    ruler = work if work.decides(ENOUGH_STRESS) and (work.n >= 10 or not pair.decides(ENOUGH_STRESS)) else pair
    evidence = f"stress is {ruler.ratio:.3g} times what {ruler.method} tells (correlation {ruler.correlation:.2f}, n {ruler.n})"
    if ruler.decides(ENOUGH_STRESS):
        unit, sign = nearest_unit(ruler.ratio, STRESS_FACTORS)
        if sign < 0:
            findings.append(Finding(ERROR, "stress sign", path, evidence, "ASE counts tension positive: multiply by -1 "
                                    "(VASP and virials count compression positive)"))  # fmt: skip
        if STRESS_FACTORS[unit] != 1.0:
            findings.append(Finding(ERROR, "stress unit", path, f"{evidence}: looks like {unit}",
                                    f"divide by {STRESS_FACTORS[unit]:.6g} to have eV/Å^3"))  # fmt: skip
        elif sign > 0:
            findings.append(Finding(OK, "stress sign and unit", path, evidence))
        return findings
    return [*findings, _magnitude(path, summary.array("stress"))]


def _magnitude(path: str, stress: np.ndarray) -> Finding:
    """Where nothing else decides: solids at the usual conditions have stresses below 50 GPa."""
    typical = np.nanmedian(stress)
    evidence = (
        f"largest component {typical:.3g} in the median frame, {typical * units.EV_PER_A3_IN_GPA:.3g} GPa if in eV/Å^3"
    )
    if typical > 2.0:
        return Finding(
            ERROR, "stress unit", path, f"{evidence}: looks like GPa or kbar", "convert to eV/Å^3: GPa / 160.2177"
        )
    if typical > 0.35:
        return Finding(WARN, "stress unit", path, evidence, "is it in eV/Å^3? GPa / 160.2177, kbar / 1602.177")
    return Finding(UNKNOWN, "stress sign", path, f"{evidence}; too few comparable frames to tell the sign")


def _convergence(summary: Summary) -> list[Finding]:
    if is_silent(summary.source.path):
        return [Finding(UNKNOWN, "convergence", summary.source.path, "this format does not say whether the electronic cycle "
                        "converged", "output files of the code do: OUTCAR, vasprun.xml, .out")]  # fmt: skip
    steps = unconverged(summary.source.path)
    if not steps:
        return [Finding(OK, "convergence", summary.source.path, "no electronic cycle is marked as not converged")]
    shown = ", ".join(map(str, steps[:4])) + (", ..." if len(steps) > 4 else "")
    return [Finding(ERROR, "convergence", summary.source.path, f"the electronic cycle did not converge in {len(steps)} "
                    f"places ({shown})", "remove these frames (index), or repeat them with more iterations")]  # fmt: skip


def coverage(where: str, counts: dict[str, dict[int, int]]) -> list[Finding]:
    """Elements of the held-out parts against those of the training part; counts of frames by part and element."""
    findings, train = [], counts["train"]
    for part in ("validation", "test"):
        missing = sorted(set(counts[part]) - set(train))
        if missing:
            names = ", ".join(chemical_symbols[z] for z in missing)
            findings.append(Finding(ERROR, "elements", where, f"{names} occurs in the {part} part but in no training "
                                    "frame", "split otherwise, or add training frames with it"))  # fmt: skip
    rare = [chemical_symbols[z] for z, n in sorted(train.items()) if n < 3 and sum(train.values()) > 20]
    if rare:
        findings.append(Finding(WARN, "elements", where, f"{', '.join(rare)} occurs in fewer than 3 training frames",
                                "add frames with it"))  # fmt: skip
    evidence = "; ".join(f"{part}: " + " ".join(f"{chemical_symbols[z]} {n}" for z, n in sorted(counts[part].items()))
                     for part in ("train", "validation", "test") if counts.get(part))  # fmt: skip
    return findings or [Finding(OK, "elements", where, f"frames with each element, {evidence}")]
