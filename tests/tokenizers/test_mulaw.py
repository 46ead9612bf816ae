"""The μ-law tokenizer: a fixed vocabulary, and a description that cannot be hostile."""

from __future__ import annotations

import numpy as np
import pytest

from chargen.errors import ChargenError, TokenizerError
from chargen.text.series.quantizer import Quantizer
from chargen.tokenizers.mulaw import MuLawTokenizer
from chargen.tokenizers.tokenizer import BOUNDARY_ID, build_tokenizer, start_ids, tokenizer_from_json

LEVELS = "".join(map(chr, range(0x2800, 0x2900)))


def test_level_k_has_token_id_k_plus_2():
    tokenizer = MuLawTokenizer(Quantizer(256))
    assert tokenizer.vocab_size == 258
    assert tokenizer.encode(LEVELS).tolist() == list(range(2, 258))
    assert tokenizer.decode([0, 1, 2, 257]) == "\ufffd\u2800\u28ff"
    assert tokenizer.encode("a\u2800\n").tolist() == [1, 2, 1]
    assert MuLawTokenizer(Quantizer(4)).encode("\u2803\u2804").tolist() == [5, 1]


def test_a_series_starts_at_the_boundary():
    assert start_ids(MuLawTokenizer(Quantizer(256))).tolist() == [BOUNDARY_ID]


def test_the_description_keeps_the_quantizer():
    quantizer = Quantizer(100, 44_100, 0.0, 0.7, 2)
    again = tokenizer_from_json(MuLawTokenizer(quantizer).to_json())
    assert again.quantizer == quantizer


def test_a_text_is_refused_when_the_tokenizer_is_built_or_used():
    with pytest.raises(TokenizerError, match="mulaw needs a series, but the corpus is a text with 'a'"):
        build_tokenizer("mulaw:256", "abc")
    with pytest.raises(TokenizerError, match="the number of levels"):
        build_tokenizer("mulaw:300", LEVELS)
    tokenizer = build_tokenizer("mulaw", LEVELS)
    tokenizer.check_text(LEVELS, "text")
    with pytest.raises(TokenizerError, match="the prompt contains 'a'"):
        tokenizer.check_text("a", "prompt")
    build_tokenizer("char", "abc").check_text("anything", "text")  # texts are for all other tokenizers


@pytest.mark.parametrize(
    "quantizer", [None, [], "256", {}, {**Quantizer().to_json(), "levels": 10**9}, {"levels": 256, "scale": 1.0}]
)
def test_a_hostile_description_is_refused(quantizer):
    with pytest.raises(ChargenError):
        tokenizer_from_json({"name": "mulaw", "quantizer": quantizer})
    with pytest.raises(ChargenError):
        tokenizer_from_json({"name": "mulaw"})


def test_quantized_values_become_ids_and_values_again():
    tokenizer = MuLawTokenizer(Quantizer(256, 8000, 0.0, 0.5))
    values = np.linspace(-0.5, 0.5, 1001)
    ids = tokenizer.encode(tokenizer.quantizer.encode(values))
    assert (np.diff(ids) >= 0).all() and (ids[0], ids[-1]) == (2, 257)
    assert tokenizer.quantizer.decode(tokenizer.decode(ids)) == pytest.approx(values, abs=0.012)
