"""Arguments of the methods of a model: wrong ones are named, and texts get the form of the training text."""

from __future__ import annotations

import copy
import itertools
import pickle
import unicodedata
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import chargen
from chargen.lm import LanguageModel
from chargen.probe.surprisal import CharSurprisal
from chargen.sampling.generate import MAX_HELD_CHARS
from chargen.scoring.scorer import Score
from tests.conftest import VERSE, random_model

MODEL = LanguageModel(random_model())
WRONG_COUNTS: list[Any] = [-1, 1.0, 2.5, "3", None, True, [1]]

COUNTS: dict[str, Callable[[Any], Any]] = {
    "num_suggestions": lambda n: MODEL.suggest("To be", num_suggestions=n),
    "num_guesses": lambda n: list(MODEL.char_surprisals("To be", num_guesses=n)),
    "count": lambda n: MODEL.samples(n, "a", length=3),
    "number": lambda n: "".join(MODEL.stream("a", number=n, length=3, seed=0)),
    "num_texts": lambda n: MODEL.generator("a", num_texts=n, length=3, seed=0).stream(0),
    "width": lambda n: MODEL.generator("a", length=3).beam(n),
    "num_particles": lambda n: MODEL.generator("a", length=3, seed=0).particles(0, n),
    "particles": lambda n: MODEL.infill(1, "a", "b", particles=n, length=3, seed=0),
}


@pytest.mark.parametrize("name", COUNTS)
def test_counts_are_whole_numbers(name: str) -> None:
    for wrong in WRONG_COUNTS:
        with pytest.raises(chargen.ChargenError, match=f"^{name} is .*, but must be a whole number of at least"):
            COUNTS[name](wrong)
    COUNTS[name](np.int64(2))
    COUNTS[name](np.uint8(2))


def test_the_other_counts_are_whole_numbers_too() -> None:
    generator = MODEL.generator("a", length=3, seed=0)
    calls: list[tuple[str, Callable[[Any], Any]]] = [
        ("count", lambda n: MODEL.infill(n, "a", "b", length=3)),
        ("count", lambda n: generator.beam_texts(4, n)),
        ("number", lambda n: generator.particles(n, 2)),
        ("number", lambda n: generator.infill("b", n, 2)),
        ("num_particles", lambda n: generator.infill("b", 0, n)),
    ]
    for name, call in calls:
        for wrong in WRONG_COUNTS:
            with pytest.raises(chargen.ChargenError, match=f"^{name} is "):
                call(wrong)
    for no_texts in (lambda: generator.beam(0), lambda: generator.particles(0, 0), lambda: generator.beam_texts(3, 0)):
        with pytest.raises(chargen.ChargenError, match="is 0, but must be a whole number of at least 1"):
            no_texts()
    assert MODEL.samples(0) == MODEL.suggest("a", num_suggestions=0) == []


def test_more_texts_than_the_memory_holds_are_refused() -> None:
    for call in (
        lambda: MODEL.samples(10**9, "a", length=10),
        lambda: MODEL.samples(10**9, "a", length=0),
        lambda: MODEL.samples(MAX_HELD_CHARS // 1000 + 1),
        lambda: MODEL.infill(10**9, "a", "b", length=10),
    ):
        with pytest.raises(chargen.ChargenError, match="would be in memory together"):
            call()


def test_infilling_needs_a_suffix_and_a_candidate() -> None:
    with pytest.raises(chargen.ChargenError, match="the suffix is empty"):
        MODEL.infill(1, "a", "", length=3)
    with pytest.raises(chargen.ChargenError, match="particles is 0"):
        MODEL.infill(1, "a", "b", particles=0, length=3)


def test_a_prefix_cache_is_of_the_same_model_and_stands_alone() -> None:
    *_, cache = MODEL.read_prefix("To be")
    other = LanguageModel(random_model(seed=1))
    with pytest.raises(chargen.ChargenError, match="prefix_cache was made by another model"):
        other.stream(prefix_cache=cache)
    with pytest.raises(chargen.ChargenError, match="previous was made by another model"):
        other.read_prefix("To be", cache)
    with pytest.raises(chargen.ChargenError, match="both a prompt and prefix_cache"):
        MODEL.stream("To", prefix_cache=cache)
    for wrong in ("To be", b"", 5, [cache]):
        with pytest.raises(TypeError, match=f"prefix_cache must be a PrefixCache or None, not {type(wrong).__name__}"):
            MODEL.stream(prefix_cache=wrong)
        with pytest.raises(TypeError, match="previous must be a PrefixCache"):
            MODEL.read_prefix("To be", wrong)  # type: ignore[arg-type]
    same = LanguageModel(random_model())  # opened again
    assert "".join(same.stream(prefix_cache=cache, length=9, seed=1)) == MODEL.sample("To be", length=9, seed=1)[5:]


def test_a_model_can_be_pickled_and_copied() -> None:
    model = LanguageModel(random_model())
    text = model.sample("To", length=20, seed=4)
    model.score("To be")
    for again in (pickle.loads(pickle.dumps(model)), copy.deepcopy(model), copy.copy(model)):
        assert again.sample("To", length=20, seed=4) == text
        assert again.score("To be") == model.score("To be")


def test_strings_that_constrain_a_text_have_its_form() -> None:
    text = MODEL.sample(length=600, seed=5)
    accented = next(c for c in "ăôõữéà" if c in text)
    decomposed = unicodedata.normalize("NFD", accented)
    assert decomposed != accented
    assert accented not in MODEL.sample(length=600, seed=5, ban=[decomposed])
    assert MODEL.sample(length=600, seed=5, ban=[decomposed]) == MODEL.sample(length=600, seed=5, ban=[accented])
    assert MODEL.sample(length=600, seed=5, stop=[decomposed]) == text[: text.index(accented)]
    assert MODEL.sample(length=600, seed=5, stop=["\r\n"]) == text[: text.index("\n")]
    assert "\n" not in MODEL.sample(length=600, seed=5, ban=["\r\n"])


def test_a_copy_report_compares_a_text_in_the_form_of_the_training_text(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("poems.txt").write_text(VERSE * 4, encoding="utf-8")
    model = chargen.train("poems.txt", steps=1, model=chargen.ModelChoices(hidden_size=8))
    report = model.copy_report(VERSE)
    assert report.passage == VERSE
    assert model.copy_report(unicodedata.normalize("NFD", VERSE).replace("\n", "\r\n")) == report


TEXT_METHODS: dict[str, Callable[[Any], Any]] = {
    "text": lambda text: MODEL.suggest(text),
    "context": lambda text: MODEL.suggest("a", context=text),
    "prompt": lambda text: MODEL.stream(text),
    "suffix": lambda text: MODEL.infill(1, "a", text),
    "lines": lambda lines: MODEL.evaluate_lines(lines),
    "texts": lambda texts: MODEL.score_stream(texts),
}


@pytest.mark.parametrize("name", TEXT_METHODS)
def test_texts_that_are_no_strings_are_named_by_their_type(name: str) -> None:
    for wrong in (5, b"bytes", bytearray(b"b"), 1.5):
        with pytest.raises(TypeError, match=f"^{name} must be .*string.*, not {type(wrong).__name__}$"):
            TEXT_METHODS[name](wrong)
    for call in (MODEL.evaluate, MODEL.copy_report, MODEL.read_prefix, MODEL.unknown_characters, MODEL.char_surprisals):
        for wrong in (5, b"bytes", None):
            with pytest.raises(TypeError, match=f"^text must be a string, not {type(wrong).__name__}$"):
                call(wrong)  # type: ignore[operator]


def test_several_texts_are_an_iterable_of_strings() -> None:
    for call in (MODEL.score_stream, MODEL.evaluate_lines):
        for wrong in ("a string", b"bytes", None, 5):
            with pytest.raises(TypeError, match=f"must be an iterable of strings, not {type(wrong).__name__}$"):
                call(wrong)  # type: ignore[operator]
        for wrong in (["a", b"b"], ["a", None], [5]):
            with pytest.raises(TypeError, match="must be strings, not (bytes|NoneType|int)$"):
                list(call(wrong))  # type: ignore[operator]
    with pytest.raises(TypeError, match="texts must be a string or an iterable of strings, not bytes$"):
        MODEL.score(b"abc")  # type: ignore[call-overload]

    def endless() -> Iterator[str]:
        yield from itertools.repeat("To be")

    assert next(MODEL.score_stream(endless())) == MODEL.score("To be")  # texts are not read to their end
    for lines in ([], [""], ["", ""]):
        for values in MODEL.evaluate_lines(lines):
            assert values.tolist() == [0.0] * len(lines)


def test_a_given_score_is_of_the_text_and_has_pieces() -> None:
    score = MODEL.score("người", pieces=True)
    decomposed = unicodedata.normalize("NFD", "người")
    assert [c.text for c in MODEL.char_surprisals(decomposed, score=score)] == list("người")
    with pytest.raises(chargen.ChargenError, match="score is of another text: 'người', not 'khác'"):
        MODEL.char_surprisals("khác", score=score)
    with pytest.raises(chargen.ChargenError, match="no log p of the characters\n.*pieces=True"):
        MODEL.char_surprisals("người", score=MODEL.score("người"))
    with pytest.raises(TypeError, match="score must be a Score, not float"):
        MODEL.char_surprisals("người", score=1.5)  # type: ignore[arg-type]


def test_no_surprisal_is_minus_zero() -> None:
    for log_prob in (0.0, -0.0, -1e-12):
        html = Score("a", log_prob, 1, 1, 0, pieces=(("a", log_prob),))._repr_html_() or ""
        assert "-0.0" not in html
        assert "0.00 bits" in html
    score = Score("a", 0.0, 1, 1, 0)
    assert "-0.0" not in f"{score.bits_per_char} {score.to_dict()} {CharSurprisal('a', 0.0).surprisal_bits}"


@pytest.mark.parametrize("setting", ["n", "count", "num_samples", "num_return_sequences"])
def test_a_number_of_texts_leads_to_the_method_for_several(setting: str) -> None:
    for method in (MODEL.sample, MODEL.stream, MODEL.generator):
        with pytest.raises(chargen.ChargenError, match=rf"unknown setting '{setting}' .*\n.*model.samples\(COUNT"):
            method("To", **{setting: 3})  # type: ignore[operator]
    with pytest.raises(chargen.ChargenError, match="\n.*'length'"):
        MODEL.sample("To", max_new_tokens=3)  # type: ignore[call-arg]


def test_a_share_in_percent_gets_the_share_as_a_hint() -> None:
    for settings, hint in (
        ({"top_p": 90}, "0.9 for 90 %"),
        ({"typical": 50.0}, "0.5 for 50 %"),
        ({"min_p": 5}, "0.05"),
    ):
        with pytest.raises(chargen.ChargenError, match=f"\nWrite {hint}"):
            MODEL.sample("To", **settings)  # type: ignore[arg-type]
    for make in (lambda: chargen.DataConfig(val_fraction=10), lambda: chargen.ModelChoices(dropout=30)):
        with pytest.raises(chargen.ChargenError, match="\nWrite 0.[13] for [13]0 %"):
            make()
    with pytest.raises(chargen.ChargenError) as caught:
        MODEL.sample("To", top_p=120)
    assert not caught.value.hint


def test_the_length_of_a_run_is_named_by_its_parameter() -> None:
    with pytest.raises(chargen.ChargenError, match="only one of budget, steps and epochs, not budget and steps"):
        chargen.train("poems.txt", steps=5, budget="5s")
    for wrong in (True, np.True_, "5 parsecs", -1, []):
        with pytest.raises(chargen.ChargenError, match="^budget: .* is not a duration"):
            chargen.train("poems.txt", budget=wrong)  # type: ignore[arg-type]
    for name in ("steps", "epochs"):
        with pytest.raises(chargen.ChargenError, match=f"{name} is True, but must be a"):
            chargen.train("poems.txt", **{name: True})  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="force must be .*bool.*, not str"):
        chargen.train("poems.txt", force="no")  # type: ignore[arg-type]


def test_a_name_that_is_taken_is_reported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("poems.txt").write_text(VERSE * 4, encoding="utf-8")
    notes: list[str] = []
    shape = chargen.ModelChoices(hidden_size=8)
    for name in ("two", "two-2"):
        model = chargen.train("poems.txt", steps=1, name="two", model=shape, notify=notes.append)
        assert model.path is not None and model.path.parent.name == name
    assert "the name 'two' is taken; this run is named 'two-2'" in notes
    with pytest.raises(TypeError, match="notify must be a function, not str"):
        chargen.train("poems.txt", notify="print")  # type: ignore[arg-type]
