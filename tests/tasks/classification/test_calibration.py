"""The split of labelled texts, and F1."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from chargen.errors import CorpusError
from chargen.tasks.classification.calibration import macro_f1, split_labelled

PAIRS = st.lists(st.tuples(st.integers(0, 3), st.integers(0, 3)), min_size=1, max_size=30)


@given(PAIRS)
def test_macro_f1_is_the_mean_of_the_harmonic_means_of_precision_and_recall(pairs: list[tuple[int, int]]) -> None:
    right, predicted = (np.array(column) for column in zip(*pairs, strict=True))
    scores = []
    for label in sorted({*right.tolist(), *predicted.tolist()}):
        hits = int(((right == label) & (predicted == label)).sum())
        precision = hits / max(1, int((predicted == label).sum()))
        recall = hits / max(1, int((right == label).sum()))
        scores.append(0.0 if hits == 0 else 2 * precision * recall / (precision + recall))
    assert macro_f1(right, predicted, 4) == pytest.approx(np.mean(scores))


def test_copies_of_a_text_with_another_label_are_in_the_same_part() -> None:
    shared = [f"shared {n}" for n in range(40)]
    texts = {"a": [*shared, *(f"a {n}" for n in range(30))], "b": [*shared, *(f"b {n}" for n in range(30))]}
    parts = split_labelled(texts, (0.1, 0.1), seed=1)
    for text in shared:
        assert sum(text in part["a"] for part in parts) == 1
        assert [text in part["a"] for part in parts] == [text in part["b"] for part in parts]
    for label, many in texts.items():
        assert sorted(text for part in parts for text in part[label]) == sorted(many)


def test_a_label_that_is_not_in_every_part_is_refused() -> None:
    with pytest.raises(CorpusError, match=r"'b' has 4 different texts, 3 of them also with another label"):
        for seed in range(20):  # the copies are in the first part, for one of the seeds
            split_labelled({"a": [*"abcdefghijk"], "b": [*"abcz"]}, (0.1, 0.1), seed)
    with pytest.raises(CorpusError, match="'b' has 1 different text, but needs at least 3"):
        split_labelled({"a": list("abcdefgh"), "b": ["x", "x"]}, (0.1, 0.1))


def test_labels_with_the_same_texts_are_split_alike() -> None:
    parts = split_labelled({"a": list("abcdefgh"), "b": list("abcdefgh")}, (0.1, 0.1))
    assert all(sorted(part["a"]) == sorted(part["b"]) for part in parts)
