"""The kinds of token ids: where words start, in any script and with any tokenizer."""

from __future__ import annotations

import unicodedata

import numpy as np
import pytest

from chargen.config.model import NO_WORD, WORD, WORD_START
from chargen.text.long_text import LongText
from chargen.text.series.quantizer import Quantizer
from chargen.tokenizers.direction import reverse
from chargen.tokenizers.mulaw import MuLawTokenizer
from chargen.tokenizers.tokenizer import build_tokenizer
from chargen.tokenizers.words import is_word_char, word_kinds

SCRIPTS = {
    "Vietnamese": ("Chữ tài, chữ mệnh", ["Chữ", "tài", "chữ", "mệnh"]),
    "decomposed": (unicodedata.normalize("NFD", "Chữ tài"), [unicodedata.normalize("NFD", w) for w in ("Chữ", "tài")]),
    "Chinese": ("天地玄黃，宇宙洪荒。", ["天地玄黃", "宇宙洪荒"]),
    "Hindi": ("हिन्दी में क्षत्रिय।", ["हिन्दी", "में", "क्षत्रिय"]),  # vowel signs and viramas are marks
    "Arabic": ("قَالَ لَهُ", ["قَالَ", "لَهُ"]),
    "emoji": ("ok👍🏽 no 👩\u200d🚀yes", ["ok", "no", "yes"]),
    "code": ("x_1 = f(it's)\n", ["x_1", "f", "it's"]),
    "apostrophe": ("don\N{RIGHT SINGLE QUOTATION MARK}t—stop", ["don\N{RIGHT SINGLE QUOTATION MARK}t", "stop"]),
    "none": ("… — !?\n", []),
}


def split_words(kinds: np.ndarray, tokens: list[bytes], ids: np.ndarray) -> list[bytes]:
    """Return the words of token ids by the rule of `hash_words`: from a start to the last id inside of words."""
    words: list[bytes] = []
    before = NO_WORD
    for token_id in ids.tolist():
        kind = kinds[token_id]
        if kind == WORD_START or (kind == WORD and before == NO_WORD):
            words.append(b"")
        if kind != NO_WORD:
            words[-1] += tokens[token_id]
        before = kind
    return words


@pytest.mark.parametrize("tokenizer", ["char", "byte"])
@pytest.mark.parametrize("script", [name for name in SCRIPTS if name != "emoji"])
def test_words_are_found_in_any_script(script: str, tokenizer: str) -> None:
    text, expected = SCRIPTS[script]
    built = build_tokenizer(tokenizer, text)
    tokens = [built.token_bytes(token_id) for token_id in range(built.vocab_size)]
    found = split_words(word_kinds(built), tokens, built.encode(text))
    if tokenizer == "byte" and any(ord(char) > 127 and not is_word_char(char) for char in text):
        assert b"".join(found).startswith(expected[0].encode() if expected else b"")
        return  # the bytes of a punctuation mark outside of ASCII are not known to be none of a letter
    assert [word.decode() for word in found] == expected


def test_an_emoji_is_no_word() -> None:
    text, expected = SCRIPTS["emoji"]
    built = build_tokenizer("char", text)
    tokens = [built.token_bytes(token_id) for token_id in range(built.vocab_size)]
    assert [word.decode() for word in split_words(word_kinds(built), tokens, built.encode(text))] == expected


def test_special_ids_are_in_no_word() -> None:
    text = "ab c\n"
    for built in (build_tokenizer("char", text), build_tokenizer("byte", text)):
        kinds = word_kinds(built)
        assert kinds.dtype == np.uint8
        assert kinds.shape == (built.vocab_size,)
        assert not kinds[built.special_ids()].any()
        assert kinds[built.encode(text)].tolist() == [WORD, WORD, NO_WORD, WORD, NO_WORD]


def test_bytes_of_letters_outside_of_ascii_are_inside_of_words() -> None:
    built = build_tokenizer("byte", "a")
    kinds = {built.token_bytes(token_id): kind for token_id, kind in enumerate(word_kinds(built).tolist())}
    for code in range(256):
        is_in_word = code > 127 or is_word_char(chr(code))
        assert kinds[bytes([code])] == (WORD if is_in_word else NO_WORD), code


def test_a_subword_piece_after_a_space_starts_a_word() -> None:
    text = "the cat sat on the mat, the cat ran; the dog sat. " * 40
    built = build_tokenizer("sp:290", text)
    kinds = word_kinds(built)
    assert not kinds[built.special_ids()].any()
    pieces = {built.token_bytes(token_id): kinds[token_id] for token_id in range(built.vocab_size)}
    starts = {piece for piece, kind in pieces.items() if kind == WORD_START}
    assert starts
    assert all(piece.startswith(b" ") and piece.strip().isalpha() for piece in starts)
    tokens = [built.token_bytes(token_id) for token_id in range(built.vocab_size)]
    found = split_words(kinds, tokens, built.encode("the cat sat, the dog ran."))
    assert [word.decode().strip() for word in found] == ["the", "cat", "sat", "the", "dog", "ran"]


def test_a_series_has_no_words() -> None:
    assert not word_kinds(MuLawTokenizer(Quantizer())).any()


def test_a_backward_text_has_the_same_words_reversed() -> None:
    text, expected = SCRIPTS["Vietnamese"]
    built = build_tokenizer("char", text)
    tokens = [built.token_bytes(token_id) for token_id in range(built.vocab_size)]
    found = split_words(word_kinds(built), tokens, built.encode(reverse(text)))
    assert [word.decode()[::-1] for word in found] == expected[::-1]


def test_new_letters_of_a_larger_vocabulary_have_their_kinds() -> None:
    grown = build_tokenizer("char", "ab .").extend_vocabulary(LongText.from_string("aé!").span())
    kinds = dict(zip(grown.decode(range(2, grown.vocab_size)), word_kinds(grown)[2:].tolist(), strict=True))
    assert kinds == {" ": NO_WORD, "!": NO_WORD, ".": NO_WORD, "a": WORD, "b": WORD, "é": WORD}
