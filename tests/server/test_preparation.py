"""A checked request for one model: what it holds in memory until it is answered."""

from __future__ import annotations

import sys
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from chargen.sampling.sequence import GenerationContext
from chargen.sampling.settings import SampleConfig
from chargen.server.batch.log_probs import TokenLogProbs
from chargen.server.completions.preparation import prepare
from chargen.server.completions.request import parse_completion_request
from chargen.server.limits import Limits
from chargen.server.models import ServedModel
from chargen.server.tokens import ServedTokenizer
from tests.conftest import random_model
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


# Bytes at the ends of the ranges in the table of valid UTF-8.
EDGES = [0x61, 0x80, 0x8F, 0x90, 0x9F, 0xA0, 0xBF, 0xC0, 0xC2, 0xE0, 0xE1, 0xED, 0xEE, 0xF0, 0xF1, 0xF4, 0xF5]
BYTES = random_model(tokenizer="byte")


@settings(deadline=None)
@given(st.lists(st.sampled_from(EDGES), max_size=5))
def test_a_prompt_is_open_where_its_text_ends_inside_of_a_character(data: list[int]) -> None:
    prompt = ServedTokenizer(BYTES).prompt_of_ids([byte + 1 for byte in data])
    ids = np.array(prompt.read_ids)
    context = GenerationContext(BYTES.tokenizer, SampleConfig(), [], None, prompt.text, ids, None)
    num_open = len(context.open_ids)
    assert prompt.is_open == bool(num_open)
    assert prompt.text == bytes(data[: len(data) - num_open]).decode("utf-8", "replace")
