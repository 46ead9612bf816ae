"""A JSON value is written as one line of strict JSON, and a file as a whole, also by several threads at a time."""

from __future__ import annotations

import errno
import json
import math
import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Event
from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from chargen.io import (
    _HOST,
    _PARTIAL_NAME,
    _partial_name,
    _replace,
    open_atomically,
    remove_stale_partial_files,
    to_json_line,
)

DEAD = 2**22 + 1  #: above the highest process id of Linux

text = st.text(st.characters(exclude_categories=["Cs"]))
values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | text,
    lambda inner: st.lists(inner) | st.dictionaries(text, inner) | st.lists(inner).map(tuple),
    max_leaves=20,
)


def _expected(value):
    """Return the value as strict JSON can represent it."""
    match value:
        case float():
            return value if value - value == 0 else None
        case list() | tuple():
            return [_expected(item) for item in value]
        case dict():
            return {key: _expected(item) for key, item in value.items()}
    return value


def _refuse(constant: str) -> None:
    raise AssertionError(f"{constant} is not JSON")


@settings(deadline=None)
@given(values)
@example(({"a": (math.inf, [math.nan])}, -math.inf))
def test_parsing_a_line_gives_the_value_with_null_for_numbers_that_are_not_finite(value):
    line = to_json_line(value)
    assert "\n" not in line
    assert "\r" not in line
    assert json.loads(line, parse_constant=_refuse) == _expected(value)


@given(text)
def test_only_quotes_backslashes_and_control_characters_are_escaped(value):
    plain = value.translate(dict.fromkeys([*range(32), ord('"'), ord("\\")]))
    assert to_json_line(plain) == f'"{plain}"'


def test_a_numpy_number_that_is_not_finite_is_written_as_null():
    assert to_json_line({"loss_nats": np.float64("nan"), "all": [np.float64("-inf"), np.float64(0.5)]}) == (
        '{"loss_nats": null, "all": [null, 0.5]}'
    )


def test_booleans_stay_booleans_and_the_argument_is_not_changed():
    value = {"a": [True, math.inf, {"b": math.nan}]}
    assert to_json_line(value) == '{"a": [true, null, {"b": null}]}'
    assert value["a"][1] == math.inf


# ── files that are being written ──────────────────────────────────────────────


def test_two_threads_that_write_the_same_file_at_the_same_time_both_write_all_of_it(tmp_path: Path) -> None:
    path, is_half_written, may_end = tmp_path / "a.ids", Event(), Event()

    def write_second() -> None:
        with open_atomically(path) as file:
            file.write(b"the second")
            file.flush()
            is_half_written.set()
            assert may_end.wait(10)
            file.write(b" version")

    with ThreadPoolExecutor(1) as pool:
        with open_atomically(path) as file:
            file.write(b"the first version")
            second = pool.submit(write_second)
            assert is_half_written.wait(10)
        assert path.read_bytes() == b"the first version"
        may_end.set()
        second.result()
    assert path.read_bytes() == b"the second version"
    assert os.listdir(tmp_path) == [path.name]


def test_the_name_of_a_partial_file_is_recognised_and_those_of_other_programs_are_not() -> None:
    match = _PARTIAL_NAME.fullmatch(_partial_name("model.safetensors"))
    assert match is not None
    assert (match["target"], match["host"], int(match["process_id"])) == ("model.safetensors", _HOST, os.getpid())
    for name in (".film.2024-12.part", ".film.12-0123abcd.part", ".film.0123abcd-.part", "film.12.part", ".film.part"):
        assert not _PARTIAL_NAME.fullmatch(name), name


@pytest.mark.skipif(os.name != "posix", reason="this system does not tell whether a process runs")
@pytest.mark.parametrize("thread", ["", "-140737353963328"])
def test_partial_files_of_this_version_and_of_earlier_ones_are_removed(tmp_path: Path, thread: str) -> None:
    for name in (f".a.ids.{_HOST}-{DEAD}{thread}.part", f".b.ids.{'0' * 8}-{DEAD}{thread}.part", ".c.ids.12.part"):
        (tmp_path / name).write_bytes(b"half")
    assert remove_stale_partial_files(tmp_path) == (1, 4)  # of the others, no one knows whether their process runs
    for path in tmp_path.iterdir():
        os.utime(path, (0, 0))
    assert remove_stale_partial_files(tmp_path) == (2, 8)


@pytest.mark.parametrize(("system", "num_refusals", "num_calls"), [("nt", 2, 3), ("nt", 0, 1), ("posix", 0, 1)])
def test_a_file_is_replaced_on_windows_as_soon_as_no_process_has_it_open(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, system: str, num_refusals: int, num_calls: int
) -> None:
    partial, target = tmp_path / "partial", tmp_path / "target"
    partial.write_bytes(b"new")
    target.write_bytes(b"old")
    calls = refuse_to_replace(monkeypatch, num_refusals)
    with monkeypatch.context() as patch:
        patch.setattr(os, "name", system)  # only here, because pathlib reads it
        _replace(partial, target)
    assert len(calls) == num_calls
    assert target.read_bytes() == b"new"


@pytest.mark.parametrize(("system", "num_calls"), [("nt", 4), ("posix", 1)])
def test_a_file_that_stays_open_is_an_error_on_windows_after_two_seconds_and_elsewhere_at_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, system: str, num_calls: int
) -> None:
    partial, target = tmp_path / "partial", tmp_path / "target"
    partial.write_bytes(b"new")
    target.write_bytes(b"old")
    calls = refuse_to_replace(monkeypatch, 10)
    error = None
    with monkeypatch.context() as patch:
        patch.setattr(os, "name", system)
        try:
            _replace(partial, target)
        except PermissionError as caught:
            error = caught
    assert error is not None
    assert len(calls) == num_calls
    assert target.read_bytes() == b"old"


def refuse_to_replace(monkeypatch: pytest.MonkeyPatch, num_times: int) -> list[object]:
    """Let the first calls of `os.replace` fail, and return a list that gets the target of each call.

    The clock of chargen.io advances by half a second whenever it is read, and no time is spent on waiting.
    """
    calls: list[object] = []
    replace = os.replace

    def refuse(source: Path, target: Path) -> None:
        calls.append(target)
        if len(calls) <= num_times:
            raise PermissionError(errno.EACCES, "another process has the file open")
        replace(source, target)

    monkeypatch.setattr(os, "replace", refuse)
    clock = SimpleNamespace(monotonic=(k / 2 for k in range(10)).__next__, sleep=lambda seconds: None)
    monkeypatch.setattr("chargen.io.time", clock)
    return calls
