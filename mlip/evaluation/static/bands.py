"""Hops to be measured: from files of their ends, of a band, or of many bands."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from ase import Atoms

from mlip.data.structures import read
from mlip.errors import InputError
from mlip.transitions.paths import in_order_of

KEYS = {"name", "start", "end", "images"}


@dataclass(frozen=True)
class Hop:
    """A hop to be measured.  images: of a DFT path, ends included, with ref_energy; empty without one."""

    name: str
    start: Atoms
    end: Atoms
    images: Sequence[Atoms] = ()


def read_hops(entry: Hop | Mapping) -> list[Hop]:
    """Hops of one entry of a config: {name, start, end, images} is one, {bands} as many as its file has."""
    if isinstance(entry, Hop):
        return [entry]
    if set(entry) == {"bands"}:
        return bands(entry["bands"])
    if set(entry) - KEYS or not ("images" in entry or {"start", "end"} <= set(entry)):
        raise InputError("a hop is {name, start, end, images}, with start and end or with images, or {bands: file of many}; "
                         f"got {dict(entry)}")  # fmt: skip
    images = read(entry["images"]) if entry.get("images") else []
    start = read(entry["start"])[0] if "start" in entry else images[0]
    end = read(entry["end"])[0] if "end" in entry else images[-1]
    return [
        Hop(entry.get("name", str(entry.get("images", entry.get("start")))), start, in_order_of(start, end), images)
    ]


def bands(files) -> list[Hop]:
    """Hops of a file of bands: frames of one `hop` (info) are its images, in their order."""
    images: dict[str, list[Atoms]] = {}
    for atoms in read(files):
        if "hop" not in atoms.info:
            raise InputError(f"{atoms.info['source']} has no `hop` in its info: bands are told apart by it")
        images.setdefault(str(atoms.info["hop"]), []).append(atoms)
    short = [name for name, frames in images.items() if len(frames) < 3]
    if short:
        raise InputError(
            f"hop {short[0]} of {files} has {len(images[short[0]])} images: a band has its two ends and one between"
        )
    return [Hop(name, frames[0], in_order_of(frames[0], frames[-1]), frames) for name, frames in images.items()]
