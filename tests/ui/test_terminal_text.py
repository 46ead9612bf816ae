"""Text from outside never controls a terminal: characters, streams, consoles, and rules that the source follows."""

import ast
import io
import json
import re
import sys
import threading
import unicodedata
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.cells import cell_len
from rich.console import Console
from rich.panel import Panel
from rich.table import Table
from rich.text import Text

from chargen.cli.main import run
from chargen.ui import terminal_text as visible_module
from chargen.ui.console import ProgressBar, live, status, stderr_console, stdout_console
from chargen.ui.tables import plain_table
from chargen.ui.terminal_text import (
    VisibleStream,
    cells,
    clusters,
    glyph,
    install,
    is_shown,
    shorten,
    visible,
    visible_json,
    visible_streams,
    visible_text,
    wrap,
)

PACKAGE = Path(visible_module.__file__).parent.parent
ALL = [chr(code) for code in range(sys.maxunicode + 1)]
# Format characters that can be seen or that a script needs: Arabic, Syriac, Kaithi, Egyptian; ZWJ and ZWNJ.
NEEDED = {chr(code) for code in (*range(0x600, 0x606), 0x6DD, 0x70F, 0x890, 0x891, 0x8E2, 0x110BD, 0x110CD)}
NEEDED |= {chr(code) for code in range(0x13430, 0x13440)} | {"\u200c", "\u200d"}
OFTEN = "\x1b\x9b\x07\r\n\t\u202e\ud800\u200b\U0001f3f4\U000e0067ក"
ANY = st.text(st.characters(exclude_categories=()) | st.sampled_from(OFTEN))


@given(ANY | st.text("ab水e\u0302👍\u200d🇻🇳", max_size=60), st.integers(1, 30))
def test_a_shortened_text_fits_and_keeps_its_start_and_its_end(text: str, width: int) -> None:
    shown = shorten(text, width)
    assert cells(shown) <= width
    assert shown.isprintable() or visible(shown) == shown
    if cell_len(visible(text)) > width:
        head, _, tail = shown.rpartition("…") if text.count("…") == 0 else ("", "", "")
        assert visible(text).startswith(head) and visible(text).endswith(tail)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("Việt", ["V", "i", "ệ", "t"]),
        ("Vie\u0323\u0302t", ["V", "i", "e\u0323\u0302", "t"]),
        ("क्षत्रि", ["क्ष", "त्रि"]),  # conjuncts with their vowel signs
        ("한\u1112\u1161\u11ab", ["한", "\u1112\u1161\u11ab"]),
        ("👨\u200d👩\u200d👧🇻🇳🇫🇷❤\ufe0f1\ufe0f\u20e3", ["👨\u200d👩\u200d👧", "🇻🇳", "🇫🇷", "❤\ufe0f", "1\ufe0f\u20e3"]),
        ("ភាសា\u200bខ្មែរ", ["ភា", "សា\u200b", "ខ្មែ", "រ"]),  # the separator belongs to the word before it
        ("a\u200bb", ["a", "\u200b", "b"]),  # it is shown as a symbol here
        ("a\r\nb\n\rc", ["a", "\r\n", "b", "\n", "\r", "c"]),
        ("\x1b[2J\u0301", ["\x1b", "[", "2", "J\u0301"]),
    ],
)
def test_clusters_are_what_a_reader_takes_for_one_character(text: str, expected: list[str]) -> None:
    assert list(clusters(text)) == expected
    assert sum(glyph(cluster)[1] for cluster in expected) == cells(text)


def test_latin_letters_have_the_clusters_and_widths_of_other_scripts() -> None:
    latin = "".join(char for char in ALL if re.fullmatch(visible_module._LATIN, char))
    assert len(latin) == 959
    assert list(clusters(latin)) == list(clusters(latin + "漢"))[:-1] == list(latin)
    assert cells(latin) == cells(latin + "漢") - 2 == len(latin)


def test_every_character_has_a_width() -> None:
    assert {cells(char) for char in ALL} == {0, 1, 2}
    assert [cells(text) for text in ("👨\u200d👩\u200d👧", "🇻🇳", "❤\ufe0f", "e\u0301", "漢", "\x1b\n", "\u202e")] == [
        2,
        2,
        2,
        1,
        2,
        2,
        1,
    ]


def test_a_text_is_shortened_only_if_it_is_too_long() -> None:
    assert [shorten("abcdef", width) for width in (1, 2, 3, 4, 5, 6)] == ["…", "a…", "a…f", "ab…f", "ab…ef", "abcdef"]
    assert shorten("水水水水", 7) == "水…水"
    assert shorten("a\nb" * 1_000_000, 5) == "a␊…␊b"


def test_every_control_and_invisible_character_is_replaced_and_no_other() -> None:
    unsafe = {c for c in ALL if unicodedata.category(c) in ("Cc", "Cs", "Cf", "Zl", "Zp")} - NEEDED
    replaced = {c for c in ALL if visible(c) != c}
    assert unsafe <= replaced
    assert all(unicodedata.category(c) == "Cn" for c in replaced - unsafe)  # unassigned, and invisible by default
    assert {c for c in ALL if visible_text(c) != c} == replaced - {"\n", "\t"}


@pytest.mark.parametrize(
    "text",
    [
        "Trăm năm trong cõi người ta",
        "e\u0302 a\u031b",
        "سلام می\u200cخواهم",
        "क्\u200dष क्\u200cष",
        "👨\u200d👩\u200d👧 ❤\ufe0f 👍🏽 🇻🇳",
        "\U0001f3f4\U000e0067\U000e0062\U000e0065\U000e006e\U000e0067\U000e007f",
        "ភាសា\u200bខ្មែរ ภาษา\u200bไทย",
        "ᠭᠠᠷ\u180eᠠ",
        "春眠不覚暁 日本\u3000語",
    ],
)
def test_scripts_and_emoji_stay_as_they_are(text: str) -> None:
    assert visible(text) == visible_text(text) == text
    below = io.StringIO()
    stream = VisibleStream(below)
    for char in text:
        stream.write(char)
    assert below.getvalue() == text


def test_hidden_text_in_tags_and_zero_width_characters_between_latin_letters_show() -> None:
    assert visible("a\U000e0067\U000e0062b") == "a\ufffd\ufffdb"
    assert visible("pay\u200bpal\u00ad\ufeff\u2060") == "pay\ufffdpal\ufffd\ufffd\ufffd"


@given(st.lists(ANY))
def test_a_text_in_pieces_is_shown_like_the_whole_text(pieces: list[str]) -> None:
    below = io.StringIO(newline="")
    stream = VisibleStream(below)
    assert sum(map(stream.write, pieces)) == sum(map(len, pieces))
    assert below.getvalue() == visible_text("".join(pieces))


@given(ANY)
def test_making_visible_is_one_character_for_one_and_done_once(text: str) -> None:
    assert len(visible(text)) == len(text)
    assert visible(visible(text)) == visible(text)
    assert not set(visible(text)) & set("\x1b\x9b\x07\r\n\t\u202e\ud800")


@given(st.dictionaries(ANY, ANY))
def test_visible_json_has_the_same_value(value: dict[str, str]) -> None:
    line = json.dumps(value, ensure_ascii=False)
    assert json.loads(visible_json(line)) == json.loads(line)
    assert visible(visible_json(line)) == visible_json(line)


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_stdout_is_raw_unless_it_is_a_terminal_and_stderr_never_is(monkeypatch: pytest.MonkeyPatch) -> None:
    for stdout, out in ((io.StringIO(), "\x1b\u202e"), (Terminal(), "␛\ufffd")):
        monkeypatch.setattr(sys, "stdout", stdout)
        monkeypatch.setattr(sys, "stderr", io.StringIO())
        stderr = sys.stderr
        with visible_streams():
            install()  # twice is once
            print("\x1b\u202e", end="")
            print("\x1b\u202e", end="", file=sys.stderr)
            assert is_shown() == (stdout is not sys.stdout)
        assert stdout is sys.stdout and stderr is sys.stderr
        assert stdout.getvalue() == out
        assert stderr.getvalue() == "␛\ufffd"  # type: ignore[attr-defined]


# ── rich ──────────────────────────────────────────────────────────────────────────────────────────────────────────────


def on_a_terminal(monkeypatch: pytest.MonkeyPatch) -> Terminal:
    stream = Terminal()
    for name in ("stdout", "stderr"):
        monkeypatch.setattr(sys, name, stream)
    for name in ("NO_COLOR", "FORCE_COLOR"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("TERM", "xterm-256color")
    return stream


def test_a_console_shows_markup_and_emoji_names_as_they_are_written(monkeypatch: pytest.MonkeyPatch) -> None:
    terminal = on_a_terminal(monkeypatch)
    stdout_console().print("[bold]a[/x] :smile: [link=file:///etc]b", Text("[red]"), soft_wrap=True)
    stderr_console().print(Panel(Text("c"), title=Text("[/]")))
    shown = terminal.getvalue()
    assert all(text in shown for text in ("[bold]a[/x] :smile: [link=file:///etc]b [red]", "[/]", "c"))
    assert "\x1b" not in shown


def test_labels_in_brackets_stay_apart_as_heads_of_columns(monkeypatch: pytest.MonkeyPatch) -> None:
    terminal = on_a_terminal(monkeypatch)
    stdout_console().print(plain_table(("[a]", "[/]", "x\x1b[2J\ny"), [("[b]", ":heart:", "\r\x9b")]))
    shown = terminal.getvalue().replace("\x1b[1m", "").replace("\x1b[0m", "")
    assert all(text in shown for text in ("[a]", "[/]", "x␛[2J␊y", "[b]", ":heart:", "␍\ufffd"))
    assert "\x1b" not in shown


def test_a_console_makes_text_visible_whoever_made_it_and_keeps_its_own_codes(monkeypatch: pytest.MonkeyPatch) -> None:
    terminal = on_a_terminal(monkeypatch)
    table = Table()
    table.add_column("h\x9b")
    table.add_row("a\x1b]0;owned\x07\u202eb")
    console = stdout_console()
    console.print(table, Text("c\x1b[2J\n", "bold"))
    console.set_alt_screen(True)
    shown = terminal.getvalue()
    assert "\x1b]" not in shown and "\x1b[2J" not in shown and not set("\x07\x9b\u202e") & set(shown)
    assert "␛]0;owned" in shown and "\x1b[1m" in shown and "\x1b[?1049h" in shown


def test_displays_leave_stdout_and_stderr_alone_and_start_no_thread(monkeypatch: pytest.MonkeyPatch) -> None:
    terminal = on_a_terminal(monkeypatch)
    before = sys.stdout, sys.stderr, threading.active_count()
    console = stderr_console()
    assert console.is_terminal
    with live(console), status(console, "[red]\x1b[2J") as show:
        show("[/]")
        assert (sys.stdout, sys.stderr, threading.active_count()) == before
    with ProgressBar(console, 2) as bar:
        bar.show("[/red]\x1b]0;x\x07", 1)
        assert (sys.stdout, sys.stderr, threading.active_count()) == before
    assert all(text in terminal.getvalue() for text in ("[red]␛[2J", "[/]", "[/red]␛]0;x␇"))


class Gone(Terminal):
    def write(self, text: str) -> int:
        raise BrokenPipeError


def test_a_closed_pipe_is_an_exception_and_not_the_end_of_the_process(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, console in (("stdout", stdout_console), ("stderr", stderr_console)):
        monkeypatch.setattr(sys, name, Gone())
        with pytest.raises(BrokenPipeError):
            console().print("x")


# ── the source ────────────────────────────────────────────────────────────────────────────────────────────────────────

DISPLAYS = {"rich.live", "rich.progress", "rich.status", "rich.spinner", "rich.prompt", "rich.columns", "rich.markup"}
PARSERS = {"from_markup", "from_ansi", "render_markup", "status"}
TITLED = {"title", "subtitle", "caption"}


def _name(call: ast.Call) -> str:
    return call.func.attr if isinstance(call.func, ast.Attribute) else getattr(call.func, "id", "")


@pytest.mark.parametrize("file", sorted(PACKAGE.rglob("*.py")), ids=lambda f: str(f.relative_to(PACKAGE)))
def test_only_the_helper_makes_consoles_and_displays_and_nothing_is_parsed_as_markup(file: Path) -> None:
    is_helper = file == PACKAGE / "ui" / "console.py"
    tree = ast.parse(file.read_text(encoding="utf-8"))
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] == "rich" and not is_helper:
            assert node.module not in DISPLAYS, node.module
            assert node.module != "rich" or {alias.name for alias in node.names} == {"box"}
        if isinstance(node, ast.Import):
            assert not any(alias.name.split(".")[0] == "rich" for alias in node.names), "import what is used by name"
        if not isinstance(node, ast.Call):
            continue
        where, keywords = f"{file}:{node.lineno}", {keyword.arg: keyword.value for keyword in node.keywords}
        assert _name(node) not in PARSERS or (_name(node) == "status" and isinstance(node.func, ast.Name)), where
        if not is_helper:
            assert _name(node) != "Console", where
            assert not {"markup", "emoji"} & set(keywords), where
        if _name(node) in ("Panel", "Table", "Rule"):
            for key in TITLED & set(keywords):
                title = keywords[key]
                assert isinstance(title, ast.Call) and _name(title) == "Text", where
        if is_helper and _name(node) in ("Live", "Progress"):
            for key in ("auto_refresh", "redirect_stdout", "redirect_stderr"):
                assert isinstance(keywords[key], ast.Constant) and keywords[key].value is False, where  # type: ignore[attr-defined]


def test_the_source_that_the_rules_apply_to_is_found() -> None:
    source = (PACKAGE / "ui" / "console.py").read_text(encoding="utf-8")
    assert all(f"{word}(" in source for word in ("Live", "Progress", "TextColumn"))
    assert issubclass(type(stdout_console()), Console)


# ── lines on stderr ───────────────────────────────────────────────────────────────────────────────────────────────────

WORDS = st.sampled_from(["a", "word", "longer-word", "/a/path/to/file.txt", "'in quotes'", "--file x", "漢字", "1,234"])


@given(st.lists(WORDS, min_size=1, max_size=30), st.integers(10, 100))
def test_a_line_is_wrapped_at_spaces_only_and_loses_nothing(words: list[str], width: int) -> None:
    line = " ".join(words)
    rows = wrap(line, width).split("\n")
    assert " ".join(row.strip() for row in rows) == line
    assert [word for row in rows for word in row.split()] == line.split()
    for row in rows:  # a row is too long only if it is a single word, or what is copied with it
        assert cell_len(row) <= width or row.strip() in words or row.strip().startswith("--file x")
    assert all(row.startswith("  ") for row in rows[1:])


@pytest.mark.parametrize("width", [40, 60, 80])
@pytest.mark.parametrize(
    "kept",
    [
        "chargen sample -m names --temp 0.8 --length 1000 --seed 12345 --prompt 'Once upon a time there was'",
        "chargen train --resume 'my verse' --more 5m",
        "'a name with some spaces.txt'",
        "/home/ana/some/long/folders/with/a/file-of-a-long-name.safetensors",
        "`chargen corpora check`",
        "pip install 'chargen[parquet]'",
    ],
)
def test_what_is_copied_is_not_broken(kept: str, width: int) -> None:
    for line in (
        f"note: this is a line with many words, some of them long: {kept}",
        f"error: see what follows: {kept}.",
    ):
        assert any(kept in row for row in wrap(line, width).split("\n"))
    assert "--file test.log" in wrap(
        "note: the texts of the file are read by this option, --file test.log and no other", 60
    )


@pytest.mark.parametrize("width", [40, 80])
def test_notes_and_errors_are_wrapped_at_spaces_on_a_terminal_only(
    width: int, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", str(width))
    (tmp_path / "text.log").write_text("some text\n")
    for command in (
        ["sample", "--temp", "0,8"],
        ["train", "no-file-has-this-name.txt"],
        ["score", "--sort", "best", "--top", "3", "a text"],
        ["sample", "--number-of-samples-to-draw", "3"],
        ["train", "text.log", "--budget", "5 fortnights", "--save-every", "1"],
    ):
        terminal, pipe = Terminal(), io.StringIO()
        for stream in (pipe, terminal):
            monkeypatch.setattr("sys.stderr", stream)
            assert run(command) in (1, 2)
        rows = terminal.getvalue().splitlines()
        assert all(cell_len(row) <= width for row in rows), rows
        assert terminal.getvalue().split() == pipe.getvalue().split()
        assert any(line.startswith(("Error: ", "error: ")) for line in pipe.getvalue().splitlines())
