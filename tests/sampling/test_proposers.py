"""Proposers find the hops that are there, and what they propose lies where it should."""

import sys
from pathlib import Path

import numpy as np
import pytest
from ase import Atoms

sys.path.insert(0, str(Path(__file__).parent))
from oracle import BARRIER, CELLS, SITE, Cosine, crystal, lattice_file, start

from mlip import keys
from mlip.data.structures import read, write
from mlip.md.ensemble import Langevin
from mlip.sampling.context import HopCatalogue, KnownHop, SamplingContext
from mlip.sampling.errors import force_errors, hold_out_errors, labelled_barriers, unlabelled_pairs
from mlip.sampling.initial_structures import initial_structures
from mlip.sampling.molecular_dynamics import Dynamics, HopsFromMD, RandomMD, SteeredMD, framework_of
from mlip.sampling.transition_states import ListedHops, TransitionStates, WholePaths, former_band


def context_in(folder, calculator=None, hops=None):
    calculator = calculator or Cosine(crystal(CELLS))
    return SamplingContext(calculator, calculator, [start()], "Li", None, hops or HopCatalogue(), Path(folder), 0)


def with_hop(tmp_path):
    """A context in which the hop of the cube is known."""
    context = context_in(tmp_path)
    assert ListedHops(reference=lattice_file(tmp_path), max_length_A=3.2, fmax=0.01).propose(context).candidates == []
    assert [hop.name for hop in context.hops.hops] == ["h0"], "three directions, there and back, one hop"
    return context


def way(candidate):
    """Of the ion: how far along its hop, in sites."""
    return np.abs(candidate.atoms.positions[0] - (candidate.atoms.positions[1:].mean(axis=0) - 3.0)).max() / SITE


def test_hops_of_dynamics_are_named_and_their_ions_are_on_their_way(tmp_path):
    dynamics = Dynamics([1500.0], steps=900, timestep_fs=6.0, frame_every=4, skip_ps=0.0, ensemble=Langevin)
    context = context_in(tmp_path)
    proposer = HopsFromMD(dynamics, max_hops=3, residence_ps=0.2, fmax=0.02)
    found = proposer.propose(context)
    assert found.paths is None and "hops in" in found.notes[0] and found.candidates
    assert {c.hop for c in found.candidates} <= {hop.name for hop in context.hops.hops} and {
        c.ion for c in found.candidates
    } == {0}
    lengths = [np.linalg.norm(hop.vector) / SITE for hop in context.hops.hops]
    np.testing.assert_allclose(np.square(lengths), np.round(np.square(lengths)), atol=0.1, err_msg="from site to site")
    again = context_in(tmp_path, Cosine(crystal(CELLS), barrier=99.0))
    repeated = proposer.propose(again)
    assert [c.parent for c in repeated.candidates] == [c.parent for c in found.candidates], (
        "finished dynamics is read, not repeated"
    )


def test_what_lies_around_a_saddle_is_proposed_once_each(tmp_path):
    context = with_hop(tmp_path)
    found = TransitionStates(n_images=5, fmax=0.01, rattles=3, strains=1).propose(context)
    (path,) = found.paths
    assert path.barrier == pytest.approx(BARRIER, abs=1e-3) and path.n_negative == 1 and path.sigma is None
    by_kind = {kind: [c for c in found.candidates if c.kind == kind] for kind in ("saddle", "end", "path", "offpath")}
    assert [len(by_kind[kind]) for kind in ("saddle", "end", "path")] == [1, 1, 2] and len(
        by_kind["offpath"]
    ) == 6 + 3 + 1
    assert way(by_kind["saddle"][0]) == pytest.approx(0.5, abs=0.01) and way(by_kind["end"][0]) == pytest.approx(
        0, abs=0.01
    )
    assert {c.hop for c in found.candidates} == {"h0"} and {c.ion for c in found.candidates} == {0}
    kinds = [c.kind for c in WholePaths(n_images=5, fmax=0.02).propose(context).candidates]
    assert kinds == ["end", "path", "saddle", "path", "path"]


def test_a_path_that_climbs_too_high_is_remarked_and_not_labelled(tmp_path):
    for proposer in (
        TransitionStates(n_images=5, fmax=0.02, max_barrier_eV=0.2),
        WholePaths(n_images=5, fmax=0.02, max_barrier_eV=0.2),
    ):
        found = proposer.propose(with_hop(tmp_path))
        assert found.candidates == [] and found.paths[0].barrier is None
        assert "h0: its path climbs 0.3 eV, more than 0.2" in found.notes[0]


def test_a_drawn_ion_is_seen_all_along_its_way(tmp_path):
    found = SteeredMD([300.0], steps=150, timestep_fs=6.0, frame_every=5, ensemble=Langevin).propose(with_hop(tmp_path))
    assert [c.kind for c in found.candidates] == ["hop"] * 5
    assert np.diff([way(c) for c in found.candidates]).min() > 0.02 and way(found.candidates[2]) == pytest.approx(
        0.5, abs=0.15
    )


def test_an_ion_is_drawn_against_the_framework_or_against_whatever_is_there(tmp_path):
    (hop,) = with_hop(tmp_path).hops.hops
    assert framework_of(hop, None).tolist() == framework_of(hop, ["O"]).tolist() == list(range(1, 9))
    alone = KnownHop(0, Atoms("Cu3"), Atoms("Cu3"), 1)
    assert framework_of(alone, None).tolist() == framework_of(alone, ["O"]).tolist() == [0, 2]


def test_random_frames_are_seeded_and_a_run_that_breaks_up_keeps_its_frames(tmp_path):
    dynamics = Dynamics([300.0], steps=40, timestep_fs=5.0, frame_every=4, skip_ps=0.0)
    one, two = (RandomMD(dynamics, 5).propose(context_in(tmp_path / name)).candidates for name in "ab")
    assert len(one) == 5 and all((a.atoms.positions == b.atoms.positions).all() for a, b in zip(one, two, strict=True))

    class Breaking(Cosine):
        def calculate(self, atoms=None, *more):
            if self.calls > 25:
                raise ValueError("atoms 0 and 1 overlap")
            super().calculate(atoms, *more)

    found = RandomMD(dynamics, 50).propose(context_in(tmp_path / "c", Breaking(crystal(CELLS))))
    assert 2 < len(found.candidates) < 11
    with pytest.raises(ValueError, match="positive temperatures"):
        Dynamics([])


def test_the_band_of_a_hop_goes_on_from_the_round_before(tmp_path):
    context = with_hop(tmp_path)
    context.calculator = Cosine(crystal(CELLS), bend=0.5)  # a path that is not straight
    proposer = TransitionStates(n_images=5, fmax=0.005, steps=200, rattles=0, strains=0)
    first = proposer.propose(context).paths[0]
    write(tmp_path / "hops.xyz", context.hops.to_atoms())
    hops = HopCatalogue.from_atoms(read(tmp_path / "hops.xyz"))
    again = proposer.propose(context_in(tmp_path, context.calculator, hops)).paths[0]
    assert first.converged and first.steps > 5 and again.steps <= 1
    assert again.barrier == pytest.approx(first.barrier, abs=1e-5)
    (hop,) = hops.hops
    elsewhere = hop.end.copy()
    elsewhere.positions[hop.ion] += 0.6
    assert former_band(hop, hop.start, hop.end, 5) is hop.band
    assert former_band(hop, hop.start, elsewhere, 5) is None and former_band(hop, hop.start, hop.end, 7) is None


def test_a_catalogue_of_hops_is_the_same_after_a_file_and_a_reverse_hop_is_the_same_hop(tmp_path):
    hops = with_hop(tmp_path).hops
    write(tmp_path / "hops.xyz", hops.to_atoms())
    again = HopCatalogue.from_atoms(read(tmp_path / "hops.xyz"))
    assert again.add(hops.hops[0].end, hops.hops[0].start, "Li").name == "h0" and len(again.hops) == 1
    far = start()
    far.positions[0] += [SITE, SITE, 0]
    assert again.add(start(), far, "Li").name == "h1" and again.add(start(), start(), "Li") is None
    with pytest.raises(ValueError, match="no Na"):
        again.add(start(), far, "Na")


def test_initial_structures_begin_with_the_starts_and_differ(tmp_path):
    made = initial_structures([start(), start()], 9, seed=0)
    assert len(made) == 9 and {c.kind for c in made} == {"start"}
    assert (made[0].atoms.positions == start().positions).all()
    assert len({c.atoms.positions.tobytes() for c in made}) == 8, "the two starts are the same"
    assert len({round(c.atoms.get_volume(), 3) for c in made}) > 4


def test_pairs_are_labelled_once_and_hops_from_one_minimum_share_its_label(tmp_path):
    context = with_hop(tmp_path)
    candidates = TransitionStates(n_images=5, fmax=0.01, rattles=0, strains=0).propose(context).candidates
    assert {candidates[n].kind for n in unlabelled_pairs(candidates, [], 4)} == {"saddle", "end"}
    assert unlabelled_pairs(candidates, [], 1) == []
    labelled = []
    for candidate, energy in zip(candidates[:2], (1.0, 1.3), strict=True):
        atoms = candidate.to_atoms()
        atoms.info[keys.REF_ENERGY] = energy
        labelled.append(atoms)
    assert unlabelled_pairs(candidates, labelled, 4) == []
    labelled[0].info.update(kind="start", hop="none")
    assert labelled_barriers(labelled) == {}
    assert labelled_barriers(labelled, {"h0": context.hops.hops[0].start}) == {"h0": pytest.approx(0.3)}


def test_a_hold_out_tells_errors_of_barriers_and_of_the_ions_on_their_way(tmp_path):
    truth, model = Cosine(crystal(CELLS)), Cosine(crystal(CELLS), barrier=0.8 * BARRIER)
    frames = []
    for candidate in (
        TransitionStates(n_images=5, fmax=0.01, rattles=0, strains=0).propose(with_hop(tmp_path)).candidates[:4]
    ):
        atoms = candidate.to_atoms()
        truth.calculate(atoms)
        atoms.info[keys.REF_ENERGY] = truth.results["energy"]
        atoms.set_array(keys.REF_FORCES, truth.results["forces"])
        frames.append(atoms)
    found = hold_out_errors(model, frames)
    assert (found.frames, found.hops) == (4, 1) and found.barrier_mae == pytest.approx(0.2 * BARRIER, abs=1e-3)
    ions = [np.linalg.norm(atoms.arrays[keys.REF_FORCES][0]) for atoms in frames]
    assert (
        found.ion_force_vector_mae == pytest.approx(0.2 * np.mean(ions), rel=0.05)
        and found.force_vector_rmse < found.ion_force_vector_mae
    )
    assert hold_out_errors(model, []) is None and max(np.abs(e).max() for e in force_errors(truth, frames)) < 1e-12
