"""Log probabilities of token ids and of their alternatives, against a plain sort."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from chargen.engines.interface import log_softmax
from chargen.server.batch.log_probs import TokenLogProbs

LOGITS = np.random.default_rng(0).normal(size=(3, 50))
IDS = [5, 6, 7]


@pytest.mark.parametrize("num_top", [0, 1, 3, 12, 13, 50])
def test_the_alternatives_are_the_most_likely_token_ids(num_top: int) -> None:
    log_probs = log_softmax(LOGITS)
    entries = TokenLogProbs(None, 0.0).of_ids(LOGITS, IDS, [num_top] * 3)
    for row, (token_id, entry) in enumerate(zip(IDS, entries, strict=True)):
        best = sorted(range(50), key=lambda each, row=row: -log_probs[row, each])[:num_top]
        assert list(entry.top_ids) == best + [token_id] * (token_id not in best)
        assert list(entry.top_log_probs_nats) == [log_probs[row, each] for each in entry.top_ids]
        assert entry.log_prob_nats == log_probs[row, token_id]


def test_the_vocabulary_is_not_sorted_where_no_alternatives_are_wanted(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*arguments: Any, **more: Any) -> None:
        pytest.fail("the vocabulary was sorted")

    monkeypatch.setattr(np, "argsort", fail)
    monkeypatch.setattr(np, "argpartition", fail)
    entries = TokenLogProbs(None, 0.0).of_ids(LOGITS, IDS, [0, 0, 0])
    assert [entry.top_ids for entry in entries] == [(5,), (6,), (7,)]
