"""The command line as people use it: results on stdout, notes on stderr, exit statuses, no traceback."""

import gzip
import json
import os
import pkgutil
import re
import shlex
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from chargen.checkpoint import save_checkpoint
from chargen.cli.group_help import COMMANDS, print_help
from chargen.cli.main import cli as chargen_cli
from chargen.cli.main import stop_on_signals
from chargen.data.token_store import encoded_texts_folder
from tests.conftest import VERSE, Result, random_model, wait_for_file

Chargen = Callable[..., Result]
QUICK = ("--steps", "3", "--hidden", "8", "--batch", "2", "--seq-len", "8")


@pytest.fixture
def model(tmp_path: Path) -> Path:
    path = tmp_path / "checkpoints" / "verse" / "model.safetensors"
    save_checkpoint(path, random_model())
    return path


@pytest.fixture
def corpus(tmp_path: Path) -> Path:
    path = tmp_path / "verse.txt"
    path.write_text(VERSE * 4, encoding="utf-8")
    return path


def assert_error(result: Result, status: int, *words: str) -> None:
    """Assert that a command printed these words in an error of at most two lines, no result and no traceback."""
    assert result.status == status, result.err
    assert result.out == ""
    assert "Traceback" not in result.err
    lines = [line for line in result.err.splitlines() if line and not line.startswith(("Usage", "Try", "note"))]
    assert 1 <= len(lines) <= 2
    for word in words:
        assert word in result.err


# ── help ──────────────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    "command",
    [
        [],
        *([name] for name in COMMANDS),
        ["corpora", "get"],
        ["corpora", "ball"],
        ["corpora", "check"],
        ["bench", "cells"],
        ["probe", "neurons"],
        ["export", "page"],
    ],
)
def test_every_command_has_help_with_examples(chargen: Chargen, command: list[str]) -> None:
    result = chargen(*command, "--help")
    assert result.status == 0
    assert "Usage: chargen" in result.out
    assert "xample" in result.out or not command
    assert result.err == ""


def test_help_of_the_group_names_every_command(chargen: Chargen) -> None:
    out = chargen("--help").out
    for name, (_, about) in COMMANDS.items():
        assert f"  {name} " in out
        assert about in out


def test_an_unknown_command_gets_a_suggestion(chargen: Chargen) -> None:
    assert_error(chargen("smaple"), 2, "smaple", "'sample'")


@pytest.mark.parametrize("columns", [None, "0", "-5", "x", "30", "79", "80", "81", "100", "101", "300"])
def test_the_help_without_click_is_that_of_click(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str], columns: str | None
) -> None:
    monkeypatch.delenv("COLUMNS", raising=False)
    if columns is not None:
        monkeypatch.setenv("COLUMNS", columns)
    expected = chargen_cli.get_help(chargen_cli.make_context("chargen", [], resilient_parsing=True)) + "\n"
    for words in ([], ["-h"], ["--help"]):
        is_printed = print_help(words)
        assert is_printed == (columns not in ("30", "79"))
        assert capfd.readouterr().out == (expected if is_printed else "")
    assert not print_help(["sample"]) and not print_help(["--version"])


HEAVY = {"torch", "numba", "rich", "asyncio", "prompt_toolkit", "wcwidth", "urllib.request"}
UNUSED = {
    "shutil",
    "tempfile",
    "logging",
    "concurrent.futures",
    "secrets",
    "numpy.ma",
    "numpy.random",
    "chargen.training",
}


@pytest.mark.parametrize(
    ("command", "unused"),
    [
        ("", {"click", "typing", "numpy"}),
        ("--help", {"click", "typing", "numpy"}),
        ("sample --help", {"numpy"}),
        ("score --help", {"numpy"}),
        ("sample --length 50 --seed 1 --prompt a", {*UNUSED, "chargen.graph.numba_backend", "chargen.scoring"}),
        ("sample --length 50", {*UNUSED, "chargen.graph.numba_backend", "chargen.scoring"}),
        ("score one two", {*UNUSED, "chargen.graph.numba_backend", "chargen.sampling.generate"}),
        ("score one --json", {*UNUSED, "chargen.graph.numba_backend", "chargen.sampling.generate"}),
    ],
)
def test_a_command_imports_only_what_it_needs(model: Path, tmp_path: Path, command: str, unused: set[str]) -> None:
    code = (
        "import sys\nbefore = set(sys.modules)\nfrom chargen.__main__ import main\n"
        "try:\n    main()\nexcept SystemExit as end:\n    assert not end.code, end.code\n"
        f"found = {HEAVY | unused} & (set(sys.modules) - before)\nassert not found, found"
    )
    words = [sys.executable, "-c", code, *command.split()]
    environment = {**os.environ, "COLUMNS": "100"}
    done = subprocess.run(words, cwd=tmp_path, capture_output=True, text=True, env=environment)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize(
    "command",
    ["--help", "train --help", "sample --length 50 --seed 1", "score one two", "info", "info verse", "corpora"],
)
def test_torch_is_not_imported_by_what_does_not_need_it(model: Path, tmp_path: Path, command: str) -> None:
    slow = {"torch", "numba", "asyncio", "prompt_toolkit", "wcwidth"}
    slow |= {"urllib.request"} if command != "corpora" else set()
    code = (
        "import sys\nfrom chargen.cli.main import run\nstatus = run(sys.argv[1:])\n"
        f"assert status == 0, status\nassert not {slow} & {{*sys.modules}}, {slow} & {{*sys.modules}}"
    )
    done = subprocess.run([sys.executable, "-c", code, *command.split()], cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


# ── train ─────────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_train_then_use_what_was_trained(chargen: Chargen, corpus: Path) -> None:
    trained = chargen("train", str(corpus), *QUICK)
    assert trained.status == 0
    assert "this model, on the held-out text" in trained.out
    assert "5-gram" in trained.out
    assert "checkpoints/verse/model.safetensors" in trained.out
    assert "characters for training" in trained.err
    sampled = chargen("sample", "--length", "20", "--seed", "1")
    assert len(sampled.out.removesuffix("\n")) in (19, 20)  # a sample that ends with a newline gets no second one
    assert chargen("sample", "--length", "20", "--seed", "1").out == sampled.out
    assert chargen("eval", str(corpus)).status == 0


def test_train_prints_one_json_document(chargen: Chargen, corpus: Path) -> None:
    found = json.loads(chargen("train", str(corpus), *QUICK, "--json").out)
    for key in (
        "val_loss_nats_per_char",
        "val_bits_per_char",
        "val_bits_per_byte",
        "val_perplexity_per_char",
        "val_first_half_nats_per_char",
        "val_second_half_nats_per_char",
        "ngram_5_nats_per_char",
        "lzma_nats_per_char",
        "elapsed_s",
        "chars_per_s",
    ):
        assert isinstance(found[key], float), key
    assert found["steps"] == 3
    assert found["model"]["hidden_size"] == 8
    assert found["interrupted"] is False


def test_a_name_that_is_taken_gets_a_number_and_a_note(chargen: Chargen, corpus: Path) -> None:
    chargen("train", str(corpus), *QUICK)
    second = chargen("train", str(corpus), *QUICK)
    assert "'verse-2'" in second.err
    assert sorted(os.listdir("checkpoints")) == [".locks", "verse", "verse-2"]
    chargen("train", str(corpus), *QUICK, "--force")
    assert sorted(os.listdir("checkpoints")) == [".locks", "verse", "verse-2"]


def test_stop_after_and_resume(chargen: Chargen, corpus: Path) -> None:
    chargen("train", str(corpus), "--name", "whole", *QUICK)
    stopped = chargen("train", str(corpus), "--name", "cut", *QUICK, "--stop-after", "2")
    assert stopped.status == 130
    assert "--resume cut" in stopped.err
    assert chargen("train", "--resume", "cut").status == 0
    whole, cut = (Path(f"checkpoints/{name}/model.safetensors").read_bytes() for name in ("whole", "cut"))
    assert whole == cut


def test_train_reads_standard_input_and_archives(chargen: Chargen, monkeypatch: pytest.MonkeyPatch) -> None:
    import io

    monkeypatch.setattr(
        sys, "stdin", io.TextIOWrapper(io.BytesIO(gzip.compress((VERSE * 3).encode())), encoding="utf-8")
    )
    assert chargen("train", "-", *QUICK).status == 0
    assert sorted(os.listdir("checkpoints")) == [".locks", "stdin"]


def resolve(name: str) -> Any:
    """Return the function with a dotted name."""
    return pkgutil.resolve_name(name)


STAGES = [
    "chargen.text.corpus.read_corpus",
    "chargen.training.run.prepare_dataset",
    "chargen.training.run.measure_baselines",
    "chargen.training.run._settings",
    "chargen.training.loop.build_loop",
    "chargen.training.trainer.Trainer.train_step",
]


@pytest.mark.parametrize("stage", STAGES)
@pytest.mark.parametrize(("number", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, 143), (signal.SIGHUP, 129)])
def test_a_signal_before_the_first_validation_leaves_nothing_and_prints_one_line(
    chargen: Chargen, corpus: Path, monkeypatch: pytest.MonkeyPatch, stage: str, number: int, status: int
) -> None:
    is_raised = []
    function = resolve(stage)

    def signalled(*args: Any, **more: Any) -> Any:
        if not is_raised:
            is_raised.append(True)
            signal.raise_signal(number)
        return function(*args, **more)

    monkeypatch.setattr("chargen.training.run._prepare_network", lambda *_: None)  # it makes a step, too
    monkeypatch.setattr(stage, signalled)
    result = chargen("train", str(corpus), "--steps", "100000", "--hidden", "8")
    assert result.status == status
    assert result.out == ""
    assert result.err.splitlines()[-1] == "Stopped before the first validation: nothing was saved or changed."
    assert not Path("checkpoints").exists() or os.listdir("checkpoints") == [".locks"]
    if stage != STAGES[-1]:  # the run has not started
        assert len(result.err.splitlines()) == 1


def test_a_signal_after_the_first_validation_says_that_a_second_one_ends_the_process(
    chargen: Chargen, corpus: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    step = resolve("chargen.training.trainer.Trainer.train_step")

    def signalled(trainer: Any, progress: float) -> None:
        if trainer.step == 55:
            signal.raise_signal(signal.SIGINT)
        step(trainer, progress)

    monkeypatch.setattr("chargen.training.trainer.Trainer.train_step", signalled)
    result = chargen("train", str(corpus), "--steps", "100000", "--hidden", "8")
    assert result.status == 130
    assert result.err.count("Stopping; press Ctrl-C again to quit now.\n") == 1
    assert Path("checkpoints/verse/model.safetensors").exists()


@pytest.mark.parametrize(
    "module", ["signal", "click", "chargen.cli.main", "chargen.cli.commands.train.command", "chargen.training.run"]
)
def test_ctrl_c_during_the_imports_prints_no_traceback(module: str, tmp_path: Path) -> None:
    code = f"""
import sys
import _signal

class Interrupt:
    def find_spec(self, name, path=None, target=None):
        if name == {module!r}:
            _signal.raise_signal(_signal.SIGINT)

sys.meta_path.insert(0, Interrupt())
sys.modules.pop("signal", None)
sys.argv[1:] = ["train", "missing.txt"]
from chargen.__main__ import main
main()
"""
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.stderr in ("stopped\n", "Stopped before the first validation: nothing was saved or changed.\n")
    assert done.returncode in (130, -signal.SIGINT)  # Python ends itself by the signal if a module was interrupted
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_saves_the_best_model_and_prints_where_it_is(
    corpus: Path, tmp_path: Path, number: signal.Signals
) -> None:
    command = [sys.executable, "-m", "chargen", "train", str(corpus), "--steps", "1000000", "--hidden", "8"]
    process = subprocess.Popen(command, cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    wait_for_file(str(tmp_path / "checkpoints" / "verse" / "model.safetensors"), process)
    process.send_signal(number)
    out, err = process.communicate(timeout=60)
    assert process.returncode == 128 + number
    assert "Traceback" not in err
    assert "checkpoints/verse/model.safetensors" in out
    assert "--resume verse" in err
    assert (tmp_path / "checkpoints" / "verse" / "model.safetensors").exists()


@pytest.mark.parametrize(
    ("arguments", "status", "words"),
    [
        (["missing.txt"], 1, ["missing.txt"]),
        (["verse.tx"], 1, ["Did you mean 'verse.txt'"]),
        (["empty.txt"], 1, ["empty.txt is empty"]),
        (["folder"], 1, ["no text in the folder"]),
        (["latin.txt"], 1, ["latin.txt is not utf-8", "0xE9", "line 2", "--encoding"]),
        (["binary.bin"], 1, ["binary"]),
        (["one.txt"], 1, ["1 character"]),
        (["verse.txt", "--tokenizer", "words"], 2, ["no tokenizer named 'words'"]),
        (["verse.txt", "--tokenizer", "sp:missing.model"], 1, ["missing.model"]),
        (["verse.txt", "--cell", "grru"], 2, ["no cell named 'grru'", "'gru'"]),
        (["verse.txt", "--hidden", "0"], 2, ["--hidden", "0 must be"]),
        (["verse.txt", "--dropout", "1.5"], 2, ["dropout"]),
        (["verse.txt", "--lr", "nan"], 2, ["--lr", "nan is not a finite number"]),
        (["verse.txt", "--val-fraction", "0"], 2, ["--val-fraction", "above 0"]),
        (["verse.txt", "--budget", "soon"], 2, ["soon"]),
        (["verse.txt", "--budget", "-5s"], 2, ["-5s"]),
        (["verse.txt", "--epochs", "nan"], 2, ["epochs"]),
        (["verse.txt", "--budget", "5s", "--steps", "3"], 2, ["one of --budget, --steps and --epochs"]),
        (["verse.txt", "--encoding", "klingon"], 1, ["klingon"]),
        (["markov:9"], 2, ["markov:9"]),
        (["verse.txt", "--name", "../verse"], 2, ["'../verse'", "not a path"]),
        (["verse.txt", "--name", ".", "--force"], 2, ["'.'", "not a path"]),
        (["--resume", "missing"], 1, ["no run named 'missing'"]),
    ],
)
def test_bad_input_to_train(
    chargen: Chargen, corpus: Path, arguments: list[str], status: int, words: list[str]
) -> None:
    folder = corpus.parent
    (folder / "empty.txt").write_bytes(b"")
    (folder / "folder").mkdir()
    (folder / "folder" / "image.png").write_bytes(b"\x89PNG\0\0\0")
    (folder / "latin.txt").write_bytes("one\ncafé".encode("latin-1"))
    (folder / "binary.bin").write_bytes(bytes(range(256)) * 4)
    (folder / "one.txt").write_text("x")
    length = [] if {"--budget", "--epochs", "--resume"} & set(arguments) else ["--steps", "2"]
    assert_error(chargen("train", *arguments, *length), status, *words)
    assert not list(folder.glob("checkpoints/*/model.safetensors"))
    assert not list(folder.glob("checkpoints/*"))  # no empty run is left behind


# ── sample ────────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_samples_as_json_lines(chargen: Chargen, model: Path) -> None:
    result = chargen("sample", "-n", "3", "--length", "10", "--seed", "4", "--prompt", "Chữ", "--json")
    rows = [json.loads(line) for line in result.out.splitlines()]
    assert [row["number"] for row in rows] == [0, 1, 2]
    assert all(row["text"].startswith("Chữ") and len(row["text"]) == 13 for row in rows)
    assert len({row["text"] for row in rows}) == 3
    alone = json.loads(chargen("sample", "--length", "10", "--seed", "4", "--prompt", "Chữ", "--json").out)
    assert alone["text"] == rows[0]["text"]


def test_a_random_seed_is_printed_and_repeats_the_sample(chargen: Chargen, model: Path) -> None:
    first = chargen("sample", "--length", "30")
    seed = first.err.split()[1]
    assert chargen("sample", "--length", "30", "--seed", seed).out == first.out


def test_a_prompt_is_printed_as_it_was_given_and_unknown_characters_are_named(chargen: Chargen, model: Path) -> None:
    result = chargen("sample", "--prompt", "Chữ €", "--length", "5", "--seed", "1")
    assert result.out.startswith("Chữ €")
    assert "€" in result.err
    assert "ữ" not in result.err


def test_temperature_zero_is_greedy(chargen: Chargen, model: Path) -> None:
    texts = {chargen("sample", "--temp", "0", "--length", "30", "--seed", s).out for s in ("1", "2")}
    assert len(texts) == 1


@pytest.mark.parametrize(
    ("arguments", "status", "words"),
    [
        (["--temp", "-1"], 2, ["temperature"]),
        (["--temp", "nan"], 2, ["temperature"]),
        (["--temp", "inf"], 2, ["temperature"]),
        (["--temp", "hot"], 2, ["hot"]),
        (["--length", "-3"], 2, ["length"]),
        (["-n", "0"], 2, ["0"]),
        (["-m", "vers"], 1, ["no model named 'vers'", "Did you mean 'verse'"]),
        (["-m", "./models/none.safetensors"], 1, ["there is no file ./models/none.safetensors"]),
        (["-m", "checkpoints"], 1, ["the folder 'checkpoints' has no model.safetensors"]),
        (["-m", "short.safetensors"], 1, ["short.safetensors", "damaged"]),
        (["-m", "flipped.safetensors"], 1, ["flipped.safetensors", "damaged"]),
        (["-m", "text.txt"], 1, ["text.txt", "not a model file"]),
        (["--prompt", "\udcff"], 2, ["--prompt", "not valid UTF-8"]),
        (["--top-p", "0"], 2, ["--top-p", "0 must be", "above 0"]),
        (["--top-p", "1.5"], 2, ["--top-p", "1.5 must be", "at most 1"]),
        (["--stop", "東"], 2, ["the stop string '東' can never be written"]),
        (["--until", "boundary"], 2, ["no end of a text", "--documents"]),
        (["--regex", "[a-"], 2, ["is not valid"]),
        (["--regex", "東+"], 2, ["cannot write a match", "東"]),
        (["--regex", "a{99}", "--length", "9"], 2, ["99 characters", "--length 99"]),
        (["--regex", "a", "--stop", "b"], 2, ["leave out --stop"]),
        (["--beam", "2", "--suffix", "a"], 2, ["choose one"]),
        (["--max-copy", "8"], 1, ["does not name the text that it was trained on"]),
    ],
)
def test_bad_input_to_sample(
    chargen: Chargen, model: Path, arguments: list[str], status: int, words: list[str]
) -> None:
    data = model.read_bytes()
    Path("short.safetensors").write_bytes(data[: len(data) // 2])
    Path("flipped.safetensors").write_bytes(data[:-5] + bytes([data[-5] ^ 1]) + data[-4:])
    Path("text.txt").write_text("just words, " * 20)
    assert_error(chargen("sample", *arguments), status, *words)
    assert model.read_bytes() == data


def test_every_method_of_generating_follows_its_rules(chargen: Chargen, model: Path) -> None:
    def sample(*arguments: str) -> Result:
        result = chargen("sample", "--seed", "1", "--length", "30", *arguments)
        assert result.status == 0, result.err
        return result

    lines = [json.loads(line) for line in sample("-n", "6", "--until", "newline", "--json").out.splitlines()]
    assert len(lines) == 6 and all("\n" not in line["text"] for line in lines)
    assert {line["ended"] for line in lines} <= {"newline", "length"}
    matched = json.loads(sample("--regex", "[a-z]{3} [a-z]+", "--particles", "8", "--json").out)
    assert re.fullmatch("[a-z]{3} [a-z]+", matched["text"]) and matched["log_weight_nats"] < 0
    joined = json.loads(sample("--prompt", "Chữ", "--suffix", " nhau", "--json").out)
    assert joined["text"].startswith("Chữ") and joined["text"].endswith(" nhau")
    beam = [json.loads(line)["text"] for line in sample("--beam", "5", "-n", "3", "--json").out.splitlines()]
    assert len(set(beam)) == 3
    assert sample("--beam", "5").out.rstrip("\n") == beam[0].rstrip("\n")
    best = json.loads(sample("--best-of", "4", "--json").out)
    assert best["bits_per_char"] > 0
    Path("prompt.txt").write_text("Trăm năm", encoding="utf-8")
    assert sample("--prompt-file", "prompt.txt").out.startswith("Trăm năm")


def test_a_report_says_what_occurs_in_the_training_text(chargen: Chargen, corpus: Path) -> None:
    chargen("train", str(corpus), *QUICK)
    result = chargen("sample", "--seed", "1", "--length", "50", "--report")
    assert result.status == 0 and "longest copy: " in result.err
    found = json.loads(chargen("sample", "--seed", "1", "--length", "50", "--report", "--json").out)["report"]
    assert found["passage"] in corpus.read_text(encoding="utf-8")
    corpus.write_text("another text", encoding="utf-8")
    wrong = chargen("sample", "--seed", "1", "--length", "9", "--report", "--corpus", str(corpus))
    assert wrong.status == 1 and "is not the text that the model was trained on" in wrong.err


def test_without_a_model_the_error_says_how_to_train_one(chargen: Chargen) -> None:
    assert_error(chargen("sample"), 1, "no model", "chargen train")
    assert_error(chargen("score", "a"), 1, "no model", "chargen train")


def test_a_reader_that_closes_the_pipe_is_no_error(model: Path, tmp_path: Path) -> None:
    command = f"{sys.executable} -m chargen sample --length 200000 --seed 1 | head -c 10"
    result = subprocess.run(["bash", "-c", f"set -o pipefail; {command}"], cwd=tmp_path, capture_output=True)
    assert len(result.stdout) == 10
    assert result.stderr == b""
    assert result.returncode == 0


# ── score ─────────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_score_prints_a_ranked_table(chargen: Chargen, model: Path) -> None:
    result = chargen("score", "The quick", "0123", "€")
    header, *rows = [line.split() for line in result.out.splitlines() if line.strip() and "─" not in line]
    assert header == ["rank", "bits/char", "perplexity/char", "log", "p", "(nats)", "chars", "unknown", "text"]
    assert [row[0] for row in rows] == ["1", "2", "3"]
    values = [float(row[1]) for row in rows]
    assert values == sorted(values)
    assert rows[-1][-2:] == ["1", "€"]


def test_scores_as_json_and_tsv_are_equal(chargen: Chargen, model: Path) -> None:
    sentences = ["The quick", "0123", "Chữ"]
    document = json.loads(chargen("score", *sentences, "--json").out)
    rows = document["sentences"]
    assert {row["text"] for row in rows} == set(sentences)
    assert [row["rank"] for row in rows] == [1, 2, 3]
    assert all(sentences[row["input"] - 1] == row["text"] for row in rows)
    header, *lines = [line.split("\t") for line in chargen("score", *sentences, "--tsv").out.splitlines()]
    for row, line in zip(rows, lines, strict=True):
        cells = dict(zip(header, line, strict=True))
        assert cells["text"] == row["text"]
        assert float(cells["log_prob_nats"]) == pytest.approx(row["log_prob_nats"])


def test_score_reads_lines_of_a_file_and_of_standard_input(
    chargen: Chargen, model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    Path("lines.txt").write_bytes("\ufeffThe quick\r\nChữ\n".encode())
    from_file = [json.loads(line) for line in chargen("score", "--file", "lines.txt", "--json").out.splitlines()]
    assert sorted(row["text"] for row in from_file) == ["Chữ", "The quick"]
    with open("lines.txt", encoding="utf-8-sig") as stdin:
        monkeypatch.setattr(sys, "stdin", stdin)
        from_stdin = [json.loads(line) for line in chargen("score", "--file", "-", "--json").out.splitlines()]
    assert from_stdin == from_file


def test_a_context_is_read_and_not_scored(chargen: Chargen, model: Path) -> None:
    def log_prob(*arguments: str) -> float:
        value: float = json.loads(chargen("score", *arguments, "--json").out)["sentences"][0]["log_prob_nats"]
        return value

    assert log_prob("The quick") == pytest.approx(log_prob("The ") + log_prob("quick", "--context", "The "), abs=1e-4)


def test_one_character_and_an_empty_sentence_among_others(chargen: Chargen, model: Path) -> None:
    rows = json.loads(chargen("score", "T", "", "--json").out)["sentences"]
    assert rows[0]["chars"] == 1
    assert rows[0]["bits_per_char"] > 0
    assert rows[1] == {
        "rank": 2, "input": 2, "text": "", "bits_per_char": None, "perplexity_per_char": None, "log_prob_nats": 0.0,
        "end_log_prob_nats": None, "bits_per_byte": None, "chars": 0, "bytes": 0, "unknown_chars": 0, "unknown": "",
    }  # fmt: skip


@pytest.mark.parametrize(
    ("arguments", "status", "words"),
    [
        ([""], 1, ["empty"]),
        (["\udce9t\udce9"], 2, ["SENTENCE", "not valid UTF-8"]),
        (["--file", "missing.txt"], 1, ["missing.txt"]),
        (["--file", "latin.txt"], 1, ["line 2", "not UTF-8"]),
        (["--file", "empty.txt"], 1, ["empty.txt is empty", "nothing to score"]),
        (["a", "--json", "--tsv"], 2, ["--tsv and --json"]),
    ],
)
def test_bad_input_to_score(chargen: Chargen, model: Path, arguments: list[str], status: int, words: list[str]) -> None:
    Path("latin.txt").write_bytes("one\ncafé".encode("latin-1"))
    Path("empty.txt").write_bytes(b"")
    assert_error(chargen("score", *arguments), status, *words)


# ── the rest ──────────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("closed", "status", "words"),
    [("<&-", 1, "nothing to score"), ("dog >&-", 0, ""), ("dog 2>&-", 0, ""), ("dog <&- >&- 2>&-", 0, "")],
)
def test_closed_streams_behave_like_empty_ones(
    model: Path, tmp_path: Path, closed: str, status: int, words: str
) -> None:
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])}
    command = f"{shlex.quote(sys.executable)} -m chargen score {closed}"
    done = subprocess.run(["bash", "-c", command], cwd=tmp_path, env=environment, capture_output=True, text=True)
    assert (done.returncode, words in done.stderr, "Traceback" in done.stderr) == (status, True, False), done.stderr


def test_eval_prints_bits_and_unknown_characters(chargen: Chargen, model: Path, corpus: Path) -> None:
    corpus.write_text(VERSE + "€", encoding="utf-8")
    result = chargen("eval", str(corpus), "--json")
    found = json.loads(result.out)
    assert found["chars"] == len(VERSE) + 1
    assert found["unknown_chars"] == 1
    assert "1 of the" in result.err
    assert "windows of 256" in chargen("eval", str(corpus)).out
    assert "ends of documents" not in chargen("eval", str(corpus)).out
    documents = random_model(documents="line")
    save_checkpoint(model, documents)
    assert "characters (4 of them ends of documents), " in chargen("eval", str(corpus)).out


@pytest.mark.skipif(torch.cuda.is_available(), reason="this machine has a CUDA device")
@pytest.mark.parametrize("command", [["eval"], ["train", *QUICK]])
def test_a_device_that_does_not_exist_is_a_clear_error(
    chargen: Chargen, model: Path, corpus: Path, command: list[str]
) -> None:
    assert_error(chargen(*command, str(corpus), "--device", "cuda"), 1, "no device 'cuda'", "--device auto")


def test_info_lists_and_describes(chargen: Chargen, model: Path) -> None:
    assert "verse" in chargen("info").out
    facts = json.loads(chargen("info", "verse", "--json").out)
    assert facts["cell"] == "gru"
    assert facts["size_bytes"] == model.stat().st_size
    (rows,) = [json.loads(chargen("info", "--json").out)]
    assert [row["name"] for row in rows] == ["verse"]
    assert_error(chargen("info", "verze"), 1, "Did you mean 'verse'")


def test_info_lists_the_other_models_beside_a_damaged_one(chargen: Chargen, model: Path) -> None:
    other = model.parent.parent / "damaged" / "model.safetensors"
    other.parent.mkdir()
    other.write_bytes(model.read_bytes()[:100])
    result = chargen("info")
    assert result.status == 0
    assert "verse" in result.out
    assert "damaged" in result.err


def test_corpora_are_listed_created_and_checked(chargen: Chargen) -> None:
    names = {row["name"] for row in json.loads(chargen("corpora", "list", "--json").out)}
    assert {"python-docs", "python-source", "shakespeare", "alphabet", "markov", "reber"} <= names
    made = chargen("corpora", "get", "reber")
    assert made.out == "corpora/reber.txt\n"
    found = json.loads(chargen("corpora", "check", "corpora/reber.txt", "--json").out)
    assert found["chars"] == 1_000_000
    assert found["distinct_chars"] == len("BTPSXVE\n")
    assert_error(chargen("corpora", "get", "rebber"), 1, "Did you mean 'reber'")


def test_a_corpus_on_standard_output_refuses_json(chargen: Chargen) -> None:
    result = chargen("corpora", "get", "reber", "--output", "-", "--json")
    assert_error(result, 2, "--json cannot be combined with --output -")
    assert result.out == ""


def test_balls_are_written_as_a_table(chargen: Chargen) -> None:
    assert chargen("corpora", "ball", "--balls", "3", "--frames", "4").out == "corpora/balls.csv\n"
    text = Path("corpora/balls.csv").read_text()
    assert text.splitlines()[0] == "ball,frame,x,y" and len(text.splitlines()) == 1 + 3 * 4
    assert chargen("corpora", "ball", "--balls", "3", "--frames", "4", "-o", "-").out == text
    made = chargen("corpora", "ball", "--balls", "3", "--frames", "4", "--seed", "1", "--json")
    assert json.loads(made.out) == {"path": "corpora/balls.csv", "balls": 3, "frames": 4, "rows": 12}
    assert Path("corpora/balls.csv").read_text() != text
    assert_error(chargen("corpora", "ball", "--balls", "99999", "--frames", "9999"), 2, "the limit is 10,000,000")


def test_one_deleted_file_is_not_a_plural(chargen: Chargen) -> None:
    folder = encoded_texts_folder()
    assert f"{folder}: 0 files deleted, 0 bytes" in chargen("corpora", "clean").out
    folder.mkdir(parents=True)
    (folder / "a.ids").write_bytes(b"x")
    assert f"{folder}: 1 file deleted, 1 byte\n" in chargen("corpora", "clean").out


def test_the_version_is_the_packages(chargen: Chargen) -> None:
    from chargen import __version__

    assert chargen("--version").out.strip().endswith(__version__)


def test_public_names_exist_and_unknown_names_are_errors() -> None:
    import chargen as package

    for name in package.__all__:
        assert getattr(package, name) is not None
    with pytest.raises(AttributeError, match="colour"):
        _: Any = package.colour


def test_a_signal_in_a_destructor_prints_no_traceback(capsys: pytest.CaptureFixture[str]) -> None:
    class Signalled:
        def __del__(self) -> None:
            os.kill(os.getpid(), signal.SIGTERM)

    with stop_on_signals() as request:
        Signalled()
    assert request.is_set()
    assert capsys.readouterr().err == ""
