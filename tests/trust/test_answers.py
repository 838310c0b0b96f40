"""What cannot be done is said before work starts, in words of ours: devices, precisions, arguments, budgets, ends of paths."""

import ase.io
import numpy as np
import pytest
import torch
from ase.build import bulk
from corpus import TINY, answer, crystal, labelled, one_line, write_model

import mlip
from mlip.errors import InputError
from mlip.transitions.paths import displacements, in_order_of

EMT = "calculator={_target_: ase.calculators.emt.EMT}"


@pytest.fixture
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write_model(tmp_path / "m.pt")
    ase.io.write("start.xyz", crystal())
    ase.io.write("ok.xyz", labelled(10))
    charged = labelled(10)
    for atoms in charged:
        atoms.info["charge"] = -1
    ase.io.write("charged.xyz", charged)
    ase.io.write("cu.xyz", bulk("Cu", a=3.6, cubic=True))
    return tmp_path


SAID = {  # command: what it says
    ("md", "m.pt", "start.xyz", "dtype=float6"): "dtype=float6: must be float32 or float64; the nearest is float64",
    ("md", "m.pt", "start.xyz", "device=foo"): "device=foo: must be cpu, cuda, cuda:0",
    ("md", "m.pt", "start.xyz@9"): "has no frame in index '9'",
    ("md", "m.pt", "start.xyz", "+ensemble.foo=1"): "takes no 'foo'",
    ("predict", "m.pt", "ok.xyz", "out.xyz", "device=cuda:x"): "device=cuda:x: must be cpu, cuda, cuda:0",
    ("export", "m.pt", "format=onnx"): "format=onnx: must be torchscript or aoti",
    ("train", "data.files=ok.xyz", "dtype=half"): "dtype=half: must be float32 or float64",
    ("train", "data.files=ok.xyz", "data.split.method=blocks"): "data.split.method=blocks: must be block or random; the nearest is block",
    ("train", "data.files=ok.xyz", "+model.network.foo=1"): "SphericalNetwork takes no 'foo'; there are statistics, cutoff, n_channels",
    ("train", "data.files=ok.xyz", "material=halide", "model=small", "material.formal_charges={Li: 1}"): "material.formal_charges: nothing here reads it, so it would change nothing; read are material.cutoff, material.element_weights",
    ("train", "data.files=ok.xyz", "material=halide", "material.framework=[Br]"): "material.framework: nothing here reads it",
    ("train", "data.files=charged.xyz", "model=formal_charges"): "has a total charge of -1 e, and the formal charges of its atoms (Li +1, Cl -1) add up to 0 e",
    ("train", "data.files=ok.xyz", "trainer.max_steps=30", "optimizer.lr=1e6"): "the gradient of the loss is not finite at step",
    ("train", "data.files=ok.xyz", "+optimizer.learning=1"): "muon takes no 'learning'",
    ("train", "data.files=ok.xyz", "+data.batchsize=4"): "takes no 'batchsize'; did you mean batch_size?",
    ("train", "data.files=ok.xyz", "trainer.max_steps=null"): "a training needs an end: give max_steps, max_epochs or max_seconds",
    ("sample", "cu.xyz", "engine=emt", "mobile=Na"): "mobile=Na: no Na in the structures to start from; they have Cu",
    ("sample", "cu.xyz", "engine=emt", "mobile=Cu", "framework=[O]"): "framework=O: no O in the structures to start from",
    ("evaluate", EMT, "structure=cu.xyz", "material=oxide", "only=[lattice]", "device=tpu"): None,  # no model: no device is used
}  # fmt: skip


@pytest.mark.parametrize("words", SAID, ids=" ".join)
def test_the_answer_is_one_sentence(words, here, capsys):
    stated = {word.split("=")[0] for word in words}
    tiny = [word for word in TINY if words[0] == "train" and word.split("=")[0] not in stated]
    code, said = answer(capsys, *words, *tiny)
    if SAID[words] is None:
        assert code == 0, said
    else:
        assert code == 2 and SAID[words] in one_line(said), said
        assert not {path.name for path in here.iterdir()} & {"runs", "out.xyz"} or words[0] == "train"


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU here")
@pytest.mark.parametrize("words", [
    ("md", "m.pt", "start.xyz", "device=cuda"), ("predict", "m.pt", "ok.xyz", "out.xyz", "device=cuda:1"),
    ("train", "data.files=ok.xyz", "trainer.accelerator=gpu"),
], ids=" ".join)  # fmt: skip
def test_a_missing_gpu_is_said_and_the_way_without(words, here, capsys):
    code, said = answer(capsys, *words)
    assert code == 2 and "torch finds 0 CUDA devices here; choose device=cpu" in one_line(said)


def test_the_python_calculator_answers_the_same(here):
    with pytest.raises(InputError, match="device=foo: must be cpu"):
        mlip.load_calculator("m.pt", device="foo")
    with pytest.raises(InputError, match="dtype=half: must be float32 or float64"):
        mlip.load_calculator("m.pt", dtype="half")


def test_no_more_labels_are_made_than_the_budget_has(here, capsys):
    words = [word for word in TINY if not word.startswith("data.split")]
    answer(capsys, "sample", "cu.xyz", "engine=emt", "mobile=Cu", "framework=[]", "limits.rounds=1", "limits.labels=2",
           "sampler=random_md", "model=small", *words, "data.cache=cache", "n_initial=5", "folder=s")  # fmt: skip
    assert len(list((here / "s" / "labels" / "labels").glob("*.xyz"))) == 2


def vacancy():
    """Ends of a hop of copper into a vacancy."""
    start = bulk("Cu", a=3.6, cubic=True).repeat(2)
    empty = start.positions[0].copy()
    del start[0]
    end = start.copy()
    end.positions[0] = empty
    return start, end


def test_ends_in_another_order_are_one_hop():
    start, end = vacancy()
    order = np.random.default_rng(0).permutation(len(end))
    again = in_order_of(start, end[order])
    assert np.allclose(again.positions, end.positions) and in_order_of(start, end) is end
    assert (np.linalg.norm(displacements(start, again), axis=1) > 0.1).sum() == 1


def test_ends_of_other_crystals_are_refused():
    start, end = vacancy()
    end.positions[:8] = np.random.default_rng(0).uniform(0, 7, (8, 3))
    end.positions[8:] += 1.8
    with pytest.raises(InputError, match="atoms move farther than 1 Å between the ends of a path"):
        in_order_of(start, end, max_length_A=1.0)


def test_a_hop_whose_ends_are_one_minimum_is_said_and_counts(here, capsys):
    start, _ = vacancy()
    ase.io.write("s.xyz", start)
    code, said = answer(
        capsys, "evaluate", EMT, "structure=s.xyz", "mobile=Cu", "only=[barriers]", "properties.barriers.n_hops=0",
        "properties.barriers.hops=[{name: a, start: s.xyz, end: s.xyz}]", "folder=e",
    )  # fmt: skip
    assert code == 1 and "then no site of its own" in " ".join(said.replace("│", " ").split()), said
