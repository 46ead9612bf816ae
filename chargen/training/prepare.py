"""Text → ids on disk, split into what is learned from and what is held out.

    text   ├────────────── training, 90 % ──────────────┤├ choice ┤├ rest of 1st half ┤├── 2nd half ──┤
                                                          looked at while training      never looked at

The best model is chosen on the first of the validation parts, so the second half stays a number that no choice saw.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from chargen.config import DataConfig
from chargen.errors import CorpusError
from chargen.text.corpus import Corpus
from chargen.text.store import open_store, write_store
from chargen.text.tokenizer import Ids, Tokenizer, build_tokenizer, learns_counts, start_ids

CACHE = Path("corpora/.cache")
MOST_MEASURED_CHARS = 200_000  #: of what is held out of a corpus: more would take too long at the end of a run
MOST_CHOICE_CHARS = 100_000  #: of the validation text that is looked at while training


@dataclass(frozen=True)
class Part:
    """A stretch of text as ids, and how many characters it has."""

    ids: NDArray[Any]
    num_chars: int
    num_bytes: int  #: in UTF-8


@dataclass(frozen=True)
class Data:
    """What a network learns from and is measured on."""

    tokenizer: Tokenizer
    start: Ids  #: what a text begins after
    train: Part
    val: tuple[Part, Part, Part]  #: choice, rest of the first half, second half
    corpus: Corpus
    val_corpus: Corpus | None
    config: DataConfig

    @property
    def ids_per_char(self) -> float:
        return len(self.train.ids) / self.train.num_chars


def split(corpus: Corpus, val_corpus: Corpus | None, val_fraction: float) -> tuple[str, str]:
    """Return (training text, validation text): the beginning of what is held out of the corpus, or a text of its own.

    Raises:
        CorpusError: the corpus has fewer than two characters.
    """
    if val_corpus is not None:
        return corpus.text, val_corpus.text
    N = len(corpus.text)
    if N < 2:
        raise CorpusError(
            f"the corpus has {N} character, but one to learn from and one to check on are the least there can be",
            "Give a longer text; a few thousand characters begin to be worth it.",
        )
    begin = min(N - 1, max(1, int(N * (1 - val_fraction))))
    return corpus.text[:begin], corpus.text[begin : begin + MOST_MEASURED_CHARS]


def prepare(corpus: Corpus, val_corpus: Corpus | None, config: DataConfig, tokenizer: Tokenizer | None = None) -> Data:
    """Split, tokenize, and put the training ids on disk, where an earlier run of the same text may have put them.

    Args:
        tokenizer: the one to use; else it is built as `config.tokenizer` says: an alphabet is that of the whole corpus,
            pieces are learned from the training text alone.

    Raises:
        CorpusError: the text is too short.
        TokenizerError: it gives no vocabulary.
        StorageError: the ids cannot be written.
    """
    train_text, val_text = split(corpus, val_corpus, config.val_fraction)
    if tokenizer is None:
        seen = train_text if learns_counts(config.tokenizer) else corpus.text
        tokenizer = build_tokenizer(config.tokenizer, seen)
    half = max(1, len(val_text) // 2)
    choice = min(half, MOST_CHOICE_CHARS)
    spans = (val_text[:choice], val_text[choice:half], val_text[half:])
    val = tuple(_part(tokenizer.encode(text), text) for text in spans)
    train = _part(_stored(tokenizer, train_text), train_text)
    return Data(tokenizer, start_ids(tokenizer), train, (val[0], val[1], val[2]), corpus, val_corpus, config)


def _part(ids: NDArray[Any], text: str) -> Part:
    return Part(ids, len(text), len(text.encode("utf-8", "surrogatepass")))


def _stored(tokenizer: Tokenizer, text: str) -> NDArray[Any]:
    """Return the text's ids, memory-mapped from the cache."""
    key = hashlib.sha256(json.dumps(tokenizer.to_json(), sort_keys=True).encode())
    key.update(text.encode("utf-8", "surrogatepass"))
    path = CACHE / f"{key.hexdigest()[:32]}.ids"
    if path.exists():
        try:
            return open_store(path).ids
        except CorpusError:
            path.unlink()  # a damaged cache is made again
    ids = tokenizer.encode(text)
    return write_store(path, np.asarray(ids), tokenizer.vocab_size, {"sha256": key.hexdigest()}).ids
