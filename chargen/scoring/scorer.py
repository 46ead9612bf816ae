"""How likely a text is: log p(text | what it begins after), and the same per character and per byte.

    log p(x₁…x_N | context) = Σ log p(x_n | context, x₁…x_{n−1})

The first character counts, given the context. The end of the text does not: nothing is asked about what follows it. An
unknown character costs what the unknown id costs, shared out over every character that the vocabulary lacks
(`Tokenizer.spelling_nats`), and is counted.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from chargen.engine.engine import Engine
from chargen.text.tokenizer import Ids, Tokenizer

BATCH_SIZE = 64
LN2 = math.log(2)


@dataclass(frozen=True)
class Score:
    """The likelihood of one text. Per-character values are None for the empty text, whose log p is 0."""

    text: str
    log_prob_nats: float
    chars: int
    bytes: int  #: of the text's UTF-8 form
    unknown_chars: int

    @property
    def bits_per_char(self) -> float | None:
        return -self.log_prob_nats / LN2 / self.chars if self.chars else None

    @property
    def bits_per_byte(self) -> float | None:
        return -self.log_prob_nats / LN2 / self.bytes if self.bytes else None

    @property
    def perplexity_per_char(self) -> float | None:
        """2 to the bits per character: how many equally likely characters the model hesitated between."""
        return math.exp(min(700.0, -self.log_prob_nats / self.chars)) if self.chars else None

    def to_json(self) -> dict[str, Any]:
        return {
            "text": self.text,
            "bits_per_char": self.bits_per_char,
            "perplexity_per_char": self.perplexity_per_char,
            "log_prob_nats": self.log_prob_nats,
            "bits_per_byte": self.bits_per_byte,
            "chars": self.chars,
            "bytes": self.bytes,
            "unknown_chars": self.unknown_chars,
        }


def score_texts(engine: Engine, tokenizer: Tokenizer, context: Ids, texts: Sequence[str]) -> list[Score]:
    """Score texts, each after the same context, in the order given.

    Texts of like length are read side by side; what fills up the shorter ones comes after them and changes nothing.

    Raises:
        TokenizerError: a text cannot be encoded.
    """
    ids = [tokenizer.encode(text) for text in texts]
    order = sorted(range(len(texts)), key=lambda i: len(ids[i]))
    totals = np.zeros(len(texts))
    for begin in range(0, len(order), BATCH_SIZE):
        chosen = order[begin : begin + BATCH_SIZE]
        for i, log_probs in zip(
            chosen, id_log_probs(engine, tokenizer, context, [ids[i] for i in chosen]), strict=True
        ):
            totals[i] = log_probs.sum()
    return [
        Score(text, float(totals[i]), len(text), utf8_size(text), int(tokenizer.unknown(ids[i]).sum()))
        for i, text in enumerate(texts)
    ]


def utf8_size(text: str) -> int:
    """Return the number of bytes of a text in UTF-8."""
    return len(text.encode("utf-8", "surrogatepass"))


def id_log_probs(engine: Engine, tokenizer: Tokenizer, context: Ids, texts: Sequence[Ids]) -> list[NDArray[np.float64]]:
    """Return log p of each id of each text, in nats; one batch.

    Args:
        engine: the model.
        tokenizer: its tokenizer.
        context: what every text begins after, at least one id; not scored.
        texts: ids, of any lengths.
    """
    longest = max((len(text) for text in texts), default=0)
    if longest == 0:
        return [np.zeros(0) for _ in texts]
    row = np.zeros((len(context) + longest, len(texts)), dtype=np.int64)  # [T, B], filled up with the boundary
    row[: len(context)] = context[:, None]
    for b, text in enumerate(texts):
        row[len(context) : len(context) + len(text), b] = text
    log_probs, _ = engine.read(row[:-1], row[1:], engine.initial_state(len(texts)))
    first = len(context) - 1
    return [log_probs[first : first + len(text), b] + tokenizer.spelling_nats(text) for b, text in enumerate(texts)]
