"""Occlusion: the effect of each character on the decision of a classifier whose rule is known."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from chargen.errors import ConfigError
from chargen.tasks.classification.calibration import log_priors
from chargen.tasks.classification.classifier import TextClassifier
from chargen.tasks.classification.explain import (
    MAX_CHARS,
    MAX_VARIANTS,
    SPANS_PER_CHAR,
    CharEffect,
    explain,
    strongest_runs,
)


@dataclass(frozen=True)
class CountingClassifier(TextClassifier):
    """Each letter "+" is evidence of one nat for "yes", and each "-" against it."""

    labels: tuple[str, ...] = ("no", "other", "yes")
    log_priors: np.ndarray = field(default_factory=lambda: log_priors([1, 1, 1]))
    temperature: float = 1.0
    is_calibrated: bool = True

    def scores(self, texts: Sequence[str]) -> np.ndarray:
        counts = np.array([text.count("+") - text.count("-") for text in texts], dtype=float)
        return np.stack([np.zeros(len(texts)), np.zeros(len(texts)), counts], axis=1)


@given(st.text("+-ab é", max_size=60))
def test_the_effect_of_each_character_is_its_evidence(text: str) -> None:
    found = explain(CountingClassifier(), text)
    assert "".join(char.text for char in found.chars) == text
    score = text.count("+") - text.count("-")
    if score > 0:
        assert found.label == "yes"
        assert found.log_odds_nats == pytest.approx(score - np.log(2))
        # The spans that contain a character contain its two neighbours on each side with weights 2/3 and 1/3.
        evidence = [{"+": 1.0, "-": -1.0}.get(char, 0.0) for char in text]
        for i, char in enumerate(found.chars):
            near = [evidence[i + d] * (3 - abs(d)) / 3 for d in range(-2, 3) if 0 <= i + d < len(text)]
            assert char.effect_nats == pytest.approx(sum(near), abs=1e-9)


def test_evidence_against_the_label_is_negative() -> None:
    found = explain(CountingClassifier(), "++++aaaaa-aaaaa")
    assert [char.effect_nats for char in found.chars][9] == pytest.approx(-1.0)
    runs = strongest_runs(found.chars, 0.5, 10)
    assert runs[0].effect_nats > 0
    assert runs[0].text.startswith("++++")
    assert runs[1].effect_nats == pytest.approx(-1.0)
    assert "-" in runs[1].text


def test_a_certain_decision_is_still_explained() -> None:
    found = explain(CountingClassifier(), "+" * 400 + "a" * 100)
    assert found.probability == 1.0
    assert found.chars[50].effect_nats > 0.5
    assert abs(found.chars[-1].effect_nats) < 1e-9


@pytest.mark.parametrize("num_chars", [0, 1, 2, MAX_VARIANTS, MAX_VARIANTS + 1, 3 * MAX_VARIANTS + 7])
def test_each_character_is_in_the_same_number_of_spans(num_chars: int) -> None:
    from chargen.tasks.classification.explain import _spans

    step = max(1, -(-num_chars // MAX_VARIANTS))
    covered = np.zeros(num_chars)
    spans = list(_spans(num_chars, step))
    assert len(spans) <= MAX_VARIANTS + SPANS_PER_CHAR
    for begin, end in spans:
        assert 0 <= begin < end <= num_chars
        covered[begin:end] += 1
    assert (covered == SPANS_PER_CHAR).all()


def test_a_text_that_is_too_long_is_refused() -> None:
    with pytest.raises(ConfigError, match="at most 20,000 characters"):
        explain(CountingClassifier(), "a" * (MAX_CHARS + 1))


def test_runs_have_one_sign() -> None:
    chars = [
        CharEffect("a", 1.0),
        CharEffect("b", 2.0),
        CharEffect("c", -3.0),
        CharEffect("d", 0.0),
        CharEffect("e", 1.0),
    ]
    assert strongest_runs(chars, 0.5, 9) == [CharEffect("c", -3.0), CharEffect("ab", 2.0), CharEffect("e", 1.0)]
