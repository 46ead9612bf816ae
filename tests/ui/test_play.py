"""`chargen play`: laws of drafts, keys and the layout, and the command itself in a pseudo-terminal."""

from __future__ import annotations

import contextlib
import io
import os
import re
import select
import signal
import subprocess
import sys
import time
import zlib
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from prompt_toolkit.input import create_pipe_input
from rich.console import Console

from chargen.checkpoint import save_checkpoint
from chargen.lm import LanguageModel
from chargen.ui.play import terminal as terminal_module
from chargen.ui.play.app import BackgroundWork, play
from chargen.ui.play.draft import ACTIONS, MAX_HISTORY, Draft, first_word, new_draft, press, set_generated
from chargen.ui.play.layout import Mark, Marks, lay_out
from chargen.ui.play.terminal import PASTE_END, Key, Keyboard, Screen
from chargen.ui.terminal_text import clusters, glyph
from tests.conftest import Result, random_model

SCRIPTS = "ab Tế e\u0302\u0301ữ\u1112\u1161漢字👍🏽👨\u200d👩\u200d👧🇻🇳❤\ufe0f\t\n-\u202e\x1b\x9b"

# ── drafts ────────────────────────────────────────────────────────────────────────────────────────────────────────────

KEYS = [Key(name) for name in [*ACTIONS, "page-up"]] + [Key("text", text) for text in ("a", "Chữ tài", "\u0301", " ")]


def with_generated(draft: Draft) -> Draft:
    """Generate 30 characters more, with a replacement for the model whose text depends only on `draft.inputs`."""
    generated = f" word {zlib.crc32(repr(draft.inputs).encode())}" * 100
    return set_generated(draft, generated[: len(draft.text) - draft.prompt_chars + 30])


def after(keys: list[Key], draft: Draft | None = None) -> Draft:
    draft = with_generated(new_draft("", 0.8, 5) if draft is None else draft)
    for key in keys:
        draft = with_generated(press(draft, key))
    return draft


@given(st.lists(st.sampled_from(KEYS), max_size=30), st.sampled_from(KEYS))
def test_undo_gives_back_the_draft_before_the_key(keys: list[Key], key: Key) -> None:
    draft = after(keys)
    changed = press(draft, key)
    if key.name in ("ctrl-z", "ctrl-u"):
        assert len(changed.history) == max(0, len(draft.history) - 1)
    elif changed is not draft:
        assert press(changed, Key("ctrl-z")) == draft
        assert press(with_generated(changed), Key("ctrl-u")) == draft


@given(st.lists(st.sampled_from(KEYS), max_size=30))
def test_undoing_everything_leads_to_the_first_draft(keys: list[Key]) -> None:
    draft = after(keys)
    for _ in keys:
        draft = press(draft, Key("ctrl-z"))
    assert draft == with_generated(new_draft("", 0.8, 5))


@given(st.lists(st.sampled_from(KEYS), max_size=30))
def test_prompt_and_generated_text_are_text_and_continuation(keys: list[Key]) -> None:
    draft = after(keys)
    assert draft.text.startswith(draft.prompt)
    assert draft.prompt + draft.generated == draft.text + draft.continuation
    assert len(draft.continuation) == 30
    assert draft.temperature >= 0


@given(st.lists(st.sampled_from(KEYS), max_size=20), st.text("ab ", min_size=1, max_size=4))
def test_after_typing_the_same_text_seed_and_temperature_have_the_same_continuation(keys: list[Key], text: str) -> None:
    draft = after([*keys, Key("text", text)])
    assert draft.continuation == after([], new_draft(draft.text, draft.temperature, draft.seed)).continuation


@given(st.sampled_from(["tab", "right", "shift-tab", "end", "ctrl-e"]), st.lists(st.sampled_from(KEYS), max_size=20))
def test_accepting_leaves_the_rest_as_it_was(name: str, keys: list[Key]) -> None:
    draft = after([*keys, Key("text", " ")])
    draft = replace(draft, after_cursor=0)
    accepted = press(draft, Key(name))
    assert accepted.text + accepted.continuation == draft.text + draft.continuation
    assert len(accepted.text) > len(draft.text)
    assert accepted.inputs == draft.inputs


def test_keys_do_what_they_say() -> None:
    draft = after([Key("text", "one")])
    assert after([Key("enter")], draft).text == "one\n"
    assert after([Key("backspace")], draft).text == "on"
    assert after([Key("backspace")], new_draft("", 1, 0)).text == ""
    assert after([Key("ctrl-l")], draft).text == ""
    assert after([Key("end")], draft).text == "one" + draft.continuation
    assert after([Key("tab")], draft).text == "one word"
    assert after([Key("right")], draft).text == "one "
    rerolled = after([Key("ctrl-r")], draft)
    assert (rerolled.text, rerolled.seed) == ("one", 6)
    assert rerolled.continuation != draft.continuation


def test_the_cursor_moves_in_the_text_by_what_a_reader_calls_a_character() -> None:
    draft = new_draft("ab\nvie\u0323\u0302t 👍🏽", 1, 0)
    places = [draft.cursor]
    for _ in range(12):
        draft = after([Key("left")], draft)
        places.append(draft.cursor)
    assert places == [12, 10, 9, 8, 5, 4, 3, 2, 1, 0, 0, 0, 0]
    assert after([Key("left")] * 2 + [Key("right")], new_draft("abc", 1, 0)).cursor == 2


def test_home_and_end_move_to_the_line_then_to_the_text_and_then_accept() -> None:
    draft = after([], new_draft("one\ntwo", 1, 0))
    assert [after([Key("home")] * k, draft).cursor for k in range(4)] == [7, 4, 0, 0]
    home = after([Key("home")] * 2, draft)
    assert [after([Key("end")] * k, home).cursor for k in range(3)] == [0, 3, 7]
    assert after([Key("end")] * 2, home).text == "one\ntwo"
    assert after([Key("end")] * 3, home).text == "one\ntwo" + home.continuation


def test_typing_and_deleting_happen_at_the_cursor() -> None:
    draft = after([Key("left")] * 2, new_draft("abcd", 1, 0))
    typed = after([Key("text", "X"), Key("enter")], draft)
    assert (typed.text, typed.cursor, typed.prompt) == ("abX\ncd", 4, "abX\ncd")
    assert after([Key("backspace")], draft).text == "acd"
    assert after([Key("delete")], draft).text == "abd"
    assert after([Key("delete")] * 3, draft).text == "ab"
    accepted = after([Key("tab")], draft)
    assert accepted.text.startswith("abcd") and accepted.after_cursor == 0
    assert after([Key("ctrl-z")], typed).text == "abXcd"


def test_temperature_moves_by_tenths_and_not_below_zero() -> None:
    up = after([Key("up")] * 3, new_draft("", 0.1, 0))
    assert up.temperature == 0.4
    assert after([Key("down")] * 9, up).temperature == 0.0
    cold = new_draft("", 0.0, 0)
    assert press(cold, Key("down")) is cold


def test_the_history_has_a_limit() -> None:
    draft = new_draft("", 1.0, 0)
    for _ in range(MAX_HISTORY + 10):
        draft = press(draft, Key("text", "a"))
    assert len(draft.history) == MAX_HISTORY


@pytest.mark.parametrize(
    ("text", "erased"),
    [
        ("việt", "việ"),
        ("vie\u0323\u0302", "vi"),
        ("a👨\u200d👩\u200d👧", "a"),
        ("a👍🏽", "a"),
        ("🇻🇳🇫🇷", "🇻🇳"),
        ("漢字", "漢"),
    ],
)
def test_backspace_removes_what_a_reader_calls_a_character(text: str, erased: str) -> None:
    assert after([Key("backspace")], new_draft(text, 1, 0)).text == erased


@pytest.mark.parametrize(
    ("text", "word"),
    [("ing the", "ing"), (" the king", " the"), ("\n\nROMEO:\n", "\n\nROMEO:"), ("  ", "  "), ("", ""), ("春眠", "春"),
     ("nế u", "nế"), ("a春", "a"), ("한글 말", "한글")],
)  # fmt: skip
def test_a_word_is_accepted_with_the_space_before_it(text: str, word: str) -> None:
    assert first_word(text) == word


# ── keys ──────────────────────────────────────────────────────────────────────────────────────────────────────────────

PASTE = "\x1b[200~"
SENT = [
    ("a", Key("text", "a")), ("ữ", Key("text", "ữ")), ("e\u0302\u0301", Key("text", "e\u0302\u0301")),
    ("春👍🏽", Key("text", "春👍🏽")), ("\r", Key("enter")), ("\n", Key("enter")), ("\x7f", Key("backspace")),
    ("\x08", Key("backspace")), ("\t", Key("tab")), ("\x1b[Z", Key("shift-tab")), ("\x1b[A", Key("up")),
    ("\x1bOB", Key("down")), ("\x1b[1;5C", Key("right")), ("\x1b[F", Key("end")), ("\x1b[4~", Key("end")),
    ("\x1b\x1b[D", Key("left")), ("\x12", Key("ctrl-r")), ("\x1a", Key("ctrl-z")), ("\x03", Key("ctrl-c")),
    (f"{PASTE}Chào\r\nbạn\t\x1b\x03!{PASTE_END}", Key("text", "Chào\nbạn\t!")), (f"{PASTE}{PASTE_END}", None),
    ("\x1b[15~", None), ("\x1b[[A", None), ("\x1bOP", None), ("\x1bx", None), ("\x1b\x7f", None), ("\0", None),
    ("\x1b[97;5u", None), ("\x1b[3;5~", Key("delete")), ("\x1b[1;3C", Key("right")), ("\x1b\r", None), ("\x9b", None),
]  # fmt: skip


def merged(keys: list[Key]) -> list[Key]:
    """Join the text of adjacent keys, because the number of characters in a read is random."""
    joined: list[Key] = []
    for key in keys:
        if key.text and joined and joined[-1].text:
            joined[-1] = Key("text", joined[-1].text + key.text)
        else:
            joined.append(key)
    return joined


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Callable[[float], None]:
    """Replace the clock of the keyboard by one that this function sets forward."""
    now_s = [1000.0]
    monkeypatch.setattr(terminal_module.time, "monotonic", lambda: now_s[0])
    return lambda seconds: now_s.append(now_s.pop() + seconds)


def keys_of(*reads: bytes, clock: Callable[[float], None] | None = None) -> list[Key]:
    """Return the keys of what a terminal sends in several reads, with the silence after them if there is a clock."""
    with create_pipe_input() as pipe:
        keyboard = Keyboard(pipe)
        keys: list[Key] = []
        for sent in reads:
            pipe.send_bytes(sent)
            keys += keyboard.read(0.0)
        if clock is not None:
            for silence_s in (0.06, 1.0):
                clock(silence_s)
                keys += keyboard.read(0.0)
    return keys


@given(st.lists(st.sampled_from(SENT), max_size=12), st.data())
def test_keys_do_not_depend_on_how_the_input_is_split_into_reads(
    sent: list[tuple[str, Key | None]], data: st.DataObject
) -> None:
    received = "".join(sequence for sequence, _ in sent).encode()
    cuts = sorted(data.draw(st.lists(st.integers(0, len(received)), max_size=6)))
    reads = [received[start:end] for start, end in zip([0, *cuts], [*cuts, len(received)], strict=True)]
    assert merged(keys_of(*reads)) == merged([key for _, key in sent if key])


@pytest.mark.parametrize(
    ("sent", "keys"),
    [
        ("a\x1b", [Key("text", "a"), Key("escape")]),
        ("\x1b\x03", [Key("escape"), Key("ctrl-c")]),
        ("\x1b\x04", [Key("escape"), Key("ctrl-d")]),
        ("\x1b[", []),
        ("\x1bO", []),
        ("\x1b[1;", []),
        (f"{PASTE}Xin", [Key("text", "Xin")]),
    ],
)
def test_what_is_not_complete_becomes_a_key_when_nothing_follows_it(
    sent: str, keys: list[Key], clock: Callable[[float], None]
) -> None:
    assert keys_of(sent.encode(), clock=clock) == keys


def test_keys_after_a_paste_without_an_end_are_keys(clock: Callable[[float], None]) -> None:
    with create_pipe_input() as pipe:
        keyboard = Keyboard(pipe)
        keys: list[Key] = []
        for sent, silence_s in ((f"{PASTE}Xin", 1.5), ("\x1b[A", 1.5), ("\x1b", 0.1), ("", 1.5), ("b", 9.0)):
            pipe.send_text(sent)
            keys += keyboard.read(0.0)
            clock(silence_s)
            keys += keyboard.read(0.0)
    assert keys == [Key("text", "Xin"), Key("up"), Key("escape"), Key("text", "b")]


def test_a_closed_terminal_is_ctrl_d() -> None:
    with create_pipe_input() as pipe:
        pipe.send_text("a")
        pipe.close()
        assert Keyboard(pipe).read(0.0) == [Key("text", "a"), Key("ctrl-d")]


@given(st.text() | st.text("\x1b[O;<M~1a\x03"), st.binary(max_size=20))
def test_nothing_that_a_terminal_sends_is_an_error(text: str, invalid: bytes) -> None:
    for key in keys_of(text.encode("utf-8", "replace"), invalid):
        key.text.encode()
        assert not set(key.text) & set("\x1b\x00\x7f\x9b\r")


# ── pages ─────────────────────────────────────────────────────────────────────────────────────────────────────────────


def cells(text: str) -> int:
    return sum(glyph(cluster)[1] for cluster in clusters(text))


@given(st.text(max_size=60) | st.text(SCRIPTS))
def test_clusters_put_together_are_the_text(text: str) -> None:
    assert "".join(clusters(text)) == text


@settings(max_examples=150)
@given(st.text(SCRIPTS, max_size=120), st.text(SCRIPTS, max_size=120), st.integers(1, 40), st.integers(1, 12))
def test_a_page_stays_on_the_screen_and_has_its_cursor_there(text: str, more: str, width: int, height: int) -> None:
    page = lay_out(text, more, width, height)
    assert len(page.rows) <= height
    for typed, drawn in page.rows:
        assert cells(typed) + cells(drawn) <= width
        assert not set(typed + drawn) & set("\x1b\x9b\n\t\u202e")
    row, column = page.cursor
    assert 0 <= row < len(page.rows)
    assert 0 <= column < width
    assert 0 <= page.shown_chars <= len(more)
    assert page.is_full or page.shown_chars == len(more)


@settings(max_examples=150)
@given(st.text("ab-é\u0302漢🇻🇳\n\t", max_size=200), st.integers(2, 40), st.integers(1, 12), st.data())
def test_the_cursor_is_on_the_screen_wherever_it_is_in_the_text(
    text: str, width: int, height: int, data: st.DataObject
) -> None:
    ends = [0]
    for cluster in clusters(text):
        ends.append(ends[-1] + len(cluster))
    cursor = data.draw(st.sampled_from(ends))
    page = lay_out(text, "more", width, height, len(text) - cursor)
    row, column = page.cursor
    assert 0 <= row < len(page.rows) <= height
    assert 0 <= column < width
    typed = page.rows[row][0]
    assert min(width - 1, cells(typed[: page.before_cursor])) == column


def test_the_cursor_is_on_the_character_that_typing_would_push_on() -> None:
    for cursor in range(9):
        page = lay_out("ab cd\nef", "", 4, 9, 8 - cursor)
        row, column = page.cursor
        rest = "".join(typed for typed, _ in page.rows[row:])[column:]
        assert rest == "ab cd\nef"[cursor:].replace("\n", "")


def test_unknown_characters_are_marked() -> None:
    page = lay_out("a€b\n€€", "€", 9, 9, marks=Marks(lambda cluster: cluster == "€"))
    assert page.marks == [[Mark(1, 2, True, None)], [Mark(0, 2, True, None)]]


@given(st.text("ab -", max_size=80), st.text("ab -", max_size=80), st.integers(2, 30))
def test_a_high_page_shows_everything_and_breaks_no_word_that_fits(text: str, more: str, width: int) -> None:
    page = lay_out(text, more, width, 400)
    assert "".join(typed for typed, _ in page.rows).replace(" ", "") == text.replace(" ", "")
    assert "".join(drawn for _, drawn in page.rows).replace(" ", "") == more.replace(" ", "")
    words = re.findall(r"[ab]+-?|-", text + more)
    if all(len(word) <= width for word in words):
        assert [word for typed, drawn in page.rows for word in re.findall(r"[ab]+-?|-", typed + drawn)] == words


@settings(max_examples=50)
@given(st.text("ab \n漢", max_size=900), st.integers(4, 30), st.integers(3, 10))
def test_a_long_text_shows_its_end_and_leaves_a_third_of_the_page(text: str, width: int, height: int) -> None:
    page = lay_out(text, "x" * 2000, width, height)
    assert page.cursor[0] <= height - height // 3 - 1
    shown = "".join(typed for typed, _ in page.rows).replace(" ", "")
    assert text.replace(" ", "").replace("\n", "").endswith(shown)


# ── the command ───────────────────────────────────────────────────────────────────────────────────────────────────────


def test_a_continuation_of_a_document_model_ends_with_the_document() -> None:
    lm = LanguageModel(random_model("ab\n", documents="line"))
    work, draft = BackgroundWork(lm), Draft(seed=3)
    while not work.has_ended(draft):
        work.step(draft)
    assert work.typed.has_read(draft.text)
    assert work.generated(draft) == "".join(lm.stream("", temperature=1.0, seed=3))
    assert "\n" not in work.generated(draft)
    work.step(draft)  # nothing is left to do
    assert work.has_ended(draft)
    typed = press(draft, Key("text", "a"))
    assert not work.has_ended(typed)
    work.step(typed)
    assert work.typed.has_read("a") and not work.has_ended(typed)  # the end of the continuation before is not its end


def test_without_a_terminal_it_says_so(chargen: Callable[..., Result]) -> None:
    result = chargen("play")
    assert result.status == 1
    assert "needs a terminal" in result.err
    assert "chargen sample" in result.err
    assert len(result.err.splitlines()) == 2
    assert result.out == ""


class Script:
    """A keyboard on which keys are pressed in batches, without a pause between them, and Esc when nothing is to do."""

    def __init__(self, *batches: list[Key]) -> None:
        self._batches = list(batches)

    def open(self) -> contextlib.nullcontext[None]:
        return contextlib.nullcontext()

    def has_key(self, wait_s: float = 0.0) -> bool:
        return bool(self._batches)

    def read(self, wait_s: float) -> list[Key]:
        if self._batches:
            return self._batches.pop(0)
        return [Key("escape")] if wait_s else []


@pytest.mark.parametrize(
    ("names", "words", "chars"),
    [(["tab"], 1, 0), (["tab", "tab"], 2, 0), (["right"], 0, 1), (["shift-tab"], 0, 1), (["tab", "right"], 1, 1)],
)
def test_a_key_that_accepts_waits_for_the_continuation(
    monkeypatch: pytest.MonkeyPatch, names: list[str], words: int, chars: int
) -> None:
    monkeypatch.setattr(Screen, "size", lambda self: (80, 24))
    lm = LanguageModel(random_model())
    rest = "".join(lm.stream("To", temperature=0.8, seed=5, length=400))
    expected = "To"
    for _ in range(words):
        expected += first_word(rest)
        rest = rest[len(first_word(rest)) :]
    expected += "".join(list(clusters(rest))[:chars])
    typed, accepting = [Key("text", "T"), Key("text", "o")], [Key(name) for name in names]
    for script in (Script(typed + accepting), Script(typed, accepting), Script(*([key] for key in typed + accepting))):
        console = Console(file=io.StringIO(), force_terminal=True, width=80, height=24, color_system=None)
        assert play(lm, "m", new_draft("", 0.8, 5), 300, console, script) == expected


def test_leaving_does_not_wait(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Screen, "size", lambda self: (80, 24))
    monkeypatch.setattr(BackgroundWork, "step", lambda self, draft, has_colours: None)  # the model never answers
    console = Console(file=io.StringIO(), force_terminal=True, width=80, height=24, color_system=None)
    draft = new_draft("", 0.8, 5)
    keys = [Key("text", "T"), Key("tab"), Key("text", "o")]
    lm = LanguageModel(random_model())
    assert play(lm, "m", draft, 300, console, Script(keys, [Key("escape")])) == "T"
    with pytest.raises(KeyboardInterrupt):
        play(lm, "m", draft, 300, console, Script(keys, [Key("ctrl-c")]))


def test_after_a_crash_the_screen_and_the_signals_are_as_they_were(monkeypatch: pytest.MonkeyPatch) -> None:
    def crash(self: BackgroundWork, draft: Draft, has_colours: bool) -> None:
        raise MemoryError

    monkeypatch.setattr(Screen, "size", lambda self: (80, 24))
    monkeypatch.setattr(BackgroundWork, "step", crash)
    drawn = io.StringIO()
    console = Console(file=drawn, force_terminal=True, width=80, height=24, color_system=None)
    numbers = [signal.Signals[name] for name in ("SIGTSTP", "SIGCONT") if hasattr(signal, name)]
    before = [signal.getsignal(number) for number in numbers]
    with create_pipe_input() as pipe, pytest.raises(MemoryError):
        play(LanguageModel(random_model()), "m", new_draft("", 0.8, 5), 300, console, Keyboard(pipe))
    assert drawn.getvalue().startswith("\x1b[?1049h\x1b[H\x1b[?2004h\x1b[?7l")
    assert drawn.getvalue().endswith("\x1b[?2004l\x1b[?7h\x1b[?1049l")
    assert [signal.getsignal(number) for number in numbers] == before


def test_bad_settings_are_wrong_usage(chargen: Callable[..., Result]) -> None:
    assert chargen("play", "--temp", "-1").status == 2
    assert chargen("play", "--length", "0").status == 2


MOVES = re.compile(r"\x1b\[(?:(\d+);(\d+))?H|\x1b\[2K|\x1b\[2J|\x1b\[[?0-9;]*[a-zA-Z]|[^\x1b]", re.DOTALL)
DEADLINE_S = 40


class Terminal:
    """`chargen play` in a pseudo-terminal, and its screen (for text without characters of double width)."""

    def __init__(self, folder: Path, *arguments: str, size: tuple[int, int] = (80, 24)) -> None:
        self.master, self.slave = os.openpty()
        self.resize(*size)
        self.before = self.settings()
        self._lines: dict[tuple[int, int], str] = {}
        self._received, self._row, self._column = "", 0, 0
        environment = {**os.environ, "TERM": "xterm-256color", "PYTHONPATH": str(Path(__file__).parents[2])}
        self.process = subprocess.Popen(
            [sys.executable, "-m", "chargen", "play", "-m", "verse", *arguments],
            cwd=folder, env=environment, stdin=self.slave, stderr=self.slave, stdout=subprocess.PIPE,
        )  # fmt: skip

    def resize(self, columns: int, rows: int) -> None:
        import fcntl
        import struct
        import termios

        fcntl.ioctl(self.master, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))

    def settings(self) -> list[object]:
        import termios

        return list(termios.tcgetattr(self.slave))

    def press(self, keys: str) -> None:
        os.write(self.master, keys.encode())

    def screen(self) -> list[str]:
        rows = 1 + max((row for row, _ in self._lines), default=0)
        width = 1 + max((column for _, column in self._lines), default=0)
        return ["".join(self._lines.get((r, c), " ") for c in range(width)).rstrip() for r in range(rows)]

    def wait_for(self, seen: Callable[[list[str]], bool]) -> None:
        """Read the output until the screen is as expected."""
        until = time.monotonic() + DEADLINE_S
        while not seen(self.screen()):
            assert time.monotonic() < until, "\n".join(self.screen())
            self._read(1.0)

    def leave(self, keys: str) -> tuple[int, str]:
        """Press the last keys; return the exit status and what was printed on stdout."""
        self.press(keys)
        while self.process.poll() is None:
            self._read(0.1)
        assert self.process.stdout is not None
        out = self.process.stdout.read().decode()
        self._read(0.0)
        return self.process.returncode, out

    def close(self) -> None:
        self.process.kill()
        self.process.communicate()
        os.close(self.master)
        os.close(self.slave)

    def _read(self, wait_s: float) -> None:
        if select.select([self.master], [], [], wait_s)[0]:
            self._received += os.read(self.master, 1 << 16).decode("utf-8", "replace")
            whole = len(self._received) - len(re.search(r"(\x1b[^a-zA-Z]*)?\Z", self._received)[0])  # type: ignore[index]
            for move in MOVES.finditer(self._received[:whole]):
                self._obey(move)
            self._received = self._received[whole:]

    def _obey(self, move: re.Match[str]) -> None:
        sequence = move[0]
        if sequence.endswith("H") and sequence[0] == "\x1b":
            self._row, self._column = int(move[1] or 1) - 1, int(move[2] or 1) - 1
        elif sequence == "\x1b[2J" or sequence.startswith("\x1b[?1049"):
            self._lines = {}
        elif sequence == "\x1b[2K":
            self._lines = {position: char for position, char in self._lines.items() if position[0] != self._row}
        elif sequence == "\r":
            self._column = 0
        elif sequence == "\n":
            self._row += 1
        elif sequence[0] != "\x1b":
            self._lines[self._row, self._column] = sequence
            self._column += 1


@pytest.fixture
def terminal(tmp_path: Path) -> Iterator[Callable[..., Terminal]]:
    if sys.platform == "win32":
        pytest.skip("this system has no pseudo-terminals")
    save_checkpoint(tmp_path / "checkpoints" / "verse" / "model.safetensors", random_model())
    opened: list[Terminal] = []

    def play(*arguments: str, size: tuple[int, int] = (80, 24)) -> Terminal:
        opened.append(Terminal(tmp_path, *arguments, size=size))
        return opened[-1]

    yield play
    for one in opened:
        one.close()


def shows(text: str, continuation: str, size: tuple[int, int] = (80, 24)) -> Callable[[list[str]], bool]:
    rows = lay_out(text, continuation, size[0], size[1] - 2).rows
    expected = [(typed + drawn).rstrip() for typed, drawn in rows]
    return lambda screen: screen[: len(expected)] == expected and not any(screen[len(expected) : size[1] - 2])


def test_typing_accepting_resizing_and_leaving_in_a_terminal(terminal: Callable[..., Terminal]) -> None:
    lm = LanguageModel(random_model())
    full = "".join(lm.stream("The ", length=400, seed=5, temperature=0.7))
    word = first_word(full)
    play = terminal("--seed", "5", "--temp", "0.7", "--length", "90")
    play.wait_for(shows("", "".join(lm.stream(length=90, seed=5, temperature=0.7))))
    for letter in "The ":
        play.press(letter)
    play.wait_for(shows("The ", full[:90]))
    bits = lm.score("The ").bits_per_char
    assert f"temp 0.7  {bits:.2f} bits/char  seed 5  verse  4 characters" in play.screen()[22]
    play.press("\t")
    play.wait_for(shows(f"The {word}", full[len(word) :][:90]))
    play.resize(40, 12)
    play.wait_for(shows(f"The {word}", full[len(word) :][:90], (40, 12)))
    play.press("\x1b[A")
    play.wait_for(lambda screen: "temp 0.8" in screen[10])
    play.press("\x12")
    play.wait_for(lambda screen: "seed 6" in screen[10])
    play.wait_for(
        shows(f"The {word}", lm.sample(f"The {word}", length=90, seed=6, temperature=0.8)[4 + len(word) :], (40, 12))
    )
    play.press("\x1a\x1a")
    play.wait_for(shows(f"The {word}", full[len(word) :][:90], (40, 12)))
    assert play.leave("\x1b") == (0, f"The {word}\n")
    assert play.settings() == play.before


def test_a_paste_in_many_scripts_is_text_and_is_printed_unchanged(terminal: Callable[..., Terminal]) -> None:
    pasted = "Trăm năm\tế\n" + "chữ tài " * 700  # longer than a terminal gives at once
    play = terminal("--seed", "1", "--prompt", "Đây: ")
    play.wait_for(lambda screen: screen[0].startswith("Đây:"))
    for cut in range(0, len(pasted), 500):
        play.press((PASTE if cut == 0 else "") + pasted[cut : cut + 500].replace("\n", "\r"))
        play._read(0.0)
    play.press(PASTE_END)
    play.wait_for(lambda screen: f"{5 + len(pasted):,} characters" in screen[22] and "bits/char" in screen[22])
    assert play.leave("\x04") == (0, f"Đây: {pasted}\n")


def test_a_stopped_process_leaves_the_terminal_as_it_was_and_comes_back(terminal: Callable[..., Terminal]) -> None:
    play = terminal("--prompt", "kept", "--length", "10")
    play.wait_for(lambda screen: screen[0].startswith("kept"))
    raw = play.settings()
    for number in (signal.SIGTSTP, signal.SIGSTOP):
        play.process.send_signal(number)
        os.waitid(os.P_PID, play.process.pid, os.WSTOPPED | os.WNOWAIT)
        if number == signal.SIGTSTP:
            play._read(0.0)
            assert play.settings() == play.before
            assert not any("kept" in line for line in play.screen())
        play._lines = {}  # the shell and other programs use the screen
        play.process.send_signal(signal.SIGCONT)
        play.wait_for(lambda screen: screen[0].startswith("kept") and "^G help" in screen[-1])
        play.press("!")
        play.wait_for(lambda screen: screen[0].startswith("kept!"))
        assert play.settings() == raw
    assert play.leave("\x1b") == (0, "kept!!\n")
    assert play.settings() == play.before


@pytest.mark.parametrize(
    ("keys", "number", "status"), [("\x03", 0, 130), ("", signal.SIGINT, 130), ("", signal.SIGTERM, 143)]
)
def test_ctrl_c_and_signals_leave_without_output_on_stdout(
    terminal: Callable[..., Terminal], keys: str, number: int, status: int
) -> None:
    play = terminal("--prompt", "lost", "--length", "10")
    play.wait_for(lambda screen: screen[0].startswith("lost"))
    if number:
        play.process.send_signal(number)
    assert play.leave(keys) == (status, "")
    assert play.settings() == play.before
    assert not any(line.startswith("lost") for line in play.screen())
