#!/usr/bin/env python3
"""The labels of several samplings as one data set: every structure once, with the sampling and the round it comes from.

scripts/collect_labels.py datasets/li3ycl6/li3ycl6_gpaw.xyz transition_states=runs/li3ycl6_ts random_md=runs/li3ycl6_md
"""

import sys
from collections import Counter
from pathlib import Path

from ase import Atoms

from mlip.data.structures import read, write
from mlip.labelling.engine import structure_id
from mlip.labelling.run import with_metadata

LEFT_OUT = ("source", "level", "label_id")  # where a file lay on one machine; the id holds the settings of an engine


def labelled_in(run: Path, number: Path) -> list[Atoms]:
    """The labels of a round; of one that was cut off, those that were finished."""
    if (number / "labelled.xyz").exists():
        return read(number / "labelled.xyz") if (number / "labelled.xyz").stat().st_size else []
    if not (number / "selected.xyz").exists():
        return []
    selected = {structure_id(atoms): atoms for atoms in read(number / "selected.xyz")}
    files = {
        path: selected[path.stem.split("-")[0]]
        for path in sorted(run.glob("labels/labels/*.xyz"))
        if path.stem.split("-")[0] in selected
    }
    return [with_metadata(read(path)[0], atoms) for path, atoms in files.items()]


def main() -> None:
    """Writes the file and prints how many frames of each kind it holds."""
    out, seen = [], set()
    for word in sys.argv[2:]:
        name, run = word.split("=", 1)
        for number in sorted(Path(run).glob("rounds/*")):
            for atoms in labelled_in(Path(run), number):
                if structure_id(atoms) in seen:
                    continue
                seen.add(structure_id(atoms))
                atoms.info = {key: value for key, value in atoms.info.items() if key not in LEFT_OUT}
                atoms.info.update(sampling=name, round=int(number.name))
                out.append(atoms)
    write(sys.argv[1], out)
    kinds = Counter((atoms.info["sampling"], atoms.info["kind"]) for atoms in out)
    print(
        f"{sys.argv[1]}: {len(out)} frames;",
        ", ".join(f"{sampling} {kind} {n}" for (sampling, kind), n in kinds.items()),
    )


if __name__ == "__main__":
    main()
