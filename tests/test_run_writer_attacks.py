"""Foreign files with the names of a run's folders, locks and files are never removed, and never block a process."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from chargen.errors import RunInUseError, StorageError
from chargen.io import _partial_name, write_atomically
from chargen.run_lock import RunLock
from chargen.run_writer import FILE_MANAGER_FILES, create_run, resume_run, stage_run

LOCKS = Path("checkpoints/.locks")
PRECIOUS = b"precious"


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def put(path: str) -> Path:
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    Path(path).write_bytes(PRECIOUS)
    return Path(path)


@pytest.mark.parametrize(
    "name",
    [".git.old/HEAD", ".git.old/objects/12", ".thesis.new/model.safetensors.txt", ".x.new/a/b/model.safetensors"],
)
def test_hidden_folders_of_other_programs_are_not_removed(name: str) -> None:
    others = put(f"checkpoints/{name}")
    for writer in (create_run("run"), stage_run("classifier")):
        with writer:
            pass
    assert others.read_bytes() == PRECIOUS


@pytest.mark.parametrize("name", FILE_MANAGER_FILES)
def test_a_file_of_a_file_manager_is_removed_with_a_run(name: str) -> None:
    put("checkpoints/run/model.safetensors")
    put(f"checkpoints/run/{name}")
    with create_run("run", force=True) as writer:
        put(f"{writer.run.folder}/metrics.jsonl")
        put(f"checkpoints/run/{name}")  # also during the training
        writer.commit()
    assert os.listdir("checkpoints/run") == ["metrics.jsonl"]
    with pytest.raises(KeyboardInterrupt), create_run("stopped") as writer:
        put(f"{writer.run.folder}/{name}")
        raise KeyboardInterrupt
    assert sorted(os.listdir("checkpoints")) == [".locks", "run"]


@pytest.mark.parametrize("name", FILE_MANAGER_FILES)
def test_a_folder_with_the_name_of_such_a_file_is_not_removed(name: str) -> None:
    put("checkpoints/run/model.safetensors")
    others = put(f"checkpoints/run/{name}/notes")
    with pytest.raises(StorageError, match="which no run wrote"):
        create_run("run", force=True)
    assert others.read_bytes() == PRECIOUS


def test_partial_files_of_other_programs_are_not_removed() -> None:
    others, ours = put("checkpoints/docs/.film.12.part"), put("checkpoints/docs/.model.safetensors.12.part")
    for path in (others, ours):
        os.utime(path, (0, 0))
    with create_run("run"):
        assert others.exists()
        assert not ours.exists()


def test_a_run_is_not_replaced_if_a_foreign_hidden_folder_exists() -> None:
    put("checkpoints/run/model.safetensors")
    others = put("checkpoints/.run.old/notes")
    with pytest.raises(StorageError, match="exists already, and no run wrote it"):
        create_run("run", force=True)
    assert others.exists()
    assert Path("checkpoints/run/model.safetensors").read_bytes() == PRECIOUS


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="this system has no FIFOs")
@pytest.mark.parametrize("kind", ["link", "fifo", "folder"])
def test_a_foreign_owner_file_is_neither_followed_nor_does_it_block(kind: str) -> None:
    others, owner = put("others"), LOCKS / "run.owner"
    LOCKS.mkdir(parents=True)
    if kind == "link":
        owner.symlink_to(others.resolve())
    elif kind == "fifo":
        os.mkfifo(owner)
    else:
        owner.mkdir()
    for _ in range(2):
        with create_run("run", force=True), pytest.raises(RunInUseError):
            RunLock(Path("checkpoints/run")).acquire()
    assert others.read_bytes() == PRECIOUS


@pytest.mark.parametrize(
    "owner", [b'{"process_id": 1e400, "since": ""}', b"[" * 100_000, b'{"process_id": Infinity}', b"[]", b"\0" * 10_000]
)
def test_an_invalid_owner_file_is_reported_as_another_process(owner: bytes) -> None:
    with create_run("run"):
        (LOCKS / "run.owner").write_bytes(owner)
        with pytest.raises(RunInUseError, match="another process"):
            RunLock(Path("checkpoints/run")).acquire()


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="this system has no FIFOs")
def test_a_fifo_as_owner_file_does_not_block() -> None:
    with create_run("run"):
        (LOCKS / "run.owner").unlink()
        os.mkfifo(LOCKS / "run.owner")
        with pytest.raises(RunInUseError, match="another process"):
            RunLock(Path("checkpoints/run")).acquire()


def test_a_run_that_cannot_be_locked_does_not_stop_other_runs() -> None:
    put("others")
    Path("checkpoints/.broken.new").mkdir(parents=True)
    LOCKS.mkdir()
    (LOCKS / "broken.lock").symlink_to(Path("others").resolve())
    with create_run("run") as writer:
        assert writer.run.folder.is_dir()
    assert Path("others").read_bytes() == PRECIOUS


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="this system has no FIFOs")
@pytest.mark.parametrize("kind", ["link", "fifo"])
@pytest.mark.parametrize("name", ["metrics.jsonl", "model.safetensors", "training_state.safetensors"])
def test_a_run_with_links_or_fifos_as_files_is_not_resumed(name: str, kind: str) -> None:
    others, path = put("others"), Path("checkpoints/run", name)
    path.parent.mkdir(parents=True)
    if kind == "link":
        path.symlink_to(others.resolve())
    else:
        os.mkfifo(path)
    with pytest.raises(StorageError, match="is a symbolic link" if kind == "link" else "is not a regular file"):
        resume_run("run")
    assert others.read_bytes() == PRECIOUS


def test_a_link_with_the_name_of_a_partial_file_is_not_followed() -> None:
    others = put("others")
    Path(_partial_name("page.html")).symlink_to(others.resolve())
    write_atomically(Path("page.html"), [b"new"])
    assert Path("page.html").read_bytes() == b"new"
    assert not Path("page.html").is_symlink()
    assert others.read_bytes() == PRECIOUS
