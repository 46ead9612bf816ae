"""No command lets files, labels, names or texts from outside control the terminal; each runs in a pseudo-terminal."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import threading
import tty
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from rich.cells import cell_len

from chargen.checkpoint import save_checkpoint
from tests.conftest import VERSE, Result, random_model

if sys.platform == "win32":
    pytest.skip("this system has no pseudo-terminals", allow_module_level=True)

# What rich and ui/play/terminal.py send: colours and styles, cursor movements, erasing, and the modes of the displays.
# Some attacks below have these forms, too; they are searched for exactly as they are written.
OURS = re.compile(r"\x1b\[(?:[0-9;]*m|[0-9;]*[AGH]|2[JK]|\?(?:25|1049|2004|7)[hl])|\r(?=\x1b\[(?:2K|1A))")
ATTACKS = [
    "\x1b]0;owned\x07",
    "\x1b[8;31;49m",
    "\x1b[2;3J",
    "\x9b5n",
    "\x1bc",
    "\x1bP1$r\x1b\\",
    "\x07",
    "\x9b",
    "\x9d",
]
BIDI = "\u202e\u202d\u2066\u2067\u200e\u200f\u061c\u2028\u2029\u200b\ufeff"
EVIL = "".join(ATTACKS) + BIDI + "[red]x[/]\x08\x7f\r"
FORGED = "\nerror: forged"
LABELS = ("[bold]", "[-x]", "\x1b[8;31;49m" + BIDI)
NAME = f"n{EVIL.replace('/', '')}{FORGED}\udcff.txt"


class Screen:
    """A pseudo-terminal as standard input, output (or a file in its place) and error of this process."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, stdout: Path | None = None) -> None:
        self._master, slave = os.openpty()
        tty.setraw(slave)  # bytes arrive as they were written: no CR is added to an LF
        self._received: list[bytes] = []
        out = os.open(stdout, os.O_WRONLY | os.O_CREAT, 0o600) if stdout else os.dup(slave)
        for name, mode, number in (("stdin", "r", slave), ("stdout", "w", out), ("stderr", "w", os.dup(slave))):
            stream = open(number, mode, encoding="utf-8", errors="replace")  # noqa: SIM115
            monkeypatch.setattr(sys, name, stream)
        self._thread = threading.Thread(target=self._read, daemon=True)
        self._thread.start()

    def close(self) -> str:
        for name in ("stdout", "stderr", "stdin"):
            getattr(sys, name).close()
        self._thread.join(10)
        os.close(self._master)
        return b"".join(self._received).decode("utf-8")  # an invalid byte is a fault, too

    def _read(self) -> None:
        leave = False
        while True:
            try:
                data = os.read(self._master, 1 << 16)
            except OSError:  # the other end is closed
                return
            if not data:
                return
            self._received.append(data)
            if b"\x1b[?2004h" in data and not leave:  # `play` reads keys from now on
                os.write(self._master, b"\x1b[200~a\x1b[2;3Jb\x07\xe2\x80\xae\x1b[201~\t\x04")
                leave = True


def assert_harmless(shown: str) -> None:
    for attack in [*ATTACKS, *BIDI, *(chr(code) for code in range(0x80, 0xA0)), "\x7f"]:
        assert attack not in shown, repr(shown)
    rest = OURS.sub("", shown)
    assert all(char >= " " or char in "\n\t" for char in rest), repr(rest)
    assert not any(line.startswith("error: forged") for line in rest.splitlines()), rest


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with files from an attacker."""
    folder = tmp_path_factory.mktemp("terminal")
    model = random_model(VERSE + EVIL)
    data = {**model.about["data"], "newline": "keep", "normalize": "none"}
    model = replace(model, about={**model.about, "data": data, "corpus": EVIL + FORGED, "chargen": EVIL})
    save_checkpoint(folder / "evil.safetensors", model)
    save_checkpoint(folder / "checkpoints" / ("run" + EVIL.replace("/", "") + FORGED) / "model.safetensors", model)
    (folder / "checkpoints" / f"broken{FORGED}{EVIL.replace('/', '')}").mkdir()
    broken = folder / "checkpoints" / f"broken{FORGED}{EVIL.replace('/', '')}" / "model.safetensors"
    broken.write_bytes(b"\0" * 100)
    (folder / "texts.txt").write_bytes("".join(f"{attack}a\n" for attack in ATTACKS).encode() + f"{EVIL}\n".encode())
    (folder / "nbest.txt").write_text(f"0 ||| a {EVIL[:-1]} ||| lm= -1 ||| -1\n0 ||| b ||| lm= -2 ||| -2\n", newline="")
    (folder / "long.txt").write_text((VERSE + EVIL + "\n") * 40, newline="")
    (folder / os.fsdecode(os.fsencode(NAME))).write_bytes(b"\xff" + b"a" * 100)
    for label in LABELS:
        (folder / "labels" / label).mkdir(parents=True)
        for number in range(10):
            (folder / "labels" / label / f"{number}.txt").write_text(f"{label[:2]} {number} {VERSE[number:]}")
    return folder


@pytest.fixture
def environment(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(folder)
    monkeypatch.setenv("TERM", "xterm-256color")
    monkeypatch.setenv("COLUMNS", "200")
    for name in ("NO_COLOR", "FORCE_COLOR"):
        monkeypatch.delenv(name, raising=False)


RUN = "run" + EVIL.replace("/", "") + FORGED
COMMANDS = {
    "info": (["info"], 0),
    "rm": (["rm", "evil", "--yes"], 1),
    "info of a model": (["info", "evil.safetensors"], 0),
    "info as JSON": (["info", "evil.safetensors", "--json"], 0),
    "sample": (["sample", "-m", "evil.safetensors", "--temp", "3", "--seed", "1", "--prompt", EVIL], 0),
    "sample of a prompt that it does not know": (
        ["sample", "-m", RUN, "--length", "9", "--prompt", "\x1d\x9e\u2064"],
        0,
    ),
    "sample, several": (["sample", "-m", "evil.safetensors", "--temp", "3", "-n", "2", "--until", "newline"], 0),
    "sample as JSON": (["sample", "-m", "evil.safetensors", "--temp", "3", "--json"], 0),
    "sample --report": (["sample", "-m", "evil.safetensors", "--seed", "1", "--report", "--corpus", "long.txt"], 1),
    "score": (["score", "-m", "evil.safetensors", EVIL, "\x1d\x9e\u2064", "[/x]"], 0),
    "score of a file": (["score", "-m", "evil.safetensors", "--file", "texts.txt"], 0),
    "score --tsv": (["score", "-m", "evil.safetensors", "--file", "texts.txt", "--tsv"], 0),
    "score --tsv --chars": (["score", "-m", "evil.safetensors", "--file", "texts.txt", "--tsv", "--chars"], 0),
    "score --json": (["score", "-m", "evil.safetensors", "--file", "texts.txt", "--json"], 0),
    "score --chars": (["score", "-m", "evil.safetensors", EVIL, "--chars"], 0),
    "score --suggest": (["score", "-m", "evil.safetensors", "a\x1b[8;31;49m\u202eb", "--suggest"], 0),
    "score --html": (
        ["score", "-m", "evil.safetensors", "ab", "--html", f"page{EVIL.replace('/', '')}{FORGED}.html"],
        0,
    ),
    "score of a file that is not UTF-8": (["score", "-m", "evil.safetensors", "--file", NAME], 1),
    "rescore": (["rescore", "-m", "evil.safetensors", "--file", "nbest.txt"], 0),
    "rescore as JSON": (["rescore", "-m", "evil.safetensors", "--file", "nbest.txt", "--json"], 0),
    "compare": (["compare", "evil.safetensors", RUN, "long.txt", "--resamples", "100"], 0),
    "eval": (["eval", "-m", "evil.safetensors", "long.txt", "--adapt"], 0),
    "eval of a name": (["eval", "-m", "evil.safetensors", NAME], 1),
    "corpora check": (["corpora", "check", "long.txt", "--newline", "keep"], 0),
    "corpora check of a name": (["corpora", "check", "long.txt", NAME, "--encoding", "latin-1"], None),
    "corpora get": (["corpora", "get", EVIL + FORGED], 1),
    "corpora list": (["corpora", "list"], 0),
    "classify": (["classify", "-m", "evil.safetensors", "-m", RUN, EVIL, "[/x]"], 0),
    "classify as JSON": (["classify", "-m", "evil.safetensors", "-m", RUN, EVIL, "--json"], 0),
    "classify --train": (["classify", "--train", "labels", "--steps", "2", "--hidden", "8", "--name", "three"], 0),
    "train": (["train", "long.txt", "--steps", "12", "--hidden", "8", "--name", "t", "--newline", "keep"], 0),
    "train of a name": (["train", NAME], 1),
    "play": (["play", "-m", RUN, "--temp", "3", "--seed", "1", "--prompt", EVIL], 0),
    "a model that is not there": (["sample", "-m", EVIL + FORGED], 1),
    "a model's path that is not there": (["sample", "-m", f"a/{EVIL}{FORGED}"], 1),
    "a command that is not there": ([EVIL + FORGED], 2),
    "an option that is not there": (["sample", f"--{EVIL}{FORGED}"], 2),
    "an argument too many": (["info", "a", EVIL + FORGED], 2),
    "a bad value": (["sample", "--seed", EVIL + FORGED], 2),
    "a bad choice": (["sample", "--until", EVIL + FORGED], 2),
    "a bad span": (["train", "--budget", EVIL + FORGED], 2),
    "a bad usage": (["rescore", "--feature", EVIL + FORGED], 2),
    "a prompt file that is not there": (["sample", "--prompt-file", EVIL + FORGED], 2),
}


@pytest.mark.usefixtures("environment")
@pytest.mark.parametrize("command", COMMANDS)
def test_no_text_from_outside_controls_the_terminal(command: str, monkeypatch: pytest.MonkeyPatch) -> None:
    from chargen.cli.main import run

    arguments, status = COMMANDS[command]
    screen = Screen(monkeypatch)
    found = run(arguments)
    shown = screen.close()
    assert_harmless(shown)
    assert status is None or found == status, shown
    assert len(shown) > 20


@pytest.mark.usefixtures("environment")
@pytest.mark.parametrize("width", [40, 80, 100, 200])
@pytest.mark.parametrize("words", [[], ["--words"]], ids=["", "--words"])
def test_each_score_is_one_line_that_fits_the_terminal(
    width: int, words: list[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    from chargen.cli.main import run

    monkeypatch.setenv("COLUMNS", str(width))
    texts = ["start " + "quick brown fox " * 20 + "end", "chữ " * 80, "short"]
    screen = Screen(monkeypatch)
    assert run(["score", *MODEL, *texts, *words]) == 0
    lines = OURS.sub("", screen.close()).splitlines()
    start = next(number for number, line in enumerate(lines) if "bits/char" in line)
    table = lines[start : start + 5]
    assert all(cell_len(line) <= width for line in table), table
    header, _, *rows = table
    assert header.endswith("text")
    assert any("…" in row and row.endswith("end") for row in rows)
    assert any(row.endswith("   short") for row in rows)
    out = tmp_path / "out.txt"
    screen = Screen(monkeypatch, out)
    assert run(["score", *MODEL, *texts, *words]) == 0
    screen.close()
    written = out.read_text(encoding="utf-8")
    assert all(f"   {text}\n" in written for text in texts)


MODEL = ("-m", "evil.safetensors")
TO_A_FILE = {
    "score --chars": ["score", *MODEL, "--chars", "--json", EVIL],
    "score of a file": ["score", *MODEL, "--file", "texts.txt", "--json"],
    "eval --adapt": ["eval", *MODEL, "long.txt", "--adapt", "--json"],
    "classify --train": ["classify", "--train", "labels", "--steps", "2", "--hidden", "8", "--json"],
    "train": ["train", "long.txt", "--steps", "4", "--hidden", "8", "--json"],
}


@pytest.mark.usefixtures("environment")
@pytest.mark.parametrize("force_color", [False, True])
@pytest.mark.parametrize("command", TO_A_FILE)
def test_a_display_on_stderr_does_not_capture_stdout(
    command: str, force_color: bool, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    from chargen.cli.main import run

    if force_color:
        monkeypatch.setenv("FORCE_COLOR", "1")
    out = tmp_path / "out.json"
    screen = Screen(monkeypatch, out)
    before = sys.stdout, sys.stderr
    status = run([*TO_A_FILE[command], *(["--name", str(force_color)] if "train" in command else [])])
    assert (sys.stdout, sys.stderr) == before
    shown = screen.close()
    assert status == 0, shown
    assert_harmless(shown)
    values = [json.loads(line) for line in out.read_text(encoding="utf-8").split("\n") if line]
    assert values
    if command == "score --chars":
        assert values[0]["text"] == EVIL and '"text": ' not in shown
        assert "\x9b" in out.read_text(
            encoding="utf-8"
        )  # a file gets the text, without escapes that JSON does not need


def test_a_real_process_writes_its_results_while_stderr_is_a_terminal(folder: Path, tmp_path: Path) -> None:
    master, slave = os.openpty()
    command = [sys.executable, "-m", "chargen", "score", "--chars", "--json", *MODEL, "abc\x1b[2J"]
    environment = {**os.environ, "TERM": "xterm-256color", "PYTHONPATH": str(Path(__file__).parents[2])}
    ran = subprocess.run(command, cwd=folder, env=environment, stdout=subprocess.PIPE, stderr=slave, timeout=60)
    os.close(slave)
    os.close(master)
    assert ran.returncode == 0
    assert json.loads(ran.stdout)["text"] == "abc\x1b[2J"


RAW = {
    "sample": ["sample", *MODEL, "--seed", "1", "--length", "5", "--prompt", EVIL],
    "score": ["score", *MODEL, "--tsv", EVIL],
    "score as JSON": ["score", *MODEL, "--json", "a\x9bb\u202e"],
    "rescore": ["rescore", *MODEL, "--file", "nbest.txt"],
}


@pytest.mark.usefixtures("environment")
@pytest.mark.parametrize("command", RAW)
def test_raw_gives_a_terminal_what_a_file_gets_and_only_on_stdout(
    command: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    from chargen.cli.main import run

    texts = []
    for stdout, raw in ((tmp_path / "out", []), (None, ["--raw"])):
        screen = Screen(monkeypatch, stdout)
        assert run([*RAW[command], *raw]) == 0
        shown = screen.close()
        texts.append(stdout.read_bytes().decode() if stdout else shown)
    file, terminal = texts
    assert file in terminal
    assert "\x9b" in file and "\u202e" in file
    screen = Screen(monkeypatch)
    assert run(["score", "-m", EVIL, "--raw", "a"]) == 1
    assert_harmless(screen.close())


def test_errors_and_notes_are_visible_where_stderr_is_no_terminal(chargen: Callable[..., Result], folder: Path) -> None:
    for arguments in (
        ["info", EVIL + FORGED],
        ["--" + EVIL],
        ["train", f"{folder}/{NAME}"],
        ["info", "a", "\x9b\x1b[2J"],
    ):
        result = chargen(*arguments)
        assert result.status in (1, 2) and result.out == ""
        assert_harmless(result.err)
    result = chargen("sample", "-m", f"{folder}/evil.safetensors", "--length", "1", "--prompt", "\x1d\x9e\nx")
    assert "the model does not know '\\x1d' (U+001D), '\\x9e' (U+009E); it reads" in result.err
    assert "\x1d\x9e\nx" in result.out


@pytest.mark.usefixtures("environment")
def test_labels_are_shown_as_they_are_written(monkeypatch: pytest.MonkeyPatch) -> None:
    from chargen.cli.main import run

    for name in ("[a]", "[b]", "[%x]"):
        save_checkpoint(Path("checkpoints") / name / "model.safetensors", random_model())
    screen = Screen(monkeypatch)
    assert run(["classify", "-m", "[a]", "-m", "[b]", "-m", "[%x]", "[bold]text[/bold] :smile:"]) == 0
    shown = screen.close()
    assert all(text in shown for text in ("p([a])", "p([b])", "p([%x])", "[bold]text[/bold] :smile:"))
    screen = Screen(monkeypatch)
    assert run(["compare", "[a]", "[b]", "long.txt", "--resamples", "100"]) == 0
    shown = screen.close()
    assert all(text in shown for text in ("[a]", "[b]", "differences from [a]"))
