#!/usr/bin/env python3
"""The labels of several samplings as one data set: every structure once, with the sampling and the round it comes from.

    scripts/collect_labels.py datasets/li3ycl6/li3ycl6_gpaw.xyz transition_states=runs/li3ycl6_ts random_md=runs/li3ycl6_md
"""

import sys
from collections import Counter
from pathlib import Path

from mlip.data.structures import read, write
from mlip.labelling.engine import structure_id

LEFT_OUT = ("source", "level", "label_id")  # where a file lay on one machine; the id holds the settings of an engine


def main() -> None:
    """Writes the file and prints how many frames of each kind it holds."""
    out, seen = [], set()
    for word in sys.argv[2:]:
        name, run = word.split("=", 1)
        for path in sorted(Path(run).glob("rounds/*/labelled.xyz")):
            for atoms in read(path) if path.stat().st_size else []:
                if structure_id(atoms) in seen:
                    continue
                seen.add(structure_id(atoms))
                atoms.info = {key: value for key, value in atoms.info.items() if key not in LEFT_OUT}
                atoms.info.update(sampling=name, round=int(path.parent.name))
                out.append(atoms)
    write(sys.argv[1], out)
    print(f"{sys.argv[1]}: {len(out)} frames;", ", ".join(f"{kind} {n}" for kind, n in Counter(a.info["kind"] for a in out).most_common()))


if __name__ == "__main__":
    main()
