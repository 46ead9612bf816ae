"""Subword tokenizer: a sentencepiece unigram model (Kudo 2018, arXiv:1804.10959) that is lossless.

The id of a piece is its sentencepiece id + 1. Lossless means: no normalisation, no space added before the text, runs of
spaces kept, newline and tab as pieces of their own, and byte pieces for all other characters. One problem
remains: the library writes a space as '▁' (U+2581) and cannot tell it from that character. So this character is encoded
as its three bytes.

A model file is checked before the library reads it. The library is written in C++ and trusts the file: versions before
0.2.1 follow offsets of the normalisation table outside of it. So this module first walks through the file, without
building anything, and refuses all that a lossless tokenizer does not need. The file is a Protocol Buffers message:

    ModelProto  1 pieces (repeated)   2 trainer spec   3 normalizer spec   4 self-test data   5 denormalizer spec
    a field     varint (number << 3 | type), then a varint (type 0), 8 bytes (1), a length and bytes (2) or 4 bytes (5)
"""

from __future__ import annotations

import base64
import io
import math
import re
import struct
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import sentencepiece as spm

from chargen.errors import TokenizerError
from chargen.registry import did_you_mean_file
from chargen.schema import format_count
from chargen.text.cleaning import check_unicode
from chargen.text.documents import MARK
from chargen.text.limits import open_regular
from chargen.text.parquet import read_varint
from chargen.tokenizers.tokenizer import Ids, Tokenizer

if TYPE_CHECKING:
    from chargen.text.long_text import TextPart

SPACE_MARK = "▁"
MAX_TRAINING_LINE_CHARS = 4000  #: longer lines are cut, because the trainer ignores them
SAMPLE_CHARS, MAX_SAMPLES = 1_000_000, 32  #: size and number of the samples of a long text on which pieces are trained
PROBE = " \n\t  ▁Ae\u0300\U0001f600\ufb01\u2460"  #: contains what normalisations change
CHECKED_CHARS = 100_000  #: characters of the text on which a new tokenizer is tested
MAX_VOCAB_SIZE = 1_000_000  #: the largest published models have 256,000 pieces
RESERVED_PIECES = 256 + 3 + 1  #: bytes; newline, tab and the library's unknown piece; the space
HOW_TO_SIZE = "Give a size or a file: --tokenizer sp:1000 or --tokenizer sp:FILE.model."
HOW_TO_MAKE_ONE = (
    "Let chargen train one (--tokenizer sp:1000), or set byte_fallback, identity normalisation and no dummy prefix."
)


class Piece(NamedTuple):
    """A piece of a sentencepiece model."""

    text: str  #: a space is written as SPACE_MARK, a byte as "<0x0A>"
    score: float
    kind: int  #: NORMAL, USER_DEFINED, BYTE, or another kind, with which texts are never encoded


class SentencePieceTokenizer(Tokenizer):
    """Encodes a text as pieces of a sentencepiece model, which is given as the bytes of its file."""

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
        self._space_mark_ids = [byte_ids.get(b, 0) for b in SPACE_MARK.encode()]
        if len(byte_ids) < 256:
            raise TokenizerError(
                "the sentencepiece model has no byte fallback: it cannot encode every text", HOW_TO_MAKE_ONE
            )

    @classmethod
    def build(cls, text: TextPart, option: str) -> SentencePieceTokenizer:
        """Train a model on the text, or read one from a file.

        Args:
            text: The training text.
            option: The vocabulary size, or the path of a model file.

        Raises:
            TokenizerError: If the size is too large, the file cannot be used, or the model is not lossless.
        """
        if option.isdecimal() and option.isascii():
            size = int(option) if len(option) <= 9 else MAX_VOCAB_SIZE + 1
            if size > MAX_VOCAB_SIZE:
                raise TokenizerError(
                    f"the vocabulary size of sp:{option[:20]} is more than {MAX_VOCAB_SIZE:,}", HOW_TO_SIZE
                )
            tokenizer = cls(_train(text, size))
        else:
            tokenizer = cls._read(option)
        start = text.read(0, CHECKED_CHARS)
        start = start.replace(MARK, "\n") if text.text.has_documents else start
        if not tokenizer._is_lossless_for(start + PROBE):
            raise TokenizerError(f"the sentencepiece model {option!r} changes this text", HOW_TO_MAKE_ONE)
        return tokenizer

    def _is_lossless_for(self, text: str) -> bool:
        try:
            return self.decode(self.encode(text)) == text
        except (RuntimeError, ValueError, IndexError) as error:
            raise TokenizerError(f"the sentencepiece model cannot encode a text ({error})") from error

    @classmethod
    def _read(cls, path: str) -> SentencePieceTokenizer:
        try:
            with open_regular(path) as file:
                model = file.read(MAX_MODEL_BYTES + 1)
        except (OSError, ValueError) as error:  # ValueError: the path contains a NUL
            raise TokenizerError(
                f"{path!r} is neither a vocabulary size nor a sentencepiece model "
                f"({getattr(error, 'strerror', None) or error})",
                f"{did_you_mean_file(path, suffix='.model')} {HOW_TO_SIZE}".strip(),
            ) from error
        return cls(model)

    def encode(self, text: str) -> Ids:
        """Return the token ids of the text's pieces, int32 [N].

        Raises:
            CorpusError: If the text contains a lone surrogate.
        """
        check_unicode(text, "the text")
        ids: list[int] = []
        # Line by line: no piece crosses a newline, and the library never builds one lattice for a long text.
        for line in text.splitlines(keepends=True) or [""]:
            for i, part in enumerate(line.split(SPACE_MARK)):
                if i:
                    ids.extend(self._space_mark_ids)
                ids.extend(1 + piece for piece in self._sp.encode(part))
        return np.array(ids, dtype=np.int32)

    def masked_ids(self, documents: bool) -> list[int]:
        """Return the token ids that cannot occur in a text: also <unk> and the control pieces, which have no text."""
        return [*super().masked_ids(documents), *self._empty_ids]

    def token_bytes(self, token_id: int) -> bytes:
        """Return the UTF-8 of a piece; b"" for the boundary, <unk> and control pieces."""
        return self._bytes[token_id]

    def pieces(self) -> list[Piece]:
        """Return all pieces, in the order of their token ids, which start with 1."""
        fields = _read_fields(self._model, 0, len(self._model))
        return [_read_piece(self._model, field) for field in fields if field.number == PIECE]

    def algorithm(self) -> str:
        """Return how the model encodes a text: "unigram", "bpe" (byte-pair encoding), "word" or "char"."""
        number = UNIGRAM
        for field in _read_fields(self._model, _skip_short_pieces(self._model)[1], len(self._model)):
            if (field.number, field.kind) == (TRAINER, BYTES):
                number = _read_numbers(self._model, field).get(MODEL_TYPE, UNIGRAM)
        return ALGORITHMS.get(number, "unknown")

    def to_json(self) -> dict[str, Any]:
        """Return the description that `from_json` reads: the name, and the model file in base64."""
        return {"name": self.name, "model": base64.b64encode(self._model).decode("ascii")}

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> SentencePieceTokenizer:
        """Return the tokenizer that `to_json` described.

        Raises:
            TokenizerError: If there is no model, it is not base64, it is damaged, or it is not lossless.
        """
        model = values.get("model")
        if not isinstance(model, str):
            raise TokenizerError("the description of the sp tokenizer has no model")
        try:
            decoded = base64.b64decode(model, validate=True)
        except ValueError as error:
            raise TokenizerError(f"the model of the sp tokenizer is not base64 ({error})") from error
        tokenizer = cls(decoded)
        if not (tokenizer._is_lossless_for(PROBE) and tokenizer._is_lossless_for("\n")):
            raise TokenizerError("the sentencepiece model changes the text that it encodes", HOW_TO_MAKE_ONE)
        return tokenizer

    def _piece_bytes(self, piece: int) -> bytes:
        text: str = self._sp.id_to_piece(piece)
        if self._sp.is_byte(piece):
            return bytes([int(text[1:-1], 16)])  # "<0x0A>"
        if self._sp.is_control(piece) or self._sp.is_unknown(piece):
            return b""
        return text.replace(SPACE_MARK, " ").encode("utf-8")


def _train(text: TextPart, vocab_size: int) -> bytes:
    """Train a unigram model of at most `vocab_size` pieces and return the bytes of its file."""
    model = io.BytesIO()
    try:
        spm.SentencePieceTrainer.train(
            sentence_iterator=_training_lines(text, vocab_size - RESERVED_PIECES),
            model_writer=model,
            model_type="unigram",
            vocab_size=vocab_size,
            hard_vocab_limit=False,  # a small text gives fewer pieces instead of an error
            byte_fallback=True,
            normalization_rule_name="identity",
            add_dummy_prefix=False,
            remove_extra_whitespaces=False,
            allow_whitespace_only_pieces=True,
            character_coverage=1.0,
            required_chars=SPACE_MARK,  # even if the text has no space, a prompt can have one
            user_defined_symbols=["\n", "\t"],
            bos_id=-1,
            eos_id=-1,
            pad_id=-1,
            minloglevel=2,
            max_sentence_length=4 * MAX_TRAINING_LINE_CHARS,  # in bytes
            num_threads=1,  # so that the same text gives the same pieces
        )
    except (RuntimeError, OSError, ValueError, TypeError, OverflowError) as error:
        reason = str(error).strip().rpartition("] ")[2] or "no reason given"
        raise TokenizerError(
            f"sentencepiece cannot make {format_count(vocab_size, 'piece')} of this text ({reason})",
            "256 pieces are single bytes: choose a larger size, or use --tokenizer byte or char.",
        ) from error
    return model.getvalue()


def _training_lines(text: TextPart, num_pieces: int) -> Iterator[str]:
    """Yield the lines to train on, without the characters that are too rare for a vocabulary of this size.

    Rare characters are encoded as bytes, so that 1,000 pieces are enough for a text of 5,000 different characters.

    Args:
        text: The training text.
        num_pieces: Number of pieces without the reserved ones. At most three quarters of them are single characters.
    """
    counts = np.pad(text.counts(), (0, ord(SPACE_MARK) + 1))
    counts[ord(" ")] += counts[ord(SPACE_MARK)]
    counts[ord(SPACE_MARK)] = 0
    common = np.argsort(-counts, kind="stable")[: max(1, num_pieces * 3 // 4)]
    counts[common] = 0
    rare = "".join(map(chr, np.flatnonzero(counts)))
    separators = re.compile(f"[{re.escape(rare)}\n\t{MARK}]")
    yield " "  # the only line of a text in which every character is rare
    for sample in _sample_text(text):
        for line in separators.split(sample.replace(SPACE_MARK, " ")):
            for begin in range(0, len(line), MAX_TRAINING_LINE_CHARS):
                yield line[begin : begin + MAX_TRAINING_LINE_CHARS]


def _sample_text(text: TextPart) -> Iterator[str]:
    """Yield the whole text, or MAX_SAMPLES samples at even distances from a long one."""
    num_samples = min(MAX_SAMPLES, -(-text.num_chars // SAMPLE_CHARS))
    for k in range(num_samples):
        begin = k * text.num_chars // num_samples
        yield text.read(begin, min(begin + SAMPLE_CHARS, (k + 1) * text.num_chars // num_samples))


# ── check of a model file ─────────────────────────────────────────────────────

MAX_MODEL_BYTES = 1 << 24  #: 256,000 pieces take 5 MB
MAX_PIECES = 1 << 20
MAX_PIECE_BYTES = 1 << 12  #: size limit of a piece with its score and its type
MAX_SPEC_BYTES = 1 << 20  #: size limit of every other field, such as the trainer spec with its required characters
PIECE, TRAINER, NORMALIZER, SELF_TEST, DENORMALIZER = 1, 2, 3, 4, 5  #: field numbers of a ModelProto
NORMALIZER_TABLE, NORMALIZER_RULES = 2, 6  #: field numbers of a normalizer spec
BAD_SCORE = re.compile(rb"\x15..[\x80-\xff][\x7f\xff]", re.DOTALL)  #: field 2, a float32 whose exponent bits are all 1
SHORT_PIECE = PIECE << 3 | 2  #: first byte of a piece
VARINT, EIGHT_BYTES, BYTES, FOUR_BYTES = 0, 1, 2, 5  #: types of fields


MODEL_TYPE, UNIGRAM = 3, 1  #: field number in a trainer spec, and its default value
ALGORITHMS = {1: "unigram", 2: "bpe", 3: "word", 4: "char"}  #: the values of MODEL_TYPE
PIECE_TEXT, PIECE_SCORE, PIECE_KIND = 1, 2, 3  #: field numbers of a piece
NORMAL, USER_DEFINED, BYTE = 1, 4, 6  #: kinds of pieces; NORMAL is the default


class _Field(NamedTuple):
    """A field of a Protocol Buffers message: its number, its type, and where its content begins and ends."""

    number: int
    kind: int
    begin: int
    end: int


def check_model_file(model: bytes) -> None:
    """Check the structure of a sentencepiece model.

    Raises:
        TokenizerError: If the model is damaged, is too large, or normalises text.
    """
    if len(model) > MAX_MODEL_BYTES:
        raise TokenizerError(f"the sentencepiece model is larger than {MAX_MODEL_BYTES:,} bytes")
    num_pieces, position = _skip_short_pieces(model)
    for field in _read_fields(model, position, len(model)):
        size = field.end - field.begin
        if field.number == PIECE:
            num_pieces += 1
            if field.kind != BYTES or size > MAX_PIECE_BYTES:
                raise TokenizerError(f"piece {num_pieces:,} of the sentencepiece model has {size:,} bytes")
        elif field.number in (NORMALIZER, DENORMALIZER) and field.kind == BYTES:
            _check_normalizer(model, field)
        elif size > MAX_SPEC_BYTES or (field.number == SELF_TEST and size > 0):
            raise TokenizerError(f"the sentencepiece model has {size:,} bytes of data besides its pieces")
    if position > len(model):
        raise TokenizerError("the sentencepiece model is damaged: it ends too early")
    if not 0 < num_pieces <= MAX_PIECES:
        raise TokenizerError(f"the sentencepiece model has {num_pieces:,} pieces, but must have 1 to {MAX_PIECES:,}")


def may_have_bad_score(model: bytes) -> bool:
    """Return whether a piece may have a score that is not a finite number.

    This search is faster than to read every score from the library.
    """
    return BAD_SCORE.search(model) is not None


def _skip_short_pieces(model: bytes) -> tuple[int, int]:
    """Return the number of pieces under 128 bytes at the start of the file, and the position after them.

    These are nearly all of the file. This loop is four times as fast as `_read_fields`, which takes 20 ms for 32,000
    pieces.
    """
    num_pieces = position = 0
    last = len(model) - 2
    while position <= last and model[position] == SHORT_PIECE and model[position + 1] < 0x80:
        position += 2 + model[position + 1]
        num_pieces += 1
    return num_pieces, position


def _check_normalizer(model: bytes, normalizer: _Field) -> None:
    for field in _read_fields(model, normalizer.begin, normalizer.end):
        if field.number in (NORMALIZER_TABLE, NORMALIZER_RULES) and field.end > field.begin:
            raise TokenizerError("the sentencepiece model normalises text, so it is not lossless", HOW_TO_MAKE_ONE)


def _read_piece(model: bytes, field: _Field) -> Piece:
    text, score = "", 0.0
    for inner in _read_fields(model, field.begin, field.end):
        if inner.number == PIECE_TEXT:
            text = model[inner.begin : inner.end].decode("utf-8", "replace")
        elif inner.number == PIECE_SCORE and inner.kind == FOUR_BYTES:
            (score,) = struct.unpack_from("<f", model, inner.begin)
    return Piece(text, score, _read_numbers(model, field).get(PIECE_KIND, NORMAL))


def _read_numbers(model: bytes, message: _Field) -> dict[int, int]:
    """Return the whole numbers of a message by the number of their field."""
    fields = _read_fields(model, message.begin, message.end)
    return {each.number: _read_varint(model, each.begin, each.end)[0] for each in fields if each.kind == VARINT}


def _read_fields(model: bytes, position: int, end: int) -> Iterator[_Field]:
    """Yield the fields of the message from a position to its end."""
    while position < end:
        key, position = _read_varint(model, position, end)
        number, kind = key >> 3, key & 7
        if kind == BYTES:
            size, position = _read_varint(model, position, end)
        elif kind == VARINT:
            size = _read_varint(model, position, end)[1] - position
        elif kind in (EIGHT_BYTES, FOUR_BYTES):
            size = 8 if kind == EIGHT_BYTES else 4
        else:
            raise TokenizerError(f"the sentencepiece model is damaged at byte {position:,}")
        if size > end - position:
            raise TokenizerError(f"the sentencepiece model is damaged at byte {position:,}: it ends too early")
        yield _Field(number, kind, position, position + size)
        position += size


def _read_varint(model: bytes, position: int, end: int) -> tuple[int, int]:
    """Return the number at a position, and the position after it, which is at most `end`."""
    try:
        value, after = read_varint(model, position)
    except (IndexError, EOFError):
        after = end + 1
    if after > end:
        raise TokenizerError(f"the sentencepiece model is damaged at byte {position:,}: a number does not end")
    return value, after
