"""How texts become the input of an encoder: every tokenizer, truncation, files."""

from __future__ import annotations

from collections.abc import Callable
from types import ModuleType

import numpy as np
import pytest
import torch

from chargen.errors import ChargenError, ConfigError
from chargen.networks.encoder import Encoder, EncoderConfig
from chargen.tasks.classification import text_input as text_input_module
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


def test_the_lengths_of_texts_index_a_tensor(use_windows_numpy: Callable[[ModuleType], None]) -> None:
    use_windows_numpy(text_input_module)
    text_input = TextInput.build("char", TEXTS, 20)
    vocab_size = text_input.tokenizer.vocab_size
    config = EncoderConfig(vocab_size=vocab_size, num_labels=2, hidden_size=4, embedding_dim=4, pooling="last")
    encoder = Encoder(config, torch.Generator().manual_seed(0))
    batch = text_input.batch([text_input.encode(text) for text in TEXTS[:3]], TEXTS[:3], encoder)
    assert batch.lengths.dtype == torch.int64
    assert encoder(batch).shape == (3, 2)
