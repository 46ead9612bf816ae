"""The generation loops: draw one token id after another, for one text or for many texts at once.

    logits [V] ─▶ mask invalid UTF-8 ─▶ processors ─▶ temperature and rules ─▶ draw ─▶ token id ─▶ characters
        ▲                                                                                │
        └──────────────────────────── next step of the stream ◀──────────────────────────┘

For many texts the logits are [B, V], and one step of all texts is one batch of matrix products. Each text has its own
random numbers, so a text does not depend on the texts that are generated together with it.

`generate_text` and `generate_batch` handle all settings. Where nothing but the length ends a text and there are no
processors, `generate_chars`, `generate_tokens` and `sample_ids` draw the same token ids with less work for each.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from chargen.engines.interface import Draws, Engine, EngineState, Stream
from chargen.engines.uniforms import Uniforms
from chargen.sampling.logits_rules import Logits, check_finite, draw, draw_batch, make_draw, warp_logits
from chargen.sampling.sequence import DEAD_END, GeneratedSequence, GenerationContext, apply_processors
from chargen.tokenizers.tokenizer import BOUNDARY_ID, COMPLETE, Ids, StreamingDecoder

if TYPE_CHECKING:  # imported for several texts
    from chargen.engines.uniform_rows import UniformRows

UNIFORMS_PER_BLOCK = 512  # random numbers that are drawn at a time for one text; they equal those of single calls
FIRST_BLOCK = 64  # the same for the first block of a batch
STORED_TOGETHER = 64  # steps of a batch whose token ids are transposed together


class BatchStart(Protocol):
    """What a batch of texts starts from: one prompt, or a prompt for each text (`bulk/many_prompts.py`)."""

    @property
    def engine(self) -> Engine:
        """The model."""

    @property
    def context(self) -> GenerationContext:
        """What the texts share."""

    def repeated_state(self, num_texts: int) -> EngineState:
        """Return the state of several streams after the prompt."""

    def repeated_logits(self, num_texts: int) -> Logits:
        """Return the logits of several streams after the prompt, [B, V]."""


class PrimedPrompt(NamedTuple):
    """A prompt that a model has read; every generation method starts from it.

    The stream is mutable: after a generation method has stepped it, this object cannot be used again.
    """

    engine: Engine
    context: GenerationContext
    stream: Stream  #: has read the prompt
    logits: Logits  #: logits of the first token id after the prompt, [V]

    @property
    def state(self) -> EngineState:
        """The state of a single stream after the prompt."""
        return self.stream.state()

    def repeated_state(self, num_texts: int) -> EngineState:
        """Return the state of several streams after the prompt."""
        return self.engine.select(self.state, np.zeros(num_texts, dtype=np.intp))

    def repeated_logits(self, num_texts: int) -> Logits:
        """Return the logits of several streams after the prompt, [B, V]."""
        return np.repeat(self.logits[None], num_texts, axis=0)


def prime(engine: Engine, context: GenerationContext, ids: Ids, state: EngineState | None = None) -> PrimedPrompt:
    """Let a model read a prompt.

    Args:
        engine: The model.
        context: What the texts share.
        ids: Token ids to read, at least one, [N].
        state: The state of a single stream before these token ids; None for the initial state.

    Raises:
        ModelError: If the logits are not finite.
    """
    stream = engine.stream(engine.initial_state(1) if state is None else state)
    for token_id in ids.tolist():
        logits = stream.step(token_id)
    check_finite(logits)
    return PrimedPrompt(engine, context, stream, logits.astype(np.float64))


# ── one text ──────────────────────────────────────────────────────────────────


def generate_text(prompt: PrimedPrompt, sequence: GeneratedSequence, uniforms: Uniforms) -> Iterator[str]:
    """Generate one text with all settings.

    Args:
        prompt: The prompt. Its stream is stepped.
        sequence: A new sequence; afterwards it says why the text ended.
        uniforms: Random numbers.

    Yields:
        The next characters of the text.
    """
    context, stream, logits = prompt.context, prompt.stream, prompt.logits
    masks = context.utf8_masks.logit_mask
    while not sequence.ended:
        logits = logits + masks[sequence.utf8_state]
        if context.processors:
            logits = apply_processors(logits[None], [sequence], context.config.temperature)[0]
        token_id = draw(warp_logits(logits, context.config), uniforms.random())
        sequence.append(token_id)
        piece = sequence.pop_text()
        if piece:
            yield piece
        if not sequence.ended:
            if token_id == BOUNDARY_ID:  # the next document starts from the initial state, like every document
                stream = prompt.engine.stream(prompt.engine.initial_state(1))
            logits = stream.step(token_id).astype(np.float64)


def generate_chars(prompt: PrimedPrompt, uniforms: Uniforms) -> Iterator[str]:
    """Generate one text that only its length ends, by a model with one character per token."""
    tokenizer, config = prompt.context.tokenizer, prompt.context.config
    texts = [tokenizer.decode([token_id]) for token_id in range(tokenizer.vocab_size)]
    mask = prompt.context.utf8_masks.logit_mask[COMPLETE]
    draw_id = make_draw(config, mask)
    stream, logits = prompt.stream, prompt.logits.astype(np.float32)
    use_compiled = config.temperature > 0.0 and not config.active_rules
    compiled_draws = None
    num_left = config.length
    while num_left > 0:
        block = uniforms.block(min(UNIFORMS_PER_BLOCK, num_left))
        if use_compiled and not compiled_draws:
            compiled_draws = stream.draws(mask, 1.0 / config.temperature)
        if compiled_draws:
            yield from map(texts.__getitem__, compiled_draws(block))
        else:
            for uniform in block:
                token_id = draw_id(logits, uniform)
                yield texts[token_id]
                logits = stream.step(token_id)
        num_left -= UNIFORMS_PER_BLOCK


def generate_tokens(prompt: PrimedPrompt, uniforms: Uniforms) -> Iterator[str]:
    """Generate one text that only its length ends, by a model whose tokens are bytes or pieces of text."""
    tokenizer, config, utf8_masks = prompt.context.tokenizer, prompt.context.config, prompt.context.utf8_masks
    decoder = StreamingDecoder(tokenizer)
    draw_functions = [make_draw(config, mask) for mask in utf8_masks.logit_mask]  # one for each UTF-8 state
    texts: dict[int, str] = {}  # texts of token ids that are complete characters
    next_state, state = utf8_masks.next_state, COMPLETE
    stream, logits = prompt.stream, prompt.logits.astype(np.float32)
    num_left = config.length
    while num_left > 0:
        for uniform in uniforms.block(UNIFORMS_PER_BLOCK):
            token_id = draw_functions[state](logits, uniform)
            previous, state = state, next_state[state][token_id]
            is_complete = previous == state == COMPLETE
            piece = texts.get(token_id) if is_complete else None
            if piece is None:
                piece = decoder.feed(token_id)
                if is_complete and not config.allow_invalid_utf8:
                    texts[token_id] = piece
            if piece:
                yield piece[:num_left]
                num_left -= len(piece)
                if num_left <= 0:
                    return
            logits = stream.step(token_id)


# ── many texts at once ────────────────────────────────────────────────────────


def generate_batch(
    prompt: BatchStart, sequences: Sequence[GeneratedSequence], rngs: Sequence[np.random.Generator]
) -> Iterator[tuple[int, str]]:
    """Generate several texts at once with all settings, until all have ended.

    Args:
        prompt: The prompt.
        sequences: A new sequence for each text; afterwards they say why the texts ended.
        rngs: A random number generator for each text.

    Yields:
        (index of a text, its next characters).
    """
    active = [k for k, sequence in enumerate(sequences) if not sequence.ended]
    logits = prompt.repeated_logits(len(active))
    streams = prompt.engine.stream_batch(prompt.repeated_state(len(active)))
    while active:
        ids = draw_next_ids(logits, [sequences[k] for k in active], [rngs[k] for k in active], prompt.context)
        growing = []  # rows whose texts have not ended
        for row, (k, token_id) in enumerate(zip(active, ids, strict=True)):
            sequence = sequences[k]
            sequence.append(token_id)
            piece = sequence.pop_text()
            if piece:
                yield k, piece
            if not sequence.ended:
                growing.append(row)
        if len(growing) < len(active):
            active, ids = [active[row] for row in growing], [ids[row] for row in growing]
            streams = streams.select(np.array(growing, dtype=np.intp))
        if active:
            document_ends = boundary_rows(ids)
            if len(document_ends):
                streams.reset(document_ends)
            logits = streams.step(np.array(ids)).astype(np.float64)


def sample_ids(prompt: PrimedPrompt, rows: UniformRows, num_ids: int) -> Ids:
    """Draw as many token ids for each text as its length in characters, where only the length ends a text.

    Args:
        prompt: The prompt.
        rows: The random numbers of the texts.
        num_ids: How many token ids are drawn in total, for these texts and others. The engine compiles its loops if
            that pays off.

    Returns:
        Token ids, [B, T]: the ones that `generate_batch` draws.
    """
    config, mask = prompt.context.config, prompt.context.utf8_masks.logit_mask[COMPLETE]
    first_uniforms = rows.first()
    B, T = len(first_uniforms), config.length
    ids = np.empty((B, T), dtype=np.int32)
    if not T:
        return ids
    first_logits = np.tile(prompt.logits + mask, (B, 1))
    ids[:, 0] = last = draw_batch(warp_logits(first_logits, config), first_uniforms)
    streams = prompt.engine.stream_batch(prompt.repeated_state(B), num_ids)
    compiled_draws = None
    if config.temperature > 0.0 and not config.active_rules:
        compiled_draws = streams.draws(mask, 1.0 / config.temperature)
    sizes = [min(FIRST_BLOCK, T - 1)]
    sizes += [min(UNIFORMS_PER_BLOCK, T - start) for start in range(1 + FIRST_BLOCK, T, UNIFORMS_PER_BLOCK)]
    next_block = streams.uniform_blocks(rows) if compiled_draws else rows.blocks()
    blocks = (next_block(size) for size in sizes if size)
    if compiled_draws:
        streams.step(last)
        _store_rows(_draw_ahead(compiled_draws, blocks), ids)
        return ids
    for t, uniforms in enumerate((row for block in blocks for row in block), 1):
        ids[:, t] = last = draw_batch(warp_logits(streams.step(last) + mask, config), uniforms)
    return ids


def _store_rows(drawn: Iterator[Any], ids: Ids) -> None:
    """Store the token ids of each step, [B], in the columns of `ids`, [B, T], from the second one on.

    The ids of several steps are transposed together, and while a GPU draws.
    """
    B, T = ids.shape
    buffer = np.empty((min(STORED_TOGETHER, T), B), dtype=ids.dtype)
    for start in range(1, T, STORED_TOGETHER):
        count = min(STORED_TOGETHER, T - start)
        for k in range(count):
            buffer[k] = next(drawn)
        ids[:, start : start + count] = buffer[:count].T


def _draw_ahead(draws: Draws, blocks: Iterator[Any]) -> Iterator[Any]:
    """Yield the token ids, [B], that are drawn with blocks of random numbers.

    While a GPU draws with one block, the next one is launched, and the random numbers of the one after it are computed.
    """
    launched: deque[Iterator[Any]] = deque()
    for uniforms in blocks:
        launched.append(draws(uniforms))
        if len(launched) > 1:
            yield from launched.popleft()
    while launched:
        yield from launched.popleft()


# ── single steps ──────────────────────────────────────────────────────────────


def step(engine: Engine, ids: Sequence[int], state: EngineState) -> tuple[Logits, EngineState]:
    """Read one token id in each stream; a stream that reads the boundary starts a new document.

    Returns:
        The next logits, [B, V], and the state after the token ids.
    """
    document_ends = boundary_rows(ids)
    if len(document_ends):
        state = engine.reset(state, document_ends)
    logits, state = engine.step(np.array(ids), state)
    return logits.astype(np.float64), state


def boundary_rows(ids: Sequence[int]) -> NDArray[np.intp]:
    """Return the rows whose token id is the boundary, where one document ends and the next one starts."""
    return np.array([row for row, token_id in enumerate(ids) if token_id == BOUNDARY_ID], dtype=np.intp)


def draw_next_ids(
    logits: Logits,
    sequences: Sequence[GeneratedSequence],
    rngs: Sequence[np.random.Generator],
    context: GenerationContext,
) -> list[int]:
    """Draw the next token id of each sequence from logits [B, V]."""
    logits = context.mask_invalid(logits, sequences)
    if context.processors:
        logits = apply_processors(logits, sequences, context.config.temperature)
    uniforms = np.array([rng.random() for rng in rngs])
    ids: list[int] = draw_batch(warp_logits(logits, context.config), uniforms).tolist()
    return ids


def draw_particle_ids(
    logits: Logits, particles: Sequence[GeneratedSequence], rng: np.random.Generator, context: GenerationContext
) -> dict[int, int]:
    """Draw the next token id of each particle from logits [B, V], and append it.

    A particle for which every token id is forbidden gets none: it ends with the reason DEAD_END and the weight 0.

    Returns:
        row → token id, for the particles of whose texts the token id is a part.
    """
    logits = context.mask_invalid(logits, particles)
    if context.processors:
        logits = apply_processors(logits, particles, context.config.temperature, allow_dead_ends=True)
    live = np.flatnonzero(logits.max(axis=1) > -np.inf)
    for row in set(range(len(particles))) - set(live.tolist()):
        particles[row].ended = DEAD_END
    if not len(live):
        return {}
    uniforms = np.array([rng.random() for _ in live])
    ids: list[int] = draw_batch(warp_logits(logits[live], context.config), uniforms).tolist()
    return {row: token_id for row, token_id in zip(live.tolist(), ids, strict=True) if particles[row].append(token_id)}
