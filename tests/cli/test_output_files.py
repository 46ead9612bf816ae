"""Files that the user names for the output: nothing that the command reads is overwritten, and no folder is created."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from chargen.checkpoint import save_checkpoint
from tests.conftest import Result, random_model

Chargen = Callable[..., Result]


@pytest.mark.parametrize(
    ("page", "inputs"),
    [
        ("log", ["--file", "log"]), ("./log", ["--file", "other", "--file", "log"]), ("hard", ["--file", "log"]),
        ("soft", ["--file", "log"]), ("log", ["--file", "FILE_URL"]), ("m", ["ab"]), ("log", ["--file", "-"]),
    ],
)  # fmt: skip
def test_a_page_does_not_overwrite_what_is_read(
    chargen: Chargen, page: str, inputs: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    save_checkpoint(Path("m"), random_model())
    for name in ("log", "other"):
        Path(name).write_text("The quick\n", encoding="utf-8")
    os.link("log", "hard")
    os.symlink("log", "soft")
    before = Path(page).read_bytes()
    words = [word.replace("FILE_URL", Path("log").resolve().as_uri()) for word in inputs]
    with open("log", encoding="utf-8") as stdin:
        monkeypatch.setattr(sys, "stdin", stdin)
        result = chargen("score", "-m", "m", *words, "--html", page)
    assert result.status == 2
    assert f"--html {page} would overwrite " in result.err
    assert Path(page).read_bytes() == before


@pytest.mark.parametrize("command", [["score", "-m", "m", "ab", "--html"], ["corpora", "get", "alphabet", "--output"]])
def test_a_missing_folder_or_a_folder_is_an_error(chargen: Chargen, command: list[str]) -> None:
    save_checkpoint(Path("m"), random_model())
    result = chargen(*command, "missing/deep/x")
    assert result.status == 2
    assert "there is no folder missing/deep" in result.err
    assert not Path("missing").exists()
    Path("folder").mkdir()
    assert chargen(*command, "folder").status == 2
    assert chargen(*command, "folder/x").status == 0
