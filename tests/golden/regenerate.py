"""Computes the golden numbers anew and writes them to tests/golden/numbers/*.json; prints what moved.

    python tests/golden/regenerate.py

Only after a change that is meant to move numbers; the commit says which and why. About five minutes on one core.
"""

import os

os.environ.setdefault("MPLBACKEND", "Agg")
os.environ.setdefault("OMP_NUM_THREADS", "1")

import sys
from pathlib import Path
from tempfile import TemporaryDirectory

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE.parents[1]), str(HERE)]

from test_golden import NUMBERS, cases, compute, differences, keep, kept  # noqa: E402

if __name__ == "__main__":
    with TemporaryDirectory() as folder:
        numbers = compute(folder)
    for case, values in numbers.items():
        before = kept(case) if (NUMBERS / f"{case}.json").exists() else {}
        lines = differences(case, values, before, cases()[case][2])
        print(f"{case}: {len(lines)} quantities moved" + (f", first {lines[0]}" if lines else ""))
    keep(numbers)
