"""The folders of runs and of cached files."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from chargen.folders import cache_folder, checkpoints_folder, use_checkpoints


def test_the_folder_of_the_runs_is_the_innermost_choice_then_the_variable(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("CHARGEN_CHECKPOINTS", raising=False)
    assert checkpoints_folder() == Path("checkpoints")
    monkeypatch.setenv("CHARGEN_CHECKPOINTS", "/models")
    assert checkpoints_folder() == Path("/models")
    with use_checkpoints(Path("a")):
        with use_checkpoints(Path("b")):
            assert checkpoints_folder() == Path("b")
        assert checkpoints_folder() == Path("a")
    assert checkpoints_folder() == Path("/models")


def test_the_cache_folder_is_absolute(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("CHARGEN_CACHE", "cache")
    assert cache_folder() == tmp_path / "cache"


@pytest.mark.skipif(sys.platform in ("win32", "darwin"), reason="only Linux uses XDG_CACHE_HOME")
def test_the_cache_folder_follows_the_convention_of_the_system(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("CHARGEN_CACHE")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert cache_folder() == tmp_path / "chargen"
