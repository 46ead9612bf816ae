"""Text → ids on disk, split into what is learned from and what is held out.

    text   ├────────────── training, 90 % ──────────────┤├ choice ┤├ rest of 1st half ┤├── 2nd half ──┤
                                                          looked at while training      never looked at

The best model is chosen on the first of the validation parts, so the second half stays a number that no choice saw.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import accumulate
from typing import Any

import numpy as np
from numpy.typing import NDArray

from chargen.config import DataConfig
from chargen.data.token_store import stored_ids
from chargen.errors import CorpusError
from chargen.text.corpus import Corpus
from chargen.text.documents import MARK, NONE, separator, split_documents
from chargen.text.long_text import LongText, Span
from chargen.tokenizers.tokenizer import (
    BOUNDARY_ID,
    Ids,
    Tokenizer,
    build_tokenizer,
    encoder,
    start_ids,
    uses_frequencies,
)

MAX_MEASURED_CHARS = 200_000  #: of what is held out of a corpus: more would take too long at the end of a run
MAX_CHOICE_CHARS = 100_000  #: of the validation text that is looked at while training
# A look takes the whole vocabulary, which of thousands of characters is most of its time: of such a text less is read.
MAX_MEASURED_LOGITS, MAX_CHOICE_LOGITS = 4e8, 1e8


@dataclass(frozen=True)
class Part:
    """A stretch of text as ids, and how many characters it has."""

    ids: NDArray[Any]
    num_chars: int


@dataclass(frozen=True)
class ValPart(Part):
    """A part of what is held out."""

    num_bytes: int  #: in UTF-8


@dataclass(frozen=True)
class Dataset:
    """What a network learns from and is measured on."""

    tokenizer: Tokenizer
    start: Ids  #: what a text begins after
    train: Part
    val: tuple[ValPart, ValPart, ValPart]  #: choice, rest of the first half, second half
    corpus: Corpus
    val_corpus: Corpus | None
    config: DataConfig
    notes: tuple[str, ...] = ()  #: what a person should know of how it was made

    @property
    def ids_per_char(self) -> float:
        return len(self.train.ids) / self.train.num_chars


def split(corpus: Corpus, val_corpus: Corpus | None, val_fraction: float) -> tuple[Span, Span]:
    """Return (training text, validation text): the beginning of what is held out of the corpus, or a text of its own.

    Raises:
        CorpusError: the corpus has fewer than two characters.
    """
    if val_corpus is not None:
        return corpus.content.span(), val_corpus.content.span()
    N = corpus.num_chars
    if N < 2:
        raise CorpusError(
            f"the corpus has {N} character, but one to learn from and one to check on are the least there can be",
            "Give a longer text; a few thousand characters begin to be worth it.",
        )
    begin = min(N - 1, max(1, int(N * (1 - val_fraction))))
    if corpus.content.has_documents:
        begin = _document_begin(corpus.content, begin)
    return corpus.content.span(0, begin), corpus.content.span(begin, min(N, begin + MAX_MEASURED_CHARS))


def prepare_dataset(
    corpus: Corpus, val_corpus: Corpus | None, config: DataConfig, tokenizer: Tokenizer | None = None
) -> Dataset:
    """Split, tokenize, and put the training ids on disk, where an earlier run of the same text may have put them.

    Args:
        corpus: what to learn from.
        val_corpus: what to measure on; a part of `corpus` if None.
        config: how.
        tokenizer: the one to use; else it is built as `config.tokenizer` says: an alphabet is that of the whole corpus,
            pieces are learned from the training text alone.

    Raises:
        CorpusError: the text is too short.
        TokenizerError: it gives no vocabulary.
        StorageError: the ids cannot be written.
    """
    train, val = split(corpus, val_corpus, config.val_fraction)
    if tokenizer is None:
        tokenizer = build_tokenizer(
            config.tokenizer, train if uses_frequencies(config.tokenizer) else corpus.content.span()
        )
    notes: list[str] = []
    learned = Part(stored_ids(tokenizer, train, notes.append), train.num_chars)
    logits_per_char = tokenizer.vocab_size * len(learned.ids) / learned.num_chars
    measured = val.num_chars if val_corpus else int(MAX_MEASURED_LOGITS / logits_per_char)
    parts = _parts(tokenizer, val, config.documents, measured, int(MAX_CHOICE_LOGITS / logits_per_char))
    start = start_ids(tokenizer, config.documents)
    return Dataset(tokenizer, start, learned, parts, corpus, val_corpus, config, tuple(notes))


def _document_begin(text: LongText, place: int) -> int:
    """Return where the first document after a place begins; the last one of all where none does.

    Raises:
        CorpusError: there is but one document.
    """
    before = place
    for piece in text.pieces(place):
        found = piece.find(MARK) + 1
        if found > 0 and before + found < text.statistics.num_chars:
            return before + found
        before += len(piece)
    found = text.read(0, place).rfind(MARK) + 1
    if not found:
        raise CorpusError(
            "the corpus is one document, but one to learn from and one to check on are the least there can be",
            "Give more documents, or a --val text, or say --documents none.",
        )
    return found


def _parts(
    tokenizer: Tokenizer, val: Span, documents: str, measured: int, choice: int
) -> tuple[ValPart, ValPart, ValPart]:
    """Cut what is held out into (choice, rest of the first half, second half); documents stay whole.

    Args:
        tokenizer: how it becomes ids.
        val: what is held out.
        documents: what a document is.
        measured: characters, at most, of all three.
        choice: characters, at most, of the first.
    """
    text = val.read()
    end = min(len(text), max(2, measured))
    half = max(1, end // 2)
    cuts = [max(1, min(half, MAX_CHOICE_CHARS, choice)), half, end]
    if documents != NONE:
        cuts = [text.find(MARK, cut - 1) + 1 or len(text) for cut in cuts]
    made, encode = [], encoder(tokenizer, documents)
    for part in (text[: cuts[0]], text[cuts[0] : cuts[1]], text[cuts[1] : cuts[2]]):
        size = len(part.replace(MARK, separator(documents)).encode("utf-8", "surrogatepass"))
        made.append(ValPart(encode(part), len(part), size))
    return made[0], made[1], made[2]


def split_lines(text: str) -> list[str]:
    """Return the lines of a text, each with its newline; put end to end they are the text."""
    lines = text.split("\n")
    return [line + "\n" for line in lines[:-1]] + ([lines[-1]] if lines[-1] else [])


def line_ids(tokenizer: Tokenizer, documents: str, lines: Sequence[str]) -> tuple[Ids, NDArray[np.int64]]:
    """Return (the ids of a text, [N]; the number of the line that each counts with, [N]).

    Args:
        tokenizer: the model's.
        documents: what a document is to the model, "none" for one running text.
        lines: of the text, newlines included, in the training text's form.
    """
    parts = enumerate(lines) if documents == NONE else _document_parts(lines, documents)
    ids, numbers = [], []
    for number, part in parts:
        found = np.array([BOUNDARY_ID], dtype=np.int32) if part == MARK else tokenizer.encode(part)
        ids.append(found)
        numbers.append(np.full(len(found), number))
    return np.concatenate(ids), np.concatenate(numbers)


def _document_parts(lines: Sequence[str], documents: str) -> Iterator[tuple[int, str]]:
    """Yield (number of its line, text) for what each document has of each line, and a MARK where it ends."""
    text = "".join(lines)
    begins = [0, *accumulate(map(len, lines))]
    at = 0
    for document in "".join(split_documents([text], documents)).split(MARK)[:-1]:
        at = text.index(document, at)  # what stands between two is a separator
        end, number = at + len(document), bisect_right(begins, at) - 1
        while at < end:
            cut = min(end, begins[number + 1])
            yield number, text[at:cut]
            at, number = cut, number + 1
        yield number - 1, MARK
