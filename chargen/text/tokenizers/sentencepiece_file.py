"""Checks a sentencepiece model before the library reads it.

The library is written in C++, and a hostile model is read there by code that trusts it: earlier versions follow offsets
of the normalisation table outside of it (fixed in 0.2.1). So the file is walked here first, without building anything,
and refused if it holds what a lossless tokenizer has no use for.

    ModelProto  1 pieces (repeated)   2 trainer spec   3 normalizer spec   4 self-test data   5 denormalizer spec
    a field     varint (number << 3 | type), then a varint (type 0), 8 bytes (1), a length and bytes (2) or 4 bytes (5)
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from chargen.errors import TokenizerError

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
        raise TokenizerError(f"the sentencepiece model has {len(model):,} bytes, more than {MAX_MODEL_BYTES:,}")
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
