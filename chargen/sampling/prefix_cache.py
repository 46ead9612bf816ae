"""A prompt that the model has read, kept so that a changed prompt is not read again from its first character.

    token ids   0 · · · · · · 64 · · · · · · 128 · · · · · N−1
    states      ▲             ▲              ▲             ▲     kept: the state before each of these token ids

A text that differs from the token id k on is read again from the last kept state before k. So one more character costs
one step, and one character less at most STRIDE steps, however long the text is.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from types import NoneType
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from chargen.checkpoint import Checkpoint
from chargen.config import LN2
from chargen.engines.interface import Engine, EngineState, common_prefix_length
from chargen.errors import ConfigError
from chargen.schema import check_type
from chargen.storage.stored_weights import first_values
from chargen.tokenizers.tokenizer import Ids, StreamingDecoder, Tokenizer

FINGERPRINT_VALUES = 64  # values of each weight in the fingerprint of a model
STRIDE = 64  # token ids between two kept states: a few kilobytes each, and a few milliseconds to read again


@dataclass(frozen=True)
class PrefixCache:
    """The states of a model that has read a text or its first part. It is a value and can be continued several times.

    `LanguageModel.read_prefix` makes it, and `LanguageModel.stream(prefix_cache=…)` continues it.
    """

    ids: Ids = field(repr=False)  #: token ids that were read, including the start ids, [N]
    states: tuple[EngineState, ...] = field(repr=False)  #: the states before the token ids 0, STRIDE, 2 · STRIDE, …
    state: EngineState = field(repr=False)  #: the state before the last token id
    log_probs: NDArray[np.float64] = field(repr=False)  #: log p of each token id but the first, in nats, [N − 1]
    num_start_ids: int  #: number of start ids: the token ids that every text starts after
    num_ids: int  #: token ids of the whole text, start ids included
    text: str = field(repr=False)  #: the whole text, normalised, in the order in which the model reads it
    num_chars: int  #: characters of the whole text
    unknown_chars: int  #: how many characters of the whole text the model does not know
    unk_log_prob_nats: float  #: what these characters add to the text's log probability
    model: str = field(repr=False)  #: fingerprint of the model that has read the text

    @property
    def share(self) -> float:
        """The part of the text that was read, from 0 to 1."""
        return len(self.ids) / self.num_ids

    @property
    def bits_per_char(self) -> float | None:
        """The whole text's −log₂ p per character, as `score` returns it; None if it is empty or not fully read."""
        if len(self.ids) < self.num_ids or not self.num_chars:
            return None
        nats = float(self.log_probs[self.num_start_ids - 1 :].sum()) + self.unk_log_prob_nats
        return -nats / LN2 / self.num_chars

    def get_read_text(self, tokenizer: Tokenizer) -> str:
        """Return the characters that were read completely: the whole text, or its start if only a part was read.

        Args:
            tokenizer: Tokenizer of the model.
        """
        if len(self.ids) == self.num_ids:
            return self.text
        read_ids = self.ids[self.num_start_ids :]
        if tokenizer.is_char_level:
            return self.text[: len(read_ids)]
        num_bytes = sum(len(tokenizer.token_bytes(token_id)) for token_id in read_ids.tolist())
        return self.text.encode()[:num_bytes].decode("utf-8", "ignore")  # without the start of a character


def model_fingerprint(checkpoint: Checkpoint) -> str:
    """Return a hash of a model's config and the first FINGERPRINT_VALUES of each weight."""
    digest = hashlib.sha256(repr(checkpoint.config).encode())
    for name in sorted(checkpoint.weights):
        digest.update(first_values(checkpoint.weights, name, FINGERPRINT_VALUES).tobytes())
    return digest.hexdigest()


def check_prefix_cache(
    cache: PrefixCache | None, checkpoint: Checkpoint, name: str = "prefix_cache", prompt: str = ""
) -> None:
    """Check that a cache was made by this model and stands alone; None is valid.

    Raises:
        ConfigError: If another model made it, or there is a prompt, too.
        TypeError: If it is not a cache; the message has the name of the parameter.
    """
    check_type(cache, name, PrefixCache, NoneType)
    if cache is not None and cache.model != model_fingerprint(checkpoint):
        raise ConfigError(f"{name} was made by another model", "Read the text with this model's read_prefix.")
    if cache is not None and prompt:
        raise ConfigError(f"there are both a prompt and {name}", "Leave out one of them: the cache holds its own text.")


def read_prefix(
    engine: Engine, checkpoint: Checkpoint, text: str, previous: PrefixCache | None = None
) -> Iterator[PrefixCache]:
    """Check the arguments, and return an iterator over caches of longer and longer parts of a text.

    Args:
        engine: Engine that runs the model.
        checkpoint: The model.
        text: The text, in any form.
        previous: A cache of the same model. The start that both texts share is not read again.

    Raises:
        ConfigError: If another model made `previous`.
        TokenizerError: If the text has a lone surrogate.
        TypeError: If an argument has another type.
    """
    check_prefix_cache(previous, checkpoint, "previous")
    return _read_prefix(engine, checkpoint, checkpoint.reorder(checkpoint.normalize(text)), previous)


def _read_prefix(
    engine: Engine, checkpoint: Checkpoint, text: str, previous: PrefixCache | None
) -> Iterator[PrefixCache]:
    """Read a text and yield a cache after every STRIDE token ids and at the end.

    Args:
        engine: Engine that runs the model.
        checkpoint: The model.
        text: The text, normalised like the training text, in the order in which the model reads it.
        previous: A cache of the same model. The start that both texts share is not read again.

    Yields:
        Caches of ever longer parts of the text; the last one is of the whole text.

    Raises:
        TokenizerError: If the text cannot be encoded.
    """
    tokenizer, start_ids = checkpoint.tokenizer, checkpoint.start_ids
    text_ids = tokenizer.encode(text)
    ids = np.concatenate([start_ids, text_ids])
    position, state, states, log_probs = _resume_point(engine, ids, previous)
    whole = PrefixCache(
        ids=ids,
        states=states,
        state=state,
        log_probs=log_probs,
        num_start_ids=len(start_ids),
        num_ids=len(ids),
        text=text,
        num_chars=len(text),
        unknown_chars=int(tokenizer.is_unknown(text_ids).sum()),
        unk_log_prob_nats=float(tokenizer.unk_log_prob_nats(text_ids).sum()),
        model=model_fingerprint(checkpoint),
    )
    last = len(ids) - 1
    while True:
        end = min(last, (position // STRIDE + 1) * STRIDE)
        if end > position:
            inputs, targets = ids[position:end, None], ids[position + 1 : end + 1, None]  # [T, 1]
            new_log_probs, state = engine.read(inputs, targets, state)
            log_probs = np.concatenate([log_probs, new_log_probs[:, 0]])
            if end % STRIDE == 0:
                states = (*states, state)
        yield replace(whole, ids=ids[: end + 1], states=states, state=state, log_probs=log_probs)
        if end == last:
            return
        position = end


class _ResumePoint(NamedTuple):
    """Where to continue reading."""

    position: int  #: index of the next token id to read
    state: EngineState  #: state before that token id
    states: tuple[EngineState, ...]  #: the kept states up to there
    log_probs: NDArray[Any]  #: log p of the token ids before `position`


def _resume_point(engine: Engine, ids: Ids, previous: PrefixCache | None) -> _ResumePoint:
    """Return the last point of a previous cache from which these token ids can be read."""
    if previous is None:
        state = engine.initial_state(1)
        return _ResumePoint(0, state, (state,), np.empty(0))
    num_equal = common_prefix_length(ids, previous.ids)
    if num_equal == len(previous.ids):
        return _ResumePoint(num_equal - 1, previous.state, previous.states, previous.log_probs)
    # The token id at the position itself must be equal, too, as its log probability is kept.
    index = max(0, num_equal - 1) // STRIDE
    position = index * STRIDE
    return _ResumePoint(position, previous.states[index], previous.states[: index + 1], previous.log_probs[:position])


def list_char_bits(tokenizer: Tokenizer, prefix: PrefixCache) -> list[float]:
    """Return −log₂ p of each character of a text that was read; a piece of several characters is divided evenly.

    Args:
        tokenizer: Tokenizer of the model.
        prefix: The cache of the text, which was read to its end.

    Returns:
        One number for each of the `num_chars` characters. Their sum is −log₂ p of the text.
    """
    ids = prefix.ids[prefix.num_start_ids :]
    nats = prefix.log_probs[prefix.num_start_ids - 1 :] + tokenizer.unk_log_prob_nats(ids)
    bits = ((0.0 - nats) / LN2).tolist()
    if tokenizer.is_char_level:
        return bits  # type: ignore[no-any-return]
    decoder, char_bits, open_bits = StreamingDecoder(tokenizer), [], 0.0
    for token_id, of_token in zip(ids.tolist(), bits, strict=True):
        open_bits += of_token  # surprisal of a character that may still be incomplete
        num_chars = len(decoder.feed(token_id))
        if num_chars:
            char_bits += [open_bits / num_chars] * num_chars
            open_bits = 0.0
    return char_bits
