"""File names with any sign, an ASCII locale, a closed pipe and a full disk: an answer, the exit code, nothing lost."""

import os
import resource
import subprocess
import sys

import ase.io
import pytest
from corpus import answer, crystal, labelled, one_line, train_words, write_model

RUN = [sys.executable, "-c", "import sys; from mlip.cli import main; sys.exit(main(sys.argv[1:]))"]
NAMES = ["T=600K.xyz", "données (1).xyz", "a b.xyz", "x{1}.xyz", "50%.xyz", "it's.xyz", "a,b.xyz", "seed=1/a.xyz"]


@pytest.fixture
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.parametrize("name", NAMES)
def test_a_file_may_have_any_name(name, here, capsys):
    (here / name).parent.mkdir(exist_ok=True)
    ase.io.write(here / name, labelled(4), format="extxyz")
    code, said = answer(capsys, "data", "check", name)
    assert code == 0 and "label doctor" in said, said
    code, said = answer(
        capsys, "train", f"data.files={name}", "trainer.max_steps=-1"
    )  # the numbers come after the words
    assert one_line(said).startswith("mlip: trainer.max_steps=-1"), said


def test_names_in_a_list_need_quotes_and_the_answer_shows_them(here, capsys):
    code, said = answer(capsys, "train", "data.files=[a b (1).xyz]")
    assert code == 2 and """data.files='["my file.xyz",b.xyz]'""" in one_line(said)


def test_a_folder_of_a_sweep_is_a_file_and_a_key_remains_one(here, capsys):
    (here / "sweep" / "seed=1").mkdir(parents=True)
    code, said = answer(capsys, "export", "sweep/seed=1")
    assert code == 2 and "sweep/seed=1" in one_line(said) and "has no 'sweep/seed'" not in said
    (here / "steps=1").mkdir()
    code, said = answer(capsys, "md", "m.pt", "a.xyz", "steps=1")
    assert "no exported model at m.pt" in one_line(said)


def test_an_ascii_locale_costs_letters_and_no_run(here):
    ase.io.write("a.xyz", labelled(10))
    plain = {**os.environ, "LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}
    words = train_words(here / "a.xyz", here / "run")
    done = subprocess.run([*RUN, *words], env=plain, capture_output=True, check=False)
    assert done.returncode == 0, done.stderr.decode(errors="replace")
    assert b"meV/?" in done.stdout and (here / "run" / "model.pt").exists()


def test_a_closed_pipe_ends_with_141_and_the_run_goes_on(here, capsys):
    write_model(here / "m.pt")
    ase.io.write("start.xyz", crystal())
    words = ["md", "m.pt", "start.xyz", "steps=10", "folder=md"]
    reader, writer = os.pipe()
    os.close(reader)
    with subprocess.Popen([*RUN, *words], stdout=writer, stderr=subprocess.PIPE) as process:
        os.close(writer)
        said = process.communicate()[1].decode()
    assert (process.returncode, said) == (
        141,
        "mlip: what read the output has ended (closed pipe); repeat the command to go on\n",
    )
    assert answer(capsys, *words)[0] == 0


@pytest.mark.parametrize(("kilobytes", "where"), [(3, "at its start"), (150, "at its cache"), (82, "at its export")])
def test_a_disk_that_fills_up_is_one_sentence_and_the_run_goes_on(kilobytes, where, here, capsys):
    ase.io.write("a.xyz", labelled(10))
    words = train_words(here / "a.xyz", here / "run")
    if where == "at its export":  # the cache, the largest file, is there; a checkpoint has 75 kB and the model 93
        assert answer(capsys, *train_words(here / "a.xyz", here / "before"))[0] == 0

    def small_files():
        resource.setrlimit(resource.RLIMIT_FSIZE, (kilobytes << 10, kilobytes << 10))

    ended = subprocess.run([*RUN, *words], preexec_fn=small_files, capture_output=True, check=False)
    said = ended.stderr.decode().splitlines()[-1]
    assert ended.returncode == 2 and said.startswith("mlip: ") and "make room and repeat the command" in said, (
        ended,
        where,
    )
    assert (here / "run" / "checkpoints" / "last.ckpt").exists() == (where == "at its export")
    assert not (here / "run" / "model.pt").exists() and not list(here.rglob("*.part"))
    assert answer(capsys, *words)[0] == 0 and (here / "run" / "model.pt").exists()
