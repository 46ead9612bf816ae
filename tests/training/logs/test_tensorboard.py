"""`--log tensorboard`: event files that TensorBoard reads, and the error without the package."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from chargen.errors import ChargenError
from chargen.training.events import Progress
from chargen.training.logs.tensorboard import log_reports, scalars
from tests.conftest import VERSE, Result

REPORT = Progress(3, 0.5, 1.0, 2.0, 2.0, 100.0, 0.6931471805599453, 0.01)


def test_without_the_package_nothing_is_trained_and_the_error_names_it(
    chargen: Callable[..., Result], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    for name in [name for name in sys.modules if name.split(".")[0] == "tensorboard"]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "tensorboard", None)
    Path("text.txt").write_text(VERSE * 12, encoding="utf-8")
    result = chargen("train", "text.txt", "--steps", "2", "--hidden", "8", "--log", "tensorboard")
    assert (result.status, result.out) == (1, "")
    assert "--log tensorboard needs a package that is not installed" in result.err
    assert "pip install 'chargen[tensorboard]'" in result.err
    assert sorted(path.name for path in tmp_path.iterdir()) == ["text.txt"]
    reports = iter([REPORT])
    with pytest.raises(ChargenError):
        list(log_reports(reports, "tensorboard"))
    assert next(reports) is REPORT  # nothing was taken


def test_without_the_option_the_reports_pass_unchanged() -> None:
    assert list(log_reports([REPORT], None)) == [REPORT]


def test_numbers_are_in_bits_and_finite() -> None:
    assert scalars(REPORT) == {"loss/training": 1.0, "learning_rate": 0.01, "chars_per_s": 100.0}
    assert "loss/training" not in scalars(Progress(3, 0.5, 1.0, 2.0, 2.0, 100.0, float("nan"), 0.01))


def test_events_can_be_read_again(
    chargen: Callable[..., Result], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    loader = pytest.importorskip("tensorboard.backend.event_processing.event_file_loader")
    monkeypatch.chdir(tmp_path)
    Path("text.txt").write_text(VERSE * 12, encoding="utf-8")
    result = chargen("train", "text.txt", "--steps", "60", "--hidden", "8", "--name", "new", "--log", "tensorboard")
    assert result.status == 0, result.err
    (path,) = Path("tensorboard/new").iterdir()
    events = list(loader.EventFileLoader(str(path)).Load())
    tags = {value.tag for event in events for value in event.summary.value}
    assert tags == {"loss/training", "loss/validation", "learning_rate", "chars_per_s"}
    assert [event.step for event in events if event.HasField("session_log")] == [1]
    assert max(event.step for event in events) == 60
