"""Nothing is removed that chargen did not make, and leftovers of other runs stop none."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from chargen.errors import StorageError
from chargen.files import _HOST
from chargen.run_writer import RunLock, create_run, stage_run

DEAD = 2**22 + 1  #: above the highest number that Linux gives a process


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def make_run(name: str) -> None:
    with create_run(name) as writer:
        writer.run.model.write_bytes(b"model")


@pytest.mark.parametrize("kind", ["new", "old"])
@pytest.mark.parametrize("file", ["thesis.txt", "model.safetensors"])
def test_a_hidden_folder_of_a_person_is_never_removed(kind: str, file: str) -> None:
    make_run("run")
    theirs = Path(f"checkpoints/.run.{kind}", file)
    theirs.parent.mkdir()
    theirs.write_text("mine")
    make_run("other")
    assert theirs.read_text() == "mine"
    with pytest.raises(StorageError, match=r"\.run\.\w+ is in the way, and no run wrote it"):
        create_run("run", force=True)
    assert theirs.read_text() == "mine"
    assert Path("checkpoints/run/model.safetensors").read_bytes() == b"model"
    lock = RunLock(Path("checkpoints/run"))
    lock.acquire()  # the refused one holds it no longer
    lock.release()


def test_a_hidden_folder_that_chargen_made_is_removed_after_a_kill() -> None:
    make_run("run")
    writer = create_run("run", force=True)
    assert Path("checkpoints/.run.new").is_dir()
    writer._lock.release()  # as the end of the process does
    make_run("other")
    assert sorted(os.listdir("checkpoints")) == [".locks", "other", "run"]
    assert sorted(os.listdir("checkpoints/.locks")) == ["other.lock", "run.lock"]


def test_a_staged_folder_leaves_no_mark_however_it_ends() -> None:
    with stage_run("x") as writer:
        writer.commit()
    with pytest.raises(KeyboardInterrupt), stage_run("y"):
        raise KeyboardInterrupt
    assert sorted(os.listdir("checkpoints/.locks")) == ["x.lock", "y.lock"]


def test_leftovers_that_cannot_be_removed_stop_no_other_run(monkeypatch: pytest.MonkeyPatch) -> None:
    make_run("archive")
    left = Path(f"checkpoints/archive/.model.safetensors.{_HOST}-{DEAD}.part")
    left.write_bytes(b"half")

    def refuse(path: Path, *args: object, **more: object) -> None:
        raise PermissionError(13, "Permission denied", str(path))

    with monkeypatch.context() as patched:
        patched.setattr(Path, "unlink", refuse)
        writer = create_run("other")
    with writer:
        assert writer.run.name == "other"
    assert left.exists()
