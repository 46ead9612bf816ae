"""Names of runs beside files of the same name: which one a command means, and what it says if it means neither."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from chargen.checkpoint import save_checkpoint
from tests.conftest import VERSE, Result, random_model

Chargen = Callable[..., Result]
QUICK = ("--steps", "3", "--hidden", "8", "--batch", "2", "--seq-len", "8")


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    Path("names").write_text(VERSE * 4, encoding="utf-8")
    return tmp_path


@pytest.mark.parametrize(
    "command",
    [
        ["sample", "-m", "names", "--length", "5"], ["score", "-m", "names", "ab"], ["info", "names"],
        ["eval", "-m", "names", "names"], ["compare", "names", "names", "names"], ["rescore", "-m", "names"],
        ["train", "names", "--init-from", "names", "--steps", "1", "--name", "second"],
        ["classify", "-m", "names", "-m", "./checkpoints/names", "ab"],
    ],
    ids=" ".join,
)  # fmt: skip
def test_the_name_of_a_run_comes_before_the_text_of_that_name(chargen: Chargen, command: list[str]) -> None:
    assert chargen("train", "names", *QUICK).status == 0
    Path("list.txt").write_text("0 ||| ab ||| f= 1 ||| -9\n")
    result = chargen(*command, *(["--file", "list.txt"] if command[0] == "rescore" else []))
    assert result.status == 0, result.err


def test_a_model_file_comes_before_the_run_of_that_name(chargen: Chargen) -> None:
    save_checkpoint(Path("checkpoints/m/model.safetensors"), random_model())
    save_checkpoint(Path("m"), random_model(hidden_size=5))
    assert json.loads(chargen("info", "m", "--json").out)["hidden_size"] == 5


@pytest.mark.parametrize("encoding", ["utf-8", "latin-1", "cp1252"])
def test_a_text_given_as_a_model_is_trained_on_first(chargen: Chargen, encoding: str) -> None:
    Path("my text.txt").write_text("one café,\ntwo\tthree\n", encoding=encoding)
    for command in (["sample", "-m"], ["info"], ["score", "a", "-m"], ["train", "names", "--init-from"]):
        result = chargen(*command, "my text.txt")
        assert result.status == 1
        assert "my text.txt is a text, not a model file" in result.err
        assert "chargen train 'my text.txt'" in result.err


def test_what_is_neither_a_text_nor_a_model_is_not_called_a_text(chargen: Chargen) -> None:
    for content in (b"", b"\x00\x01binary", b"\x89PNG\r\n\x1a\n\0\0\0"):
        Path("file").write_bytes(content)
        result = chargen("info", "file")
        assert result.status == 1
        assert "damaged or not a model" in result.err


def test_upper_and_lower_case_do_not_prevent_a_suggestion(chargen: Chargen) -> None:
    for name in ("M", "Verse"):
        save_checkpoint(Path("checkpoints") / name / "model.safetensors", random_model())
    for wrong, right in (("m", "M"), ("VERSE", "Verse"), ("verze", "Verse")):
        if not Path("checkpoints", wrong).exists():  # it exists where the file system ignores case
            assert f"Did you mean '{right}'?" in chargen("sample", "-m", wrong).err


@pytest.mark.parametrize(
    "path", ["checkpoints/cut", "./checkpoints/cut/", "checkpoints/cut/model.safetensors",
             "checkpoints/cut/training_state.safetensors", "cut"],
)  # fmt: skip
def test_resume_takes_a_path_as_model_does(chargen: Chargen, path: str) -> None:
    assert chargen("train", "names", *QUICK, "--name", "cut", "--stop-after", "1").status == 130
    result = chargen("train", "--resume", path)
    assert result.status == 0, result.err
    assert "is taken" not in result.err
    assert sorted(os.listdir("checkpoints")) == [".locks", "cut"]


def test_a_run_elsewhere_is_resumed_by_its_absolute_path(chargen: Chargen, folder: Path) -> None:
    assert chargen("train", "names", *QUICK, "--name", "cut", "--stop-after", "1").status == 130
    Path("checkpoints").rename("elsewhere")
    result = chargen("train", "names", "--resume", str(folder / "elsewhere" / "cut"))
    assert result.status == 0, result.err
    assert not Path("checkpoints").exists()


def test_a_model_that_is_given_as_a_text_is_named(chargen: Callable[..., Result]) -> None:
    save_checkpoint(Path("checkpoints/kieu/model.safetensors"), random_model())
    Path("kieu.txt").write_text(VERSE, encoding="utf-8")
    refused = chargen("eval", "kieu", "kieu.txt")
    assert refused.status == 2
    assert "kieu is the name of a model, not a text. Did you mean -m kieu?" in refused.err
    assert "Did you mean --resume kieu?" in chargen("train", "kieu").err
    Path("kieu").write_text(VERSE, encoding="utf-8")
    assert chargen("eval", "kieu").status == 0  # a file of this name is the text


@pytest.mark.parametrize(
    "command", [["train", "--steps", "1", "--hidden", "4"], ["corpora", "check"], ["eval", "-m", "m"]]
)
def test_a_file_with_the_name_of_a_built_in_corpus_gets_one_note(chargen: Chargen, command: list[str]) -> None:
    save_checkpoint(Path("m"), random_model())
    Path("alphabet").write_text(VERSE * 20, encoding="utf-8")
    read = chargen(*command, "alphabet")
    assert read.status == 0, read.err
    assert read.err.count("note: the file alphabet is read, and not the built-in corpus of the same name") == 1
    assert "rename the file" in read.err and "chargen corpora get alphabet" in read.err
    assert "built-in" not in chargen(*command, "./alphabet").err  # a path is clear
    Path("alphabet").rename("alphabet.txt")
    read = chargen(*command, "alphabet")
    assert read.err.count("note: the built-in corpus alphabet is read, and not the file alphabet.txt") == 1
    assert "built-in" not in chargen(*command, "alphabet.txt").err


def test_the_default_corpus_and_that_of_a_resumed_run_can_be_hidden_by_a_file(chargen: Chargen) -> None:
    assert chargen("train", "alphabet", "--steps", "1", "--hidden", "4", "--name", "a").status == 0
    Path("alphabet").write_text(VERSE * 20, encoding="utf-8")
    refused = chargen("train", "--resume", "a", "--steps", "2")
    assert refused.status == 1 and "there is a file or folder of that name here" in refused.err
    Path("python-docs").write_text(VERSE * 20, encoding="utf-8")
    assert "the file python-docs is read" in chargen("train", "--steps", "1", "--hidden", "4").err


@pytest.mark.parametrize(
    ("words", "meant"),
    [
        ("score -m m --file texts/kieu.tx", "texts/kieu.txt"), ("score -m m --file kieu.tx", "kieu.txt"),
        ("classify --train cls.tvs", "cls.tsv"), ("classify -m m -m n --file kieu.tx", "kieu.txt"),
        ("classify -m m -m n --labelled cls.tvs", "cls.tsv"),
        ("rescore -m m --file nbest.tx", "nbest.txt"), ("rescore -m m --file nbest.txt --tune kieu.tx", "kieu.txt"),
        ("eval -m m kieu.tx", "kieu.txt"), ("eval -m m texts/kieu.tx", "texts/kieu.txt"),
        ("sample -m m --prompt-file kieu.tx", "kieu.txt"), ("train kieu.txt --val kieu.tx", "kieu.txt"),
        ("sample -m ./small.safetensor", "./small.safetensors"), ("info smal.safetensors", "small.safetensors"),
        ("train kieu.txt --tokenizer sp:piece.model", "pieces.model"),
        ("score -m m --file file:///nowhere/a", ""),
    ],
)  # fmt: skip
def test_the_most_similar_file_is_suggested_for_a_missing_one(chargen: Chargen, words: str, meant: str) -> None:
    Path("texts").mkdir()
    for name in ("kieu.txt", "texts/kieu.txt", "cls.tsv", "nbest.txt", "pieces.model"):
        Path(name).write_text("0 ||| ab ||| f= 1 ||| -9\n")
    for name in ("m", "n"):
        save_checkpoint(Path(f"checkpoints/{name}/model.safetensors"), random_model())
    save_checkpoint(Path("small.safetensors"), random_model())
    result = chargen(*words.split())
    error = " ".join(result.err.split())
    assert result.status in (1, 2) and "permission" not in error
    assert f"Did you mean '{meant}'?" in error if meant else "Did you mean" not in error


@pytest.mark.skipif(os.name != "posix" or os.geteuid() == 0, reason="needs a user whose rights are checked")
def test_only_a_file_without_read_permission_gets_the_hint_about_it(chargen: Chargen) -> None:
    save_checkpoint(Path("checkpoints/m/model.safetensors"), random_model())
    Path("secret.txt").write_text("a\n")
    Path("secret.txt").chmod(0)
    assert "permission to read it" in chargen("score", "-m", "m", "--file", "secret.txt").err


def test_a_folder_given_as_a_file_is_named_as_one(chargen: Chargen) -> None:
    save_checkpoint(Path("checkpoints/m/model.safetensors"), random_model())
    assert "Give the name of a file, not of a folder." in chargen("score", "-m", "m", "--file", "checkpoints").err
