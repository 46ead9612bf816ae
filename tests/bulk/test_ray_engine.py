"""The engine on Ray gives what the engine of one process gives, also if workers and the job are killed."""

from __future__ import annotations

import gc
import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
import warnings
from collections.abc import Callable, Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest

from chargen.bulk.job import Part
from chargen.bulk.ray_address import AUTH_VARIABLE, _is_this_machine, check_address
from chargen.bulk.ray_engine import Attempts, RayEngine, describe_error, group_parts
from chargen.bulk.reading.slices import Slice
from chargen.bulk.score_rows import ScoreTask
from chargen.bulk.storage import InputFile
from chargen.checkpoint import save_checkpoint
from chargen.errors import ChargenError, ConfigError
from tests.conftest import VERSE, Result, random_model

ray = pytest.importorskip("ray")


@pytest.fixture
def collected() -> Iterator[None]:
    """Remove what Ray leaves open after a failed start, so that no later test is blamed for it."""
    yield
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ResourceWarning)
        gc.collect()


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return a folder with a model and a file of lines."""
    monkeypatch.chdir(tmp_path)
    save_checkpoint(tmp_path / "m.safetensors", random_model())
    return tmp_path


def write_lines(count: int) -> list[str]:
    lines = [f"{VERSE.splitlines()[n % 3]} {n}" for n in range(count)]
    Path("a.txt").write_text("\n".join(lines))
    return lines


def parts(out: str) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted(Path(out).glob("part-*.parquet"))}


def command(out: str, *more: str) -> list[str]:
    return ["bulk", "score", "a.txt", "-m", "m.safetensors", "--out", out, "--json", *more]


@pytest.mark.slow
def test_a_job_on_ray_gives_the_parts_of_the_local_engine_and_prints_only_its_own_words(
    folder: Path, chargen: Callable[..., Result]
) -> None:
    write_lines(40)
    assert chargen(*command("one", "--engine", "local")).status == 0
    words = [sys.executable, "-m", "chargen", *command("two", "--workers", "1")]
    process = subprocess.run(words, capture_output=True, text=True, timeout=150)
    assert process.returncode == 0, process.stderr
    assert json.loads(process.stdout)["rows_written"] == 40
    assert [line for line in process.stderr.splitlines() if not re.match(" *[0-9]+%  [01] parts? of 1", line)] == []
    assert parts("one") == parts("two")


def part_of(number: int, path: str, is_sequential: bool) -> Part:
    return Part(number, InputFile(path, 1, ""), 0, Slice(number, 1), is_sequential)


def test_parts_of_a_sequential_file_are_grouped_and_no_part_is_lost_or_doubled() -> None:
    parts = [part_of(n, f"{n // 40}.gz" if n < 120 else "plain.txt", n < 120) for n in range(160)]
    for workers, size in ((1, 40), (2, 20), (1000, 1)):
        groups = group_parts(parts, workers)
        assert [part for group in groups for part in group] == parts
        assert all(len({part.path for part in group}) == 1 for group in groups)
        assert max(map(len, groups)) == size
        assert all(len(group) == 1 for group in groups if not group[0].is_sequential)


def test_attempts_are_counted_for_each_part() -> None:
    attempts = Attempts()
    assert [attempts.begin(1), attempts.begin(2), attempts.begin(1)] == [0, 0, 1]


class FakeRay:
    """A Ray whose `init` fails."""

    __version__ = "2.60.0"

    def __init__(self, error: Exception) -> None:
        self._error = error

    def is_initialized(self) -> bool:
        return False

    def init(self, **settings: Any) -> None:
        raise self._error


VERSIONS = "Version mismatch: The cluster was started with:\n    Ray: 2.9.0\n    Python: 3.9.1\nThis process ..."
FAILURES: list[tuple[Exception, str]] = [
    (
        RuntimeError(VERSIONS),
        "another version of Ray or Python: .*Ray: 2.9.0.*\nInstall its version here: pip install .ray.data.==2.9.0",
    ),
    (ConnectionError("no cluster"), "the Ray cluster at auto cannot be reached: no cluster\nCheck --address"),
]


@pytest.mark.parametrize(("error", "message"), FAILURES)
def test_a_cluster_that_cannot_be_used_is_an_error_that_says_why(
    folder: Path, monkeypatch: pytest.MonkeyPatch, error: Exception, message: str
) -> None:
    engine = RayEngine(folder / "m.safetensors", "cpu", 1, "auto")
    monkeypatch.setattr(engine, "_ray", FakeRay(error))
    with pytest.raises(ChargenError, match=f"(?s){message}"):
        engine._start()


class FakeDataset:
    """A dataset of Ray Data in this process. Its rows are in UTF-8, as those of Arrow are."""

    def __init__(self, rows: list[dict[str, str]]) -> None:
        self._rows = [{name: value.encode() for name, value in row.items()} for row in rows]

    def map(self, function: Callable[[dict[str, str]], dict[str, str]], num_cpus: int) -> FakeDataset:
        return FakeDataset([function(row) for row in self.iter_rows()])

    def iter_rows(self) -> Iterator[dict[str, str]]:
        for row in self._rows:
            yield {name: value.decode() for name, value in row.items()}


class FakeData:
    def from_items(self, items: list[dict[str, str]], override_num_blocks: int) -> FakeDataset:
        return FakeDataset(items)


def test_files_whose_names_are_not_utf8_are_planned_by_the_workers(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine = RayEngine(folder / "m.safetensors", "cpu", 1, None)
    monkeypatch.setattr(engine, "_data", FakeData())
    monkeypatch.setattr(engine, "_start", lambda: 1)
    plans = dict(engine.plan(["caf\udce9.txt", "a.txt"], ScoreTask()))
    assert list(plans) == ["caf\udce9.txt", "a.txt"]
    assert all(str(plan).startswith(f"{path} cannot be read") for path, plan in plans.items())  # there are no files


class FakeCluster:
    """A cluster that accepts a token, or no token."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, accepted: str | None, own: str | None) -> None:
        self._accepted, self._own, self._sent = accepted, own, None if not os.environ.get(AUTH_VARIABLE) else own
        monkeypatch.setattr("chargen.bulk.ray_address.accepts_token", lambda address: self._sent == self._accepted)
        monkeypatch.setattr("chargen.bulk.ray_address.send_token", self._send)

    def _send(self) -> bool:
        self._sent = self._own
        return self._own is not None


@pytest.fixture
def port() -> Iterator[int]:
    """Return a port of this machine where something answers."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield server.getsockname()[1]


@pytest.mark.parametrize(
    ("accepted", "own", "mode", "message"),
    [
        (None, "mine", None, ""), (None, None, None, ""), ("mine", "mine", None, ""), ("mine", "mine", "token", ""),
        ("theirs", "mine", None, "checks tokens"), ("mine", None, None, "checks tokens"),
        ("theirs", "mine", "token", "does not accept the token of this user"),
    ],
)  # fmt: skip
def test_a_token_is_sent_to_a_cluster_of_this_machine_only_if_it_checks_tokens(
    monkeypatch: pytest.MonkeyPatch, port: int, accepted: str | None, own: str | None, mode: str | None, message: str
) -> None:
    monkeypatch.delenv(AUTH_VARIABLE, raising=False)
    if mode:
        monkeypatch.setenv(AUTH_VARIABLE, mode)
    FakeCluster(monkeypatch, accepted, own)
    address = f"127.0.0.1:{port}"
    if not message:
        check_address(address)
        return
    with pytest.raises(ConfigError, match=f"(?s)the Ray cluster at {address} {message}.*Set RAY_AUTH_MODE=token"):
        check_address(address)


def test_a_token_is_not_sent_to_another_machine_without_being_asked(monkeypatch: pytest.MonkeyPatch, port: int) -> None:
    monkeypatch.delenv(AUTH_VARIABLE, raising=False)
    FakeCluster(monkeypatch, "mine", "mine")
    monkeypatch.setattr("chargen.bulk.ray_address._is_this_machine", lambda host: False)
    with pytest.raises(ConfigError, match="checks tokens"):
        check_address(f"127.0.0.1:{port}")


def test_only_addresses_of_this_machine_are_its_own() -> None:
    assert _is_this_machine("127.0.0.1")
    assert _is_this_machine("localhost")
    assert not _is_this_machine("192.0.2.77")  # an address for documentation, RFC 5737


def test_the_reason_of_an_error_of_ray_is_that_of_the_worker() -> None:
    error = Exception("Traceback\n  File\nKeyError: 'x'\nTo change retry attempts, configure ...")
    error.cause = KeyError("x")  # type: ignore[attr-defined]
    assert describe_error(error) == "KeyError: 'x'"
    assert describe_error(Exception("Traceback\nThe actor died.\n")) == "The actor died."


@pytest.mark.usefixtures("collected")
def test_an_address_where_nothing_answers_is_an_error_within_seconds(chargen: Callable[..., Result]) -> None:
    save_checkpoint(Path("m.safetensors"), random_model())
    write_lines(3)
    result = chargen(*command("out", "--address", "127.0.0.1:1"))
    assert result.status == 1
    assert "the Ray cluster at 127.0.0.1:1 cannot be reached: Connection refused" in result.err


def test_without_ray_the_error_names_the_extra(chargen: Callable[..., Result], monkeypatch: pytest.MonkeyPatch) -> None:
    save_checkpoint(Path("m.safetensors"), random_model())
    write_lines(3)
    monkeypatch.setitem(sys.modules, "ray", None)
    result = chargen(*command("out"))
    assert result.status == 1
    assert "pip install 'chargen[ray]'" in result.err
    assert "--engine local" in result.err
    assert chargen(*command("out", "--engine", "local")).status == 0


def test_a_worker_with_another_version_ends_the_job(folder: Path) -> None:
    from chargen.bulk.ray_engine import RayWriter

    writer = object.__new__(RayWriter)
    writer._error = ConfigError("a worker has chargen 0", "Install the same version on all machines.")
    (result,) = writer({"parts": [json.dumps([asdict(part_of(3, "a", False))])]})
    value = json.loads(result["result"][0])
    assert value["is_fatal"]
    assert value["error"]["where"] == "a worker has chargen 0"


# ── processes that are killed ─────────────────────────────────────────────────────────────────────────────────────────


@pytest.fixture
def start(folder: Path) -> Iterator[Callable[..., subprocess.Popen[str]]]:
    """Return a function that starts a job of many small parts, which takes some seconds."""
    write_lines(60_000)
    script = (
        "import sys\n"
        "from chargen.bulk.reading import line_rows\n"
        "line_rows.MAX_SLICE_ROWS = 2000\n"
        "from chargen.cli.main import run\n"
        "sys.exit(run(sys.argv[1:]))"
    )
    processes = []

    def start(*words: str) -> subprocess.Popen[str]:
        process = subprocess.Popen(
            [sys.executable, "-c", script, *words], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
            start_new_session=True,
        )  # fmt: skip
        processes.append(process)
        return process

    yield start
    for process in processes:
        process.kill()
        process.communicate()


def wait_for_parts(out: str, count: int, process: subprocess.Popen[str]) -> None:
    while len(parts(out)) < count:
        with pytest.raises(subprocess.TimeoutExpired):
            process.wait(0.05)


def worker_processes(process_id: int) -> list[int]:
    """Return the ids of the processes of actors that descend from a process."""
    parents: dict[int, tuple[int, str]] = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                stat = (entry / "stat").read_text()
                name = (entry / "cmdline").read_text()
            except OSError:
                continue
            parents[int(entry.name)] = int(stat.rpartition(")")[2].split()[1]), name
    found = []
    for each, (parent, name) in parents.items():
        while parent in parents and parent != process_id:
            parent = parents[parent][0]
        if parent == process_id and "RayWriter" in name:
            found.append(each)
    return found


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="it reads /proc")
def test_a_worker_that_is_killed_is_replaced_and_nothing_is_lost_or_doubled(
    start: Callable[..., subprocess.Popen[str]],
) -> None:
    local = start(*command("one", "--engine", "local"))
    local.communicate()
    process = start(*command("two", "--workers", "2"))
    wait_for_parts("two", 3, process)
    victims = worker_processes(process.pid)
    assert victims
    os.kill(victims[0], signal.SIGKILL)
    out, err = process.communicate(timeout=150)
    assert process.returncode == 0, err
    assert json.loads(out)["rows_written"] == 60_000
    assert parts("one") == parts("two")


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="it kills a group of processes")
def test_a_job_that_is_killed_goes_on_where_it_stopped(start: Callable[..., subprocess.Popen[str]]) -> None:
    start(*command("one", "--engine", "local")).communicate()
    first = start(*command("two", "--workers", "2"))
    wait_for_parts("two", 4, first)
    first.kill()
    first.wait()
    deadline = time.monotonic() + 60
    while worker_processes(first.pid) and time.monotonic() < deadline:  # they notice that their job is gone
        os.sched_yield()
    written = len(parts("two"))
    assert 4 <= written < len(parts("one"))
    second = start(*command("two", "--workers", "1"))
    out, err = second.communicate(timeout=150)
    assert second.returncode == 0, err
    summary = json.loads(out)
    assert summary["parts_written_now"] <= len(parts("one")) - 4
    assert summary["rows_written"] == 60_000
    assert parts("one") == parts("two")


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="it reads /proc")
def test_sigterm_ends_the_job_and_its_workers_and_prints_nothing(start: Callable[..., subprocess.Popen[str]]) -> None:
    process = start(*command("out", "--workers", "1"))
    wait_for_parts("out", 1, process)
    process.terminate()
    _, err = process.communicate(timeout=60)
    assert process.returncode == 143
    assert [line for line in err.splitlines() if not re.match(" *[0-9]+%", line)] == []
    assert not worker_processes(process.pid)
