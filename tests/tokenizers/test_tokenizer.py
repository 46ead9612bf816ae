"""The laws of every tokenizer, and the properties of the character and byte tokenizers."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from chargen.errors import ChargenError, ConfigError, CorpusError, TokenizerError
from chargen.tokenizers import TOKENIZERS
from chargen.tokenizers.byte import ByteTokenizer
from chargen.tokenizers.char import MAX_CHARACTERS, UNKNOWN_ID, CharTokenizer
from chargen.tokenizers.tokenizer import (
    BOUNDARY_ID,
    COMPLETE,
    StreamingDecoder,
    Tokenizer,
    build_tokenizer,
    start_ids,
    tokenizer_from_json,
    utf8_masks,
)

VIETNAMESE = "Trăm năm trong cõi người ta,\nChữ tài chữ mệnh khéo là ghét nhau.\n"
laws = settings(deadline=None)
any_text = st.text(st.characters(exclude_categories=["Cs"]))
#: Tokenizers with any sequence of their ids, including sequences that no text gives.
char = CharTokenizer(VIETNAMESE + "\U0001f600\0")
byte = ByteTokenizer()
tokenizers_and_ids = st.sampled_from([char, byte]).flatmap(
    lambda t: st.tuples(st.just(t), st.lists(st.integers(0, t.vocab_size - 1)))
)


def streamed(tokenizer: Tokenizer, ids) -> list[str]:
    """The text of each id, and the rest at the end."""
    decoder = StreamingDecoder(tokenizer)
    return [*(decoder.feed(int(i)) for i in ids), decoder.finish()]


# ── decode(encode(x)) == x ────────────────────────────────────────────────────


@laws
@given(any_text)
@example("\0\ufeff\ufffd\r\n\U0010ffff")
def test_bytes_encode_any_text(text):
    ids = byte.encode(text)
    assert byte.decode(ids) == text
    assert [int(i) - 1 for i in ids] == list(text.encode())


@laws
@given(any_text.filter(bool))
@example("\0\ufeff\ufffd\r\n\U0010ffff")
def test_characters_encode_any_text_of_their_vocabulary(text):
    tokenizer = build_tokenizer("char", text)
    ids = tokenizer.encode(text)
    assert tokenizer.decode(ids) == text
    assert len(ids) == len(text)
    assert tokenizer.vocab_size == len(set(text)) + 2
    assert not tokenizer.is_unknown(ids).any()


@laws
@given(st.text(sorted(set(VIETNAMESE))))
def test_characters_encode_other_texts_of_the_same_letters(text):
    assert CharTokenizer(VIETNAMESE).decode(CharTokenizer(VIETNAMESE).encode(text)) == text


@laws
@given(any_text.filter(bool))
def test_ids_are_in_code_point_order_and_do_not_depend_on_the_order_of_the_text(text):
    tokenizer = CharTokenizer(text)
    assert tokenizer.to_json() == CharTokenizer(text[::-1] + text).to_json()
    assert tokenizer.encode("".join(sorted(set(text)))).tolist() == list(range(2, tokenizer.vocab_size))


@pytest.mark.parametrize("tokenizer", [char, byte], ids=["char", "byte"])
def test_ids_are_int32_below_the_vocabulary_size(tokenizer):
    ids = tokenizer.encode(VIETNAMESE)
    assert (ids.dtype, tokenizer.encode("").dtype) == (np.int32, np.int32)
    assert ids.min() > BOUNDARY_ID
    assert ids.max() < tokenizer.vocab_size
    assert tokenizer.encode("").tolist() == []
    assert tokenizer.decode([]) == tokenizer.decode(np.array([], dtype=np.int32)) == ""


# ── every tokenizer of the registry ───────────────────────────────────────────


#: A tokenizer that has no default option has an entry here.
OPTIONS = {"sp": ":300"}
#: A tokenizer that is not for every text has an entry here: a text that it is for.
TEXTS = {"mulaw": "".join(map(chr, range(0x2800, 0x2900)))}
REGISTERED = [
    build_tokenizer(name + OPTIONS.get(name, ""), TEXTS.get(name, VIETNAMESE) * 20) for name in TOKENIZERS.names()
]


@pytest.mark.parametrize("tokenizer", REGISTERED, ids=TOKENIZERS.names())
@laws
@given(data=st.data())
def test_a_registered_tokenizer_is_lossless_id_by_id(tokenizer, data):
    text = data.draw(st.text(sorted(set(TEXTS.get(tokenizer.name, VIETNAMESE)))))
    ids = tokenizer.encode(text)
    assert ids.dtype == np.int32
    assert ((ids > BOUNDARY_ID) & (ids < tokenizer.vocab_size)).all()
    assert len(ids) == len(text) or not tokenizer.is_char_level
    assert tokenizer.decode(ids) == "".join(streamed(tokenizer, ids)) == text
    assert b"".join(tokenizer.token_bytes(int(i)) for i in ids) == text.encode()
    again = tokenizer_from_json(json.loads(json.dumps(tokenizer.to_json())))
    assert again.vocab_size == tokenizer.vocab_size
    assert again.encode(text).tolist() == ids.tolist()


@pytest.mark.parametrize("tokenizer", REGISTERED, ids=TOKENIZERS.names())
def test_the_masks_allow_every_id_of_a_text(tokenizer):
    masks, state = utf8_masks(tokenizer, documents=False), COMPLETE
    for token_id in tokenizer.encode(TEXTS.get(tokenizer.name, VIETNAMESE)):
        assert masks.logit_mask[state, token_id] == 0
        state = masks.next_state[state][token_id]
    assert state == COMPLETE
    assert tokenizer.token_bytes(BOUNDARY_ID) == b""
    assert np.isneginf(masks.logit_mask[:, BOUNDARY_ID]).all()


# ── streams ───────────────────────────────────────────────────────────────────


@laws
@given(tokenizers_and_ids)
@example((byte, [0xF0 + 1, 0x9F + 1, 0x98 + 1]))
@example((byte, [0xE1 + 1, 0, 0xBB + 1, 0x87 + 1, 0xED + 1, 0xA0 + 1, 0x80 + 1]))
@example((char, [0, 1, 2]))
def test_streamed_decoding_equals_decoding_at_once(tokenizer_and_ids):
    tokenizer, ids = tokenizer_and_ids
    pieces = streamed(tokenizer, ids)
    assert "".join(pieces) == tokenizer.decode(ids) == tokenizer.decode(np.array(ids, dtype=np.int64))
    assert pieces[-1] in ("", "\ufffd")


@laws
@given(any_text)
def test_a_character_is_decoded_with_its_last_byte(text):
    pieces = streamed(byte, byte.encode(text))
    expected = [part for c in text for part in [*[""] * (len(c.encode()) - 1), c]]
    assert pieces == [*expected, ""]


@laws
@given(any_text, st.characters(min_codepoint=0x80, exclude_categories=["Cs"]), st.data())
def test_an_incomplete_character_at_the_end_is_one_replacement_character(text, character, data):
    ids = byte.encode(character)
    cut = ids[: data.draw(st.integers(1, len(ids) - 1))]
    pieces = streamed(byte, np.concatenate([byte.encode(text), cut]))
    assert "".join(pieces[:-1]) == text
    assert pieces[-1] == "\ufffd"


@laws
@given(tokenizers_and_ids)
def test_the_boundary_decodes_to_nothing_at_any_position(tokenizer_and_ids):
    tokenizer, ids = tokenizer_and_ids
    assert tokenizer.decode([i for i in ids if i != BOUNDARY_ID]) == tokenizer.decode(ids)
    assert tokenizer.token_bytes(BOUNDARY_ID) == b""


# ── JSON ──────────────────────────────────────────────────────────────────────


@laws
@given(any_text.filter(bool), any_text)
def test_a_tokenizer_goes_through_json_and_back_unchanged(training_text, text):
    for tokenizer in (CharTokenizer(training_text), byte):
        again = tokenizer_from_json(json.loads(json.dumps(tokenizer.to_json())))
        assert type(again) is type(tokenizer)
        assert (again.name, again.vocab_size) == (tokenizer.name, tokenizer.vocab_size)
        assert again.encode(text).tolist() == tokenizer.encode(text).tolist()
        assert again.to_json() == tokenizer.to_json()


@pytest.mark.parametrize(
    "values", [{}, {"name": 5}, {"name": "char"}, {"name": "char", "characters": 5}, {"name": "char", "characters": ""}]
)
def test_a_damaged_description_is_refused(values):
    with pytest.raises(TokenizerError):
        tokenizer_from_json(values)


def test_a_description_of_an_unknown_tokenizer_is_refused_by_name():
    with pytest.raises(ChargenError, match="no tokenizer named 'word'"):
        tokenizer_from_json({"name": "word"})


# ── unknown characters ────────────────────────────────────────────────────────


@laws
@given(any_text)
def test_an_unknown_character_is_counted_and_never_read_as_another(text):
    tokenizer = CharTokenizer("aeiou\U0001f600")
    known = [c in "aeiou\U0001f600" for c in text]
    ids = tokenizer.encode(text)
    assert (~tokenizer.is_unknown(ids)).tolist() == known
    assert tokenizer.decode(ids) == "".join(c if k else "\ufffd" for c, k in zip(text, known, strict=True))


@pytest.mark.parametrize("characters", ["a", VIETNAMESE, "\0", "\U0010ffff", "\ud7ff\ue000"])
def test_the_probability_of_the_unknown_id_is_divided_among_exactly_the_unknown_characters(characters):
    tokenizer = CharTokenizer(characters)
    unicode = "".join(map(chr, [*range(0xD800), *range(0xE000, 0x110000)]))
    ids = tokenizer.encode(unicode)
    unknown = tokenizer.is_unknown(ids)
    assert tokenizer.decode(ids[~unknown]) == "".join(sorted(set(characters)))
    share = np.exp(tokenizer.unk_log_prob_nats(ids))
    assert (share[~unknown] == 1.0).all()  # a known character has the probability of its id
    # A million equal summands, each exact to about 1e-15 relative, with what exp() adds to it.
    assert math.isclose(share[unknown].sum(), 1.0, rel_tol=1e-9)


@pytest.mark.parametrize("text", ["", "a", VIETNAMESE])
def test_bytes_have_no_unknown_characters(text):
    ids = byte.encode(text)
    assert byte.is_unknown(ids).tolist() == [False] * len(ids)
    assert byte.unk_log_prob_nats(ids).tolist() == [0.0] * len(ids)


def test_the_special_ids_are_the_boundary_and_the_unknown_id():
    assert char.special_ids() == [BOUNDARY_ID, UNKNOWN_ID]
    assert byte.special_ids() == [BOUNDARY_ID]


# ── lone surrogates ───────────────────────────────────────────────────────────


def test_characters_read_a_lone_surrogate_as_unknown():
    tokenizer = CharTokenizer("ab\udc80")
    assert tokenizer.vocab_size == 4
    assert tokenizer.encode("a\udc80b\ud800").tolist() == [2, UNKNOWN_ID, 3, UNKNOWN_ID]
    assert CharTokenizer("\ud7ff\ue000").encode("\ud800\udfff").tolist() == [UNKNOWN_ID, UNKNOWN_ID]


@pytest.mark.parametrize(("text", "place"), [("\ud800", 1), ("é\udc80b", 2)])
def test_bytes_refuse_a_lone_surrogate_with_its_position(text, place):
    with pytest.raises(CorpusError) as caught:
        byte.encode(text)
    assert caught.value.message == f"the text is not valid UTF-8 at character {place}"
    assert caught.value.hint


# ── building ────────────────────────────────────────────────────────────────


def test_a_text_with_too_many_distinct_characters_is_refused_with_a_hint():
    text = "".join(map(chr, range(0x20, 0x20 + MAX_CHARACTERS)))
    with pytest.raises(TokenizerError, match="30,000 distinct characters") as caught:
        build_tokenizer("char", text)
    assert "--encoding" in caught.value.hint
    assert "byte" in caught.value.hint
    assert build_tokenizer("char", text[2:]).vocab_size == MAX_CHARACTERS


@pytest.mark.parametrize("text", ["", "\ud800"])
def test_a_text_without_characters_gives_no_vocabulary(text):
    with pytest.raises(TokenizerError, match="at least one character"):
        build_tokenizer("char", text)


@pytest.mark.parametrize("spec", ["char:5", "byte:5"])
def test_an_option_that_a_tokenizer_does_not_take_is_refused(spec):
    with pytest.raises(TokenizerError, match="takes no option, but '5' was given"):
        build_tokenizer(spec, "abc")


def test_an_unknown_tokenizer_is_refused_with_the_list():
    with pytest.raises(ConfigError, match="no tokenizer named 'chars'") as caught:
        build_tokenizer("chars", "abc")
    assert caught.value.hint == f"Did you mean 'char'? Known: {', '.join(TOKENIZERS.names())}."


@pytest.mark.parametrize("name", TOKENIZERS.names())
def test_a_tokenizer_is_registered_under_its_own_name(name):
    assert TOKENIZERS.get(name).name == name


def test_a_registered_tokenizer_is_built_and_read_by_its_name(monkeypatch):
    class Reversed(ByteTokenizer):
        name = "reversed"

        def encode(self, text):
            return super().encode(text)[::-1]

    monkeypatch.setattr(TOKENIZERS, "_loaded", dict(TOKENIZERS._loaded))
    TOKENIZERS.register("reversed", Reversed)
    assert build_tokenizer("reversed", "ab").encode("ab").tolist() == [99, 98]
    assert isinstance(tokenizer_from_json({"name": "reversed"}), Reversed)


# ── start of a text ───────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("tokenizer", "start"),
    [(CharTokenizer("a\n"), [2]), (byte, [11]), (CharTokenizer("ab"), [BOUNDARY_ID])],
    ids=["char", "byte", "no newline"],
)
def test_a_text_starts_after_a_newline_or_after_the_boundary_if_the_newline_is_unknown(tokenizer, start):
    assert start_ids(tokenizer).tolist() == start
    assert start_ids(tokenizer).dtype == np.int32
