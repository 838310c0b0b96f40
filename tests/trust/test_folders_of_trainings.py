"""Nothing of the user's is lost: everything is read before an earlier run makes room, and then it is kept aside."""

import ase.io
import pytest
from corpus import answer, labelled, one_line

TINY = ["model/network=small", "model.network.n_channels=4", "model.network.l_max=1", "trainer.max_steps=2",
        "trainer.validate_every=1", "trainer.accelerator=cpu", "trainer.logger=null"]  # fmt: skip


@pytest.fixture
def train(tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    ase.io.write("a.xyz", labelled(6))

    def train(*words):
        return answer(capsys, "train", *TINY, f"data.cache={tmp_path / 'cache'}", *words)

    return train


def files(folder):
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_a_typing_error_does_not_cost_the_finished_run(train, tmp_path):
    assert train("data.files=a.xyz", "folder=run")[0] == 0
    before = files(tmp_path / "run")
    code, said = train("data.files=typo.xyz", "folder=run", "overwrite=true")
    assert code == 2 and "typo.xyz" in one_line(said) and files(tmp_path / "run") == before


def test_an_overwritten_run_is_kept_aside(train, tmp_path):
    assert train("data.files=a.xyz", "folder=run")[0] == 0
    (tmp_path / "run" / "thesis.tex").write_text("years of work")
    before = files(tmp_path / "run")
    for number in (1, 2):
        code, said = train("data.files=a.xyz", "folder=run", "overwrite=true", f"seed={number}")
        assert code == 0 and f"run.old-{number}" in said
    assert files(tmp_path / "run.old-1") == before and (tmp_path / "run" / "model.pt").is_file()


def test_a_config_of_somebody_else_is_not_a_run(train, tmp_path):
    (tmp_path / "thesis").mkdir()
    (tmp_path / "thesis" / "config.yaml").write_text("title: years of work")
    (tmp_path / "thesis" / "chapter.tex").write_text("years of work")
    before = files(tmp_path / "thesis")
    for words in ([], ["overwrite=true"]):
        code, said = train("data.files=a.xyz", "folder=thesis", *words)
        assert code == 2 and "is no run of mlip" in one_line(said) and files(tmp_path / "thesis") == before


@pytest.mark.parametrize("left", ["config.yaml.part", "config.yaml"])
def test_a_run_killed_while_it_wrote_its_config_goes_on(train, tmp_path, left):
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / left).write_text("half of it")
    assert train("data.files=a.xyz", "folder=run")[0] == 0


def test_a_run_whose_data_changed_is_not_continued(train, tmp_path):
    assert train("data.files=a.xyz", "folder=run")[0] == 0
    (tmp_path / "run" / "metrics.json").unlink()  # as if it had been cut off
    before = files(tmp_path / "run")
    frames = labelled(6)
    frames[2].info["REF_energy"] += 1.0
    ase.io.write("a.xyz", frames)
    code, said = train("data.files=a.xyz", "folder=run")
    assert code == 2 and "not those that run was begun with" in one_line(said)
    assert files(tmp_path / "run") == before


def test_a_checkpoint_with_another_cutoff_is_refused(train):
    assert train("data.files=a.xyz", "folder=run", "model.network.cutoff=4.0")[0] == 0
    code, said = train("data.files=a.xyz", "folder=tuned", "checkpoint=run", "model.network.cutoff=4.5")
    assert code == 2 and "cutoff of run is 4.0 Å, here it is 4.5 Å" in one_line(said)
