"""Pieces of words, by a sentencepiece unigram model (Kudo 2018, arXiv 1804.10959), made lossless.

A piece of the model is its sentencepiece id + 1. Lossless means: no normalisation, no space put before the text, runs
of spaces kept, newline and tab pieces of their own, and bytes for whatever else the model has not seen. One trap is
left, that the library writes a space as '▁' (U+2581) and cannot tell it from that character: it is spelled in bytes.

Checks a sentencepiece model before the library reads it.

The library is written in C++, and a hostile model is read there by code that trusts it: earlier versions follow offsets
of the normalisation table outside of it (fixed in 0.2.1). So the file is walked here first, without building anything,
and refused if it holds what a lossless tokenizer has no use for.

    ModelProto  1 pieces (repeated)   2 trainer spec   3 normalizer spec   4 self-test data   5 denormalizer spec
    a field     varint (number << 3 | type), then a varint (type 0), 8 bytes (1), a length and bytes (2) or 4 bytes (5)
"""

from __future__ import annotations

import base64
import io
import math
import re
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import sentencepiece as spm

from chargen.errors import TokenizerError
from chargen.text.cleaning import check_unicode
from chargen.text.documents import MARK
from chargen.text.limits import open_regular
from chargen.text.long_text import Span
from chargen.tokenizers.tokenizer import Ids, Tokenizer

SPACE_MARK = "▁"
LONGEST_TRAINING_LINE = 4000  #: characters; the trainer leaves out longer ones, so they are cut
STRETCH, MAX_STRETCHES = 1_000_000, 32  #: characters, and how many such are read to learn pieces from
PROBE = " \n\t  ▁Ae\u0300\U0001f600\ufb01\u2460"  #: holds what normalisations change
MAX_VOCAB_SIZE = 1_000_000  #: largest published models: 256,000 pieces
HOW_TO_SIZE = "Say --tokenizer sp:1000 or --tokenizer sp:FILE.model."
RESERVED_PIECES = 256 + 3 + 1  #: bytes; newline, tab and the library's unknown; the space


class SentencePieceTokenizer(Tokenizer):
    """Text ⇄ the pieces of a sentencepiece model, given as its file's bytes."""

    name = "sp"
    uses_frequencies = True

    def __init__(self, model: bytes) -> None:
        self._model = model
        check_model_file(model)
        try:
            self._sp = spm.SentencePieceProcessor(model_proto=model)
            size = self._sp.get_piece_size()
            self._bytes = [b"", *(self._piece_bytes(i) for i in range(size))]
        except (RuntimeError, ValueError, IndexError, OverflowError) as error:
            raise TokenizerError(f"this is not a sentencepiece model ({error})") from error
        self.vocab_size = 1 + size
        if may_have_bad_score(model) and not all(map(math.isfinite, map(self._sp.get_score, range(size)))):
            raise TokenizerError("a piece of the sentencepiece model has a score that is not a finite number")
        self._empty_ids = [i for i in range(1, self.vocab_size) if not self._bytes[i]]  # <unk>, control pieces
        byte_ids = {self._bytes[1 + i][0]: 1 + i for i in range(size) if self._sp.is_byte(i)}
        self._mark_ids = [byte_ids.get(b, 0) for b in SPACE_MARK.encode()]
        if len(byte_ids) < 256:
            raise TokenizerError(
                "the sentencepiece model has no byte fallback: it cannot hold every text", HOW_TO_MAKE_ONE
            )

    @classmethod
    def build(cls, text: Span, option: str) -> SentencePieceTokenizer:
        if option.isdecimal() and option.isascii():
            size = int(option) if len(option) <= 9 else MAX_VOCAB_SIZE + 1
            if size > MAX_VOCAB_SIZE:
                raise TokenizerError(f"sp:{option[:20]} asks for more pieces than {MAX_VOCAB_SIZE:,}", HOW_TO_SIZE)
            tokenizer = cls(_train(text, size))
        else:
            tokenizer = cls._read(option)
        begin = text.read(0, 100_000)
        begin = begin.replace(MARK, "\n") if text.text.documents else begin
        if not tokenizer._keeps(begin + PROBE):
            raise TokenizerError(
                f"the sentencepiece model {option!r} does not keep this text as it is", HOW_TO_MAKE_ONE
            )
        return tokenizer

    def _keeps(self, text: str) -> bool:
        try:
            return self.decode(self.encode(text)) == text
        except (RuntimeError, ValueError, IndexError) as error:
            raise TokenizerError(f"the sentencepiece model cannot encode a text ({error})") from error

    @classmethod
    def _read(cls, path: str) -> SentencePieceTokenizer:
        try:
            with open_regular(path) as file:
                model = file.read(MAX_MODEL_BYTES + 1)
        except (OSError, ValueError) as error:  # ValueError: a NUL in a path
            raise TokenizerError(
                f"{path!r} is neither a vocabulary's size nor a sentencepiece model "
                f"({getattr(error, 'strerror', None) or error})",
                HOW_TO_SIZE,
            ) from error
        return cls(model)

    def encode(self, text: str) -> Ids:
        check_unicode(text, "the text")
        ids: list[int] = []
        # Line by line: no piece crosses a newline, and a long text is never one lattice.
        for line in text.splitlines(keepends=True) or [""]:
            for i, part in enumerate(line.split(SPACE_MARK)):
                if i:
                    ids.extend(self._mark_ids)
                ids.extend(1 + piece for piece in self._sp.encode(part))
        return np.array(ids, dtype=np.int32)

    def masked_ids(self, documents: bool) -> list[int]:
        return [*super().masked_ids(documents), *self._empty_ids]

    def token_bytes(self, token_id: int) -> bytes:
        return self._bytes[token_id]

    def to_json(self) -> dict[str, Any]:
        return {"name": self.name, "model": base64.b64encode(self._model).decode("ascii")}

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> SentencePieceTokenizer:
        model = values.get("model")
        if not isinstance(model, str):
            raise TokenizerError("the description of the sp tokenizer has no model")
        try:
            decoded = base64.b64decode(model, validate=True)
        except ValueError as error:
            raise TokenizerError(f"the model of the sp tokenizer is not base64 ({error})") from error
        made = cls(decoded)
        if not (made._keeps(PROBE) and made._keeps("\n")):
            raise TokenizerError("the sentencepiece model does not keep a text as it is", HOW_TO_MAKE_ONE)
        return made

    def _piece_bytes(self, piece: int) -> bytes:
        text: str = self._sp.id_to_piece(piece)
        if self._sp.is_byte(piece):
            return bytes([int(text[1:-1], 16)])  # "<0x0A>"
        if self._sp.is_control(piece) or self._sp.is_unknown(piece):
            return b""
        return text.replace(SPACE_MARK, " ").encode("utf-8")


def _train(text: Span, vocab_size: int) -> bytes:
    """Train a unigram model of at most `vocab_size` pieces and return its file's bytes."""
    model = io.BytesIO()
    try:
        spm.SentencePieceTrainer.train(
            sentence_iterator=_training_lines(text, vocab_size - RESERVED_PIECES),
            model_writer=model,
            model_type="unigram",
            vocab_size=vocab_size,
            hard_vocab_limit=False,  # a small text gives fewer pieces rather than an error
            byte_fallback=True,
            normalization_rule_name="identity",
            add_dummy_prefix=False,
            remove_extra_whitespaces=False,
            allow_whitespace_only_pieces=True,
            character_coverage=1.0,
            required_chars=SPACE_MARK,  # also where the text has no space: a prompt may
            user_defined_symbols=["\n", "\t"],
            bos_id=-1,
            eos_id=-1,
            pad_id=-1,
            minloglevel=2,
            max_sentence_length=4 * LONGEST_TRAINING_LINE,  # in bytes
            num_threads=1,  # the same text gives the same pieces
        )
    except (RuntimeError, OSError, ValueError, TypeError, OverflowError) as error:
        reason = str(error).strip().rpartition("] ")[2] or "no reason given"
        raise TokenizerError(
            f"sentencepiece cannot make {vocab_size:,} pieces of this text ({reason})",
            "256 pieces are single bytes: ask for more, or use --tokenizer byte or char.",
        ) from error
    return model.getvalue()


def _training_lines(text: Span, room: int) -> Iterator[str]:
    """Yield the text in pieces without the characters that are too rare for a vocabulary with this much room.

    Those are spelled in bytes, so that 1,000 pieces do for a text of 5,000 different characters.
    """
    counts = np.pad(text.counts(), (0, ord(SPACE_MARK) + 1))
    counts[ord(" ")] += counts[ord(SPACE_MARK)]
    counts[ord(SPACE_MARK)] = 0
    common = np.argsort(-counts, kind="stable")[: max(1, room * 3 // 4)]
    counts[common] = 0
    rare = "".join(map(chr, np.flatnonzero(counts)))
    cut = re.compile(f"[{re.escape(rare)}\n\t{MARK}]")
    yield " "  # a text of rare characters alone has no other line
    for piece in _spread(text):
        for line in cut.split(piece.replace(SPACE_MARK, " ")):
            for start in range(0, len(line), LONGEST_TRAINING_LINE):
                yield line[start : start + LONGEST_TRAINING_LINE]


def _spread(text: Span) -> Iterator[str]:
    """Yield a text, or of a long one stretches at even distances that a vocabulary is learned from."""
    count = min(MAX_STRETCHES, -(-text.num_chars // STRETCH))
    for k in range(count):
        begin = k * text.num_chars // count
        yield text.read(begin, min(begin + STRETCH, (k + 1) * text.num_chars // count))


HOW_TO_MAKE_ONE = (
    "Let chargen train one (--tokenizer sp:1000), or set byte_fallback, identity normalisation and no dummy prefix."
)
MAX_MODEL_BYTES = 1 << 24  #: 256,000 pieces take 5 MB
MAX_PIECES = 1 << 20
MAX_PIECE_BYTES = 1 << 12  #: of a piece with its score and its type
MAX_SPEC_BYTES = 1 << 20  #: of how it was trained, required characters and its own symbols included
PIECE, TRAINER, NORMALIZER, SELF_TEST, DENORMALIZER = 1, 2, 3, 4, 5
NORMALIZER_TABLE, NORMALIZER_RULES = 2, 6  #: fields of a normalizer spec
BAD_SCORE = re.compile(rb"\x15..[\x80-\xff][\x7f\xff]", re.DOTALL)  #: field 2, a float32 of only ones in its exponent
SHORT_PIECE = PIECE << 3 | 2  #: how a piece's field begins
VARINT, EIGHT_BYTES, BYTES, FOUR_BYTES = 0, 1, 2, 5  #: types of fields


def check_model_file(model: bytes) -> None:
    """Check the structure of a sentencepiece model.

    Raises:
        TokenizerError: it is damaged, too large, or normalises text.
    """
    if len(model) > MAX_MODEL_BYTES:
        raise TokenizerError(f"the sentencepiece model is larger than {MAX_MODEL_BYTES:,} bytes")
    num_pieces, place = _short_pieces(model)
    for number, kind, begin, end in _fields(model, place, len(model)):
        if number == PIECE:
            num_pieces += 1
            if kind != BYTES or end - begin > MAX_PIECE_BYTES:
                raise TokenizerError(f"piece {num_pieces:,} of the sentencepiece model has {end - begin:,} bytes")
        elif number in (NORMALIZER, DENORMALIZER) and kind == BYTES:
            _check_normalizer(model, begin, end)
        elif end - begin > MAX_SPEC_BYTES or (number == SELF_TEST and end > begin):
            raise TokenizerError(f"the sentencepiece model has {end - begin:,} bytes of data besides its pieces")
    if place > len(model):
        raise TokenizerError("the sentencepiece model is damaged: it ends too early")
    if not 0 < num_pieces <= MAX_PIECES:
        raise TokenizerError(f"the sentencepiece model has {num_pieces:,} pieces, but must have 1 to {MAX_PIECES:,}")


def may_have_bad_score(model: bytes) -> bool:
    """Tell whether a piece may have a score that is not a finite number; to ask the library for each takes longer."""
    return BAD_SCORE.search(model) is not None


def _short_pieces(model: bytes) -> tuple[int, int]:
    """Return (how many pieces of under 128 bytes the file begins with, where they end): nearly all that there is.

    It is four times as fast as `_fields`, which a file of 32,000 pieces would keep busy for 20 ms.
    """
    num_pieces = place = 0
    last = len(model) - 2
    while place <= last and model[place] == SHORT_PIECE and model[place + 1] < 0x80:
        place += 2 + model[place + 1]
        num_pieces += 1
    return num_pieces, place


def _check_normalizer(model: bytes, begin: int, end: int) -> None:
    for number, _, field_begin, field_end in _fields(model, begin, end):
        if number in (NORMALIZER_TABLE, NORMALIZER_RULES) and field_end > field_begin:
            raise TokenizerError(
                "the sentencepiece model normalises text, so it cannot keep it as it is", HOW_TO_MAKE_ONE
            )


def _fields(model: bytes, begin: int, end: int) -> Iterator[tuple[int, int, int, int]]:
    """Yield each field between two places as (number, type, where its content begins, where it ends)."""
    place = begin
    while place < end:
        key, place = _varint(model, place, end)
        number, kind = key >> 3, key & 7
        if kind == BYTES:
            size, place = _varint(model, place, end)
        elif kind == VARINT:
            size = _varint(model, place, end)[1] - place
        elif kind in (EIGHT_BYTES, FOUR_BYTES):
            size = 8 if kind == EIGHT_BYTES else 4
        else:
            raise TokenizerError(f"the sentencepiece model is damaged at byte {place:,}")
        if size > end - place:
            raise TokenizerError(f"the sentencepiece model is damaged at byte {place:,}: it ends too early")
        yield number, kind, place, place + size
        place += size


def _varint(model: bytes, place: int, end: int) -> tuple[int, int]:
    """Return (a whole number of up to 64 bits, where what follows it begins)."""
    value = 0
    for shift in range(0, 64, 7):
        if place >= end:
            break
        byte = model[place]
        place += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, place
    raise TokenizerError(f"the sentencepiece model is damaged at byte {place:,}: a number does not end")
