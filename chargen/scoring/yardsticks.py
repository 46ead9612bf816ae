"""What needs no network, on the lines of a text: an n-gram model, LZMA, and knowing nothing but the alphabet."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from chargen.baselines.compression import lzma_nats
from chargen.baselines.ngram import ngram_log_probs
from chargen.scoring.lines import line_ids
from chargen.text.documents import NONE
from chargen.text.tokenizer import build_tokenizer

ORDER = 5

Float = NDArray[np.float64]


def uniform_line_nats(lines: Sequence[str]) -> Float:
    """Return what each line costs if every character that the text has is equally likely, [L]."""
    return np.array([len(line) for line in lines]) * math.log(len(set("".join(lines))))


def ngram_line_nats(lines: Sequence[str], learned: str | None) -> Float:
    """Return what each line costs by an interpolated 5-gram of characters, [L].

    Args:
        lines: of the text, newlines included.
        learned: what the counts are of. None: of the text's other half, for each of its halves.
    """
    if learned is not None:
        return _ngram(learned, lines)
    half = len(lines) // 2
    first, second = lines[:half], lines[half:]
    if not first:
        return uniform_line_nats(lines)  # there is no other half
    return np.concatenate([_ngram("".join(second), first), _ngram("".join(first), second)])


def lzma_text_nats(lines: Sequence[str], learned: str | None) -> float:
    """Return what the whole text costs as LZMA compresses it, behind `learned` if there is such a text."""
    text = "".join(lines)
    return lzma_nats(learned or "", text) * len(text)


def _ngram(learned: str, lines: Sequence[str]) -> Float:
    """An unknown character costs what it costs a model: the unknown id's share (`Tokenizer.spelling_nats`)."""
    tokenizer = build_tokenizer("char", learned)
    ids, numbers = line_ids(tokenizer, NONE, lines)
    log_probs = ngram_log_probs(tokenizer.encode(learned), ids, tokenizer.vocab_size, ORDER)
    return np.bincount(numbers, -log_probs - tokenizer.spelling_nats(ids), len(lines)).astype(np.float64)
