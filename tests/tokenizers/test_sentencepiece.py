"""The subword tokenizer: encoding any text and decoding it gives the same text."""

from __future__ import annotations

import base64
import io
import json
import os
import random
from pathlib import Path
from pydoc_data.topics import topics

import numpy as np
import pytest
import sentencepiece
from hypothesis import example, given, settings
from hypothesis import strategies as st

from chargen.errors import ChargenError, CorpusError, TokenizerError
from chargen.tokenizers.sentencepiece import BYTE, USER_DEFINED, SentencePieceTokenizer
from chargen.tokenizers.tokenizer import BOUNDARY_ID, StreamingDecoder, build_tokenizer, start_ids, tokenizer_from_json

VIETNAMESE = "Trăm năm trong cõi người ta,\nChữ tài chữ mệnh khéo là ghét nhau.\n"
TEXT = VIETNAMESE * 20 + "\n".join(topics[name] for name in sorted(topics))[:20_000]
laws = settings(deadline=None)
any_text = st.text(st.characters(exclude_categories=["Cs"]))
#: Strings that a sentencepiece model may change: its marks, its names, spaces, newlines, and unseen characters.
awkward = st.lists(
    st.sampled_from(
        [*"▁ \n\t\r\0▅", "  ", "▁▁", "the", " the", "người", "<0x41>", "<unk>", "<s>", " ⁇ ", "\u2028", "\x85", "\x1c"]
        + ["\u00a0", "\u3000", "e\u0301", "ﬁ①", "中文", "😀", "\ufeff", "\ufffe"]
    )
).map("".join)


@pytest.fixture(scope="module")
def sp():
    return build_tokenizer("sp:500", TEXT)


def train(**settings_) -> bytes:
    """A model trained without chargen."""
    model = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(TEXT.lower().splitlines()),
        model_writer=model,
        **{"vocab_size": 500, "hard_vocab_limit": False, "minloglevel": 2, "num_threads": 1, **settings_},
    )
    return model.getvalue()


LOSSLESS = {
    "byte_fallback": True,
    "normalization_rule_name": "identity",
    "add_dummy_prefix": False,
    "remove_extra_whitespaces": False,
}


# ── decode(encode(x)) == x ────────────────────────────────────────────────────


@laws
@given(text=st.one_of(any_text, awkward))
@example(text="  runs   of  spaces \n\n\n\t\ttabs\r\n")
@example(text="▁a▁ ▁\n▁")
@example(text=TEXT[:300])
def test_pieces_encode_any_text(sp, text):
    ids = sp.encode(text)
    assert sp.decode(ids) == text
    assert b"".join(sp.token_bytes(int(i)) for i in ids) == text.encode()
    assert not sp.is_unknown(ids).any()
    assert (sp.unk_log_prob_nats(ids) == 0).all()


@laws
@given(data=st.data())
def test_streamed_decoding_of_any_pieces_equals_decoding_at_once(sp, data):
    ids = data.draw(st.lists(st.integers(0, sp.vocab_size - 1)))
    decoder = StreamingDecoder(sp)
    pieces = [decoder.feed(i) for i in ids]
    rest = decoder.finish()
    assert "".join(pieces) + rest == sp.decode(ids)
    assert rest in ("", "\ufffd")


@laws
@given(text=st.one_of(any_text, awkward))
def test_a_streamed_text_is_always_a_prefix_of_the_text(sp, text):
    decoder, decoded = StreamingDecoder(sp), ""
    for i in sp.encode(text).tolist():
        decoded += decoder.feed(i)
        assert text.startswith(decoded)
    assert (decoded, decoder.finish()) == (text, "")


@laws
@given(lines=st.lists(awkward))
def test_no_piece_crosses_a_newline(sp, lines):
    whole = sp.encode("\n".join([*lines, ""]))
    parts = [sp.encode(line + "\n") for line in lines]
    assert whole.tolist() == [int(i) for part in parts for i in part]


def test_ids_are_int32_below_the_vocabulary_size_without_the_boundary(sp):
    ids = sp.encode(TEXT + "中文 😀")
    assert (ids.dtype, sp.encode("").dtype) == (np.int32, np.int32)
    assert ids.min() > BOUNDARY_ID
    assert ids.max() < sp.vocab_size
    assert sp.token_bytes(BOUNDARY_ID) == b""
    assert sp.decode([BOUNDARY_ID, *sp.encode("the"), BOUNDARY_ID]) == "the"
    assert sp.special_ids() == [BOUNDARY_ID]


def test_a_lone_surrogate_is_refused_with_its_position(sp):
    with pytest.raises(CorpusError) as caught:
        sp.encode("a \udc80")
    assert caught.value.message == "the text is not valid UTF-8 at character 3"
    with pytest.raises(ChargenError):
        build_tokenizer("sp:500", TEXT + "\udc80")


def test_a_text_starts_after_a_newline(sp):
    assert sp.decode(start_ids(sp)) == "\n"
    assert len(start_ids(sp)) == 1


def test_pieces_are_fewer_than_characters(sp):
    assert len(sp.encode(TEXT)) < len(TEXT) / 1.5
    assert len(sp.encode(" the")) == 1


# ── training a model ──────────────────────────────────────────────────────────────


def test_the_same_text_gives_the_same_model(sp):
    assert build_tokenizer("sp:500", TEXT).to_json() == sp.to_json()
    assert sp.vocab_size <= 501


@pytest.mark.parametrize(
    "words",
    [["moonlight", "frostbite", "headstone"], ["明月光", "地上霜", "举头望"]],
    ids=["one byte a character", "three bytes a character"],
)
def test_pieces_are_learned_from_one_long_line(words):
    draw = random.Random(0)
    line = "".join(draw.choice(words) for _ in range(12_000 // len(words[0])))
    tokenizer = build_tokenizer("sp:300", f"{line}\na b c\n")
    assert len(tokenizer.encode(line)) < len(line) / 2  # pieces of several characters


@pytest.mark.parametrize(
    "text",
    [
        "emma\nolivia\nava\nisabella\nsophia\n" * 20,
        "床前明月光，\n疑是地上霜。\n" * 20,
        "床前明月光，\n疑是地上霜。\n" * 2000 + "a b\n",  # a space, but a rare one
        "".join(map(chr, range(0x4E00, 0x5200))),  # more different characters than the vocabulary has pieces
        "a",
        "▁▅",
        " \n\n\t\r\n",
        "\0\0",
        "",
    ],
    ids=["names", "han", "han and a space", "signs", "one character", "marks", "white space", "NUL", "nothing"],
)
def test_pieces_of_a_text_with_few_words_or_spaces_encode_any_text(text):
    tokenizer = build_tokenizer("sp:290", text)
    for other in (text, text + " và  ▁▅\0", TEXT[:200]):
        assert tokenizer.decode(tokenizer.encode(other)) == other


@pytest.mark.parametrize("size", [0, 1, 100, 256])
def test_a_vocabulary_too_small_for_the_bytes_is_refused_in_two_lines(size):
    with pytest.raises(TokenizerError, match=f"^sentencepiece cannot make {size} pieces? of this text") as caught:
        build_tokenizer(f"sp:{size}", TEXT)
    assert "256 pieces are single bytes" in caught.value.hint
    assert len(str(caught.value).splitlines()) == 2


@pytest.mark.parametrize("size", [10**11, 10**30])
def test_a_vocabulary_too_large_to_be_a_number_of_pieces_is_refused(size):
    with pytest.raises(TokenizerError):
        build_tokenizer(f"sp:{size}", TEXT)


# ── models from elsewhere ─────────────────────────────────────────────────────


@laws
@given(text=st.one_of(any_text, awkward))
def test_a_tokenizer_goes_through_json_and_back_unchanged(sp, text):
    again = tokenizer_from_json(json.loads(json.dumps(sp.to_json())))
    assert (again.name, again.vocab_size) == ("sp", sp.vocab_size)
    assert again.encode(text).tolist() == sp.encode(text).tolist()
    assert again.to_json() == sp.to_json()


def test_a_model_file_is_read(sp, tmp_path):
    path = tmp_path / "mine.model"
    path.write_bytes(base64.b64decode(sp.to_json()["model"]))
    assert build_tokenizer(f"sp:{path}", "other text").encode(TEXT).tolist() == sp.encode(TEXT).tolist()


@pytest.mark.parametrize("model_type", ["unigram", "bpe"])
def test_a_lossless_model_from_elsewhere_is_accepted(tmp_path, model_type):
    path = tmp_path / "other.model"
    path.write_bytes(train(**LOSSLESS, model_type=model_type))
    tokenizer = build_tokenizer(f"sp:{path}", TEXT)
    assert tokenizer.decode(tokenizer.encode(TEXT + " \n▁\0")) == TEXT + " \n▁\0"
    assert len(tokenizer.encode(TEXT)) < len(TEXT)


@pytest.mark.parametrize("model_type", ["unigram", "bpe", "char"])
def test_the_pieces_and_the_algorithm_of_a_model_are_those_of_the_library(model_type):
    model = train(**LOSSLESS, model_type=model_type, user_defined_symbols=["\n", "the"])
    tokenizer, library = SentencePieceTokenizer(model), sentencepiece.SentencePieceProcessor(model_proto=model)
    assert tokenizer.algorithm() == model_type
    pieces = tokenizer.pieces()
    ids = range(library.get_piece_size())
    assert [piece.text for piece in pieces] == [library.id_to_piece(i) for i in ids]
    assert [piece.score for piece in pieces] == [library.get_score(i) for i in ids]
    assert [piece.kind == BYTE for piece in pieces] == [library.is_byte(i) for i in ids]
    assert {piece.text for piece in pieces if piece.kind == USER_DEFINED} == {"\n", "the"}


@pytest.mark.parametrize(
    "change",
    [
        {"byte_fallback": False},
        {"add_dummy_prefix": True},
        {"remove_extra_whitespaces": True},
        {"normalization_rule_name": "nmt_nfkc"},
        {"normalization_rule_name": "nfkc"},
        {"normalization_rule_name": "nfkc_cf"},
        {"byte_fallback": False, "add_dummy_prefix": True, "normalization_rule_name": "nmt_nfkc"},
    ],
    ids=lambda change: ",".join(f"{key}={value}" for key, value in change.items()),
)
def test_the_error_for_a_lossy_model_names_the_necessary_settings(tmp_path, change):
    path = tmp_path / "lossy.model"
    path.write_bytes(train(**{**LOSSLESS, **change}))
    with pytest.raises(TokenizerError) as caught:
        build_tokenizer(f"sp:{path}", "the fox and the dog")
    assert "identity normalisation" in caught.value.hint


@pytest.mark.parametrize("content", [b"", b"no model at all", b"\n\x0e\n\x05<unk>"])
def test_a_file_that_is_not_a_model_is_refused(tmp_path, content):
    path = tmp_path / "x.model"
    path.write_bytes(content)
    with pytest.raises(TokenizerError, match="sentencepiece model"):
        build_tokenizer(f"sp:{path}", TEXT)


@pytest.mark.parametrize("option", ["missing.model", ".", "", "12.5"])
def test_an_option_that_is_neither_a_size_nor_a_file_is_refused(tmp_path, monkeypatch, option):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(TokenizerError, match="neither a vocabulary size nor a sentencepiece model") as caught:
        build_tokenizer(f"sp:{option}", TEXT)
    assert repr(option) in caught.value.message


@pytest.mark.parametrize("model", [None, 5, "", "no base64!", "é", base64.b64encode(b"no model").decode()])
def test_a_damaged_description_is_refused(model):
    with pytest.raises(TokenizerError):
        tokenizer_from_json({"name": "sp"} if model is None else {"name": "sp", "model": model})


@pytest.mark.parametrize("option", ["/dev/zero", "pipe", "folder", "1" + "0" * 30, "99999999", "a\0b", "-5", "²"])
def test_a_vocabulary_needs_a_plausible_size_or_a_regular_file(
    option: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    os.mkfifo("pipe")
    Path("folder").mkdir()
    with pytest.raises(TokenizerError):
        build_tokenizer(f"sp:{option}", "some text\n" * 100)


def test_a_file_that_is_too_large_for_a_vocabulary_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("chargen.tokenizers.sentencepiece.MAX_MODEL_BYTES", 100)
    Path("a.model").write_bytes(bytes(200))
    with pytest.raises(TokenizerError, match="larger than 100 bytes"):
        build_tokenizer("sp:a.model", "some text\n" * 100)
