"""`chargen sample` prints a list of lines where each sample is a line, and models of documents generate documents."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from chargen.api import load
from chargen.checkpoint import save_checkpoint
from chargen.cli.commands.sample_output import SEPARATOR
from tests.conftest import VERSE, Result, random_model

Chargen = Callable[..., Result]
NAMES = ("sample", "-m", "names", "--seed", "1", "--length", "20")
VERSES = ("sample", "-m", "verse", "--seed", "1", "--length", "90")


@pytest.fixture(autouse=True)
def models(chargen: Chargen) -> None:
    """Save a model of documents that have no newline, and one of continuous text that has many."""
    names = random_model("Annabel" * 3, documents="line")
    save_checkpoint(Path("checkpoints/names/model.safetensors"), names)
    save_checkpoint(Path("checkpoints/verse/model.safetensors"), random_model("ab\n" * 30))


def test_a_model_of_documents_ends_a_sample_with_the_document(chargen: Chargen) -> None:
    names = chargen(*NAMES, "-n", "20")
    assert names.err == ""
    assert len(names.out.splitlines()) == 20
    assert names.out == chargen(*NAMES, "-n", "20", "--until", "boundary").out
    assert chargen(*NAMES).out == names.out.splitlines()[0] + "\n"
    assert json.loads(chargen(*NAMES, "--json").out)["until"] == "boundary"
    lm = load("names")
    assert lm.sample(seed=1, length=20) + "\n" == chargen(*NAMES).out
    assert [sample.text for sample in lm.samples(20, seed=1, length=20)] == names.out.splitlines()


def test_other_ends_still_work_with_a_model_of_documents(chargen: Chargen) -> None:
    assert len(chargen(*NAMES, "--until", "length").out.strip("\n")) >= 19
    assert chargen(*NAMES, "--regex", "A[nabel]{7}").out.startswith("A")
    filled = json.loads(chargen(*NAMES, "--suffix", "bel", "--particles", "8", "--json").out)
    assert filled["text"].endswith("bel") and "until" not in filled
    assert chargen(*VERSES).out == chargen(*VERSES, "--until", "length").out


def test_samples_of_several_lines_have_headings_on_stderr_only(chargen: Chargen) -> None:
    result = chargen(*VERSES, "-n", "3")
    assert [line for line in result.err.splitlines() if line] == [f"── sample {k} of 3 ──" for k in (1, 2, 3)]
    texts = [json.loads(line)["text"] for line in chargen(*VERSES, "-n", "3", "--json").out.splitlines()]
    assert result.out == "".join(text if text.endswith("\n") else text + "\n" for text in texts)


def test_only_samples_of_several_lines_and_their_neighbours_have_headings(chargen: Chargen) -> None:
    Path("prompts.txt").write_text("a\nb\n", encoding="utf-8")
    one = chargen("sample", "-m", "verse", "--seed", "1", "--length", "0", "--prompts", "prompts.txt")
    assert (one.out, one.err) == ("a\nb\n", "")


def test_a_separator_and_nul_keep_the_exact_texts(chargen: Chargen) -> None:
    texts = [json.loads(line)["text"] for line in chargen(*VERSES, "-n", "3", "--json").out.splitlines()]
    separated = chargen(*VERSES, "-n", "3", "--sep", r"\n--\0\n")
    assert separated.err == ""
    assert separated.out.removesuffix("\n").split("\n--\0\n") == [*texts[:2], texts[2].removesuffix("\n")]
    assert chargen(*VERSES, "-n", "3", "-0").out == "".join(text + "\0" for text in texts)
    assert chargen(*VERSES, "--null").out == texts[0] + "\0"
    assert chargen(*NAMES, "-n", "4", "--sep", ", ").out.count(", ") == 3


def test_escapes_of_a_separator() -> None:
    assert SEPARATOR.convert(r"a\n\t\r\0\\n\x", None, None) == "a\n\t\r\0\\n\\x"


def test_the_prompt_can_be_left_out(chargen: Chargen) -> None:
    whole = chargen(*NAMES, "--prompt", "Ann").out
    assert chargen(*NAMES, "--prompt", "Ann", "--no-prompt").out == whole.removeprefix("Ann")
    assert chargen(*NAMES, "--prompt", "Ann", "--no-prompt", "-n", "2").out.splitlines()[0] + "\n" == whole[3:]
    row = json.loads(chargen(*NAMES, "--prompt", "Ann", "--no-prompt", "--json").out)
    assert (row["prompt"] + row["text"], row["prompt"]) == (whole.removesuffix("\n"), "Ann")


def test_each_line_of_a_file_is_a_prompt(chargen: Chargen, monkeypatch: pytest.MonkeyPatch) -> None:
    Path("prompts.txt").write_bytes(b"Ann\r\n\r\nbel")
    result = chargen(*NAMES, "--prompts", "prompts.txt", "-n", "2")
    assert (result.status, result.err) == (0, "")
    lines = result.out.splitlines()
    assert [line[:3] for line in (*lines[:2], *lines[4:])] == ["Ann", "Ann", "bel", "bel"]
    rows = [
        json.loads(row) for row in chargen(*NAMES, "--prompts", "prompts.txt", "-n", "2", "--json").out.splitlines()
    ]
    assert [row["prompt"] for row in rows] == ["Ann", "Ann", "", "", "bel", "bel"]
    assert [row["number"] for row in rows] == list(range(6))  # the prompts do not share their random numbers
    assert [row["text"] for row in rows] == lines
    with open("prompts.txt", encoding="utf-8") as stdin:
        monkeypatch.setattr("sys.stdin", stdin)
        assert chargen(*NAMES, "--prompts", "-", "-n", "2").out == result.out
    best = chargen(*NAMES, "--prompts", "prompts.txt", "--best-of", "3")
    assert len(best.out.splitlines()) == 3


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--no-prompt"], "--no-prompt needs --prompt or"),
        (["--prompts", "p.txt", "--prompt", "a"], "--prompt and --prompts cannot be combined: both give a prompt"),
        (["--prompts", "p.txt", "--prompt-file", "p.txt"], "--prompt-file and --prompts cannot"),
        (["--sep", ",", "-0"], "--sep and --null cannot"),
        (["--sep", ",", "--json"], "--sep cannot be combined with --json"),
        (["--sep", "\udcff"], "--sep': it is not valid UTF-8"),
        (["-0", "--json"], "--null cannot be combined with --json"),
        (["--prompts", "p.txt", "-n", "500001"], "2 prompts with -n 500,001"),
    ],
)
def test_options_that_contradict_each_other_are_refused(chargen: Chargen, arguments: list[str], message: str) -> None:
    Path("p.txt").write_text("a\nb\n", encoding="utf-8")
    result = chargen(*NAMES, *arguments)
    assert result.status == 2
    assert message in result.err


def test_prompts_that_cannot_be_read_are_an_error(chargen: Chargen) -> None:
    Path("empty.txt").write_bytes(b"")
    assert "none.txt" in chargen(*NAMES, "--prompts", "none.txt").err
    assert chargen(*NAMES, "--prompts", "empty.txt").status == 1


def test_unknown_characters_are_quoted_and_control_characters_visible(chargen: Chargen) -> None:
    result = chargen(*NAMES, "--prompt", "A\x1b[3é '\u202e")
    assert "\x1b" not in result.err and "\u202e" not in result.err
    quoted = (
        r"""'\x1b' (U+001B), '[' (U+005B), '3' (U+0033), 'é' (U+00E9), ' ' (U+0020), "'" (U+0027), '\u202e' (U+202E)"""
    )
    assert f"the model does not know {quoted};" in result.err
    assert r"'\x1b' (U+001B), 'é' (U+00E9)" in chargen("score", "-m", "names", "\x1bé").err
    Path("text.txt").write_text(VERSE, encoding="utf-8")
    assert "characters: 'T' (U+0054), 'r' (U+0072), 'ă' (U+0103)" in chargen("eval", "-m", "names", "text.txt").err


def test_each_of_several_reports_says_which_sample_it_is_about(chargen: Chargen) -> None:
    Path("text.txt").write_text(VERSE * 20, encoding="utf-8")
    assert chargen("train", "text.txt", "--name", "m", "--steps", "1", "--hidden", "8").status == 0
    report = ["sample", "-m", "./checkpoints/m", "--length", "40", "--seed", "1", "--report"]
    lines = chargen(*report, "-n", "3").err.splitlines()
    for number in (1, 2, 3):
        for what in ("longest copy: ", "new: "):
            assert sum(line.startswith(f"sample {number} of 3: {what}") for line in lines) == 1
    Path("prompts.txt").write_text("The\nThe quick\n")
    lines = chargen(*report, "-n", "2", "--prompts", "prompts.txt").err.splitlines()
    assert [line.split(":")[0] for line in lines if "longest" in line] == [
        f"sample {number} of 4" for number in range(1, 5)
    ]
    assert "sample" not in chargen(*report).err  # a single one needs no number
