"""Score many texts: log p of every token id, read in batches of texts of similar length.

The score of a text is its log probability given the context:

    log p(x₁…x_N | context) = Σ log p(x_n | context, x₁…x_{n−1})   [ + log p(end | context, x₁…x_N) ]

The context starts with the token ids that every text starts after (`Checkpoint.start_ids`), so the first character has
a probability too. The caller decides whether the end of the text is scored as well: the boundary in a model of
documents, a newline in a model of continuous text. Rates per character, byte and word divide by the characters, bytes
and words of the text itself; the end is not a character.

An unknown character costs the unknown id's −log p plus the log of the number of characters that the vocabulary lacks
(`Tokenizer.unk_log_prob_nats`). Unknown characters are counted and named.

The context is read once. Then the texts are sorted by length and read in batches of BATCH_SIZE rows. A batch continues
with fewer rows as soon as an eighth of its rows have ended:

    ▕▕▕▕▕▕▕▕▕▕▕▕▕▕▕▕▕│▕▕▕▕▕▕▕▕▕▕▕▕▕▕▕▕▕                 ├────────┤
    ▕▕▕▕▕▕▕▕▕▕▕▕▕▕▕▕▕│▕▕▕▕▕▕▕▕▕▕▕▕▕▕▕▕▕                 ├────────┼─────┤
                    │ ▕▕▕▕▕▕▕▕▕▕▕▕▕▕▕▕▕                 ├────────┼─────┼────────────────┤

So less than an eighth of the computation is wasted, even when one text of a megabyte is among thousands of lines.

A stream of texts is scored in chunks that fit in memory. A repeated text gets the same score as before, to the last
bit, although it would be read in another batch, where rounding differs; otherwise equal texts would not be ties. This
holds within a chunk, and for the first MAX_CACHED_TEXTS short texts of a stream.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from chargen.checkpoint import Checkpoint
from chargen.config import LN2
from chargen.engines.interface import Engine, EngineState
from chargen.errors import ChargenError, ConfigError
from chargen.schema import check_type, format_count, format_number, format_value, iterate_strings
from chargen.tokenizers.direction import reverse, reverse_pieces
from chargen.tokenizers.tokenizer import Ids, StreamingDecoder, Tokenizer, unknown_characters

BATCH_SIZE = 128  #: texts that are read together
MAX_BATCH_IDS = 1 << 14  #: token ids of a batch that one call of the engine reads
MAX_SINGLE_IDS = 1 << 20  #: the same for a single text: a stream starts slowly (`engines/streams.py`)
ROUNDING_STEP = 2.0**-26  #: nats; log probabilities are rounded to multiples of it, 1.5e-8
CHUNK_TEXTS = 8192  #: texts of a chunk: enough to find texts of similar length among them
CHUNK_CHARS = 1 << 21  #: characters of a chunk, whichever limit comes first
MAX_CACHED_TEXTS = 1 << 16  #: texts of a stream whose scores are kept
MAX_CACHED_CHARS = 200  #: characters of a text whose score is kept


@dataclass(frozen=True)
class Score:
    """The likelihood of a text. Rates per character, byte and word are None for a text without any."""

    text: str
    log_prob_nats: float  #: log p of the text, and of its end if that was scored
    chars: int
    bytes: int  #: size in UTF-8
    unknown_chars: int
    unknown: str = ""  #: the unknown characters, each once
    end_log_prob_nats: float | None = None  #: log p of the end; None if it was not scored
    pieces: tuple[tuple[str, float], ...] | None = None  #: (character or sentencepiece piece, log p in nats)
    directions: tuple[float, float] | None = None  #: log p by a forward and a backward model, if both scored the text

    @property
    def words(self) -> int:
        """Number of words; a word is a run of characters between white space."""
        return len(self.text.split())

    @property
    def bits_per_char(self) -> float | None:
        """−log₂ p divided by the number of characters."""
        return self._bits_per(self.chars)

    @property
    def bits_per_byte(self) -> float | None:
        """−log₂ p divided by the number of UTF-8 bytes, which compares models with different tokenizers."""
        return self._bits_per(self.bytes)

    @property
    def bits_per_word(self) -> float | None:
        """−log₂ p divided by the number of words."""
        return self._bits_per(self.words)

    @property
    def perplexity_per_char(self) -> float | None:
        """2 to the power of bits per character: the number of equally likely characters that are as uncertain."""
        return math.exp(min(700.0, -self.log_prob_nats / self.chars)) if self.chars else None

    def _bits_per(self, count: int) -> float | None:
        return (0.0 - self.log_prob_nats) / LN2 / count if count else None  # not -x, which is -0.0 for 0

    def _repr_html_(self) -> str | None:
        """Return a heat map for a notebook; None, and the notebook shows the repr, without `pieces`."""
        if self.pieces is None:
            return None
        from chargen.probe.heat_map import heat_html

        rate = "" if self.bits_per_char is None else f"{format_number(self.bits_per_char, 3)} bits/char, "
        caption = f"{rate}{format_number(-self.log_prob_nats / LN2, 2)} bits, {format_count(self.chars, 'character')}"
        end = () if self.end_log_prob_nats is None else (("␃", self.end_log_prob_nats),)
        return heat_html([(text, -nats / LN2) for text, nats in (*self.pieces, *end)], caption)

    def to_dict(self) -> dict[str, Any]:
        """Return the score as a dict of JSON values, with units in the keys."""
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
        if self.directions is not None:
            values["forward_log_prob_nats"], values["backward_log_prob_nats"] = self.directions
        return values


@dataclass(frozen=True)
class Total:
    """The sum of several scores. Rates divide total nats by total characters; they are never a mean of rates."""

    texts: int = 0
    log_prob_nats: float = 0.0
    chars: int = 0
    bytes: int = 0
    words: int = 0
    unknown_chars: int = 0

    def plus(self, score: Score) -> Total:
        """Return the total with one more score."""
        return Total(
            self.texts + 1,
            self.log_prob_nats + score.log_prob_nats,
            self.chars + score.chars,
            self.bytes + score.bytes,
            self.words + score.words,
            self.unknown_chars + score.unknown_chars,
        )

    def bits_per(self, count: int) -> float | None:
        """Return the total −log₂ p divided by `chars`, `bytes` or `words`; None if that count is 0."""
        return (0.0 - self.log_prob_nats) / LN2 / count if count else None

    def to_json(self) -> dict[str, Any]:
        """Return the total as JSON values, with units in the keys."""
        return {
            **asdict(self),
            "bits_per_char": self.bits_per(self.chars),
            "bits_per_byte": self.bits_per(self.bytes),
            "bits_per_word": self.bits_per(self.words),
        }


def score_batches(
    checkpoint: Checkpoint,
    select_engine: Callable[[int], Engine],
    batches: Iterable[Sequence[str]],
    context: Ids,
    end: Ids | None = None,
    with_pieces: bool = False,
) -> Iterator[Score]:
    """Yield the scores of texts in batches; the next batch is taken when the scores of the one before are used.

    Args:
        checkpoint: Model whose tokenizer and text form are used.
        select_engine: Returns the engine for a number of token ids to read: that of the largest batch so far. Thus
            single lines are answered by the engine that starts at once; the other one starts if there is much to read.
        batches: Batches of texts in any form; each must fit in memory. Characters are counted in the training text's
            form, bytes in the given form.
        context: Ids that every text follows, at least one; not scored.
        end: Ids that end a text, scored as its last part; None if the end is not scored.
        with_pieces: Whether log p of each character is kept.

    Raises:
        TokenizerError: If a text cannot be encoded.
    """
    cached: dict[str, Score] = {}
    num_ids = 0
    for batch in batches:
        chunk = list(iterate_strings(batch, "texts"))
        new_texts = [text for text in dict.fromkeys(chunk) if text not in cached]
        num_ids = max(num_ids, sum(len(text) for text in new_texts) + len(context))
        engine = select_engine(num_ids)
        ordered = [checkpoint.reorder(checkpoint.normalize(text)) for text in new_texts]
        scores = score_texts(engine, checkpoint.tokenizer, context, ordered, end, with_pieces)
        if checkpoint.data.is_backward and with_pieces:
            scores = [replace(score, pieces=_reading_order(score.pieces or ())) for score in scores]
        new_scores = {
            text: replace(score, text=text, bytes=utf8_size(text))
            for text, score in zip(new_texts, scores, strict=True)
        }
        yield from (cached[text] if text in cached else new_scores[text] for text in chunk)
        num_free = MAX_CACHED_TEXTS - len(cached)
        cached.update([item for item in new_scores.items() if len(item[0]) <= MAX_CACHED_CHARS][:num_free])


def _reading_order(pieces: Sequence[tuple[str, float]]) -> tuple[tuple[str, float], ...]:
    """Return the pieces of a reversed text in reading order; those that share a letter become one piece."""
    groups = [[pieces[i] for i in group] for group in reverse_pieces([text for text, _ in pieces])]
    return tuple((reverse("".join(text for text, _ in group)), sum(nats for _, nats in group)) for group in groups)


def check_score(score: Score, checkpoint: Checkpoint, text: str) -> None:
    """Check that a score is of a text, in any form, and has the log p of its characters.

    Raises:
        ConfigError: If it is of another text, or was made without `pieces`.
        TypeError: If it is not a Score.
    """
    check_type(score, "score", Score)
    if checkpoint.normalize(score.text) != checkpoint.normalize(text):
        raise ConfigError(f"score is of another text: {format_value(score.text)}, not {format_value(text)}")
    if score.pieces is None:
        raise ConfigError("score has no log p of the characters", "Make it with score(text, pieces=True).")


def split_chunks(texts: Iterable[str]) -> Iterator[list[str]]:
    """Yield the texts in lists of at most CHUNK_TEXTS texts and not much more than CHUNK_CHARS characters.

    >>> [len(chunk) for chunk in split_chunks(["ab"] * 10_000)]
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
    except ChargenError:  # a line that cannot be read; the lines before it are still scored
        if chunk:
            yield chunk
        raise
    if chunk:
        yield chunk


def score_texts(
    engine: Engine,
    tokenizer: Tokenizer,
    context: Ids,
    texts: Sequence[str],
    end: Ids | None = None,
    with_pieces: bool = False,
) -> list[Score]:
    """Score texts, each after the same context, in the given order. A repeated text is read once.

    Args:
        engine: Engine that runs the model.
        tokenizer: Tokenizer of the model.
        context: Ids that every text follows, at least one; not scored.
        texts: Texts in the form of the training text.
        end: Ids that end a text, scored as its last part; None if the end is not scored.
        with_pieces: Whether log p of each character is kept.

    Raises:
        TokenizerError: If a text cannot be encoded.
    """
    end_ids = np.zeros(0, dtype=np.int32) if end is None else end
    text_ids = {text: tokenizer.encode(text) for text in dict.fromkeys(texts)}
    log_probs = id_log_probs(engine, tokenizer, context, [np.concatenate([ids, end_ids]) for ids in text_ids.values()])
    scores = {}
    is_unknown: dict[str, bool] = {}  # by character
    for (text, ids), id_nats in zip(text_ids.items(), log_probs, strict=True):
        num_unknown = int(tokenizer.is_unknown(ids).sum())
        scores[text] = Score(
            text,
            log_prob_nats=float(id_nats.sum()),
            chars=len(text),
            bytes=utf8_size(text),
            unknown_chars=num_unknown,
            unknown=unknown_characters(text, tokenizer, is_unknown) if num_unknown else "",
            end_log_prob_nats=None if end is None else float(id_nats[len(ids) :].sum()),
            pieces=tuple(split_pieces(tokenizer, text, ids, id_nats[: len(ids)])) if with_pieces else None,
        )
    return [scores[text] for text in texts]


def id_log_probs(engine: Engine, tokenizer: Tokenizer, context: Ids, texts: Sequence[Ids]) -> list[NDArray[np.float64]]:
    """Return log p of each token id of each text, in nats, rounded to the nearest multiple of ROUNDING_STEP.

    Sums of such numbers are exact in float64, in any order, up to a hundred million nats. So the score of a text equals
    the sum of the scores of its parts to the last bit.

    Args:
        engine: Engine that runs the model.
        tokenizer: Tokenizer of the model.
        context: Ids that every text follows, at least one; read once and not scored.
        texts: Ids of each text, of any lengths.
    """
    lengths = np.array([len(text) for text in texts], dtype=np.int64)
    if not lengths.sum():
        return [np.zeros(0) for _ in texts]
    ids = np.concatenate([*texts, context[-1:]]).astype(np.int64)  # ids[-1] is the last token id of the context
    starts = np.cumsum(lengths) - lengths
    state = engine.initial_state(1)
    if len(context) > 1:
        _, state = engine.read(context[:-1, None], context[1:, None], state)
    log_probs = np.empty(len(ids) - 1)
    order = np.argsort(lengths, kind="stable")
    order = order[lengths[order] > 0]
    # Longest batches first: the last batches are short, so no thread works alone for long at the end.
    batches = [order[max(0, end - BATCH_SIZE) : end] for end in range(len(order), 0, -BATCH_SIZE)]

    def read(batch: NDArray[np.int64]) -> None:
        _read_batch(engine, ids, starts[batch], lengths[batch], state, log_probs)

    for _ in engine.map(read, batches):
        pass
    spelled = tokenizer.unk_log_prob_nats(ids[:-1].astype(np.int32))
    log_probs = np.rint((log_probs + spelled) / ROUNDING_STEP) * ROUNDING_STEP
    return np.split(log_probs, starts[1:])


def _read_batch(
    engine: Engine,
    ids: NDArray[np.int64],
    starts: NDArray[np.int64],
    lengths: NDArray[np.int64],
    context: EngineState,
    out: NDArray[np.float64],
) -> None:
    """Read a batch of texts and write log p of their token ids to `out`.

    Args:
        engine: Engine that runs the model.
        ids: Ids of all texts, one text after the other, then the last token id of the context, [N + 1].
        starts: Position in `ids` where each text of the batch starts, [B], the shortest text first.
        lengths: Number of token ids of each of these texts, [B], ascending.
        context: State before the last token id of the context.
        out: Log p of each token id in nats, [N]; only the positions of this batch are written.
    """
    state, offset = engine.select(context, np.zeros(len(starts), dtype=np.int64)), 0
    while len(starts):
        end = int(lengths[len(lengths) // 8])
        end = min(end, offset + (max(1, MAX_BATCH_IDS // len(starts)) if len(starts) > 1 else MAX_SINGLE_IDS))
        steps = np.arange(offset, end)[:, None]  # [T, 1]
        positions = starts + np.minimum(steps, lengths - 1)  # [T, B]; an ended row reads its last token id again
        inputs = ids[np.where(steps > 0, positions - 1, -1)]
        log_probs, state = engine.read(inputs, ids[positions], state)
        is_inside = steps < lengths
        out[positions[is_inside]] = log_probs[is_inside]
        unfinished = np.flatnonzero(lengths > end)
        if 0 < len(unfinished) < len(lengths):
            state = engine.select(state, unfinished)
        starts, lengths, offset = starts[unfinished], lengths[unfinished], end


def utf8_size(text: str) -> int:
    """Return the number of bytes of a text in UTF-8."""
    return len(text.encode("utf-8", "surrogatepass"))


def split_pieces(tokenizer: Tokenizer, text: str, ids: Ids, log_probs: NDArray[np.float64]) -> list[tuple[str, float]]:
    """Return the characters of a text (the pieces, if the tokenizer is sentencepiece), each with its log p in nats.

    A character that is split over several token ids gets the sum of their log p. An unknown character keeps its own
    text.

    Args:
        tokenizer: Tokenizer of the model.
        text: Text that `ids` encode.
        ids: Ids of the text, [N].
        log_probs: Log p of each token id in nats, [N].
    """
    decoder = StreamingDecoder(tokenizer)
    pieces = []
    nats, start = 0.0, 0
    for token_id, log_prob in zip(ids.tolist(), log_probs.tolist(), strict=True):
        nats += log_prob
        decoded = decoder.feed(token_id)
        if decoded:
            end = start + len(decoded)
            pieces.append((text[start:end], nats))
            nats, start = 0.0, end
    return pieces
