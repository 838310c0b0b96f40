"""A file that was cut off, swapped or damaged is one sentence with its name, and exit code 2; a cache is built again."""

import io
import json
import pickle
import shutil
import zipfile

import ase.io
import numpy as np
import pytest
import torch
from corpus import answer, crystal, labelled, one_line, train_words, write_model

from mlip import cli


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return write_model(tmp_path_factory.mktemp("model") / "model.pt").read_bytes()


def saved(content) -> bytes:
    stream = io.BytesIO()
    torch.save(content, stream)
    return stream.getvalue()


def torchscript(**extra) -> bytes:
    stream = io.BytesIO()
    torch.jit.save(torch.jit.script(torch.nn.Linear(2, 2)), stream, _extra_files=extra)
    return stream.getvalue()


def flipped(content: bytes, place: float = 0.5) -> bytes:
    """One bit of the largest file inside is another."""
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        largest = max(archive.infolist(), key=lambda info: info.compress_size)
    start = largest.header_offset + 30 + int.from_bytes(content[largest.header_offset + 26 :][:2], "little")
    start += int.from_bytes(content[largest.header_offset + 28 :][:2], "little")
    at = start + int(place * largest.compress_size)
    return content[:at] + bytes([content[at] ^ 4]) + content[at + 1 :]


DAMAGES = {
    "truncated": (lambda whole: whole[: len(whole) // 2], "cut off or damaged"),
    "text": (lambda whole: b"not a model\n", "cut off or damaged"),
    "empty": (lambda whole: b"", "is empty"),
    "state dict": (lambda whole: saved({"weight": torch.zeros(3)}), "is no "),
    "pickle": (lambda whole: pickle.dumps({"a": 1}), "cut off or damaged"),
    "array": (lambda whole: saved(torch.zeros(3)), "is no "),
    "other TorchScript": (lambda whole: torchscript(), "no "),
    "TorchScript with metadata": (lambda whole: torchscript(**{"metadata.json": "{}"}), "no"),
    "flipped bit": (flipped, "checksum of"),
    "flipped bit at the end": (lambda whole: flipped(whole, 0.999), "checksum of"),
}


@pytest.mark.parametrize("name", DAMAGES)
def test_a_damaged_model_is_one_sentence(name, model, tmp_path, capsys):
    damage, words = DAMAGES[name]
    (tmp_path / "model.pt").write_bytes(damage(model))
    ase.io.write(tmp_path / "a.xyz", crystal())
    for command in (["predict", tmp_path / "model.pt", tmp_path / "a.xyz", tmp_path / "out.xyz"],
                    ["md", tmp_path / "model.pt", tmp_path / "a.xyz", f"folder={tmp_path / 'md'}"]):  # fmt: skip
        code, said = answer(capsys, *command)
        assert code == 2 and words in one_line(said) and "model.pt" in said and "mlip export" in said
        assert "weights_only" not in said and len(said.splitlines()) == 1
    assert not (tmp_path / "out.xyz").exists() and not (tmp_path / "md").exists()


def test_a_missing_model_is_one_sentence(tmp_path, capsys):
    code, said = answer(capsys, "predict", tmp_path / "gone.pt", tmp_path / "a.xyz", tmp_path / "out.xyz")
    assert code == 2 and len(said.splitlines()) == 1


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    home = tmp_path_factory.mktemp("train")
    ase.io.write(home / "ok.xyz", labelled(10))
    assert cli.main(train_words(home / "ok.xyz", home / "run")) == 0
    return home


@pytest.mark.parametrize("name", DAMAGES)
def test_a_damaged_checkpoint_is_one_sentence(name, finished, tmp_path, capsys):
    damage, words = DAMAGES[name]
    shutil.copytree(finished / "run", tmp_path / "run")
    last = tmp_path / "run" / "checkpoints" / "last.ckpt"
    last.write_bytes(damage(last.read_bytes()))
    fine = [*train_words(finished / "ok.xyz", tmp_path / "fine"), f"checkpoint={tmp_path / 'run'}"]
    for command in (["export", tmp_path / "run"], fine):
        code, said = answer(capsys, *command)
        assert code == 2 and words in one_line(said) and "last.ckpt" in said and "weights_only" not in said
    (tmp_path / "run" / "model.pt").unlink()
    code, said = answer(capsys, *train_words(finished / "ok.xyz", finished / "run")[:-1], f"folder={tmp_path / 'run'}")
    assert (code == 2 and "folder" in said) or "last.ckpt" in said


@pytest.mark.parametrize(
    "content, words", [("{ no yaml", "holds no YAML"), ("", "holds NoneType, no keys"), ("text", "holds str, no keys")]
)
def test_a_config_that_is_none_is_one_sentence(content, words, finished, tmp_path, capsys):
    shutil.copytree(finished / "run", tmp_path / "run")
    (tmp_path / "run" / "config.yaml").write_text(content)
    code, said = answer(capsys, "export", tmp_path / "run")
    assert code == 2 and words in one_line(said) and "config.yaml" in said


def test_a_split_that_is_none_is_one_sentence(finished, tmp_path, capsys):
    shutil.copytree(finished / "run", tmp_path / "run")
    (tmp_path / "run" / "split.json").write_text("{")
    code, said = answer(capsys, "export", tmp_path / "run")
    assert code == 2 and "split.json is damaged, it holds no JSON" in one_line(said)


@pytest.mark.parametrize("damage", ["truncated", "empty", "text", "other arrays", "flipped bit"])
def test_a_damaged_state_of_dynamics_is_one_sentence(damage, model, tmp_path, capsys):
    (tmp_path / "m.pt").write_bytes(model)
    ase.io.write(tmp_path / "a.xyz", crystal())
    words = ["md", tmp_path / "m.pt", tmp_path / "a.xyz", f"folder={tmp_path / 'md'}"]
    assert answer(capsys, *words, "steps=2")[0] == 0
    state = tmp_path / "md" / "state.npz"
    whole = state.read_bytes()
    if damage == "other arrays":
        np.savez(state, a=1)
    else:
        state.write_bytes(flipped(whole) if damage == "flipped bit" else DAMAGES[damage][0](whole))
    code, said = answer(capsys, *words, "steps=4")
    assert code == 2 and "state.npz is damaged" in one_line(said)
    state.write_bytes(whole)
    (tmp_path / "md" / "trajectory.traj").unlink()
    code, said = answer(capsys, *words, "steps=4")
    assert code == 2 and "trajectory.traj is missing" in one_line(said)


@pytest.mark.parametrize("damage", ["truncated", "empty", "text", "flipped bit", "without checksum"])
def test_a_damaged_cache_is_built_again(damage, tmp_path):
    from mlip.data.datamodule import DataModule

    def energies():
        data = DataModule(
            str(tmp_path / "a.xyz"), 4.0, cache=str(tmp_path), split={"validation": 0, "test": 0}, progress=False
        )
        data.setup()
        return data.sets["train"].column("energy").tolist()

    ase.io.write(tmp_path / "a.xyz", labelled(3))
    right = energies()
    (cache,) = tmp_path.glob("*.h5")
    whole = cache.read_bytes()
    if damage == "flipped bit":
        at = whole.find(np.float64(right[0]).tobytes())
        assert at > 0
        cache.write_bytes(whole[:at] + bytes([whole[at] ^ 255]) + whole[at + 1 :])
    elif damage == "without checksum":  # of an older version
        cache.with_suffix(".sha256").unlink()
        cache.write_bytes(whole[:1000])
    else:
        cache.write_bytes(DAMAGES[damage][0](whole))
    assert energies() == right
    assert json.dumps(energies()) == json.dumps(right)
