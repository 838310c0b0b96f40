"""From files to batches: the processed set on disk is what the files say, and is written once."""

import json
import os
import pickle
import signal

import h5py
import lennard_jones
import numpy as np
import pytest
import pytorch_lightning as pl
import torch

from mlip import keys
from mlip.data import pieces, processed, structures
from mlip.data.datamodule import DataModule
from mlip.data.dataset import GraphDataset
from mlip.data.graph import collate, to_graph

CUTOFF = 5.0


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    folder = tmp_path_factory.mktemp("frames")
    frames = lennard_jones.crystals(20, repeat=1)
    for number, atoms in enumerate(frames):
        atoms.info |= {"config_type": "cold" if number < 10 else "hot", "time_fs": number % 10}
    del frames[3].arrays[keys.REF_FORCES], frames[4].info[keys.REF_STRESS]
    frames[5].arrays[keys.REF_CHARGES] = np.arange(4.0)
    structures.write(folder / "argon.xyz", frames)
    return folder


def module(folder, tmp_path, **settings):
    settings = {"files": str(folder / "argon.xyz"), "cutoff": CUTOFF, "cache": str(tmp_path), "batch_size": 4,
                "progress": False} | settings  # fmt: skip
    data = DataModule(**settings)
    data.setup()
    return data


def test_graphs_from_disk_equal_graphs_from_the_file(files, tmp_path):
    data = module(files, tmp_path)
    frames = structures.read(files / "argon.xyz")
    whole = GraphDataset(data.cache_file)
    assert len(whole) == 20 and whole.config_types == ["cold", "hot"]
    for number, atoms in enumerate(frames):
        graph, expected = whole[number], to_graph(atoms, CUTOFF, config_types=whole.config_types)
        assert graph[keys.REF_CHARGES].isnan().all() == (number != 5), "labels of some frames are NaN in others"
        for key, value in expected.items():
            torch.testing.assert_close(graph[key], value, rtol=0, atol=0, equal_nan=True)


def test_charge_groups_and_fields_go_from_the_file_through_the_cache_into_batches(tmp_path):
    frames = lennard_jones.crystals(8, repeat=1)
    frames[2].set_array("charge_group", np.array([1, 0, 0, 1]))
    frames[2].info |= {"group_charge": [-1.0, 2.0], "total_charge": 1.0}
    frames[3].info["field"] = [0.0, 0.01, -0.02]
    frames[4].set_array("charge_group", np.zeros(4, dtype=int))
    frames[4].info["group_charge"] = 0.5  # of one group
    structures.write(tmp_path / "groups.xyz", frames)
    whole = GraphDataset(module(tmp_path, tmp_path, files=str(tmp_path / "groups.xyz")).cache_file)
    batch = collate([whole[number] for number in (2, 1, 3, 4)])
    assert batch[keys.CHARGE_GROUP].tolist() == [1, 0, 0, 1, 2, 2, 2, 2, 3, 3, 3, 3, 4, 4, 4, 4]
    assert batch[keys.GROUP_CHARGE].tolist() == [-1.0, 2.0, 0.0, 0.0, 0.5]
    assert batch[keys.FIELD].tolist() == [[0.0] * 3, [0.0] * 3, [0.0, 0.01, -0.02], [0.0] * 3]
    assert keys.CHARGE_GROUP not in whole[0] and keys.FIELD not in whole[0]
    del frames[2].info["group_charge"]
    with pytest.raises(ValueError, match="charge groups need both"):
        to_graph(frames[2], CUTOFF)
    frames[2].info["group_charge"] = [1.0]
    with pytest.raises(ValueError, match=r"0\.\.0, finite numbers\), got 0\.\.1"):
        to_graph(frames[2], CUTOFF)


def test_the_processed_set_is_written_once_per_content_cutoff_and_settings(files, tmp_path, monkeypatch):
    first = module(files, tmp_path)
    assert [p.name for p in tmp_path.glob("*.h5")] == [first.cache_file.name]
    with monkeypatch.context() as patch:
        patch.setattr(processed, "build", lambda *_: pytest.fail("read again"))
        assert module(files, tmp_path).training_hash == first.training_hash
    assert module(files, tmp_path, cutoff=4.0).cache_file != first.cache_file
    assert module(files, tmp_path, remove_net_force=True).cache_file != first.cache_file
    renamed = files / "changed.xyz"
    renamed.write_text((files / "argon.xyz").read_text().replace("cold", "cool"))
    assert module(files, tmp_path, files=str(renamed)).cache_file != first.cache_file


def test_a_build_that_fails_leaves_nothing_under_the_final_name(tmp_path):
    def frames():
        yield 0, structures.canonical(lennard_jones.crystal(repeat=1), "a:0")
        raise RuntimeError("disk full")

    with pytest.raises((RuntimeError, KeyError)):
        processed.build(tmp_path / "set.h5", frames(), CUTOFF, ["default"])
    assert list(tmp_path.iterdir()) == []


def test_small_pieces_written_one_after_the_other_make_the_same_set(files, tmp_path, monkeypatch):
    whole = module(files, tmp_path / "a")
    monkeypatch.setattr(processed, "WRITE_AT", 1)  # every frame on its own
    pieces = module(files, tmp_path / "b")
    for one, other in zip(GraphDataset(whole.cache_file), GraphDataset(pieces.cache_file), strict=True):
        for key in one:
            torch.testing.assert_close(one[key], other[key], rtol=0, atol=0, equal_nan=True)


def tables(path):
    """Everything in a processed set, as bytes: NaN are equal."""
    with h5py.File(path, "r") as file:
        return {name: b" ".join(t[:]) if t.dtype == object else t[:].tobytes() for name, t in file.items()}


@pytest.mark.parametrize("n_files", [1, 2])
def test_a_build_that_is_killed_goes_on_where_it_was(files, tmp_path, monkeypatch, n_files):
    paths = [str(files / "argon.xyz")]
    if n_files == 2:
        (tmp_path / "other.xyz").write_text((files / "argon.xyz").read_text().replace("cold", "cool"))
        paths.append(str(tmp_path / "other.xyz"))
    whole = module(files, tmp_path / "whole", files=paths)
    monkeypatch.setattr(processed, "PIECE", 300)  # edges: of five frames
    append, n_read, killed_after = processed._Writer.append, [], 10 if n_files == 1 else 27

    def counted(writer, number, atoms):
        n_read.append(number)
        append(writer, number, atoms)
        if os.getpid() != parent and len(n_read) == killed_after:
            os.kill(os.getpid(), signal.SIGKILL)

    monkeypatch.setattr(processed._Writer, "append", counted)
    parent, process = os.getpid(), os.fork()
    if not process:
        module(files, tmp_path / "cut", files=paths)
        os._exit(0)
    assert os.WTERMSIG(os.waitpid(process, 0)[1]) == signal.SIGKILL
    cut = module(files, tmp_path / "cut", files=paths)
    assert (
        20 * n_files - killed_after <= len(n_read) <= 20 * n_files - killed_after + 5
    )  # those of the piece that was cut
    assert tables(whole.cache_file) == tables(cut.cache_file)
    assert cut.training_hash == whole.training_hash
    assert sorted(path.suffix for path in (tmp_path / "cut").iterdir()) == [".h5", ".lock", ".sha256"]


def test_a_damaged_piece_is_written_again(files, tmp_path, monkeypatch):
    whole = module(files, tmp_path / "whole")
    monkeypatch.setattr(processed, "PIECE", 300)
    with monkeypatch.context() as patch:
        patch.setattr(pieces, "join", lambda *_, **__: (_ for _ in ()).throw(KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            module(files, tmp_path / "cut")
    (folder,) = (tmp_path / "cut").glob("*.pieces")
    (folder / "000001.h5").write_bytes(b"")
    cut = module(files, tmp_path / "cut")
    assert tables(whole.cache_file) == tables(cut.cache_file)


def test_memory_is_bounded_and_a_workers_copy_opens_its_own_file(files, tmp_path):
    data = module(files, tmp_path)
    frugal = GraphDataset(data.cache_file, memory=0)
    for i in range(len(frugal)):
        frugal[i]
    assert not frugal._kept
    copy = pickle.loads(pickle.dumps(frugal))
    assert copy._file is None and torch.equal(copy[2][keys.POSITIONS], frugal[2][keys.POSITIONS])
    batches = [list(module(files, tmp_path, num_workers=n).train_dataloader()) for n in (0, 1)]
    for one, other in zip(*batches, strict=True):
        assert torch.equal(one[keys.POSITIONS], other[keys.POSITIONS])


def test_the_caller_may_add_to_a_graph_without_changing_the_set(files, tmp_path):
    data = module(files, tmp_path).sets["train"]
    data[0]["extra"] = torch.zeros(1)
    assert "extra" not in data[0]


def test_held_out_frames_enter_neither_training_nor_statistics(files, tmp_path):
    data = module(files, tmp_path, split={"test": ["hot"], "validation": 0.1})
    frames = structures.read(files / "argon.xyz")
    energies = data.sets["train"].column("energy")
    assert len(energies) == 8 and not np.isin(energies, [a.info[keys.REF_ENERGY] for a in frames[10:]]).any()
    assert data.statistics["atomic_energies"] == [[pytest.approx(np.mean(energies) / 4)]]
    forces = np.concatenate([frames[i].arrays[keys.REF_FORCES] for i in range(8) if i != 3])
    assert data.statistics["force_rms"] == pytest.approx(np.sqrt(np.mean(forces**2)), rel=1e-6)
    edges = sum(to_graph(a, CUTOFF)[keys.EDGE_INDEX].shape[1] for a in frames[:8])
    assert data.statistics["mean_neighbours"] == pytest.approx(edges / 32)
    assert (data.statistics["elements"], data.levels) == ([18], ["default"])
    json.dumps(data.statistics)


def test_the_training_hash_knows_every_training_label_and_nothing_else(files, tmp_path):
    held_out = module(files, tmp_path, split={"test": ["hot"]})
    text = (files / "argon.xyz").read_text()
    changed = files / "hotter.xyz"
    frames = structures.read(files / "argon.xyz")
    frames[15].info[keys.REF_ENERGY] += 1.0
    structures.write(changed, frames)
    assert module(files, tmp_path, files=str(changed), split={"test": ["hot"]}).training_hash == held_out.training_hash
    frames[0].info[keys.REF_ENERGY] += 1e-6
    structures.write(changed, frames)
    assert module(files, tmp_path, files=str(changed), split={"test": ["hot"]}).training_hash != held_out.training_hash
    assert text == (files / "argon.xyz").read_text()


def test_validation_and_test_files_replace_a_part_of_the_files(files, tmp_path):
    other = files / "other.xyz"
    structures.write(other, [lennard_jones.crystal(seed, repeat=1) for seed in (100, 101, 102)])
    data = module(files, tmp_path, test_files=str(other))
    assert {part: len(chosen) for part, chosen in data.sets.items()} == {"train": 18, "validation": 2, "test": 3}
    with pytest.warns(UserWarning, match="18 frames .* repeat a structure"):
        module(files, tmp_path, test_files={"path": str(files / "argon.xyz"), "index": "2:"}, split={"validation": 0})


def test_levels_follow_the_statistics_of_the_model_that_is_fine_tuned(files, tmp_path):
    previous = {"elements": [3], "levels": ["old", "new"], "atomic_energies": [[-1.0], [-2.0]], "mean_neighbours": 9.0,
                "force_rms": 1.0}  # fmt: skip
    data = module(files, tmp_path, files={"path": str(files / "argon.xyz"), "level": "new"}, statistics=previous)
    assert data.levels == data.statistics["levels"] == ["old", "new"] and data.statistics["elements"] == [3, 18]
    batch = next(iter(data.train_dataloader()))
    assert set(batch[keys.LEVEL].tolist()) == {1}
    more = module(files, tmp_path, files=[{"path": str(files / "argon.xyz"), "level": "third"}], statistics=previous)
    assert more.levels == ["old", "new", "third"]


def test_elements_that_are_never_trained_are_named(files, tmp_path):
    strange = lennard_jones.crystal(7, repeat=1)
    strange.symbols[0] = "Kr"
    structures.write(files / "krypton.xyz", [strange])
    with pytest.raises(ValueError, match="Kr occurs in the test part but in no training frame"):
        module(files, tmp_path, test_files=str(files / "krypton.xyz"))


def test_a_frame_without_labels_is_named(files, tmp_path):
    atoms = lennard_jones.crystal(repeat=1)
    for place in (atoms.info, atoms.arrays):
        for key in [key for key in place if key.startswith("ref_")]:
            del place[key]
    structures.write(files / "bare.xyz", [atoms])
    with pytest.raises(ValueError, match=r"bare.xyz:0 has no label"):
        module(files, tmp_path, files=str(files / "bare.xyz"))


def test_the_split_is_written_into_the_runs_folder(files, tmp_path):
    data = module(files, tmp_path)
    told = json.loads(data.save_split(tmp_path / "run").read_text())
    assert told["parts"]["train"]["frames"] == len(told["frames"]["train"]) == 16
    assert told["parts"]["test"]["config_types"] == {"cold": 1, "hot": 1}
    assert told["frames"]["test"] == [f"{files / 'argon.xyz'}:{i}" for i in (9, 19)]
    assert told["training_hash"] == data.training_hash


class Recorder(pl.LightningModule):
    """Writes down which energies each step saw, and saves a checkpoint after one of them."""

    def __init__(self, save_at: int, path):
        super().__init__()
        self.weight = torch.nn.Parameter(torch.zeros(1))
        self.seen, self.save_at, self.path = [], save_at, path

    def on_train_batch_end(self, *_):
        if self.global_step == self.save_at:
            self.trainer.save_checkpoint(self.path)

    def training_step(self, batch, _):
        self.seen.append(batch[keys.REF_ENERGY].tolist())
        return (self.weight**2).sum()

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), 0.1)


@pytest.mark.filterwarnings("ignore")  # Lightning's advice on workers and loggers
@pytest.mark.parametrize("stop", [2, 4, 6])
def test_a_resumed_lightning_run_sees_the_batches_the_uninterrupted_one_saw(files, tmp_path, stop):
    def train(steps, save_at=-1, checkpoint=None):
        model = Recorder(save_at, tmp_path / "inside.ckpt")
        trainer = pl.Trainer(max_steps=steps, max_epochs=10, accelerator="cpu", logger=False, enable_progress_bar=False,
                             enable_checkpointing=False, enable_model_summary=False, num_sanity_val_steps=0,
                             default_root_dir=tmp_path, use_distributed_sampler=False)  # fmt: skip
        trainer.fit(model, datamodule=module(files, tmp_path), ckpt_path=checkpoint)
        return model.seen, trainer

    whole, _ = train(10, save_at=stop)  # epochs of four steps
    rest, _ = train(10, checkpoint=tmp_path / "inside.ckpt")
    assert rest == whole[stop:], "killed after the checkpoint"
    start, trainer = train(stop)
    trainer.save_checkpoint(tmp_path / "end.ckpt")
    rest, _ = train(10, checkpoint=tmp_path / "end.ckpt")
    assert start + rest == whole, "ended, and prolonged"


@pytest.mark.parametrize("method", ["random", "block"])
def test_isolated_atoms_are_references_and_never_held_out(files, tmp_path, method):
    frames = structures.read(files / "argon.xyz")
    for number in range(6):
        alone = frames[0][:1]
        alone.pbc, alone.cell = False, None
        alone.info = {keys.REF_ENERGY: -1.5 - 0.0 * number, "config_type": f"atom{number}"}
        alone.positions += number
        frames.append(alone)
    structures.write(tmp_path / "with_atoms.xyz", frames)
    data = module(tmp_path, tmp_path, files=str(tmp_path / "with_atoms.xyz"),
                  split={"method": method, "validation": 0.4, "test": 0.3})  # fmt: skip
    for part in ("validation", "test"):
        assert len(data.sets[part]) > 0 and data.sets[part].column("n_atoms").min() > 1
    assert data.statistics["atomic_energies"] == [[-1.5]]
