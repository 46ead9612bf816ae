"""Many texts through a model: log p of every id, by batches of like length, after a context that is read once.

    sorted by length, in batches of LANES               a batch is cut where an eighth of its lanes have ended,
                                                        and goes on without them:
    ▕▕▕▕▕▕▕▕▕▕▕▕▕▕▕▕▕│▕▕▕▕▕▕▕▕▕▕▕▕▕▕▕▕▕                 ├────────┤
    ▕▕▕▕▕▕▕▕▕▕▕▕▕▕▕▕▕│▕▕▕▕▕▕▕▕▕▕▕▕▕▕▕▕▕                 ├────────┼─────┤
                    │ ▕▕▕▕▕▕▕▕▕▕▕▕▕▕▕▕▕                 ├────────┼─────┼────────────────┤

So less than an eighth of what is computed is thrown away, one text of a megabyte among thousands of lines included.

How likely a text is: log p(text | what it begins after), and the same per character, per byte and per word.

    log p(x₁…x_N | context) = Σ log p(x_n | context, x₁…x_{n−1})   [ + log p(end | context, x₁…x_N) ]

The first character counts, given the context. Whether the end of the text does is the caller's choice: its end is what
the next text would begin after, the boundary in a model of documents and a newline in one of running text. Per
character (byte, word) means divided by the text's own characters; the end is none.

An unknown character costs what the unknown id costs, shared out over every character that the vocabulary lacks
(`Tokenizer.unk_log_prob_nats`), and is counted and named.

A stream of texts in chunks that fit memory.

A text that comes again has the score it had, to the last digit, though it is read among others: of that ties are made.
It holds for the first REMEMBERED short texts of a stream, and for all within a chunk.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from chargen.config import LN2
from chargen.engines.interface import Engine, EngineState
from chargen.errors import ChargenError
from chargen.tokenizers.tokenizer import Ids, StreamingDecoder, Tokenizer

LANES = 128  #: of a batch
MAX_IDS = 1 << 14  #: of a batch read in one piece
MAX_ALONE = 1 << 20  #: of one text: a stream takes a while to reach its speed (`engine/stream.py`)
GRID = 2.0**-26  #: nats: log probabilities are multiples of it, 1.5e-8


def id_log_probs(engine: Engine, tokenizer: Tokenizer, context: Ids, texts: Sequence[Ids]) -> list[NDArray[np.float64]]:
    """Return log p of each id of each text, in nats, to the nearest multiple of GRID.

    Sums of such numbers are exact in float64, in whatever order, up to a hundred million nats: the total of a text is
    the sum of its parts to the last digit.

    Args:
        engine: the model.
        tokenizer: its tokenizer.
        context: what every text begins after, at least one id; read once, not scored.
        texts: ids, of any lengths.
    """
    lengths = np.array([len(text) for text in texts], dtype=np.int64)
    if not lengths.sum():
        return [np.zeros(0) for _ in texts]
    ids = np.concatenate([*texts, context[-1:]]).astype(np.int64)  # the context's last id stands at place −1
    begins = np.cumsum(lengths) - lengths
    state = engine.initial_state(1)
    if len(context) > 1:
        _, state = engine.read(context[:-1, None], context[1:, None], state)
    log_probs = np.empty(len(ids) - 1)
    order = np.argsort(lengths, kind="stable")
    order = order[lengths[order] > 0]
    # The longest first: what is begun last is done soon, and no thread is left alone with much.
    batches = [order[max(0, end - LANES) : end] for end in range(len(order), 0, -LANES)]

    def read(batch: NDArray[np.int64]) -> None:
        _read_batch(engine, ids, begins[batch], lengths[batch], state, log_probs)

    for _ in engine.map(read, batches):
        pass
    log_probs = np.rint((log_probs + tokenizer.unk_log_prob_nats(ids[:-1].astype(np.int32))) / GRID) * GRID
    return np.split(log_probs, begins[1:])


def _read_batch(
    engine: Engine,
    ids: NDArray[np.int64],
    begins: NDArray[np.int64],
    lengths: NDArray[np.int64],
    context: EngineState,
    out: NDArray[np.float64],
) -> None:
    """Read the texts that begin at `begins`, the shortest first, and write log p of their ids to the same places."""
    state, offset = engine.select(context, np.zeros(len(begins), dtype=np.int64)), 0
    while len(begins):
        until = int(lengths[len(lengths) // 8])
        until = min(until, offset + (max(1, MAX_IDS // len(begins)) if len(begins) > 1 else MAX_ALONE))
        steps = np.arange(offset, until)[:, None]  # [T, 1]
        places = begins + np.minimum(steps, lengths - 1)  # [T, B]: a lane that has ended reads its last id again
        inputs = ids[np.where(steps > 0, places - 1, -1)]
        log_probs, state = engine.read(inputs, ids[places], state)
        inside = steps < lengths
        out[places[inside]] = log_probs[inside]
        left = np.flatnonzero(lengths > until)
        if 0 < len(left) < len(lengths):
            state = engine.select(state, left)
        begins, lengths, offset = begins[left], lengths[left], until


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
        unknown = int(tokenizer.is_unknown(own).sum())
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
    return "".join(char for char in dict.fromkeys(text) if tokenizer.is_unknown(tokenizer.encode(char)).any())


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


CHUNK_TEXTS = 8192  #: so many that texts of like length are found among them
CHUNK_CHARS = 1 << 21  #: or so many characters together
REMEMBERED, SHORT = 1 << 16, 200  #: texts, characters


def chunked(texts: Iterable[str]) -> Iterator[list[str]]:
    """Yield texts in lists of up to CHUNK_TEXTS texts, or somewhat above CHUNK_CHARS characters.

    >>> [len(chunk) for chunk in chunked(["ab"] * 10_000)]
    [8192, 1808]
    """
    chunk: list[str] = []
    chars = 0
    try:
        for text in texts:
            chunk.append(text)
            chars += len(text)
            if len(chunk) == CHUNK_TEXTS or chars >= CHUNK_CHARS:
                yield chunk
                chunk, chars = [], 0
    except ChargenError:  # a bad line; those before it are none the worse
        if chunk:
            yield chunk
        raise
    if chunk:
        yield chunk


def score_chunks(texts: Iterable[str], score: Callable[[list[str]], list[Score]]) -> Iterator[Score]:
    """Yield the scores of texts in their order.

    Args:
        texts: any number of them.
        score: scores a list of texts that are all different.
    """
    seen: dict[str, Score] = {}
    for chunk in chunked(texts):
        new = [text for text in dict.fromkeys(chunk) if text not in seen]
        found = dict(zip(new, score(new), strict=True))
        yield from (seen[text] if text in seen else found[text] for text in chunk)
        room = REMEMBERED - len(seen)
        seen.update([(text, it) for text, it in found.items() if len(text) <= SHORT][:room])
