"""Removing runs and classifiers: only what chargen wrote, and nothing that another process is writing."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from chargen.cli.commands.rm import list_removable_names, removable_runs
from chargen.errors import ChargenError, ModelError, RunInUseError, StorageError
from chargen.run_lock import RunLock
from chargen.run_writer import FILE_MANAGER_FILES, create_run
from chargen.runs import CLASSIFIER_FILE, LOCKS_FOLDER, METRICS_FILE, MODEL_FILE, RUN_FILES, STATE_FILE


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """The runs `full` and `stopped` (without a model), the classifier `letters`, and the folder `mine` of the user."""
    root = tmp_path / "checkpoints"
    for path in (
        *(f"full/{name}" for name in RUN_FILES),
        f"full/.{MODEL_FILE}.0123abcd-17.part",
        f"full/.{MODEL_FILE}.0123abcd-17-140737353963328.part",
        f"stopped/{METRICS_FILE}",
        f"letters/{CLASSIFIER_FILE}",
        *(f"letters/{label}/{MODEL_FILE}" for label in ("english", "français")),
        "mine/notes.txt",
    ):
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).write_bytes(b"twelve bytes")
    return root


def remove(root: Path, *names: str) -> int:
    """Remove runs; return the number of files."""
    with removable_runs(names, root) as runs:
        for run in runs:
            run.remove()
    return sum(len(run.files) for run in runs)


def everything(root: Path) -> list[str]:
    return sorted(str(path.relative_to(root)) for path in root.rglob("*") if LOCKS_FOLDER not in path.parts)


def test_runs_and_classifiers_are_listed_without_folders_of_the_user(root: Path) -> None:
    assert list_removable_names(root) == ["full", "letters", "stopped"]


@pytest.mark.parametrize(("name", "num_files"), [("full", 5), ("stopped", 1), ("letters", 3)])
def test_a_run_is_removed_with_all_its_files_and_nothing_else(root: Path, name: str, num_files: int) -> None:
    others = [path for path in everything(root) if path.split("/")[0] != name]
    assert remove(root, name) == num_files
    assert everything(root) == others
    with pytest.raises(ModelError, match="no run, classifier or forecaster named"):
        remove(root, name)


def test_files_of_file_managers_are_removed_with_a_run(root: Path) -> None:
    for folder in ("full", "letters", "letters/english"):
        for name in FILE_MANAGER_FILES:
            (root / folder / name).write_bytes(b"")
    assert remove(root, "full", "letters") == (5 + 3) + (3 + 3 + 3)
    assert everything(root) == ["mine", "mine/notes.txt", "stopped", f"stopped/{METRICS_FILE}"]


def test_several_runs_are_removed_and_a_name_given_twice_counts_once(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(root.parent)
    assert remove(root, "full", "checkpoints/full", str(root / "full"), "stopped") == 6


@pytest.mark.parametrize(
    "foreign",
    ["full/notes.txt", "full/sub/model.safetensors", "letters/notes.txt", "letters/english/notes.txt",
     "letters/mine/notes.txt", "letters/.locks/notes.txt", "letters/.locks/other.lock", "full/.hidden",
     f"full/{MODEL_FILE}.bak", f"letters/english/sub/{MODEL_FILE}"],
)  # fmt: skip
def test_nothing_is_removed_if_chargen_did_not_write_all_of_it(root: Path, foreign: str) -> None:
    (root / foreign).parent.mkdir(parents=True, exist_ok=True)
    (root / foreign).write_text("mine")
    before = everything(root)
    with pytest.raises(StorageError, match="was not written by chargen; nothing was removed"):
        remove(root, "stopped", foreign.split("/")[0])
    assert everything(root) == before


@pytest.mark.skipif(os.name == "nt", reason="links need a privilege")
@pytest.mark.parametrize("link", ["linked", f"full/{MODEL_FILE}", "letters/english"])
def test_links_are_not_followed_and_not_removed(root: Path, tmp_path: Path, link: str) -> None:
    target = tmp_path / "elsewhere"
    target.mkdir()
    (target / MODEL_FILE).write_bytes(b"mine")
    path = root / link
    if path.is_dir():
        (path / MODEL_FILE).unlink()
        path.rmdir()
    path.unlink(missing_ok=True)
    path.symlink_to(target / MODEL_FILE if link.endswith(MODEL_FILE) else target)
    with pytest.raises(StorageError):
        remove(root, link.split("/")[0])
    assert (target / MODEL_FILE).read_bytes() == b"mine" and path.is_symlink()


@pytest.mark.parametrize("name", ["", ".", "..", "../mine", ".locks", "/", "full/..", "a\0b", "\udcff", "mine"])
def test_what_names_no_run_is_refused(root: Path, name: str) -> None:
    before = everything(root)
    with pytest.raises(ModelError):
        remove(root, name)
    assert everything(root) == before


def test_a_run_outside_the_folder_of_runs_is_refused(root: Path, tmp_path: Path) -> None:
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / MODEL_FILE).write_bytes(b"")
    with pytest.raises(ModelError):
        remove(root, str(tmp_path / "run"))


def test_an_unknown_name_suggests_runs_and_classifiers(root: Path) -> None:
    for wrong, right in (("ful", "full"), ("leters", "letters"), ("Stoped", "stopped")):
        with pytest.raises(ChargenError) as caught:
            remove(root, wrong)
        assert f"Did you mean {right!r}?" in caught.value.hint


def test_a_run_that_is_being_written_is_refused(root: Path) -> None:
    with create_run("new", root=root) as writer:
        writer.run.state_path.write_bytes(b"")
        with pytest.raises(RunInUseError, match="being written"):
            remove(root, "full", "new")
    assert (root / "full" / STATE_FILE).exists()
    assert remove(root, "full", "new") == 6


def test_a_classifier_whose_run_is_being_written_is_refused(root: Path) -> None:
    lock = RunLock(root / "letters" / "english")
    lock.acquire()
    with pytest.raises(RunInUseError, match="being written"):
        remove(root, "letters")
    lock.release()
    remove(root, "letters")
    assert "letters" not in os.listdir(root)


def test_a_run_is_locked_while_the_user_is_asked(root: Path) -> None:
    with removable_runs(["full"], root), pytest.raises(RunInUseError):
        create_run("full", force=True, root=root)
    with create_run("full", force=True, root=root):
        pass
