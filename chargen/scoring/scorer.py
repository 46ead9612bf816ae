"""How likely a text is: log p(text | what it begins after), and the same per character, per byte and per word.

    log p(x₁…x_N | context) = Σ log p(x_n | context, x₁…x_{n−1})   [ + log p(end | context, x₁…x_N) ]

The first character counts, given the context. Whether the end of the text does is the caller's choice: its end is what
the next text would begin after, the boundary in a model of documents and a newline in one of running text. Per
character (byte, word) means divided by the text's own characters; the end is none.

An unknown character costs what the unknown id costs, shared out over every character that the vocabulary lacks
(`Tokenizer.spelling_nats`), and is counted and named.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from chargen.engine.engine import Engine
from chargen.scoring.batches import id_log_probs
from chargen.text.tokenizer import Ids, StreamingDecoder, Tokenizer

LN2 = math.log(2)


@dataclass(frozen=True)
class Score:
    """The likelihood of one text. Per-character values are None for the empty text."""

    text: str
    log_prob_nats: float  #: the end's included, if it was scored
    chars: int
    bytes: int  #: of the text's UTF-8 form
    unknown_chars: int
    unknown: str = ""  #: which ones, each once
    end_log_prob_nats: float | None = None  #: None: the end was not scored
    pieces: tuple[tuple[str, float], ...] | None = None  #: characters (of a sentencepiece model its pieces) and nats

    @property
    def words(self) -> int:
        """How many runs of characters between white space there are."""
        return len(self.text.split())

    @property
    def bits_per_char(self) -> float | None:
        return self._bits_per(self.chars)

    @property
    def bits_per_byte(self) -> float | None:
        return self._bits_per(self.bytes)

    @property
    def bits_per_word(self) -> float | None:
        return self._bits_per(self.words)

    @property
    def perplexity_per_char(self) -> float | None:
        """2 to the bits per character: how many equally likely characters the model hesitated between."""
        return math.exp(min(700.0, -self.log_prob_nats / self.chars)) if self.chars else None

    def _bits_per(self, number: int) -> float | None:
        return -self.log_prob_nats / LN2 / number if number else None

    def to_json(self) -> dict[str, Any]:
        values: dict[str, Any] = {
            "text": self.text,
            "bits_per_char": self.bits_per_char,
            "perplexity_per_char": self.perplexity_per_char,
            "log_prob_nats": self.log_prob_nats,
            "end_log_prob_nats": self.end_log_prob_nats,
            "bits_per_byte": self.bits_per_byte,
            "chars": self.chars,
            "bytes": self.bytes,
            "unknown_chars": self.unknown_chars,
            "unknown": self.unknown,
        }
        if self.pieces is not None:
            values["char_log_probs_nats"] = [list(piece) for piece in self.pieces]
        return values


@dataclass(frozen=True)
class Total:
    """What several scores come to together: nats over characters, never a mean of means."""

    texts: int = 0
    log_prob_nats: float = 0.0
    chars: int = 0
    bytes: int = 0
    words: int = 0
    unknown_chars: int = 0

    def plus(self, score: Score) -> Total:
        """Return the total with this score too."""
        return Total(
            self.texts + 1,
            self.log_prob_nats + score.log_prob_nats,
            self.chars + score.chars,
            self.bytes + score.bytes,
            self.words + score.words,
            self.unknown_chars + score.unknown_chars,
        )

    def bits_per(self, number: int) -> float | None:
        """Return all bits over `chars`, `bytes` or `words`; None where there are none."""
        return -self.log_prob_nats / LN2 / number if number else None

    def to_json(self) -> dict[str, Any]:
        return {
            **asdict(self),
            "bits_per_char": self.bits_per(self.chars),
            "bits_per_byte": self.bits_per(self.bytes),
            "bits_per_word": self.bits_per(self.words),
        }


def score_texts(
    engine: Engine,
    tokenizer: Tokenizer,
    context: Ids,
    texts: Sequence[str],
    end: Ids | None = None,
    pieces: bool = False,
) -> list[Score]:
    """Score texts, each after the same context, in the order given. A text that stands there twice is read once.

    Args:
        engine: the model.
        tokenizer: its tokenizer.
        context: what every text begins after, at least one id; not scored.
        texts: in the training text's form.
        end: what ends a text, scored as its last part; None: the end is not scored.
        pieces: keep log p of each character too.

    Raises:
        TokenizerError: a text cannot be encoded.
    """
    last = np.zeros(0, dtype=np.int32) if end is None else end
    ids = {text: tokenizer.encode(text) for text in dict.fromkeys(texts)}
    log_probs = id_log_probs(engine, tokenizer, context, [np.concatenate([own, last]) for own in ids.values()])
    scores = {}
    for (text, own), found in zip(ids.items(), log_probs, strict=True):
        unknown = int(tokenizer.unknown(own).sum())
        scores[text] = Score(
            text,
            float(found.sum()),
            len(text),
            utf8_size(text),
            unknown,
            unknown_names(text, tokenizer) if unknown else "",
            None if end is None else float(found[len(own) :].sum()),
            tuple(pieces_of(tokenizer, text, own, found[: len(own)])) if pieces else None,
        )
    return [scores[text] for text in texts]


def utf8_size(text: str) -> int:
    """Return the number of bytes of a text in UTF-8."""
    return len(text.encode("utf-8", "surrogatepass"))


def unknown_names(text: str, tokenizer: Tokenizer) -> str:
    """Return the characters of a text that a tokenizer does not know, each once, in their order."""
    return "".join(char for char in dict.fromkeys(text) if tokenizer.unknown(tokenizer.encode(char)).any())


def pieces_of(tokenizer: Tokenizer, text: str, ids: Ids, log_probs: NDArray[np.float64]) -> list[tuple[str, float]]:
    """Return the text's characters (pieces, of a sentencepiece model), each with its log p in nats.

    A character of several ids has their sum. An unknown character is shown as it stands in the text.
    """
    decoder, pieces, nats, place = StreamingDecoder(tokenizer), [], 0.0, 0
    for token_id, log_prob in zip(ids.tolist(), log_probs.tolist(), strict=True):
        nats += log_prob
        written = decoder.feed(token_id)
        if written:
            pieces.append((text[place : place + len(written)], nats))
            place, nats = place + len(written), 0.0
    return pieces
