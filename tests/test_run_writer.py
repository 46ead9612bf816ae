"""One process at a time writes a run, and a run is replaced only by one that has a model."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from chargen.api import load
from chargen.checkpoint import load_checkpoint, save_checkpoint
from chargen.errors import ConfigError, DivergenceError, ModelError, RunInUseError, StoppedError, StorageError
from chargen.io import _HOST, open_atomically, remove_stale_partial_files, write_atomically
from chargen.run_lock import RunLock
from chargen.run_writer import create_run, resume_run, stage_run
from chargen.runs import RUN_FILES, find_model, find_run, list_run_names
from chargen.training.choices import ModelChoices, RunLength, TrainChoices
from chargen.training.events import Progress, Started
from chargen.training.run import Plan, train
from tests.conftest import VERSE, Result, corpus_of, random_model, run_plan, wait_for_file

SMALL = {"cell": "gru", "hidden_size": 16, "embedding_dim": 8}
TRAIN = TrainChoices(batch_size=4, seq_len=8)
Chargen = Callable[..., Result]
QUICK = ("--steps", "3", "--hidden", "8", "--batch", "2", "--seq-len", "8")


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def plan(text: str, **more) -> Plan:
    model = ModelChoices(**more.pop("model", SMALL))
    length = RunLength(**more.pop("length", {"steps": 30}))
    return Plan(corpus_of(text), "run", length, model=model, train=TRAIN, **more)


def files_of(name: str = "run") -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in Path("checkpoints", name).iterdir()}


def python(code: str, **more) -> subprocess.Popen[str]:
    return subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True, **more)


# ── --force ───────────────────────────────────────────────────────────────────


def test_force_keeps_the_old_run_until_the_new_one_has_a_model(verse: str) -> None:
    run_plan(plan(verse))
    before, seen = files_of(), []
    for report in train(plan(verse, force=True, length={"steps": 120})):
        if isinstance(report, Started | Progress) and files_of() == before:
            seen.append(find_model("run").read_bytes() == before["model.safetensors"])
    assert seen
    assert all(seen)
    assert set(files_of()) == set(RUN_FILES)
    assert files_of()["model.safetensors"] != before["model.safetensors"]
    assert sorted(os.listdir("checkpoints")) == [".locks", "run"]


@pytest.mark.parametrize(
    "fails_in", ["chargen.training.loop.build_loop", "chargen.training.trainer.Trainer.train_step"]
)
def test_force_leaves_the_old_run_unchanged_if_the_new_one_fails(verse: str, fails_in: str, monkeypatch) -> None:
    run_plan(plan(verse))
    before = files_of()

    def fail(*args: object, **more: object) -> None:
        raise DivergenceError("the loss is nan")

    monkeypatch.setattr("chargen.training.run._prepare_network", lambda *_: None)  # it makes a step, too
    monkeypatch.setattr(fails_in, fail)
    with pytest.raises(DivergenceError):
        run_plan(plan(verse, force=True))
    assert files_of() == before
    assert sorted(os.listdir("checkpoints")) == [".locks", "run"]


def test_force_leaves_the_old_run_if_the_new_one_is_stopped_before_its_first_validation(verse: str) -> None:
    run_plan(plan(verse))
    before = files_of()
    for call in range(7):
        calls = iter(range(10_000))
        with pytest.raises(StoppedError, match="nothing was saved or changed"):
            list(train(plan(verse, force=True, length={"steps": 5000}), stop=lambda: next(calls) >= call))  # noqa: B023
        assert files_of() == before


def test_force_leaves_the_old_run_if_the_new_one_is_not_finished(verse: str) -> None:
    run_plan(plan(verse))
    before = files_of()
    reports = train(plan(verse, force=True, length={"steps": 5000}))
    assert isinstance(next(reports), Started)
    reports.close()  # type: ignore[attr-defined]
    assert files_of() == before


@pytest.mark.slow
@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="this system has no SIGKILL")
def test_force_leaves_the_old_run_if_the_process_is_killed_and_the_next_run_removes_its_files(verse: str) -> None:
    run_plan(plan(verse))
    before = files_of()
    Path("verse.txt").write_text(verse, encoding="utf-8")
    command = [sys.executable, "-m", "chargen", "train", "verse.txt", "--name", "run", "--force", "--hidden", "1024"]
    process = subprocess.Popen([*command, "--steps", "100000"], stderr=subprocess.DEVNULL)
    wait_for_file("checkpoints/.run.new/training_state.safetensors", process)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert files_of() == before
    assert load("run").checkpoint.config.hidden_size == 16
    run_plan(plan(verse, force=True))
    assert sorted(os.listdir("checkpoints")) == [".locks", "run"]


def test_an_interrupted_exchange_of_folders_is_finished(verse: str) -> None:
    run_plan(plan(verse))
    model = files_of()["model.safetensors"]
    marker = Path("checkpoints/.locks/run.staged")
    marker.touch()
    os.rename("checkpoints/run", "checkpoints/.run.new")
    assert find_model("run").read_bytes() == model  # readers need no lock
    with resume_run("run") as writer:
        assert writer.run.folder == Path("checkpoints/run")
    marker.touch()
    os.rename("checkpoints/run", "checkpoints/.run.old")
    with resume_run("run"):
        assert files_of()["model.safetensors"] == model
    assert sorted(os.listdir("checkpoints")) == [".locks", "run"]


def test_a_hidden_folder_of_the_user_is_not_used_as_a_run() -> None:
    for name in (".run.old", ".run.new"):
        save_checkpoint(Path("checkpoints", name, "model.safetensors"), random_model())
    with pytest.raises(ModelError, match="no model named 'run'"):
        find_model("run")
    with create_run("run"):
        pass
    assert {".run.new", ".run.old"} < set(os.listdir("checkpoints"))


def test_an_incomplete_last_line_of_the_metrics_is_removed(verse: str) -> None:
    run_plan(plan(verse, stop_after=10))
    with open("checkpoints/run/metrics.jsonl", "a") as file:
        file.write('{"event": "prog')
    run_plan(plan(verse, length={}, resume="run"))
    lines = Path("checkpoints/run/metrics.jsonl").read_text().splitlines()
    assert [json.loads(line)["event"] for line in lines][-1] == "finished"


@pytest.mark.parametrize("name", [".git/x", ".notes", "model.safetensors.backup/x", "model.safetensors2", "notes.txt"])
def test_force_refuses_a_folder_with_files_that_no_run_wrote(name: str, verse: str) -> None:
    run_plan(plan(verse))
    foreign = Path("checkpoints/run", name)
    foreign.parent.mkdir(exist_ok=True)
    foreign.write_text("mine")
    with pytest.raises(StorageError, match="which no run wrote"):
        run_plan(plan(verse, force=True))
    assert foreign.read_text() == "mine"
    assert Path("checkpoints/run/model.safetensors").exists()


def test_force_keeps_a_symbolic_link_and_replaces_its_target(verse: str) -> None:
    run_plan(plan(verse))
    Path("disk").mkdir()
    os.rename("checkpoints/run", "disk/run")
    os.symlink("../disk/run", "checkpoints/run")
    run_plan(plan(verse, force=True))
    assert os.path.islink("checkpoints/run")
    assert set(os.listdir("disk/run")) == set(RUN_FILES)


def test_partial_files_of_killed_processes_are_removed_by_the_next_run(verse: str) -> None:
    run_plan(plan(verse))
    dead = python("import os; print(os.getpid())")
    number = int(dead.communicate()[0])
    left = Path(f"checkpoints/run/.model.safetensors.{_HOST}-{number}.part")
    left.write_bytes(b"half")
    mine = Path(f"checkpoints/run/.metrics.jsonl.{_HOST}-{os.getpid()}.part")
    mine.write_bytes(b"being written")
    run_plan(plan(verse, length={"steps": 40}, resume="run"))
    assert not left.exists()
    assert mine.exists() or os.name != "posix"
    other_machine = Path(f"checkpoints/.x.{'0' * 8}-{number}.part")
    other_machine.write_bytes(b"half")
    assert remove_stale_partial_files(Path("checkpoints")) == (0, 0)
    os.utime(other_machine, (0, 0))
    assert remove_stale_partial_files(Path("checkpoints")) == (1, 4)


# ── locks ─────────────────────────────────────────────────────────────────────


def test_a_run_that_another_process_writes_can_be_read_but_not_written(verse: str, chargen: Chargen) -> None:
    Path("verse.txt").write_text(verse, encoding="utf-8")
    run_plan(plan(verse))
    code = (
        "from chargen.run_writer import resume_run\nimport sys\n"
        "with resume_run('run'):\n    print('held', flush=True)\n    sys.stdin.read()"
    )
    holder = python(code, stdin=subprocess.PIPE)
    try:
        assert holder.stdout is not None
        assert holder.stdout.readline() == "held\n"
        for more in ({"resume": "run", "length": {"steps": 60}}, {"force": True}):
            with pytest.raises(RunInUseError, match=rf"'run' is being written by process {holder.pid} \(since 20"):
                run_plan(plan(verse, **more))
        failed = chargen("train", "--resume", "run")
        assert (failed.status, failed.out) == (1, "")
        assert f"process {holder.pid}" in failed.err
        assert len(failed.err.splitlines()) == 2
        assert load("run").score("The fox").chars == 7
    finally:
        holder.kill()
        holder.communicate()
    run_plan(plan(verse, length={"steps": 40}, resume="run"))  # the lock has ended with its process


def test_a_paused_run_keeps_its_lock(verse: str) -> None:
    run_plan(plan(verse, stop_after=10))
    reports = train(plan(verse, length={}, resume="run"))
    next(reports)  # the run is paused here
    with pytest.raises(RunInUseError):
        run_plan(plan(verse, length={}, resume="run"))
    reports.close()  # type: ignore[attr-defined]
    _, finished = run_plan(plan(verse, length={}, resume="run"))
    assert finished.steps == 30


def test_the_error_waits_for_a_process_that_has_just_taken_the_lock_and_names_it() -> None:
    with create_run("x"):
        owner = Path("checkpoints/.locks/x.owner")
        about = owner.read_bytes()
        owner.unlink()
        late = threading.Timer(0.1, owner.write_bytes, [about])
        late.start()
        with pytest.raises(RunInUseError, match=rf"process {os.getpid()} \(since"):
            RunLock(Path("checkpoints/x")).acquire()
        late.join()


def test_only_one_of_twenty_threads_gets_a_lock() -> None:
    got, refused = [], []
    all_tried = threading.Barrier(20)

    def attempt() -> None:
        lock = RunLock(Path("checkpoints/x"))
        try:
            lock.acquire()
            got.append(lock)
        except RunInUseError:
            refused.append(lock)
        all_tried.wait()

    threads = [threading.Thread(target=attempt) for _ in range(20)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert (len(got), len(refused)) == (1, 19)
    got[0].release()
    refused[0].acquire()
    refused[0].release()


def test_staged_folders_appear_only_on_commit() -> None:
    with stage_run("x") as writer:
        (writer.run.folder / "a").write_text("1")
        assert not Path("checkpoints/x").exists()
        with stage_run("x") as other:
            assert other.run.name == "x-2"
            other.commit()
        writer.commit()
        assert Path("checkpoints/x/a").read_text() == "1"
    with pytest.raises(KeyboardInterrupt), stage_run("x") as writer:
        assert writer.run.name == "x-3"
        raise KeyboardInterrupt
    assert sorted(os.listdir("checkpoints")) == [".locks", "x", "x-2"]


# ── a run that fails ──────────────────────────────────────────────────────────


def test_a_run_that_fails_in_its_first_step_leaves_no_folder(verse: str, monkeypatch) -> None:
    def fail(*args: object) -> None:
        raise MemoryError

    monkeypatch.setattr("chargen.training.run._prepare_network", lambda *_: None)  # it makes a step, too
    monkeypatch.setattr("chargen.training.trainer.Trainer.train_step", fail)
    with pytest.raises(MemoryError):
        run_plan(plan(verse))
    assert os.listdir("checkpoints") == [".locks"]


def test_the_error_names_a_folder_that_is_deleted_during_training(verse: str) -> None:
    reports = train(plan(verse, length={"steps": 5000}))
    next(reports)
    for path in Path("checkpoints/run").iterdir():
        path.unlink()
    Path("checkpoints/run").rmdir()
    with pytest.raises(StorageError, match="was deleted or renamed during training"):
        list(reports)
    assert not Path("checkpoints/run").exists()


# ── names ─────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("name", ["a/b", "..", "", "a\0b", "\x1b[31m", "caf\udce9", ".hidden", "a\nb", "a\\b"])
def test_an_invalid_name_is_refused_before_any_folder_is_made(name: str) -> None:
    with pytest.raises(ConfigError, match="cannot name a run"):
        create_run(name)
    assert not Path("checkpoints").exists()


@pytest.mark.parametrize("name", ["người", "a b", "-x", "日本語", "a.b"])
def test_any_script_can_name_a_run(name: str, verse: str) -> None:
    save_checkpoint(Path("checkpoints", name, "model.safetensors"), random_model())
    assert list_run_names() == [name]
    assert find_run(name).name == name


@pytest.mark.skipif(sys.platform != "linux", reason="this system has no file names outside UTF-8")
def test_files_whose_names_are_not_utf8_can_be_used_for_training_and_resuming(chargen: Chargen, verse: str) -> None:
    corpus, held_out = "caf\udce9.txt", "th\udce9.txt"
    for name in (corpus, held_out):
        Path(name).write_text(verse, encoding="utf-8")
    trained = chargen("train", corpus, "--val", held_out, *QUICK)
    assert trained.status == 0, trained.err
    (name,) = list_run_names()
    name.encode("utf-8")
    assert chargen("train", "--resume", name, "--steps", "5").status == 0
    assert chargen("train", "x.txt", "--name", "\udcff").status == 2


def test_no_model_is_found_under_an_empty_name() -> None:
    for spec in ("", "a\0b"):
        with pytest.raises(ModelError, match="cannot name a model"):
            find_model(spec)


# ── resuming ──────────────────────────────────────────────────────────────────

CONTRADICTIONS = [
    ("--hidden", "9"), ("--cell", "lstm"), ("--lr", "0.5"), ("--seed", "3"), ("--tokenizer", "byte"),
    ("--documents", "line"), ("--val-fraction", "0.2"), ("--name", "other"), ("--batch", "3"), ("--ngrams", "3"),
    ("--newline", "keep"), ("--encoding", "latin-1"), ("--dropout", "0.3"), ("--tie-weights",), ("--clip", "7"),
    ("--force",), ("--new-chars", "error"), ("--val", "verse.txt"), ("--text-field", "body"),
]  # fmt: skip


@pytest.mark.parametrize("option", CONTRADICTIONS, ids=lambda option: option[0])
def test_the_error_names_an_option_that_contradicts_the_run_to_resume(
    option: tuple[str, ...], chargen: Chargen, verse: str
) -> None:
    Path("verse.txt").write_text(verse, encoding="utf-8")
    run_plan(Plan(corpus_of(verse), "run", RunLength(steps=2), model=ModelChoices(**SMALL), train=TRAIN))
    before = files_of()
    refused = chargen("train", "verse.txt", "--resume", "run", "--steps", "4", *option)
    assert refused.status == 2
    assert option[0] in refused.err
    assert files_of() == before


def test_options_that_agree_with_the_run_to_resume_are_accepted(chargen: Chargen, verse: str) -> None:
    Path("verse.txt").write_text(verse, encoding="utf-8")
    run_plan(Plan(corpus_of(verse), "run", RunLength(steps=2), model=ModelChoices(**SMALL), train=TRAIN))
    same = ("--hidden", "16", "--cell", "gru", "--seed", "0", "--batch", "4", "--name", "run")
    assert chargen("train", "verse.txt", "--resume", "run", "--steps", "4", *same).status == 0
    with pytest.raises(ConfigError, match="hidden_size is 99"):
        run_plan(Plan(corpus_of(verse), "run", RunLength(steps=6), model=ModelChoices(hidden_size=99), resume="run"))


def test_another_validation_text_is_refused_when_resuming(chargen: Chargen, verse: str) -> None:
    Path("verse.txt").write_text(verse, encoding="utf-8")
    Path("val.txt").write_text(VERSE, encoding="utf-8")
    assert chargen("train", "verse.txt", "--val", "val.txt", "--name", "run", *QUICK).status == 0
    Path("same.txt").write_text(VERSE, encoding="utf-8")
    assert chargen("train", "--resume", "run", "--val", "same.txt", "--steps", "4").status == 0
    Path("same.txt").write_text(VERSE + "more\n", encoding="utf-8")
    assert "had 138 bytes" in chargen("train", "--resume", "run", "--steps", "5").err
    refused = chargen("train", "--resume", "run", "--steps", "5", "--val", "same.txt")
    assert refused.status == 2
    assert "same.txt is not the validation text" in refused.err


# ── output files ──────────────────────────────────────────────────────────────


def test_a_symbolic_link_is_followed_and_permissions_are_kept() -> None:
    Path("real").write_text("old")
    os.chmod("real", 0o640)
    os.symlink("real", "link")
    write_atomically(Path("link"), [b"new"])
    assert os.path.islink("link")
    assert Path("real").read_text() == "new"
    assert os.stat("real").st_mode & 0o777 == 0o640
    os.symlink("not-yet", "dangling")
    write_atomically(Path("dangling"), [b"made"])
    assert Path("not-yet").read_text() == "made"


def test_a_read_only_file_and_a_folder_are_refused() -> None:
    Path("kept").write_text("old")
    os.chmod("kept", 0o444)
    with pytest.raises(StorageError, match="read-only"):
        write_atomically(Path("kept"), [b"new"])
    assert Path("kept").read_text() == "old"
    Path("folder").mkdir()
    with pytest.raises(StorageError, match="folder cannot be written"):
        write_atomically(Path("folder"), [b"new"])
    assert sorted(os.listdir()) == ["folder", "kept"]


@pytest.mark.skipif(os.name != "posix", reason="this system has no devices in its folders")
def test_devices_and_fifos_are_written_directly(chargen: Chargen) -> None:
    write_atomically(Path(os.devnull), [b"gone"])
    assert not Path(os.devnull).is_file()
    os.mkfifo("fifo")
    read: list[bytes] = []
    reader = threading.Thread(target=lambda: read.append(Path("fifo").read_bytes()))
    reader.start()
    assert chargen("corpora", "get", "alphabet", "--output", "fifo").status == 0
    reader.join()
    assert read[0].startswith(b"abcdef")
    assert Path("fifo").is_fifo()
    full = chargen("corpora", "get", "alphabet", "--output", "/dev/full") if Path("/dev/full").exists() else None
    assert full is None or (full.status == 1 and "disk is full" in full.err)


@pytest.mark.skipif(os.name != "posix", reason="this system has no /dev/stdout")
def test_dev_stdout_is_the_open_file_and_not_replaced() -> None:
    with open("out", "wb") as out:
        command = [sys.executable, "-m", "chargen", "corpora", "get", "alphabet", "--output", "/dev/stdout"]
        assert subprocess.run(command, stdout=out, stderr=subprocess.PIPE).returncode == 0
        assert os.fstat(out.fileno()).st_ino == os.stat("out").st_ino
    assert b"abcdef" in Path("out").read_bytes()


def test_a_file_with_the_longest_possible_name_can_be_written() -> None:
    name = "n" * 250
    with open_atomically(Path(name)) as file:
        file.write(b"x")
    assert os.listdir() == [name]


# ── signals and closed outputs ────────────────────────────────────────────────


def start_training(*more: str, **how) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-m", "chargen", "train", "verse.txt", "--name", "run", "--hidden", "32", *more]
    return subprocess.Popen(command, **how)


@pytest.mark.skipif(os.name != "posix", reason="this system has no such signals")
@pytest.mark.parametrize(
    ("number", "status"), [pytest.param(signal.SIGHUP, 129, marks=pytest.mark.slow), (signal.SIGTERM, 143)]
)
def test_signals_end_a_run_with_its_state_saved(number: int, status: int, verse: str) -> None:
    Path("verse.txt").write_text(verse, encoding="utf-8")
    process = start_training("--steps", "1000000", stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    wait_for_file("checkpoints/run/model.safetensors", process)
    process.send_signal(number)
    assert process.wait(60) == status
    load_checkpoint(Path("checkpoints/run/model.safetensors"))
    assert find_run("run").state_path.exists()


@pytest.mark.skipif(os.name != "posix", reason="this system has no such signals")
def test_a_run_continues_when_its_output_is_closed(verse: str) -> None:
    Path("verse.txt").write_text(verse, encoding="utf-8")
    read_end, write_end = os.pipe()
    process = start_training("--steps", "60", "--batch", "4", "--seq-len", "8", stdout=write_end, stderr=write_end)
    os.close(write_end)
    os.read(read_end, 1)
    os.close(read_end)
    assert process.wait(120) == 0
    assert load("run").checkpoint.about["result"]["steps"] == 60


@pytest.mark.slow
@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="this system has no SIGKILL")
def test_the_next_run_removes_the_files_of_a_killed_classifier_training(verse: str) -> None:
    Path("two.tsv").write_text("".join(f"{'ab'[n % 2]}\t{verse[n * 7 : n * 7 + 40]!r}\n" for n in range(80)))
    command = [
        sys.executable,
        "-m",
        "chargen",
        "classify",
        "--train",
        "two.tsv",
        "--method",
        "generative",
        "--hidden",
        "512",
        "--steps",
        "99999",
    ]
    process = subprocess.Popen(command, stderr=subprocess.DEVNULL)
    wait_for_file("checkpoints/.two.new/a/training_state.safetensors", process)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert list_run_names() == []
    run_plan(plan(verse))
    assert sorted(os.listdir("checkpoints")) == [".locks", "run"]
