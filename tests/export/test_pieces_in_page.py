"""Sentencepiece in JavaScript, against the library: texts of several scripts become the same pieces."""

from __future__ import annotations

import io
import json
import random
from importlib.resources import files
from pathlib import Path
from typing import Any

import pytest
import sentencepiece

from chargen.tokenizers.sentencepiece import SentencePieceTokenizer
from tests.export.javascript import needs_javascript, run_javascript

LINES = [
    "the quick brown fox jumps over the lazy dog, the thesis of the theatre",
    "aaaa aaaaaaa aabaab abab",
    "Trăm năm trong cõi người ta, chữ tài chữ mệnh khéo là ghét nhau",
    "你好 世界 你好吗 世界人民",
    "שלום עולם مرحبا بالعالم",
    "👩\u200d👧 😀😀 👍🏽",
    "   x    y  ",
    "e\u0302\u0301 ế ộ",
] * 4
ALPHABET = "".join(LINES) + "▁\n\t\r€ﬁ①\0\u2028\x85 xyz𝒳"
ALGORITHMS = ["unigram", "bpe", "char"]


def train(algorithm: str, **options: Any) -> bytes:
    written = io.BytesIO()
    words = [] if algorithm == "unigram" else ["the", "th", "世界"]  # they change the order of equal sums
    sentencepiece.SentencePieceTrainer.train(**{
        "sentence_iterator": iter(LINES), "model_writer": written, "model_type": algorithm, "vocab_size": 430,
        "hard_vocab_limit": False, "byte_fallback": True, "normalization_rule_name": "identity", "bos_id": -1,
        "add_dummy_prefix": False, "remove_extra_whitespaces": False, "allow_whitespace_only_pieces": True,
        "eos_id": -1, "user_defined_symbols": ["\n", "\t", *words], "minloglevel": 2, **options,
    })  # fmt: skip
    return written.getvalue()


def random_texts(count: int, seed: int) -> list[str]:
    rng = random.Random(seed)
    words = " ".join(LINES).split(" ")

    def random_text() -> str:
        size = rng.choice([0, 1, 3, 10, 60])
        kind = rng.choice(["characters", "words", "few", "unicode"])
        if kind == "words":
            return "".join(rng.choice(words) + rng.choice([" ", "  ", "\n", "", "▁"]) for _ in range(size))
        if kind == "unicode":
            ranges = (range(32, 0xD800), range(0xE000, 0x110000))
            return "".join(chr(rng.choice(rng.choice(ranges))) for _ in range(size))
        return "".join(rng.choices(ALPHABET if kind == "characters" else "abth e▁", k=size))

    return [random_text() for _ in range(count)]


def encode_in_page(tokenizer: SentencePieceTokenizer, texts: list[str], folder: Path) -> list[list[int]]:
    script = files("chargen.export").joinpath("assets/tokenizers.js").read_text(encoding="utf-8")
    values = {"algorithm": tokenizer.algorithm(), "pieces": [list(piece) for piece in tokenizer.pieces()]}
    call = f"const tokenizer = TOKENIZERS.sp({json.dumps(values)});"
    encode = f"result = {json.dumps(texts)}.map((text) => Array.from(tokenizer.encode(text)));"
    return list(run_javascript(f"{script}\n{call}\n{encode}", folder))


@needs_javascript
@pytest.mark.parametrize("algorithm", ALGORITHMS)
@pytest.mark.parametrize("split", [True, False])
def test_random_texts_become_the_pieces_of_the_library(algorithm: str, split: bool, tmp_path: Path) -> None:
    options = {"split_by_whitespace": split, "split_by_unicode_script": split, "split_by_number": split}
    tokenizer = SentencePieceTokenizer(train(algorithm, **options))
    texts = random_texts(1500, seed=len(algorithm) + split)
    found = encode_in_page(tokenizer, texts, tmp_path)
    wrong = [text for text, ids in zip(texts, found, strict=True) if ids != tokenizer.encode(text).tolist()]
    assert not wrong


@needs_javascript
@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_unused_pieces_are_taken_apart_as_by_the_library(algorithm: str, tmp_path: Path) -> None:
    model = bytearray(train(algorithm, split_by_whitespace=False))
    position = num_unused = 0
    while model[position] == 0x0A:  # a piece: its size, its text, its score; a normal one has no kind
        end = position + 2 + model[position + 1]
        text = bytes(model[position + 4 : position + 4 + model[position + 3]]).decode()
        if len(text) > 1 and end - position == 9 + model[position + 3] and num_unused % 3 != 1:
            model[end:end] = b"\x18\x05"  # the kind: unused
            model[position + 1] += 2
            end += 2
        num_unused += 1
        position = end
    tokenizer = SentencePieceTokenizer(bytes(model))
    texts = random_texts(800, seed=7)
    found = encode_in_page(tokenizer, texts, tmp_path)
    assert found == [tokenizer.encode(text).tolist() for text in texts]


@needs_javascript
@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_a_long_line_is_encoded_in_the_time_of_short_ones(algorithm: str, tmp_path: Path) -> None:
    tokenizer = SentencePieceTokenizer(train(algorithm))
    text = "the quick fox " * 10_000
    assert encode_in_page(tokenizer, [text], tmp_path) == [tokenizer.encode(text).tolist()]
