"""N-best lists: formats, totals, word and character errors, and the weight with the fewest errors."""

import json
import math
import re
from collections.abc import Callable, Iterator
from dataclasses import replace
from itertools import chain
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from chargen.checkpoint import save_checkpoint
from chargen.config import DataConfig
from chargen.errors import CorpusError
from chargen.lm import LanguageModel
from chargen.scoring.scorer import Score
from chargen.tasks.rescoring import (
    KALDI,
    MOSES,
    add_feature,
    best_hypothesis,
    rank_hypotheses,
    read_lists,
    read_references,
    score_lists,
)
from chargen.tasks.tuning import Candidates, count_errors, edit_distances, split_units, tune_weight, upper_envelope
from chargen.text.cleaning import CleaningReport
from chargen.text.records import LINES, RecordFormat, read_batches
from tests.conftest import Result, random_model

Chargen = Callable[..., Result]

LIST = (
    "0 ||| the quick dog  ||| lm= -3 tm= 0.5 1 ||| -7.25\n"
    "0 ||| the quick fox ||| lm= -4 tm= 0.25 1 ||| -7.5 ||| 0-0 1-1\r\n"
    "0 ||| the  lazy dog |||  ||| -9\n"
    "2 ||| chữ tài ||| lm= -1 ||| -1\n"
    "2 |||  ||| lm= -9 ||| -2\n"
)
KALDI_LIST = "spk-utt-1 the quick dog\nspk-utt-2  the quick fox\nspk-utt-3 the lazy dog\nother chữ tài\nempty-1\n"


def lines(data: bytes) -> Iterator[str]:
    record_format = RecordFormat(LINES, keeps_cr=True)
    return chain.from_iterable(read_batches([data], "list", record_format, CleaningReport()))


def parsed(text: str, form: str = MOSES) -> list[list]:
    return list(read_lists(lines(text.encode()), "list", form))


def flat(texts: list[str]) -> list[Score]:
    """Score a text by its length: one nat a character."""
    return [Score(text, -float(len(text)), len(text), len(text), 0) for text in texts]


# ── formats ───────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_consecutive_lines_with_the_same_id_are_a_list() -> None:
    first, second = parsed(LIST)
    assert [one.text for one in first] == ["the quick dog", "the quick fox", "the  lazy dog"]
    assert [one.given for one in first] == [-7.25, -7.5, -9.0]
    assert [(one.list_id, one.text, one.number) for one in second] == [("2", "chữ tài", 4), ("2", "", 5)]
    kaldi = parsed(KALDI_LIST, KALDI)
    assert [[one.text for one in part] for part in kaldi] == [
        ["the quick dog", "the quick fox", "the lazy dog"],
        ["chữ tài"],
        [""],
    ]
    assert [part[0].list_id for part in kaldi] == ["spk-utt", "other", "empty"]


COLUMN = st.text(st.characters(exclude_characters="|\r\n", exclude_categories=["Cs"]), max_size=12)


@given(st.lists(st.tuples(COLUMN, COLUMN, COLUMN), min_size=1, max_size=5))
def test_add_feature_changes_only_the_features_and_the_total(columns: list[tuple[str, str, str]]) -> None:
    lines = [f"7 |||{text}|||{features}|||\t-1.50 |||{more}" for text, features, more in columns]
    (hypotheses,) = parsed("\n".join(lines) + "\n")
    for line, one, (_, features, _) in zip(lines, hypotheses, columns, strict=True):
        written = add_feature(one, "\x00", "-2.5", "-4")
        assert one.line == line
        end = len(features.rstrip())
        assert written == line.replace(
            f"|||{features}|||\t-1.50 ", f"|||{features[:end]} \x00= -2.5{features[end:]}|||\t-4 "
        )


def test_a_feature_is_not_added_twice() -> None:
    (one,), *_ = parsed("0 ||| a ||| chargen= -1 ||| -1\n")
    with pytest.raises(CorpusError, match="line 1 has a feature chargen= already"):
        add_feature(one, "chargen", "-1", "-2")


@pytest.mark.parametrize(
    ("text", "form", "words"),
    [
        ("0 ||| a ||| b ||| -1\n0 ||| a ||| -1\n", MOSES, "line 2 has 3 columns"),
        ("0 ||| a ||| b ||| x\n", MOSES, "line 1 has the total 'x'"),
        ("0 ||| a ||| b ||| nan\n", MOSES, "not a finite number"),
        ("0 ||| a ||| b ||| 1e999\n", MOSES, "not a finite number"),
        ("0 ||| a ||| b ||| 1_0\n", MOSES, "not a finite number"),
        (" ||| a ||| b ||| 1\n", MOSES, "line 1 has no id"),
        ("a b\n\na c\n", KALDI, "line 2 has no id"),
    ],
)
def test_a_malformed_line_is_named(text: str, form: str, words: str) -> None:
    with pytest.raises(CorpusError, match=words):
        parsed(text, form)


@pytest.mark.parametrize(
    ("text", "form", "words"),
    [
        ("0 ||| a ||| ||| 1\n1 ||| b ||| ||| 1\n0 ||| c ||| ||| 1\n", MOSES, "list, line 3: the list '0' starts again"),
        ("u-1 a\nu-2 b\nv-1 c\nu-3 d\n", KALDI, "list, line 4: the list 'u' starts again"),
    ],
)
def test_a_list_that_starts_again_after_its_end_is_an_error(text: str, form: str, words: str) -> None:
    with pytest.raises(CorpusError, match=words):
        parsed(text, form)


def test_a_bounded_number_of_ended_lists_is_remembered(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("chargen.tasks.rescoring.MAX_ENDED_LISTS", 2)
    assert len(parsed("a x\nb x\nc x\na x\n", KALDI)) == 4
    with pytest.raises(CorpusError, match="line 4: the list 'b' starts again"):
        parsed("a x\nb x\nc x\nb x\n", KALDI)


def test_bytes_outside_utf8_are_named() -> None:
    with pytest.raises(CorpusError, match="list, line 2 is not UTF-8"):
        list(lines(b"a\n\xff\n"))


def test_lf_crlf_and_cr_end_a_line_and_a_crlf_keeps_its_cr() -> None:
    assert list(lines(b"a\rb\r\nc\nd")) == ["a", "b\r", "c", "d"]
    assert list(lines("\ufeffa\u2028b\x0bc\r\n\x00".encode())) == ["a\u2028b\x0bc\r", "\x00"]


def test_kaldi_costs_go_with_the_list_line_by_line() -> None:
    def read(costs: str) -> list[float]:
        lists = read_lists(iter(["a-1 x", "a-2 y"]), "list", KALDI, [("costs", iter(costs.splitlines()))] * 1)
        return [one.given for hypotheses in lists for one in hypotheses]

    assert read("a-1 2.5\na-2 -1") == [-2.5, 1.0]
    for costs, words in (
        ("a-1 1", "ends before line 2"),
        ("a-1 1\na-3 1", "the id 'a-3', but the list has 'a-2'"),
        ("a-1 1\na-2 1\na-3 1", "more than the 2 lines"),
        ("a-1 1\na-2 one", "the cost 'one'"),
    ):
        with pytest.raises(CorpusError, match=words):
            read(costs)


def test_references_are_found_by_id() -> None:
    assert read_references(["a b ", "", "c"], "refs", MOSES) == {"0": "a b", "1": "", "2": "c"}
    assert read_references(["u1 a b", "u2"], "refs", KALDI) == {"u1": "a b", "u2": ""}
    with pytest.raises(CorpusError, match="line 2: 'u' has a reference already"):
        read_references(["u a", "u b"], "refs", KALDI)


# ── totals ────────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_the_new_total_is_the_given_one_and_the_weighted_score() -> None:
    first, second = score_lists(parsed(LIST), flat)
    assert [one.total(0.5) for one in first] == [-7.25 - 6.5, -7.5 - 6.5, -9 - 6.5]
    assert [one.total(0.0) for one in second] == [-1, -2]
    assert best_hypothesis(second, 1.0).hypothesis.text == ""  # an empty text costs nothing, as the help says
    by_char = next(iter(score_lists(parsed(LIST), flat, "per-char")))
    assert [one.value for one in by_char] == [-1, -1, -1]


def test_ties_keep_their_order() -> None:
    (scored,) = score_lists(parsed("0 ||| a ||| ||| 1\n0 ||| b ||| ||| 1\n0 ||| c ||| ||| 2\n"), flat)
    assert [one.hypothesis.text for one in rank_hypotheses(scored, 3.0)] == ["c", "a", "b"]
    assert best_hypothesis(scored[:2], 3.0).hypothesis.text == "a"


def test_score_lists_reads_lists_in_batches() -> None:
    read = 0

    def lines():
        nonlocal read
        for number in range(1_000):
            read += 1
            yield f"{number} ||| {'a' * 1_000} ||| ||| 0"

    lists = score_lists(read_lists(lines(), "list", MOSES), flat)
    next(lists)
    assert read < 100
    assert sum(1 for _ in lists) == 999


# ── errors ────────────────────────────────────────────────────────────────────────────────────────────────────────────


def reference_distance(a: list[str], b: list[str]) -> int:
    row = list(range(len(b) + 1))
    for i, x in enumerate(a, start=1):
        row, above = [i], row
        for j, y in enumerate(b, start=1):
            row.append(min(above[j] + 1, row[-1] + 1, above[j - 1] + (x != y)))
    return row[-1]


WORDS = st.lists(st.sampled_from("abc"), max_size=7)


@given(WORDS, st.lists(WORDS, max_size=5))
def test_edit_distances_agree_with_the_usual_table(reference: list[str], hypotheses: list[list[str]]) -> None:
    expected = [reference_distance(reference, hypothesis) for hypothesis in hypotheses]
    assert edit_distances(reference, hypotheses).tolist() == expected


def test_units_are_words_or_characters_in_any_script() -> None:
    assert split_units("chu\u031b\u0303  tài", "wer") == ["chữ", "tài"]
    assert split_units(" 日本 😀 ", "cer") == ["日", "本", " ", "😀"]


# ── the weight ────────────────────────────────────────────────────────────────────────────────────────────────────────

NUMBER = st.one_of(st.integers(-4, 4).map(float), st.floats(-50, 50).map(lambda x: round(x, 3)))
LISTS = (
    st.lists(st.lists(st.tuples(NUMBER, NUMBER, st.integers(0, 5)), min_size=1, max_size=6), min_size=1, max_size=6)
    .map(
        lambda lists: [
            Candidates(
                *(np.array(column, dtype=kind) for column, kind in zip(zip(*c, strict=True), "ffi", strict=True))
            )
            for c in lists
        ]
    )
    .map(lambda lists: [Candidates(c.given.astype(float), c.value.astype(float), c.errors.astype(int)) for c in lists])
)


@given(LISTS)
def test_the_upper_envelope_is_the_highest_line_everywhere(lists: list[Candidates]) -> None:
    for c in lists:
        pieces = upper_envelope(c.given, c.value)
        begins = [begin for begin, _ in pieces]
        assert begins == sorted(set(begins))
        for (begin, line), end in zip(pieces, [*begins[1:], math.inf], strict=True):
            for w in (max(begin, min(end, -1e3)), min(end, max(begin, 1e3))):
                top = (c.given + w * c.value).max()
                assert c.given[line] + w * c.value[line] == pytest.approx(top, abs=1e-6)


@settings(max_examples=300, deadline=None)
@given(LISTS)
def test_no_weight_makes_fewer_errors_than_the_tuned_weight(lists: list[Candidates]) -> None:
    found = tune_weight(lists)
    crossings = {0.0}
    for c in lists:
        for i in range(len(c.given)):
            for j in range(len(c.given)):
                if c.value[i] != c.value[j]:
                    crossings.add(float((c.given[i] - c.given[j]) / (c.value[j] - c.value[i])))
    weights = sorted(weight for weight in crossings if weight >= 0)
    between = [
        (a + b) / 2 for a, b in zip(weights, [*weights[1:], weights[-1] * 2 + 2], strict=True) if b > a * 1.000001
    ]
    assert found.errors == min(count_errors(lists, w) for w in [0.0, *between])
    assert found.errors == count_errors(lists, found.weight)
    assert found.errors_at_best <= found.errors <= found.errors_before == count_errors(lists, 0.0)
    assert found.low <= found.weight <= found.high


def candidates(*rows: tuple[float, float, int]) -> Candidates:
    columns = list(zip(*rows, strict=True))
    return Candidates(np.array(columns[0]), np.array(columns[1]), np.array(columns[2]))


def test_the_middle_of_the_widest_best_interval_is_chosen() -> None:
    # The second wins from 1 on, the third from 3 on.
    found = tune_weight([candidates((0.0, 0.0, 2), (-1.0, 1.0, 0), (-4.0, 2.0, 1))])
    assert (found.low, found.high, found.weight, found.errors) == (1.0, 3.0, 2.0, 0)
    # The same number of errors on both sides of a breakpoint: one interval.
    found = tune_weight([candidates((0.0, 0.0, 2), (-1.0, 1.0, 0), (-3.0, 2.0, 0), (-9.0, 3.0, 1))])
    assert (found.low, found.high) == (1.0, 6.0)


def test_three_lines_through_one_point_have_no_interval_between_them() -> None:
    # With 0.1, 0.2, 0.3 rounding separates the crossings; the middle line never wins, even with the fewest errors.
    found = tune_weight([candidates((0.3, 0.1, 5), (0.2, 0.2, 0), (0.1, 0.3, 4))])
    assert found.errors == 4
    assert found.weight == pytest.approx(2.0, abs=1e-6)


def test_an_infinite_interval_gives_a_finite_weight_inside() -> None:
    found = tune_weight([candidates((0.0, 0.0, 2), (-1.0, 1.0, 0))])
    assert (found.low, found.high, found.weight) == (1.0, math.inf, 2.0)
    assert tune_weight([candidates((0.0, 0.0, 1))]).weight == 1.0
    found = tune_weight([candidates((0.0, 1.0, 2), (-1.0, 0.0, 0))], low=-math.inf)
    assert (found.high, found.weight) == (-1.0, -2.0)


# ── the command line ──────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.fixture
def model(tmp_path: Path) -> LanguageModel:
    made = random_model()
    save_checkpoint(tmp_path / "checkpoints" / "verse" / "model.safetensors", made)
    (tmp_path / "moses.txt").write_bytes(LIST.encode())
    (tmp_path / "kaldi.txt").write_bytes(KALDI_LIST.encode())
    return LanguageModel(made)


def test_moses_lines_keep_their_order_and_get_a_feature_and_a_total(chargen: Chargen, model: LanguageModel) -> None:
    result = chargen("rescore", "--file", "moses.txt", "--weight", "0.5")
    assert result.status == 0
    assert "1 text is empty: the model's part of the total is 0" in result.err
    lines = result.out.split("\n")
    for line, before, text in zip(lines, LIST.split("\n"), ["the quick dog", "the quick fox"], strict=False):
        log_prob = round(model.score(text).log_prob_nats, 4)
        columns, given_columns = line.split("|||"), before.split("|||")
        assert columns[2].strip().endswith(f"chargen= {log_prob:.4f}")
        assert float(columns[3]) == pytest.approx(float(given_columns[3]) + 0.5 * log_prob, abs=1e-7)
    undone = re.sub(r" chargen= \S+", "", result.out)
    strip = re.compile(r"\|\|\| -[\d.]+(?=\s)")
    assert strip.sub("", undone) == strip.sub("", LIST)


@pytest.mark.parametrize("documents", [False, True])
@pytest.mark.parametrize("flag", [None, "--end", "--no-end"])
def test_rescore_scores_the_end_when_score_does(
    chargen: Chargen, model: LanguageModel, tmp_path: Path, documents: bool, flag: str | None
) -> None:
    data = DataConfig(documents="line" if documents else "none")
    made = replace(model.checkpoint, about={**model.checkpoint.about, "data": data.to_json()})
    save_checkpoint(tmp_path / "checkpoints" / "ends" / "model.safetensors", made)
    more = [flag] if flag else []
    result = chargen("rescore", "-m", "ends", "--file", "kaldi.txt", "--json", *more)
    rows = [json.loads(line) for line in result.out.splitlines()]
    (tmp_path / "texts").write_text("\n".join(row["text"] for row in rows) + "\n", encoding="utf-8")
    scored = chargen("score", "-m", "ends", "--file", "texts", "--json", "--no-sort", *more).out.splitlines()
    keys = ("text", "log_prob_nats", "end_log_prob_nats")
    assert [[row[key] for key in keys] for row in rows] == [[json.loads(line)[key] for key in keys] for line in scored]
    ended = flag == "--end" or (documents and flag is None)
    assert all((row["end_log_prob_nats"] is not None) == ended for row in rows)
    assert ("is empty" in result.err) == (not ended)


def test_a_weight_of_zero_leaves_the_totals(chargen: Chargen, model: LanguageModel) -> None:
    out = chargen("rescore", "--file", "moses.txt", "--weight", "0").out
    assert re.sub(r" chargen= \S+", "", out) == LIST


def test_sort_best_and_costs_agree(chargen: Chargen, model: LanguageModel) -> None:
    rows = [json.loads(line) for line in chargen("rescore", "--file", "kaldi.txt", "--json").out.splitlines()]
    assert [row["line"] for row in rows] == [1, 2, 3, 4, 5]
    top = max(rows[:3], key=lambda row: row["total"])
    assert top["total"] == pytest.approx(model.score(top["text"]).log_prob_nats, abs=1e-4)
    kept = KALDI_LIST.splitlines()
    assert chargen("rescore", "--file", "kaldi.txt", "--best").out.splitlines() == [kept[top["line"] - 1], *kept[3:]]
    ordered = sorted(range(3), key=lambda i: -rows[i]["total"])
    assert chargen("rescore", "--file", "kaldi.txt", "--sort").out.splitlines()[:3] == [kept[i] for i in ordered]
    costs = chargen("rescore", "--file", "kaldi.txt", "--as-costs").out.splitlines()
    assert [line.split()[0] for line in costs] == [line.split()[0] for line in kept]
    assert [-float(line.split()[1]) for line in costs] == pytest.approx([row["total"] for row in rows], abs=1e-6)
    plain = chargen("rescore", "--file", "kaldi.txt")
    assert plain.out == KALDI_LIST
    assert "cannot hold a score" in plain.err


def test_tune_lowers_the_error_and_keeps_ids(chargen: Chargen, model: LanguageModel, tmp_path: Path) -> None:
    texts = ["the quick dog", "the lazy fox", "quick lazy dog jumps"]
    log_probs = {text: model.score(text).log_prob_nats for text in texts}
    favourite = max(texts, key=lambda text: log_probs[text])
    lines = [f"{n} ||| {text} ||| ||| {-100.0 if text == favourite else -99.0}" for n in range(3) for text in texts]
    (tmp_path / "list").write_text("\n".join(lines) + "\n")
    (tmp_path / "refs").write_text(f"{favourite}\n" * 3)
    result = chargen("rescore", "--file", "list", "--tune", "refs")
    assert "WER 0.00 % on 3 lists" in result.err
    assert [line.split(" ||| ")[:2] for line in result.out.splitlines()] == [line.split(" ||| ")[:2] for line in lines]
    rows = [
        json.loads(line) for line in chargen("rescore", "--file", "list", "--tune", "refs", "--json").out.splitlines()
    ]
    assert rows[0]["event"] == "tuned"
    assert rows[0]["tuned_wer"] == rows[0]["oracle_wer"] == 0.0 < rows[0]["given_wer"]
    assert {row["weight"] for row in rows} == {rows[0]["weight"]}
    best_lines = chargen("rescore", "--file", "list", "--weight", str(rows[0]["weight"]), "--best").out.splitlines()
    assert [line.split(" ||| ")[1] for line in best_lines] == [favourite] * 3
    assert "CER 0.00 %" in chargen("rescore", "--file", "list", "--tune", "refs", "--error", "cer").err


@pytest.mark.parametrize(
    ("arguments", "status", "words"),
    [
        (["--file", "none.txt"], 1, "none.txt cannot be read"),
        (["--file", "moses.txt", "--tune", "none.txt"], 1, "none.txt cannot be read"),
        (["--file", "moses.txt", "--tune", "kaldi.txt"], 1, "3 references have no list; the first is that of '1'"),
        (["--file", "moses.txt", "--as-costs"], 2, "--as-costs needs the format of Kaldi"),
        (["--file", "moses.txt", "--format", "moses", "--as-costs"], 2, "--as-costs cannot be combined with --format"),
        (["--file", "kaldi.txt", "--tune", "kaldi.txt"], 1, "no reference for the list 'spk-utt' (line 1)"),
        (["--file", "kaldi.txt", "--format", "moses"], 1, "kaldi.txt, line 1 has 1 column"),
        (["--file", "moses.txt", "--tune", "x", "--weight", "1"], 2, "give either --tune or --weight"),
        (["--file", "moses.txt", "--costs", "x"], 2, "lines of Moses contain their total"),
        (["--file", "moses.txt", "--weight", "nan"], 2, "not a finite number"),
        (["--file", "moses.txt", "--error", "cer"], 2, "--error needs --tune"),
        (["--tune", "-"], 2, "cannot both come from standard input"),
        (["--file", "moses.txt", "--feature", "a b"], 2, "cannot be a feature name"),
        (["--file", "moses.txt", "--feature", "a="], 2, "cannot be a feature name"),
    ],
)
def test_wrong_arguments_are_errors_without_a_traceback(
    chargen: Chargen, model: LanguageModel, arguments: list[str], status: int, words: str
) -> None:
    result = chargen("rescore", *arguments)
    assert result.status == status
    assert words in result.err
    assert "Traceback" not in result.err
