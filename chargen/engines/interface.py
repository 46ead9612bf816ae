"""The contract of an engine. Everything above (sampling, scoring, evaluation) speaks to a model through it.

States put together: forks share a beginning that was read once; `Engine.select` takes them apart.

A state is nested tuples of arrays whose first axis is the stream (`Cell.initial_state`); only this file and the engines
know it. The arrays are NumPy's: a fork is for little work, done without torch.

The likelihood of a whole text, by two protocols.

    carried   one stream from the first id to the last, the state carried: how a model is used
    windows   non-overlapping windows, each begun from the initial state with only the id before it:
              what a model of fixed context gets at best

The carried protocol can run in lanes, for speed. Each lane reads `warmup` ids that the lane before it has scored, and
so comes to its own part with the state that one stream would have there, but for what it kept from further back:

    lane 0   ├──────────── scored ────────────┤
    lane 1                        ├─ warmup ──┼──── scored ────┤
    lane 2                                         ├─ warmup ──┼──── scored ────┤

With num_parts=1 it is the definition itself. Of a model of documents the carried protocol ends with each document.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, NamedTuple, Protocol, TypeVar

import numpy as np
from numpy.typing import NDArray

from chargen.tokenizers.tokenizer import BOUNDARY_ID

Draws = Callable[[Any], Iterator[Any]]  #: random numbers → as many ids


class Stream(Protocol):
    """A model that reads one id after another."""

    def step(self, token_id: int) -> NDArray[np.float32]:
        """Read an id and return the logits of the next, [V]: a view that the next step writes over."""

    def draws(self, added: NDArray[np.float64], inverse: float) -> Draws | None:
        """Return what draws ids with probability softmax((logits + added) · inverse), each read before the next.

        The draw is that of `sampling/rules.py`, by a random number of [0, 1). None where single steps are as fast.
        """

    def state(self) -> EngineState:
        """Return the state as a value, which `Engine.step` and other streams can go on from."""


class StreamBatch(Protocol):
    """A model that reads an id of each of many streams after another, [B]."""

    def step(self, ids: NDArray[Any]) -> NDArray[np.float32]:
        """Read an id a stream and return the logits of the next, [B, V]: a view that the next step writes over."""

    def draws(self, added: NDArray[np.float64], inverse: float) -> Draws | None:
        """Return what `Stream.draws` does, for random numbers [T, B]: ids [B], T times; each is written over."""

    def select(self, rows: NDArray[np.intp]) -> StreamBatch:
        """Return these streams alone."""

    def reset(self, rows: NDArray[np.intp]) -> None:
        """Put these streams back to the beginning; each reads an id before anything is drawn for it."""


EngineState = Any  #: a value: keep it, give it twice, throw it away; only the engine that made it looks inside

Item = TypeVar("Item")
Result = TypeVar("Result")


class Engine(Protocol):
    """A model that reads ids and says what comes next. Time first: ids are [T, B]."""

    vocab_size: int
    max_streams: int  #: streams, at most, that are best stepped together

    def initial_state(self, batch_size: int) -> EngineState:
        """Return the state before the first id."""

    def select(self, state: EngineState, rows: NDArray[np.intp]) -> EngineState:
        """Return the state of these streams, [rows]; one may stand there several times, or not at all."""

    def reset(self, state: EngineState, rows: NDArray[np.intp]) -> EngineState:
        """Return the state with these streams put back to the beginning."""

    def map(self, function: Callable[[Item], Result], items: Iterable[Item]) -> Iterator[Result]:
        """Yield function(item) in the items' order; an engine that can works on several at once."""

    def step(self, ids: NDArray[Any], state: EngineState) -> tuple[NDArray[np.float32], EngineState]:
        """Read one id a stream, [B], and return (logits of the next [B, V], the state after)."""

    def stream(self, state: EngineState) -> Stream:
        """Return a stream that goes on from the state of one, id by id, as fast as can be."""

    def stream_batch(self, state: EngineState, num_ids: int = 0) -> StreamBatch:
        """Return what goes on from a state, id by id; of all together so many ids are known to come."""

    def read(
        self, inputs: NDArray[Any], targets: NDArray[Any], state: EngineState
    ) -> tuple[NDArray[np.float64], EngineState]:
        """Read [T, B] and return (log p of each target in nats [T, B], the state after)."""


def log_softmax(logits: NDArray[Any]) -> NDArray[np.float64]:
    """Return log probabilities in nats over the last axis, computed in float64."""
    x = logits.astype(np.float64)
    x -= x.max(axis=-1, keepdims=True)
    x -= np.log(np.exp(x).sum(axis=-1, keepdims=True))
    return x


def joined(states: Sequence[EngineState]) -> EngineState:
    """Return states, at least one, as the state of all their streams side by side."""
    if isinstance(states[0], tuple):
        return tuple(joined(parts) for parts in zip(*states, strict=True))
    return np.concatenate(states)


class Step(NamedTuple):
    """What a model says after it has read an id."""

    logits: NDArray[np.float32]  #: of the next id, [1, V]
    state: EngineState  #: after the id


def step_through(engine: Engine, ids: NDArray[Any], state: EngineState) -> Iterator[Step]:
    """Read ids one by one in one stream, and yield the logits and the state after each.

    Args:
        engine: Engine that runs the model.
        ids: Ids to read, [N].
        state: State of one stream before the first id.
    """
    for token_id in ids.tolist():
        logits, state = engine.step(np.array([token_id]), state)
        yield Step(logits, state)


def read_context(engine: Engine, context: NDArray[Any]) -> Step:
    """Read a context of at least one id from the initial state, and return the last step."""
    for step in step_through(engine, context, engine.initial_state(1)):
        last = step
    return last


def common_prefix_length(a: NDArray[Any], b: NDArray[Any]) -> int:
    """Return how many ids two sequences have in common at their start, so that they need not be read again."""
    size = min(len(a), len(b))
    different = np.flatnonzero(a[:size] != b[:size])
    return int(different[0]) if len(different) else size


WARMUP = 512
SPAN = 256  #: ids of a lane that are read at once


def carried_log_probs(
    engine: Engine,
    ids: NDArray[Any],
    start: NDArray[Any],
    num_parts: int = 1,
    warmup: int = WARMUP,
) -> NDArray[np.float64]:
    """Return log p of each id given all before it, [N], in nats.

    Args:
        engine: the model.
        ids: the text, [N].
        start: what it begins after, [S], not scored.
        num_parts: how many parts are read side by side; fewer where a part would be shorter than the warm-up.
        warmup: ids that a lane reads before its part.
    """
    text = np.concatenate([start, ids]).astype(np.int64)
    return _scored(engine, text[:-1], text[1:], num_parts, warmup)[len(start) - 1 :]


def layout(num_ids: int, num_parts: int, warmup: int) -> tuple[int, int, int]:
    """Return (lanes, ids that each scores and no other does, warm-up) for a text: a short one has fewer lanes."""
    num_parts = max(1, min(num_parts, num_ids // max(warmup, 1)))
    return (num_parts, -(-max(num_ids - warmup, 1) // num_parts), warmup) if num_parts > 1 else (1, num_ids, 0)


def windows_log_probs(
    engine: Engine, ids: NDArray[Any], start: NDArray[Any], window: int = 256, batch_size: int = 64
) -> NDArray[np.float64]:
    """Return log p of each id given the ids before it in its window and the one before that, [N], in nats."""
    inputs = np.concatenate([start[-1:], ids[:-1]]).astype(np.int64)
    log_probs = np.empty(len(ids))
    begins = np.arange(0, len(ids), window)
    for first in range(0, len(begins), batch_size):
        places = begins[first : first + batch_size] + np.arange(window)[:, None]  # [T, B]
        inside = np.minimum(places, len(ids) - 1)  # the last window may be short: read its last id again, unscored
        read, _ = engine.read(inputs[inside], ids[inside], engine.initial_state(inside.shape[1]))
        log_probs[places[places < len(ids)]] = read[places < len(ids)]
    return log_probs


def document_log_probs(engine: Engine, ids: NDArray[Any], batch_size: int = 64) -> NDArray[np.float64]:
    """Return log p of each id given those before it in its document, [N], in nats.

    Args:
        engine: the model.
        ids: documents, each followed by the boundary (the last one need not be), [N]. The boundary is scored too.
        batch_size: documents that are read side by side, those of like length together.
    """
    ends = np.flatnonzero(ids == BOUNDARY_ID)
    begins = np.concatenate([[0], ends + 1])
    lengths = np.diff(np.append(begins, len(ids)))
    begins, lengths = begins[lengths > 0], lengths[lengths > 0]
    order = np.argsort(lengths, kind="stable")
    log_probs = np.empty(len(ids))
    for first in range(0, len(order), batch_size):
        chosen = order[first : first + batch_size]
        state = engine.initial_state(len(chosen))
        for offset in range(0, int(lengths[chosen].max()), SPAN):
            steps = np.arange(offset, min(offset + SPAN, int(lengths[chosen].max())))[:, None]  # [T, 1]
            inside = steps < lengths[chosen]  # [T, B]
            places = begins[chosen] + np.minimum(steps, lengths[chosen] - 1)
            inputs = np.where(steps > 0, ids[np.maximum(places - 1, 0)], BOUNDARY_ID).astype(np.int64)
            read, state = engine.read(inputs, ids[places].astype(np.int64), state)
            log_probs[places[inside]] = read[inside]
    return log_probs


def _scored(
    engine: Engine, inputs: NDArray[Any], targets: NDArray[Any], num_parts: int, warmup: int
) -> NDArray[np.float64]:
    N = len(targets)
    num_parts, own, warmup = layout(N, num_parts, warmup)
    length = own + warmup
    log_probs = np.empty(N)
    state = engine.initial_state(num_parts)
    for offset in range(0, length, SPAN):
        steps = np.arange(offset, min(offset + SPAN, length))[:, None]  # [T, 1]
        places = np.arange(num_parts) * own + steps  # [T, B]
        inside = np.minimum(places, N - 1)  # the last lane may be short
        read, state = engine.read(inputs[inside], targets[inside], state)
        counts = (places < N) & ((steps >= warmup) | (np.arange(num_parts) == 0))
        log_probs[places[counts]] = read[counts]
    return log_probs
