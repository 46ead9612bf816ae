"""No display touches stdout: with stderr a terminal, each command writes the bytes that it writes without one."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from chargen.checkpoint import save_checkpoint
from chargen.cli.group_help import COMMANDS
from tests.conftest import VERSE, random_model

if sys.platform == "win32":
    pytest.skip("this system has no pseudo-terminals", allow_module_level=True)

from tests.cli.test_terminal_output import Screen

SMALL = ["--steps", "2", "--hidden", "8"]
#: the command lines of each command; a new command needs at least one that shows each of its displays
LINES = {
    "train": [["train", "text.txt", "--name", "new", *SMALL, "--json"]],
    "sample": [
        ["sample", "--length", "40", "--seed", "1"], ["sample", "-n", "2", "--length", "9", "--seed", "1", "--json"],
        ["sample", "--beam", "2", "--length", "9"],
    ],
    "play": [["play", "--seed", "1", "--prompt", "The "]],
    "serve": [["serve", "m", "--port", "0"], ["serve", "m", "--port", "0", "--json"]],
    "score": [
        ["score", "--chars", "--json", "abc"], ["score", "The", "fox"], ["score", "--file", "text.txt", "--tsv"],
        ["score", "--suggest", "The fxo"], ["score", "--html", "page.html", "The"],
    ],
    "eval": [["eval", "text.txt", "--adapt"], ["eval", "text.txt", "--json"]],
    "compare": [["compare", "m", "m2", "text.txt", "--resamples", "100"]],
    "rescore": [["rescore", "--file", "list.txt"], ["rescore", "--file", "list.txt", "--tune", "references.txt"]],
    "classify": [
        ["classify", "-m", "m", "-m", "m2", "abc", "fox"],
        ["classify", "-m", "m", "-m", "m2", "--explain", "--html", "why.html", "abc"],
        ["classify", "--train", "labels.tsv", "--method", "generative", "--name", "new", *SMALL, "--json"],
    ],
    "forecast": [
        ["forecast", "--train", "hours.csv", "--column", "a", "--history", "4", *SMALL],
        ["forecast", "--train", "hours.csv", "--column", "a", "--history", "4", *SMALL, "--json"],
    ],
    "export": [
        ["export", "page", "m", "-o", "page.html"],
        ["export", "page", "m", "-o", "page.html", "--json"],
        ["export", "model", "m", "-o", "new.safetensors"],
        ["export", "model", "m", "-o", "new.safetensors", "--json"],
        ["export", "hub", "m", "hub-folder"],
        ["export", "hub", "m", "hub-folder", "--json"],
    ],
    "bulk": [
        ["bulk", "score", "text.txt", "--out", "new-rows", "--engine", "local", "--json"],
        ["bulk", "sample", "text.txt", "--out", "new-rows", "--engine", "local", "--length", "9", "--json"],
    ],
    "info": [["info"], ["info", "m", "--json"]],
    "plot": [["plot", "curves"], ["plot", "curves", "-o", "new.svg", "--json"]],
    "probe": [
        ["probe", "neurons", "m", "text.txt", "-o", "page.html"], ["probe", "neurons", "m", "text.txt", "--json"],
    ],
    "bench": [
        ["bench", "cells", "text.txt", "--cells", "rnn"], ["bench", "cells", "text.txt", "--cells", "rnn", "--json"],
    ],
    "rm": [["rm", "m", "--yes"]],
    "corpora": [
        ["corpora"], ["corpora", "check", "text.txt"], ["corpora", "get", "reber"], ["corpora", "clean"],
        ["corpora", "ball", "--balls", "2", "-o", "-"],
    ],
}  # fmt: skip
TIMES = ("fit_s", "elapsed_s", "chars_per_s", "rows_per_s", "step_ms", "val_s")  # differ between two runs


def test_every_command_is_run() -> None:
    assert set(LINES) == set(COMMANDS), "add a command line to LINES"


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("CHARGEN_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("TERM", "xterm-256color")
    monkeypatch.setattr("chargen.cli.commands.rm.Removable.remove", lambda run: None)  # each line is run twice
    monkeypatch.setattr("chargen.server.run.run_server", lambda app, server: None)
    monkeypatch.setattr("chargen.server.run.url_of", lambda server: "http://127.0.0.1:8000")
    for name in ("NO_COLOR", "FORCE_COLOR"):
        monkeypatch.delenv(name, raising=False)
    save_models()
    Path("checkpoints/curves").mkdir()
    reports = [
        {"event": "progress", "step": n, "epoch": 1, "elapsed_s": n, "loss_nats_per_char": 1 / n} for n in (1, 2)
    ]
    Path("checkpoints/curves/metrics.jsonl").write_text("".join(f"{json.dumps(report)}\n" for report in reports))
    result = {"cell": "rnn", "loss_nats_per_char": 2.0, "curve": [[1.0, 3.0], [2.0, 2.0]]}  # a training takes time
    process = subprocess.CompletedProcess([], 0, json.dumps(result).encode(), b"")
    monkeypatch.setattr("chargen.tasks.cell_benchmark.run_child", lambda *arguments: process)
    Path("text.txt").write_text(VERSE * 12, encoding="utf-8")
    Path("hours.csv").write_text("a\n" + "".join(f"{n % 7 + n / 100}\n" for n in range(90)))
    Path("list.txt").write_text("0 ||| The ||| f= 1 ||| -9\n0 ||| fox ||| f= 2 ||| -9.5\n")
    Path("references.txt").write_text("fox\n")
    Path("labels.tsv").write_text(
        "".join(f"{'xy'[n % 2]}\t{VERSE[n : n + 20]!r}\n" for n in range(20)), encoding="utf-8"
    )
    return tmp_path


def save_models() -> None:
    for seed, name in enumerate(("m2", "m")):
        save_checkpoint(Path("checkpoints") / name / "model.safetensors", random_model(seed=seed))


def without_times(data: bytes) -> Any:
    """Return what a command wrote, without the durations in a JSON document."""
    try:
        document = json.loads(data)
    except ValueError:
        return data
    return remove_times(document)


def remove_times(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: remove_times(item) for key, item in value.items() if key not in TIMES}
    return [remove_times(item) for item in value] if isinstance(value, list) else value


ALL_LINES = [line for lines in LINES.values() for line in lines if line[0] != "play"]  # play needs a terminal


@pytest.mark.parametrize("force_color", [False, True], ids=["", "FORCE_COLOR"])
@pytest.mark.parametrize("line", ALL_LINES, ids=" ".join)
def test_stdout_is_the_same_with_and_without_a_terminal(
    line: list[str], force_color: bool, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    from chargen.cli.main import run

    if force_color:  # it asks for colours in a file, too
        monkeypatch.setenv("FORCE_COLOR", "1")
    kept = shutil.copytree("checkpoints", tmp_path / "kept")
    with open("plain", "w", encoding="utf-8") as out, open("errors", "w", encoding="utf-8") as err:
        for name, stream in (("stdout", out), ("stderr", err)):
            monkeypatch.setattr(sys, name, stream)
        assert run(line) == 0
    shutil.rmtree("checkpoints")  # a command may have removed or trained a model
    shutil.copytree(kept, "checkpoints")
    shutil.rmtree("new-rows", ignore_errors=True)
    screen = Screen(monkeypatch, tmp_path / "redirected")
    status = run(line)
    shown = screen.close()
    assert status == 0, shown
    plain, redirected = (without_times(Path(name).read_bytes()) for name in ("plain", "redirected"))
    assert plain == redirected
    if line[0] != "corpora":
        assert plain


def test_play_writes_only_the_text_to_a_file(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    from chargen.cli.main import run

    texts = []
    for force_color in (False, True):
        if force_color:
            monkeypatch.setenv("FORCE_COLOR", "1")
        screen = Screen(monkeypatch, tmp_path / "redirected")
        assert run(LINES["play"][0]) == 0
        screen.close()
        texts.append((tmp_path / "redirected").read_text(encoding="utf-8"))
        (tmp_path / "redirected").unlink()
    assert texts[0] == texts[1]
    assert texts[0].startswith("The ")
    assert "\x1b[?" not in texts[0]
