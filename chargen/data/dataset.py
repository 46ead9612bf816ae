"""Split a corpus into training and validation text and turn both into token ids.

    text   ├────────────── training, 90 % ──────────────┤├ selection ┤├ rest of 1st half ┤├── 2nd half ──┤
                                                           validation during training     final evaluation only

Of a continuous text the end is held out; of documents, some that are chosen at random (`data/held_out.py`).
The best model is selected by its loss on the first validation part. No decision depends on the second half, so its loss
is an unbiased estimate.
"""

from __future__ import annotations

import re
from bisect import bisect_right
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import accumulate
from typing import Any

import numpy as np
from numpy.typing import NDArray

from chargen.config import DataConfig
from chargen.data.held_out import hold_out
from chargen.data.overlap import describe_overlap
from chargen.data.quality import describe_list
from chargen.data.token_store import load_or_encode_ids
from chargen.text.corpus import Corpus
from chargen.text.documents import MARK, NONE, separator, separator_error, split_documents
from chargen.text.long_text import Span, TextPart
from chargen.tokenizers.direction import reverse
from chargen.tokenizers.mulaw import MuLawTokenizer
from chargen.tokenizers.reversed_text import ReversedPart, reverse_span
from chargen.tokenizers.tokenizer import (
    BOUNDARY_ID,
    Ids,
    Tokenizer,
    build_tokenizer,
    encoder,
    start_ids,
    uses_frequencies,
)

MAX_SELECTION_CHARS = 100_000  #: characters of the validation text that are read during training
# Each validated id needs the logits of the whole vocabulary. With thousands of characters this is most of the time, so
# less text is read: these are the maximum numbers of logits (token ids × vocabulary size).
MAX_VAL_LOGITS, MAX_SELECTION_LOGITS = 4e8, 1e8


@dataclass(frozen=True)
class Part:
    """A part of the text as token ids."""

    ids: NDArray[Any]  #: [N]
    num_chars: int


@dataclass(frozen=True)
class ValPart(Part):
    """A part of the validation text."""

    num_bytes: int  #: size in UTF-8


@dataclass(frozen=True)
class Dataset:
    """The training and validation data of a run."""

    tokenizer: Tokenizer
    start_ids: Ids  #: the token ids that a model reads before the first token id of a text
    train_text: TextPart  #: in the order in which the model reads it, like everything below
    val_text: Span
    train: Part
    val: tuple[ValPart, ValPart, ValPart]  #: selection, rest of the first half, second half
    corpus: Corpus
    val_corpus: Corpus | None
    config: DataConfig
    notes: tuple[str, ...] = ()  #: messages for the user about the preparation

    @property
    def ids_per_char(self) -> float:
        """The mean number of token ids per character of the training text."""
        return len(self.train.ids) / self.train.num_chars


def split(corpus: Corpus, val_corpus: Corpus | None, config: DataConfig) -> tuple[TextPart, Span]:
    """Return the training text and the validation text.

    Args:
        corpus: The corpus.
        val_corpus: A separate validation text. None: a part of the corpus is held out, as `config` says.
        config: The data settings; see `hold_out`.

    Raises:
        CorpusError: If the corpus has fewer than two characters, or fewer than two documents.
    """
    if val_corpus is not None:
        return corpus.content.span(), val_corpus.content.span()
    if corpus.lacks_separator:
        raise separator_error(config.documents)
    return hold_out(corpus.content, config)


def prepare_dataset(
    corpus: Corpus, val_corpus: Corpus | None, config: DataConfig, tokenizer: Tokenizer | None = None
) -> Dataset:
    """Split and tokenize a corpus. The training token ids are cached on disk and reused by later runs on the same text.

    Args:
        corpus: The corpus.
        val_corpus: A separate validation text; None holds out a part of `corpus`.
        config: The data settings.
        tokenizer: The tokenizer. None builds the one that `config.tokenizer` names: an alphabet is taken from the
            whole corpus, but subword pieces are trained on the training text only.

    Raises:
        CorpusError: If the text is too short.
        TokenizerError: If no vocabulary can be built from the text.
        StorageError: If the token ids cannot be written.
    """
    train_text, val_text = split(corpus, val_corpus, config)
    if config.is_backward:  # the same characters are held out as for a forward model
        train_text, val_text = ReversedPart(train_text), reverse_span(val_text)
    if tokenizer is None and corpus.quantizer:
        tokenizer = MuLawTokenizer(corpus.quantizer)
    if tokenizer is None:
        vocab_text = train_text if uses_frequencies(config.tokenizer) else corpus.content.span()
        tokenizer = build_tokenizer(config.tokenizer, vocab_text)
    notes = _describe_corpus(corpus, val_corpus, config)
    train = Part(load_or_encode_ids(tokenizer, train_text, notes.append), train_text.num_chars)
    logits_per_char = tokenizer.vocab_size * len(train.ids) / train.num_chars
    # A validation text that the user chose is read completely.
    max_chars = val_text.num_chars if val_corpus else int(MAX_VAL_LOGITS / logits_per_char)
    val = _encode_validation(
        tokenizer, val_text, config.documents, max_chars, int(MAX_SELECTION_LOGITS / logits_per_char)
    )
    return Dataset(
        tokenizer=tokenizer,
        start_ids=start_ids(tokenizer, config.documents),
        train_text=train_text,
        val_text=val_text,
        train=train,
        val=val,
        corpus=corpus,
        val_corpus=val_corpus,
        config=config,
        notes=tuple(notes),
    )


def _describe_corpus(corpus: Corpus, val_corpus: Corpus | None, config: DataConfig) -> list[str]:
    """Return messages about settings that make the model, or what the validation loss says, worse than it could be."""
    notes = []
    if config.documents == NONE and corpus.entropy_nats_per_char is None:
        found = describe_list(corpus.content.span())
        if found:
            notes.append(f"{found}; if each line is a separate item, train with --documents line")
    if val_corpus is not None:
        found = describe_overlap(corpus.content.span(), val_corpus.content.span())
        if found:
            notes.append(found)
    return notes


def _encode_validation(
    tokenizer: Tokenizer, val_text: Span, documents: str, max_chars: int, max_selection_chars: int
) -> tuple[ValPart, ValPart, ValPart]:
    """Cut the validation text into (selection, rest of the first half, second half) and encode the parts.

    No document is split: each part is extended to the end of its last document.

    Args:
        tokenizer: The tokenizer.
        val_text: The validation text.
        documents: The document setting of `DataConfig`.
        max_chars: Maximum number of characters of the three parts together.
        max_selection_chars: Maximum number of characters of the first part.
    """
    text = val_text.read()
    end = min(len(text), max(2, max_chars))
    half = max(1, end // 2)
    cuts = [max(1, min(half, MAX_SELECTION_CHARS, max_selection_chars)), half, end]
    if documents != NONE:
        cuts = [text.find(MARK, cut - 1) + 1 or len(text) for cut in cuts]
    encode = encoder(tokenizer, documents)
    parts = []
    for part in (text[: cuts[0]], text[cuts[0] : cuts[1]], text[cuts[1] : cuts[2]]):
        num_bytes = len(part.replace(MARK, separator(documents)).encode("utf-8", "surrogatepass"))
        parts.append(ValPart(encode(part), len(part), num_bytes))
    return parts[0], parts[1], parts[2]


def split_lines(text: str) -> list[str]:
    """Return the lines of a text, each with its LF, CRLF or CR, so that joining them gives the text back."""
    if "\r" in text:
        return [line for line in re.split("(?<=\n)|(?<=\r)(?!\n)", text) if line]
    lines = text.split("\n")
    return [line + "\n" for line in lines[:-1]] + ([lines[-1]] if lines[-1] else [])


def encode_lines(
    tokenizer: Tokenizer, documents: str, lines: Sequence[str], is_backward: bool = False
) -> tuple[Ids, NDArray[np.int64]]:
    """Encode a text and assign each token id to a line.

    Args:
        tokenizer: The tokenizer of the model.
        documents: The document setting of the model's `DataConfig`; "none" for one continuous text.
        lines: The lines of the text with their newlines, normalized like the training text.
        is_backward: Whether the model reads texts backward.

    Returns:
        The token ids in the order in which the model reads them, [N], and the index of the line that each token id
        belongs to, [N].
    """
    parts = enumerate(lines) if documents == NONE else _document_parts(lines, documents)
    if is_backward:
        parts = _reverse_parts(parts)
    ids = []
    line_numbers = []
    for number, part in parts:
        part_ids = np.array([BOUNDARY_ID], dtype=np.int32) if part == MARK else tokenizer.encode(part)
        ids.append(part_ids)
        line_numbers.append(np.full(len(part_ids), number))
    return np.concatenate(ids), np.concatenate(line_numbers)


def _reverse_parts(parts: Iterable[tuple[int, str]]) -> Iterator[tuple[int, str]]:
    """Yield the parts of each document from its end on, each reversed, and then its MARK."""
    pending: list[tuple[int, str]] = []
    for number, part in parts:
        if part == MARK:
            yield from pending[::-1]
            yield pending[0][0], MARK
            pending = []
        else:
            pending.append((number, reverse(part)))
    yield from pending[::-1]


def _document_parts(lines: Sequence[str], documents: str) -> Iterator[tuple[int, str]]:
    """Yield (line index, text) for each line of each document, and (line index, MARK) at the end of each document."""
    text = "".join(lines)
    line_starts = [0, *accumulate(map(len, lines))]
    offset = 0
    for document in "".join(split_documents([text], documents)).split(MARK)[:-1]:
        offset = text.index(document, offset)  # skips the separator between two documents
        end = offset + len(document)
        number = bisect_right(line_starts, offset) - 1
        while offset < end:
            cut = min(end, line_starts[number + 1])
            yield number, text[offset:cut]
            offset = cut
            number += 1
        yield number - 1, MARK
