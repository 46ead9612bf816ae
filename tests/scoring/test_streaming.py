"""Scoring many texts: a score depends only on the text, the context and the model; and the order of ranked scores."""

import itertools
import json
import math
import os
import random
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from unittest.mock import patch

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from chargen.cells import CELLS
from chargen.checkpoint import save_checkpoint
from chargen.engines import torch_engine
from chargen.engines.interface import Engine
from chargen.engines.numpy_engine import NumpyEngine
from chargen.engines.torch_engine import TorchEngine
from chargen.lm import LanguageModel
from chargen.networks.network import Network
from chargen.scoring import scorer
from chargen.scoring.scorer import Score, Total, id_log_probs, score_texts
from chargen.tokenizers.tokenizer import start_ids
from chargen.ui.score_rows import escaped, visible
from tests.conftest import VERSE, Result, random_model

TEXTS = st.text(alphabet=sorted(set(VERSE)), max_size=30)
MODEL = random_model()
ENGINES: list[Engine] = [
    NumpyEngine(MODEL.config, MODEL.weights),
    TorchEngine.from_weights(MODEL.config, MODEL.weights),
]


def documents_model() -> LanguageModel:
    return LanguageModel(random_model(documents="line"))


# ── batching ──────────────────────────────────────────────────────────────────────────────────────────────────────────


@settings(max_examples=40, deadline=None)
@given(
    st.lists(TEXTS, min_size=1, max_size=12),
    TEXTS,
    st.integers(1, 5),
    st.integers(1, 40),
    st.integers(1, 5),
    st.sampled_from([2, 1024]),
    st.sampled_from(ENGINES),
    st.randoms(),
)
def test_batch_sizes_chunks_order_and_engine_never_change_a_score(
    texts: list[str],
    context: str,
    batch_size: int,
    max_ids: int,
    chunk: int,
    long: int,
    engine: Engine,
    rng: random.Random,
) -> None:
    lm = LanguageModel(MODEL)
    alone = {text: lm.score(text, context=context, end=True).log_prob_nats for text in texts}
    rng.shuffle(texts)
    with (
        patch.object(scorer, "BATCH_SIZE", batch_size),
        patch.object(scorer, "MAX_BATCH_IDS", max_ids),
        patch.object(scorer, "MAX_SINGLE_IDS", max_ids),
        patch.object(torch_engine, "MIN_STEPS_ONE_BY_ONE", long),
        patch.object(scorer, "CHUNK_TEXTS", chunk),
        patch.object(lm, "_select_engine", lambda num_ids: engine),
    ):
        scores = list(lm.score_stream(iter(texts), context=context, end=True))
    assert [score.text for score in scores] == texts
    for score in scores:
        assert score.log_prob_nats == pytest.approx(alone[score.text], abs=1e-4)


@pytest.mark.parametrize("cell", CELLS.names())
@pytest.mark.parametrize("shape", [{}, {"ensemble_size": 2, "num_layers": 2}])
def test_the_fast_engine_agrees_with_the_network(cell: str, shape: dict[str, int]) -> None:
    model = random_model(cell=cell, **shape)
    network = Network(model.config)
    network.import_weights(model.weights)
    fast, slow = TorchEngine(network, frozen=True), TorchEngine(network)
    inputs, targets = np.random.default_rng(0).integers(0, fast.vocab_size, (2, 9, 4))
    state = fast.initial_state(4)
    for rows in ([0, 1, 2, 3], [2, 0, 2]):  # selecting from a state does not change it
        fast_state, other = fast.select(state, np.array(rows)), slow.select(state, np.array(rows))
        found, after = fast.read(inputs[:, rows], targets[:, rows], fast_state)
        expected, other_after = slow.read(inputs[:, rows], targets[:, rows], other)
        np.testing.assert_allclose(found, expected, atol=1e-5)
        again, _ = fast.read(inputs[:, rows], targets[:, rows], after)
        np.testing.assert_allclose(again, slow.read(inputs[:, rows], targets[:, rows], other_after)[0], atol=1e-5)


def test_a_context_is_read_once_for_any_number_of_texts() -> None:
    engine, shapes = NumpyEngine(MODEL.config, MODEL.weights), []
    read = engine.read

    def watched(inputs: np.ndarray, targets: np.ndarray, state: object) -> object:
        shapes.append(inputs.shape)
        return read(inputs, targets, state)  # type: ignore[arg-type]

    context = np.concatenate([start_ids(MODEL.tokenizer), MODEL.tokenizer.encode("The quick ")])
    with patch.object(engine, "read", watched):
        score_texts(engine, MODEL.tokenizer, context, ["fox", "dog", "jum"])
    assert shapes == [(10, 1), (3, 3)]


def test_less_than_an_eighth_of_the_computation_is_padding() -> None:
    engine, steps = NumpyEngine(MODEL.config, MODEL.weights), 0
    read = engine.read

    def watched(inputs: np.ndarray, targets: np.ndarray, state: object) -> object:
        nonlocal steps
        steps += inputs.size
        return read(inputs, targets, state)  # type: ignore[arg-type]

    texts = ["lazy dog" * n for n in range(1, 20)] + ["fox " * 5000]
    with patch.object(engine, "read", watched):
        score_texts(engine, MODEL.tokenizer, start_ids(MODEL.tokenizer), texts)
    assert sum(map(len, texts)) <= steps < sum(map(len, texts)) * 8 / 7


def test_the_first_half_of_a_long_text_has_the_log_probs_of_the_half_alone() -> None:
    ids = np.random.default_rng(0).integers(2, MODEL.config.vocab_size, 1 << 13).astype(np.int32)
    (found,) = id_log_probs(ENGINES[1], MODEL.tokenizer, start_ids(MODEL.tokenizer), [ids])
    half, _ = np.split(ids, 2)
    (first,) = id_log_probs(ENGINES[1], MODEL.tokenizer, start_ids(MODEL.tokenizer), [half])
    np.testing.assert_allclose(found[: len(half)], first, atol=1e-5)


# ── the score of a text ───────────────────────────────────────────────────────────────────────────────────────────────


@settings(max_examples=15, deadline=None)
@given(st.lists(st.text(max_size=30), max_size=4), st.sampled_from(["char", "byte"]), st.booleans(), st.randoms())
def test_parts_add_up_to_the_total_exactly_in_any_order(
    texts: list[str], tokenizer: str, end: bool, rng: random.Random
) -> None:
    lm = LanguageModel(random_model(tokenizer=tokenizer))
    for score in lm.score(texts, end=end, pieces=True):
        printed = json.loads(json.dumps(score.to_dict()))
        parts = [nats for _, nats in printed["char_log_probs_nats"]] + ([printed["end_log_prob_nats"]] if end else [])
        rng.shuffle(parts)
        assert sum(parts) == math.fsum(parts) == printed["log_prob_nats"]


def test_probabilities_of_all_continuations_of_length_two_sum_to_one() -> None:
    pairs = [np.array(pair) for pair in itertools.product(range(MODEL.config.vocab_size), repeat=2)]
    context = np.concatenate([start_ids(MODEL.tokenizer), MODEL.tokenizer.encode("Trăm")])
    for engine in ENGINES:
        found = np.array([own.sum() for own in _without_unknown_share(engine, context, pairs)])
        assert np.exp(found).sum() == pytest.approx(1.0, abs=1e-5)


def _without_unknown_share(engine: Engine, context: np.ndarray, texts: list[np.ndarray]) -> Iterator[np.ndarray]:
    """Yield log p of ids by the network, where the unknown id counts as one character."""
    for ids, found in zip(texts, id_log_probs(engine, MODEL.tokenizer, context, texts), strict=True):
        yield found - MODEL.tokenizer.unk_log_prob_nats(ids)


def test_the_end_is_a_newline_in_running_text_and_the_boundary_in_documents() -> None:
    running = LanguageModel(MODEL)
    for text in ("", "The quick"):
        ended = running.score(text, end=True)
        newline = running.score("\n", context=text).log_prob_nats
        assert ended.end_log_prob_nats == pytest.approx(newline, abs=1e-5)
        assert ended.log_prob_nats == pytest.approx(running.score(text).log_prob_nats + newline, abs=1e-5)
    documents = documents_model()
    ended, cut = documents.score("The quick"), documents.score("The quick", end=False)
    assert running.score("The quick").end_log_prob_nats is cut.end_log_prob_nats is None
    assert ended.end_log_prob_nats is not None
    assert ended.log_prob_nats == pytest.approx(cut.log_prob_nats + ended.end_log_prob_nats, abs=1e-5)
    assert ended.bits_per_char == pytest.approx(-ended.log_prob_nats / math.log(2) / 9)
    assert documents.score("").log_prob_nats < 0


def test_probabilities_of_short_documents_and_longer_ones_sum_to_one() -> None:
    lm = LanguageModel(random_model("ab\n", documents="line"))
    begins = ["".join(p) for p in itertools.product("ab\n", repeat=2)]
    ended = sum(math.exp(s.log_prob_nats) for s in lm.score(["", "a", "b", "\n"]))
    longer = sum(math.exp(s.log_prob_nats) for s in lm.score(begins, end=False))
    unknown = 1 - sum(math.exp(s.log_prob_nats) for s in lm.score(["a", "b", "\n"], end=False))
    unknown -= math.exp(lm.score("").log_prob_nats)
    for char in "ab\n":
        known = sum(math.exp(s.log_prob_nats) for s in lm.score([char + c for c in "ab\n"], end=False))
        first = math.exp(lm.score(char, end=False).log_prob_nats)
        unknown += first - known - math.exp(lm.score(char).log_prob_nats)
    assert 0 < unknown < 1
    assert ended + longer + unknown == pytest.approx(1.0, abs=1e-5)


def test_unknown_characters_are_listed_once_each() -> None:
    score = LanguageModel(MODEL).score("€a☃€")
    assert (score.unknown_chars, score.unknown) == (3, "€☃")


def test_total_rates_are_weighted_by_character() -> None:
    total = Total().plus(Score("a", -1.0, 1, 1, 0)).plus(Score("b c", -5.0, 3, 3, 1))
    assert (total.texts, total.chars, total.words, total.unknown_chars) == (2, 4, 3, 1)
    assert total.bits_per(total.chars) == pytest.approx(6 / 4 / math.log(2))
    assert Total().bits_per(0) is None


# ── streams ───────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_a_repeated_text_has_exactly_the_same_score() -> None:
    texts = ["The quick brown fox", "dog", "The quick brown fox", "a", "lazy", "The quick brown fox", "dog"]
    lm = LanguageModel(random_model(hidden_size=24))
    with patch.object(scorer, "CHUNK_TEXTS", 2), patch.object(lm, "_select_engine", lambda num_ids: lm._torch):
        scores = lm.score(texts)
    assert len({(score.text, score.log_prob_nats) for score in scores}) == 4


def test_a_stream_is_read_in_chunks() -> None:
    drawn = 0

    def texts() -> Iterator[str]:
        nonlocal drawn
        for _ in range(100):
            drawn += 1
            yield "dog"

    with patch.object(scorer, "CHUNK_TEXTS", 10):
        next(iter(LanguageModel(MODEL).score_stream(texts())))
    assert drawn == 10


# ── the command ───────────────────────────────────────────────────────────────────────────────────────────────────────

Chargen = Callable[..., Result]


@pytest.fixture
def model(chargen: Chargen) -> Path:
    path = Path("verse.safetensors")
    save_checkpoint(path, MODEL)
    return path


def test_all_output_formats_agree_in_both_orders(chargen: Chargen, model: Path) -> None:
    Path("lines.txt").write_text("The quick\n0123\ndog\tfox\n", encoding="utf-8")
    score = ("score", "-m", str(model), "--file", "lines.txt")
    ranked = [json.loads(line) for line in chargen(*score, "--json").out.splitlines()]
    plain = [json.loads(line) for line in chargen(*score, "--json", "--no-sort").out.splitlines()]
    assert [row["rank"] for row in ranked] == [1, 2, 3]
    assert [row["input"] for row in plain] == [1, 2, 3]
    assert sorted(plain, key=lambda row: row["bits_per_char"]) == [{**row, "rank": None} for row in ranked]
    assert [json.loads(line) for line in chargen(*score, "--json", "--top", "2").out.splitlines()] == ranked[:2]
    header, *rows = [line.split("\t") for line in chargen(*score, "--tsv").out.splitlines()]
    assert [row[header.index("text")] for row in rows] == [escaped(row["text"]) for row in ranked]
    table = chargen(*score, "--no-sort", "--words")
    assert "dog␉fox" in table.out
    assert "bits/word" in table.out
    assert "3 texts, 20 characters, together" in table.err


def test_by_total_ranks_by_log_prob(chargen: Chargen, model: Path) -> None:
    rows = json.loads(chargen("score", "-m", str(model), "The quick brown", "T", "--by", "total", "--json").out)
    values = [row["log_prob_nats"] for row in rows["sentences"]]
    assert values == sorted(values, reverse=True)
    assert rows["total"]["log_prob_nats"] == sum(values)


def test_lines_before_an_unreadable_line_are_scored_and_it_is_named(chargen: Chargen, model: Path) -> None:
    Path("bad.txt").write_bytes(b"The quick\ndog\nca\xff\nfox\n")
    score = ("score", "-m", str(model), "--file", "bad.txt", "--json")
    result = chargen(*score, "--no-sort")
    assert (result.status, len(result.out.splitlines())) == (1, 2)
    assert "bad.txt, line 3 is not UTF-8 (byte 3" in result.err
    assert "--errors replace" in result.err
    rows = [json.loads(line) for line in chargen(*score, "--no-sort", "--errors", "replace").out.splitlines()]
    assert [row["text"] for row in rows] == ["The quick", "dog", "ca\ufffd", "fox"]
    assert rows[2]["unknown"].endswith("\ufffd")


def test_contradicting_options_are_usage_errors(chargen: Chargen, model: Path) -> None:
    for arguments in (
        *(["--top", "3", "--no-sort"], ["--by", "total", "--no-sort"], ["--tsv", "--json"], ["--top", "0"]),
        *(["--by", "word"], ["--null"], ["--field", "t"], ["--encoding", "cp1258"], ["--errors", "skip"]),
        *(["--null", "--whole", "--file", "-"], ["--tsv", "--suggest"], ["--tsv", "--chars", "--words"]),
        *(["--html", ""], ["--html", "."]),
    ):
        assert chargen("score", "-m", str(model), "dog", *arguments).status == 2, arguments


def test_errors_skip_names_and_counts_unreadable_lines(chargen: Callable[..., Result], model: Path) -> None:
    Path("bad.txt").write_bytes(b"The quick\n" + b"\xff\n" * 5 + b"dog\n")
    score = ("score", "-m", str(model), "--file", "bad.txt", "--json", "--errors", "skip")
    result = chargen(*score, "--no-sort")
    assert (result.status, [json.loads(line)["text"] for line in result.out.splitlines()]) == (0, ["The quick", "dog"])
    assert result.err.count("skipped: bad.txt, line ") == 3
    assert "skipped: 2 more" in result.err
    Path("bad.txt").write_bytes(b"\xff\n")
    result = chargen(*score)
    assert (result.status, result.out) == (1, "")
    assert "skipped: bad.txt, line 1 is not UTF-8" in result.err
    assert "nothing to score" in result.err


def test_at_most_forty_unknown_characters_are_listed(chargen: Chargen, model: Path) -> None:
    strange = "".join(map(chr, range(0x4E00, 0x4E40)))
    err = chargen("score", "-m", str(model), strange, strange[:3]).err
    assert "does not know 67 of the 67 characters" in err
    assert err.count("(U+4E") == 40
    assert ", …" in err


def test_a_context_that_is_not_unicode_is_an_error(chargen: Chargen, model: Path) -> None:
    result = chargen("score", "-m", str(model), "dog", "--context", "a\udcff")
    assert result.status == 2
    assert "'--context': the text is not valid UTF-8 at character 2" in result.err


@pytest.mark.parametrize("form", [[], ["--chars"], ["--json"], ["--tsv"]])
def test_a_closed_pipe_is_not_an_error(form: list[str], tmp_path: Path) -> None:
    save_checkpoint(tmp_path / "verse.safetensors", MODEL)
    (tmp_path / "lines.txt").write_text("dog\nfox\n" * 5000, encoding="utf-8")
    command = [sys.executable, "-m", "chargen", "score", "-m", "verse.safetensors", "--file", "lines.txt", *form]
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])}
    with subprocess.Popen(
        command, cwd=tmp_path, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    ) as run:
        assert run.stdout
        assert run.stderr
        run.stdout.readline()
        run.stdout.close()
        assert (run.stderr.read(), run.wait()) == (b"", 0)


def test_control_characters_are_shown_as_symbols() -> None:
    assert visible("a\x1b[2Jb\x7f\x9b\n\0") == "a␛[2Jb␡\ufffd␊␀"
    assert visible("chữ 日本 😀") == "chữ 日本 😀"
    assert visible("a\u202eb\u2066c 👨\u200d👩") == "a\ufffdb\ufffdc 👨\u200d👩"
