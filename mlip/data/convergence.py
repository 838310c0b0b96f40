"""Did the self-consistent cycle converge? What the output files of DFT codes say about it."""

import gzip
import re
from collections.abc import Iterator
from pathlib import Path

NOT_CONVERGED = {
    "vasp": re.compile(r"EDIFF was not reached|electronic self-consistency was not achieved"),
    "quantum espresso": re.compile(r"convergence NOT achieved"),
    "cp2k": re.compile(r"SCF run NOT converged"),
    "gpaw": re.compile(r"Did not converge!|Not converged"),
}
VASP_LIMIT = re.compile(r"^\s*NELM\s*=\s*(\d+)")
VASP_STEP = re.compile(r"Iteration\s+(\d+)\(\s*(\d+)\)")
XML_LIMIT = re.compile(r'name="NELM"[^>]*>\s*(\d+)')


def is_silent(path: str) -> bool:
    """Whether the format keeps structures and labels only."""
    return Path(path).name.split(".gz")[0].endswith((".xyz", ".extxyz", ".db", ".traj", ".gpw", ".h5", ".nc"))


def unconverged(path: str) -> list[int]:
    """Numbers of the ionic steps whose electronic cycle stopped before it converged; empty if the file tells nothing."""
    name = Path(path).name
    if "OUTCAR" in name:
        return _outcar(path)
    if "xml" in name:
        return _vasprun(path)
    if is_silent(path):
        return []
    return [
        number
        for number, line in enumerate(_lines(path), 1)
        if any(mark.search(line) for mark in NOT_CONVERGED.values())
    ]


def _lines(path: str) -> Iterator[str]:
    opened = gzip.open if path.endswith(".gz") else open
    with opened(path, "rt", errors="replace") as file:
        yield from file


def _outcar(path: str) -> list[int]:
    """Steps marked by VASP 6, and steps of any version that used all NELM iterations without reaching EDIFF."""
    limit, bad, last, reached = 0, set(), {}, set()
    step = 0
    for line in _lines(path):
        if found := VASP_STEP.search(line):
            step = int(found[1])
            last[step] = int(found[2])
        elif found := VASP_LIMIT.match(line):
            limit = int(found[1])
        elif "EDIFF is reached" in line:
            reached.add(step)
        elif NOT_CONVERGED["vasp"].search(line):
            bad.add(step)
    bad |= {step for step, used in last.items() if limit and used >= limit and step not in reached}
    return sorted(max(step, 1) - 1 for step in bad)


def _vasprun(path: str) -> list[int]:
    """Ionic steps with as many electronic steps as NELM allows."""
    limit, step, used, bad = 0, -1, 0, []
    for line in _lines(path):
        if found := XML_LIMIT.search(line):
            limit = int(found[1])
        if "<calculation" in line:
            step, used = step + 1, 0
        used += line.count("<scstep")
        if "</calculation" in line and limit and used >= limit:
            bad.append(step)
    return bad
