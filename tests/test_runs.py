"""Only chargen's own files are removed, leftovers of other runs are no obstacle, and a closed output ends no work."""

from __future__ import annotations

import io
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from chargen.checkpoint import Checkpoint, save_checkpoint
from chargen.errors import ModelError, StorageError
from chargen.io import _HOST
from chargen.run_lock import RunLock
from chargen.run_writer import create_run, stage_run
from chargen.runs import find_model
from chargen.tasks.classification.saved import load_classifier
from chargen.ui.terminal_text import LastingStream
from tests.conftest import random_model, wait_for_file

DEAD = 2**22 + 1  #: above the highest process id of Linux


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def make_run(name: str) -> None:
    with create_run(name) as writer:
        writer.run.model_path.write_bytes(b"model")


@pytest.mark.parametrize("kind", ["new", "old"])
@pytest.mark.parametrize("file", ["thesis.txt", "model.safetensors"])
def test_a_hidden_folder_of_the_user_is_never_removed(kind: str, file: str) -> None:
    make_run("run")
    theirs = Path(f"checkpoints/.run.{kind}", file)
    theirs.parent.mkdir()
    theirs.write_text("mine")
    make_run("other")
    assert theirs.read_text() == "mine"
    with pytest.raises(StorageError, match=r"\.run\.\w+ exists already, and no run wrote it"):
        create_run("run", force=True)
    assert theirs.read_text() == "mine"
    assert Path("checkpoints/run/model.safetensors").read_bytes() == b"model"
    lock = RunLock(Path("checkpoints/run"))
    lock.acquire()  # the refused run has released it
    lock.release()


def test_a_hidden_folder_that_chargen_made_is_removed_after_a_kill() -> None:
    make_run("run")
    writer = create_run("run", force=True)
    assert Path("checkpoints/.run.new").is_dir()
    writer._lock.release()  # as if the process had been killed
    make_run("other")
    assert sorted(os.listdir("checkpoints")) == [".locks", "other", "run"]
    assert sorted(os.listdir("checkpoints/.locks")) == ["other.lock", "run.lock"]


def test_a_staged_folder_leaves_no_marker() -> None:
    with stage_run("x") as writer:
        writer.commit()
    with pytest.raises(KeyboardInterrupt), stage_run("y"):
        raise KeyboardInterrupt
    assert sorted(os.listdir("checkpoints/.locks")) == ["x.lock", "y.lock"]


def test_leftovers_that_cannot_be_removed_do_not_stop_another_run(monkeypatch: pytest.MonkeyPatch) -> None:
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


# ── closed pipes and full disks for the output ────────────────────────────────


def chargen_process(*arguments: str, **how: Any) -> subprocess.Popen[bytes]:
    return subprocess.Popen([sys.executable, "-m", "chargen", *arguments], **how)


@pytest.mark.slow
def test_training_a_classifier_continues_when_its_output_is_closed(verse: str) -> None:
    Path("two.tsv").write_text("".join(f"{'ab'[n % 2]}\t{verse[n * 7 : n * 7 + 40]!r}\n" for n in range(80)))
    read_end, write_end = os.pipe()
    command = ("classify", "--train", "two.tsv", "--hidden", "8", "--steps", "3")
    process = chargen_process(*command, stdout=write_end, stderr=write_end)
    os.close(write_end)
    os.close(read_end)
    assert process.wait(120) == 0
    assert load_classifier(["two"]).labels == ("a", "b")


@pytest.mark.slow
@pytest.mark.skipif(os.name != "posix", reason="this system has no such signals")
@pytest.mark.parametrize(("number", "status"), [(signal.SIGHUP, 129), (signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_a_stopped_run_exits_with_its_status_when_its_output_is_closed(number: int, status: int, verse: str) -> None:
    make_run("run")
    Path("verse.txt").write_text(verse, encoding="utf-8")
    read_end, write_end = os.pipe()
    command = ("train", "verse.txt", "--name", "run", "--force", "--hidden", "1024", "--steps", "100000")
    process = chargen_process(*command, stdout=write_end, stderr=write_end)
    os.close(write_end)
    wait_for_file("checkpoints/.run.new/training_state.safetensors", process)
    os.close(read_end)
    process.send_signal(number)
    assert process.wait(60) == status
    assert Path("checkpoints/run/model.safetensors").read_bytes() == b"model"


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="this system has no /dev/full")
def test_messages_that_cannot_be_written_do_not_change_the_exit_status() -> None:
    with open("/dev/full", "wb") as full:
        assert chargen_process("train", "--no-such-option", stderr=full).wait(60) == 2
        assert chargen_process("info", stdout=subprocess.DEVNULL, stderr=full).wait(60) == 0


class Slow(io.StringIO):
    def write(self, text: str) -> int:
        if text == "lost":
            raise BlockingIOError
        return super().write(text)


def test_only_output_that_would_block_is_dropped() -> None:
    below = Slow()
    stream = LastingStream(below)
    for text in ("one ", "lost", "two"):
        assert stream.write(text) == len(text)
    stream.flush()
    assert below.getvalue() == "one two"


def save_model(name: str, tokenizer: str = "char", **about: Any) -> Path:
    """Save a model whose file is newer than all before it."""
    model = random_model(tokenizer=tokenizer)
    path = Path("checkpoints", name, "model.safetensors")
    save_checkpoint(path, Checkpoint(model.config, model.tokenizer, model.weights, {**model.about, **about}))
    newest = max((other.stat().st_mtime for other in Path("checkpoints").glob("*/*")), default=0.0)
    os.utime(path, (newest + 1.0, newest + 1.0))
    return path


@pytest.mark.parametrize("about", [
    {"choice_loss_nats_per_char": 40.0},  # a file of an earlier version
    {"choice_loss_nats_per_char": 3.0, "uniform_loss_nats_per_char": 2.9},
    {"choice_loss_nats_per_char": 1.0, "uniform_loss_nats_per_char": 2.9, "result": {"val_loss_nats_per_char": 3.0}},
])  # fmt: skip
def test_a_model_that_is_worse_than_the_uniform_distribution_is_not_the_newest(about: dict[str, Any]) -> None:
    good = save_model("good", choice_loss_nats_per_char=2.0)
    junk = save_model("junk", **about)
    assert find_model(None) == good
    assert find_model("junk") == junk
    save_model("pieces", "byte", choice_loss_nats_per_char=7.0)  # a character may be several tokens: no bound is known
    assert find_model(None) == Path("checkpoints/pieces/model.safetensors")


def test_if_every_model_is_worse_than_the_uniform_distribution_the_error_says_so() -> None:
    save_model("junk", choice_loss_nats_per_char=40.0)
    with pytest.raises(ModelError, match="worse than the uniform distribution") as raised:
        find_model(None)
    assert "-m junk" in raised.value.hint
