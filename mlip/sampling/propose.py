"""Proposals of several proposers, in order; each is a stage on disk."""

from collections.abc import Mapping
from dataclasses import asdict, replace

from mlip.sampling.candidate import Candidate
from mlip.sampling.context import HopCatalogue, PathRecord, Proposal, Proposer, SamplingContext
from mlip.sampling.store import SamplingStore


def propose(
    store: SamplingStore, number: int, proposers: Mapping[str, Proposer | None], context: SamplingContext
) -> Proposal:
    """Candidates, paths and remarks of all proposers; a hop added by one is known to the next, and to those of later rounds.

    number     round whose folder holds the stages; a proposer that was removed on the command line is None
    """
    out, hops = Proposal(), context.hops
    for name, proposer in proposers.items():
        if proposer is None:
            continue
        if not store.has(number, f"paths_{name}"):
            write_proposal(store, number, name, proposer.propose(replace(context, hops=hops)), hops)
        out.candidates += map(Candidate.from_atoms, store.read_structures(number, f"proposed_{name}"))
        hops = HopCatalogue.from_atoms(store.read_structures(number, f"hops_{name}"))
        content = store.read_content(number, f"paths_{name}")
        out.notes += content["notes"]
        if content["paths"] is not None:
            out.paths = [*(out.paths or []), *(PathRecord(**path) for path in content["paths"])]
    store.structures(number, "hops", hops.to_atoms)
    return out


def write_proposal(store: SamplingStore, number: int, name: str, proposal: Proposal, hops: HopCatalogue) -> None:
    """Writes what a proposer found; its paths last, since they mark the stage as done."""
    paths = None if proposal.paths is None else [asdict(path) for path in proposal.paths]
    store.structures(number, f"proposed_{name}", lambda: [candidate.to_atoms() for candidate in proposal.candidates])
    store.structures(number, f"hops_{name}", hops.to_atoms)
    store.content(number, f"paths_{name}", lambda: {"paths": paths, "notes": proposal.notes})
