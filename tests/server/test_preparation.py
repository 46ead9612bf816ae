"""A checked request for one model: what it holds in memory until it is answered."""

from __future__ import annotations

import sys
from typing import Any

import numpy as np
import pytest

from chargen.server.batch.log_probs import TokenLogProbs
from chargen.server.completions.preparation import prepare
from chargen.server.completions.request import parse_completion_request
from chargen.server.limits import Limits
from chargen.server.models import ServedModel
from tests.server.conftest import language_model


def held_values(**body: Any) -> int:
    """Return how many values of about 100 bytes a request holds."""
    request = parse_completion_request({"prompt": "a", **body}, Limits())
    return prepare(request, ServedModel(language_model(), Limits())).num_held_values


def test_stop_strings_count_once_for_all_prompts() -> None:
    for prompt in ("a", ["a"] * 3):
        assert held_values(prompt=prompt, stop=["The", "fox"]) == held_values(prompt=prompt) + 6


def size_bytes(value: Any) -> int:
    """Return the memory of a value and its parts."""
    return sys.getsizeof(value) + (sum(map(size_bytes, value)) if isinstance(value, tuple) else 0)


@pytest.mark.parametrize("logprobs", [0, 1, 5, 50])
def test_log_probabilities_count_with_the_objects_that_contain_them(logprobs: int) -> None:
    body: dict[str, Any] = {"prompt": "fox", "max_tokens": 7, "n": 2}
    per_token = (held_values(**body, logprobs=logprobs) - held_values(**body)) / (2 * 7)
    assert held_values(**body, logprobs=logprobs, echo=True) - held_values(**body) == per_token * (2 * 7 + 3)
    logits = np.random.default_rng(0).normal(size=(1, 1000))
    (entry,) = TokenLogProbs(None, 0.0).of_ids(logits, [999], [logprobs])
    assert 50 * per_token < size_bytes((999, entry)) < 100 * per_token
