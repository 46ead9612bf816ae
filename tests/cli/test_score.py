"""`chargen score`: the order of the texts, the limits of bits per character, and lines that are answered at once."""

from __future__ import annotations

import json
import os
import select
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from chargen.checkpoint import save_checkpoint
from chargen.lm import LanguageModel
from tests.conftest import VERSE, Result, random_model

Chargen = Callable[..., Result]
ROOT = Path(__file__).parents[2]
WAIT_S = 60.0


@pytest.fixture
def model(chargen: Chargen) -> str:
    save_checkpoint(Path("m"), random_model())
    return "m"


def rows(result: Result) -> list[dict[str, object]]:
    return [json.loads(line) for line in result.out.splitlines()]


def test_planted_anomalies_are_printed_first(chargen: Chargen, model: str) -> None:
    lines = [VERSE[at : at + 12].replace("\n", " ") for at in range(100)] * 20
    planted = {n * 391: f"☃☂ {n} ☠☣" for n in range(1, 6)}
    Path("log").write_text("\n".join(planted.get(n, line) for n, line in enumerate(lines)), encoding="utf-8")
    found = rows(chargen("score", "-m", model, "--file", "log", "--worst", "5", "--json"))
    assert {row["text"] for row in found} == set(planted.values())
    assert [row["rank"] for row in found] == [1, 2, 3, 4, 5]
    assert {row["input"] for row in found} == {n + 1 for n in planted}


def test_orders_are_the_reverse_of_each_other_and_worst_n_is_their_end(chargen: Chargen, model: str) -> None:
    score = ("score", "-m", model, "The quick", "fox", "0123", "☃", "dog", "--json")
    texts = {
        order: [row["text"] for row in json.loads(chargen(*score, *order.split()).out)["sentences"]]
        for order in ("--sort best", "--sort worst", "--sort input", "--no-sort", "--worst 2", "--top 2", "")
    }
    assert texts["--sort worst"] == texts["--sort best"][::-1]
    assert texts["--worst 2"] == texts["--sort worst"][:2]
    assert texts["--top 2"] == texts["--sort best"][:2]
    assert texts["--sort input"] == texts["--no-sort"] == ["The quick", "fox", "0123", "☃", "dog"]
    assert texts[""] == texts["--sort best"]


def test_only_texts_with_enough_bits_are_printed_and_all_are_counted(chargen: Chargen, model: str) -> None:
    texts = ["The quick", "fox", "☃", ""]
    bits = [score.bits_per_char or 0.0 for score in LanguageModel(random_model()).score(texts)]
    likely, limit = bits.index(max(bits[:2])), max(bits[:2]) - 0.001
    for order in ("best", "worst", "input"):
        result = chargen("score", "-m", model, *texts, "--json", "--min-bits", str(limit), "--sort", order)
        document = json.loads(result.out)
        assert {row["text"] for row in document["sentences"]} == {"☃", texts[likely]}
        assert {row["input"] for row in document["sentences"]} == {3, likely + 1}
        assert document["total"]["texts"] == 4
        assert "2 of 4 texts have at least" in result.err


def test_a_text_above_the_limit_gives_exit_status_3(chargen: Chargen, model: str) -> None:
    score = ("score", "-m", model, "The quick", "☃")
    bits = LanguageModel(random_model()).score("☃").bits_per_char or 0.0
    assert chargen(*score, "--fail-above", str(bits + 0.001)).status == 0
    assert chargen(*score, "--fail-above", str(bits - 0.001)).status == 3
    failed = chargen(*score, "--fail-above", "12", "--top", "1", "--tsv")
    assert failed.status == 3
    assert "1 of 2 texts has more than 12 bits/char" in failed.err
    assert "☃" not in failed.out


@pytest.mark.parametrize("value", ["nan", "inf", "-1", "x"])
@pytest.mark.parametrize("option", ["--min-bits", "--fail-above"])
def test_a_limit_is_a_finite_number(option: str, value: str, chargen: Chargen, model: str) -> None:
    result = chargen("score", "-m", model, "a", option, value)
    assert (result.status, option in result.err) == (2, True)


@pytest.mark.parametrize(
    "arguments",
    [("--top", "2", "--worst", "2"), ("--no-sort", "--worst", "2"), ("--no-sort", "--sort", "best"),
     ("--sort", "input", "--by", "total"), ("--sort", "worst", "--top", "2"), ("--sort", "best", "--worst", "2")],
    ids=" ".join,
)  # fmt: skip
def test_contradicting_orders_are_refused(arguments: tuple[str, ...], chargen: Chargen, model: str) -> None:
    assert chargen("score", "-m", model, "a", *arguments).status == 2


def test_the_limits_of_explanations_apply_to_the_texts_that_are_explained(
    chargen: Chargen, model: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("chargen.cli.commands.score_explain.MAX_PAGE_CHARS", 50)
    monkeypatch.setattr("chargen.scoring.edits.MAX_CHARS", 50)
    Path("log").write_text("The quick brown fox\n" * 10 + "☃☃\n" + "The lazy dog " * 10, encoding="utf-8")
    score = ("score", "-m", model, "--file", "log", "--worst")
    (worst,) = rows(chargen(*score, "1", "--json"))
    for selection in (("--worst", "1"), ("--min-bits", str(worst["bits_per_char"]))):
        result = chargen(*score[:-1], *selection, "--html", "page.html", "--json")
        assert [row["text"] for row in rows(result)] == [worst["text"]] == ["☃☃"]
        assert Path("page.html").read_text(encoding="utf-8").count("<section>") == 1
    assert chargen(*score, "1", "--suggest").status == 0
    refused = chargen(*score, "4", "--html", "too-long.html")
    assert (refused.status, Path("too-long.html").exists()) == (2, False)
    assert "a page may have at most 50 characters, and 4 texts have " in refused.err
    assert "text 12 has 130" in chargen(*score, "12", "--suggest").err
    assert chargen(*score[:-1], "--html", "too-long.html").out == ""  # before any text is scored


@pytest.mark.parametrize("order", ["--sort=best", "--sort=input", "--chars", "--json"])
@pytest.mark.parametrize(("limit", "status"), [("0.1", 3), ("1000", 0)])
def test_the_exit_status_of_a_limit_survives_a_closed_pipe(
    chargen: Chargen, model: str, order: str, limit: str, status: int
) -> None:
    Path("log").write_text("The quick\n" * 3000, encoding="utf-8")
    texts = ["--file", "log"] if order != "--json" else ["The quick brown fox"]
    command = [sys.executable, "-m", "chargen", "score", "-m", model, order, *texts, "--fail-above", limit]
    read_end, write_end = os.pipe()
    os.close(read_end)
    with os.fdopen(write_end, "wb") as output:
        environment = {**os.environ, "PYTHONPATH": str(ROOT)}
        done = subprocess.run(command, env=environment, stdin=-3, stdout=output, stderr=-1, check=False)
    assert (done.returncode, done.stderr) == (status, b"")


@pytest.fixture
def answer(tmp_path: Path) -> Iterator[Callable[[list[str], bytes], bytes]]:
    """Return a function that writes to a running command and returns its next line, before anything else is written."""
    save_checkpoint(tmp_path / "m", random_model())
    running: list[subprocess.Popen[bytes]] = []

    def ask(arguments: list[str], line: bytes) -> bytes:
        if not running:
            command = [sys.executable, "-m", "chargen", "score", "-m", "m", *arguments]
            environment = {**os.environ, "PYTHONPATH": str(ROOT)}
            running.append(
                subprocess.Popen(command, cwd=tmp_path, env=environment, bufsize=0, stdin=-1, stdout=-1, stderr=-3)
            )
        process = running[0]
        assert process.stdin is not None and process.stdout is not None
        process.stdin.write(line)
        assert select.select([process.stdout], [], [], WAIT_S)[0], "the line is not answered before the next one"
        return process.stdout.readline()

    yield ask
    for process in running:
        with process:
            process.kill()


@pytest.mark.skipif(sys.platform == "win32", reason="pipes cannot be asked there whether they have input")
@pytest.mark.parametrize("newline", [b"\n", b"\r\n", b"\r"])
@pytest.mark.parametrize("form", [["--json"], ["--json", "--chars"], ["--json", "--json-lines"]])
def test_each_line_of_a_slow_pipe_is_answered_before_the_next_is_written(
    form: list[str], newline: bytes, answer: Callable[[list[str], bytes], bytes]
) -> None:
    for text in ("T", "The quick", "dog", ""):
        if not text and "--json-lines" in form:
            continue
        line = json.dumps({"text": text}) if "--json-lines" in form else text
        found = json.loads(answer(["--no-sort", *form], line.encode() + newline))
        assert found["text"] == text
