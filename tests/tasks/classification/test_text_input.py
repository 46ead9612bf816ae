"""How texts become the input of an encoder: every tokenizer, truncation, files."""

from __future__ import annotations

import numpy as np
import pytest

from chargen.errors import ChargenError, ConfigError
from chargen.tasks.classification.text_input import TextInput

TEXTS = ["the film was good", "the film was bad", "é was good"] * 30


@pytest.mark.parametrize("tokenizer", ["char", "byte", "words", "words:3", "sp:280"])
def test_texts_are_encoded_between_boundaries_and_cut(tokenizer: str) -> None:
    text_input = TextInput.build(tokenizer, TEXTS, 3)
    again = TextInput.from_json(text_input.to_json())
    for text in ("", "the film", "the film was good " * 1000, "?"):
        ids = text_input.encode(text)
        assert 2 <= len(ids) <= 5
        assert ids[0] == ids[-1] == 0
        assert np.array_equal(again.encode(text), ids)


def test_unknown_tokenizers_and_lengths_are_refused() -> None:
    for tokenizer, length in (("chars", 10), ("words:0", 10), ("byte:3", 10), ("char", 0)):
        with pytest.raises(ChargenError):
            TextInput.build(tokenizer, TEXTS, length)


@pytest.mark.parametrize(
    "values",
    [{}, {"tokenizer": {}, "max_length": 3}, {"tokenizer": {"name": "byte"}, "max_length": 0}, {"max_length": 3}],
)
def test_damaged_descriptions_are_refused(values: dict[str, object]) -> None:
    with pytest.raises(ConfigError if values.get("tokenizer") != {} else ChargenError):
        TextInput.from_json(values)
