"""The interface of an engine, through which sampling, scoring and evaluation use a model, and whole-text likelihoods.

A state is a value whose arrays have the stream as their first axis: keep it, use it twice, or drop it. Only this file
and the engines use its arrays.

Whole texts. The likelihood of a whole text is measured by one of two protocols:

    carried   one stream from the first token to the last, with the state carried, as a model is used
    windows   non-overlapping windows, each from the initial state and with one token of context:
              the best that a model with a fixed context can do

The carried protocol can read several parts of a text as one batch, for speed. Each part starts with `warmup` tokens
that the part before it scores. So it reaches its own tokens with nearly the state that one stream would have there;
only what the state keeps from before the warm-up is missing:

    part 0   ├──────────── scored ────────────┤
    part 1                        ├─ warmup ──┼──── scored ────┤
    part 2                                         ├─ warmup ──┼──── scored ────┤

With num_parts=1 it is the definition itself. For a model of documents the carried protocol resets the state after each
document (`document_log_probs`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol, TypeVar

import numpy as np
from numpy.typing import NDArray

from chargen.cells.cell import NetworkState
from chargen.tokenizers.tokenizer import BOUNDARY_ID

if TYPE_CHECKING:  # imported for several texts
    from chargen.engines.uniform_rows import Blocks, UniformRows

Draws = Callable[[Any], Iterator[Any]]  #: random numbers → the same number of token ids
EngineState = NetworkState  #: the name that code above the engines uses
Item = TypeVar("Item")
Result = TypeVar("Result")

WARMUP = 512  # tokens that a part reads before its own
READ_STEPS = 256  # steps that are read in one call


class Stream(Protocol):
    """A model that reads one token after another."""

    def step(self, token_id: int) -> NDArray[np.float32]:
        """Read a token id and return the logits of the next token, [V]: a view that the next step overwrites."""

    def draws(self, added: NDArray[np.float64], inverse_temperature: float) -> Draws | None:
        """Return a function that draws token ids and reads each one before it draws the next.

        The probabilities are softmax((logits + added) · inverse_temperature). The draw is that of
        `sampling/logits_rules.py`, with one random number in [0, 1) per token. None if single steps are as fast.
        """

    def state(self) -> EngineState:
        """Return the state as a value, from which `Engine.step` and other streams can continue."""


class StreamBatch(Protocol):
    """A model that reads one token after another in each of B streams."""

    def step(self, ids: NDArray[Any]) -> NDArray[np.float32]:
        """Read one token id per stream and return the next logits, [B, V]; the next step overwrites them."""

    def draws(self, added: NDArray[np.float64], inverse_temperature: float) -> Draws | None:
        """Return the function of `Stream.draws` for random numbers [T, B]: it yields token ids, [B], T times.

        The next draw overwrites an array that was yielded.
        """

    def uniform_blocks(self, rows: UniformRows) -> Blocks:
        """Return a function that computes the next random numbers of each stream, where `draws` needs them."""

    def select(self, rows: NDArray[np.intp]) -> StreamBatch:
        """Return a batch of these streams only."""

    def reset(self, rows: NDArray[np.intp]) -> None:
        """Reset these streams to the initial state. Each must read a token before anything is drawn for it."""


class Engine(Protocol):
    """A model that reads token ids and predicts the next ones. Time is the first axis: token ids are [T, B]."""

    vocab_size: int
    max_streams: int  #: more streams than this are better stepped in several batches

    def initial_state(self, batch_size: int) -> EngineState:
        """Return the state before the first token."""

    def select(self, state: EngineState, rows: NDArray[np.intp]) -> EngineState:
        """Return the state of these streams, [rows]. A stream may occur several times, or not at all."""

    def reset(self, state: EngineState, rows: NDArray[np.intp]) -> EngineState:
        """Return the state with these streams reset to the initial state."""

    def map(self, function: Callable[[Item], Result], items: Iterable[Item]) -> Iterator[Result]:
        """Yield function(item) in the order of the items; an engine may compute several at once."""

    def step(self, ids: NDArray[Any], state: EngineState) -> tuple[NDArray[np.float32], EngineState]:
        """Read one token id per stream, [B], and return (the logits of the next token [B, V], the state after it)."""

    def stream(self, state: EngineState) -> Stream:
        """Return a fast stream that continues from a state of batch size 1."""

    def stream_batch(self, state: EngineState, num_ids: int = 0) -> StreamBatch:
        """Return a fast batch of streams that continues from a state.

        Args:
            state: The state from which the streams continue.
            num_ids: Expected number of token ids that all streams together will read; 0 if that is unknown.
        """

    def read(
        self, inputs: NDArray[Any], targets: NDArray[Any], state: EngineState
    ) -> tuple[NDArray[np.float64], EngineState]:
        """Read token ids, [T, B], and return (log p of each target in nats [T, B], the state after the last)."""


def log_softmax(logits: NDArray[Any]) -> NDArray[np.float64]:
    """Return log probabilities in nats over the last axis, computed in float64."""
    x = logits.astype(np.float64)
    x -= x.max(axis=-1, keepdims=True)
    x -= np.log(np.exp(x).sum(axis=-1, keepdims=True))
    return x


def concatenate_states(states: Sequence[EngineState]) -> EngineState:
    """Return one state with the streams of all states, at least one, in their order.

    The states must have NumPy arrays. `Engine.select` takes the streams apart again. It lets several continuations
    share a prefix that was read once.
    """
    return states[0].map(lambda *parts: np.concatenate(parts), *states[1:])


class Step(NamedTuple):
    """The output of a model after it has read a token id."""

    logits: NDArray[np.float32]  #: logits of the next token, [1, V]
    state: EngineState  #: state after the token id


def step_through(engine: Engine, ids: NDArray[Any], state: EngineState) -> Iterator[Step]:
    """Read token ids one by one in one stream, and yield the logits and the state after each.

    Args:
        engine: Engine that runs the model.
        ids: Token ids to read, [N].
        state: State, of batch size 1, before the first token id.
    """
    for token_id in ids.tolist():
        logits, state = engine.step(np.array([token_id]), state)
        yield Step(logits, state)


def read_context(engine: Engine, context: NDArray[Any]) -> Step:
    """Read a context of at least one token id from the initial state, and return the last step."""
    for step in step_through(engine, context, engine.initial_state(1)):
        last = step
    return last


def common_prefix_length(a: NDArray[Any], b: NDArray[Any]) -> int:
    """Return the length of the common prefix of two sequences of token ids, which need not be read again."""
    size = min(len(a), len(b))
    different = np.flatnonzero(a[:size] != b[:size])
    return int(different[0]) if len(different) else size


def carried_log_probs(
    engine: Engine,
    ids: NDArray[Any],
    start: NDArray[Any],
    num_parts: int = 1,
    warmup: int = WARMUP,
    choose_parts: Callable[[int], range] = range,
) -> NDArray[np.float64]:
    """Return log p of each token id given all before it, [N], in nats.

    Args:
        engine: The engine that runs the model.
        ids: Token ids of the text, [N].
        start: Token ids of the context before the text, [S], at least one; they are not scored.
        num_parts: Number of parts that are read as one batch; fewer if a part would be shorter than the warm-up.
        warmup: Number of tokens before a part that are read to warm up its state.
        choose_parts: Returns which of the parts are read, given their number. The result has only their token ids.
    """
    text = np.concatenate([start, ids]).astype(np.int64)
    layout = split_into_parts(len(text) - 1, num_parts, warmup)
    parts = choose_parts(layout[0])
    log_probs = _read_parts(engine, text[:-1], text[1:], layout, parts)
    return log_probs if parts.start else log_probs[len(start) - 1 :]


def split_into_parts(num_ids: int, num_parts: int, warmup: int) -> tuple[int, int, int]:
    """Return (number of parts, tokens that each part scores, warm-up) for a text. A short text has fewer parts."""
    num_parts = max(1, min(num_parts, num_ids // max(warmup, 1)))
    return (num_parts, -(-max(num_ids - warmup, 1) // num_parts), warmup) if num_parts > 1 else (1, num_ids, 0)


def windows_log_probs(
    engine: Engine, ids: NDArray[Any], start: NDArray[Any], window: int = 256, batch_size: int = 64
) -> NDArray[np.float64]:
    """Return log p of each token id given those before it in its window and the one before the window, [N], in nats."""
    inputs = np.concatenate([start[-1:], ids[:-1]]).astype(np.int64)
    log_probs = np.empty(len(ids))
    window_starts = np.arange(0, len(ids), window, dtype=np.int64)
    for first in range(0, len(window_starts), batch_size):
        positions = window_starts[first : first + batch_size] + np.arange(window)[:, None]  # [T, B]
        readable = np.minimum(positions, len(ids) - 1)  # a short last window reads the last token id again, unscored
        read_log_probs, _ = engine.read(inputs[readable], ids[readable], engine.initial_state(readable.shape[1]))
        log_probs[positions[positions < len(ids)]] = read_log_probs[positions < len(ids)]
    return log_probs


def document_log_probs(
    engine: Engine,
    ids: NDArray[Any],
    batch_size: int = 64,
    part_size: int | None = None,
    warmup: int = WARMUP,
) -> NDArray[np.float64]:
    """Return log p of each token id given those before it in its document, [N], in nats.

    Args:
        engine: The engine that runs the model.
        ids: Token ids of documents, [N]. Each document is followed by the boundary, which is scored too; after the
            last document it is optional.
        batch_size: Number of documents in a batch; documents of similar length are read together.
        part_size: Number of tokens above which a document is read in parts, each after a warm-up, as
            `carried_log_probs` reads a text; None to read every document as one stream.
        warmup: Number of tokens before a part that are read to warm up its state.
    """
    ends = np.flatnonzero(ids == BOUNDARY_ID)
    starts = np.concatenate([[0], ends + 1])
    lengths = np.diff(np.append(starts, len(ids)))
    num_parts = -(-lengths // (part_size or max(1, len(ids))))  # of a document; 0 of an empty one
    document = np.repeat(np.arange(len(starts)), num_parts)
    number = np.arange(len(document)) - np.repeat(np.cumsum(num_parts) - num_parts, num_parts)
    scored = starts[document] + number * lengths[document] // num_parts[document]  # the first token that a part scores
    starts = np.maximum(starts[document], scored - warmup)  # the first one that it reads
    lengths = np.append(scored[1:], len(ids)) - starts
    order = np.argsort(lengths, kind="stable")
    log_probs = np.empty(len(ids))
    for first in range(0, len(order), batch_size):
        batch = order[first : first + batch_size]
        max_length = int(lengths[batch].max())
        state = engine.initial_state(len(batch))
        for offset in range(0, max_length, READ_STEPS):
            steps = np.arange(offset, min(offset + READ_STEPS, max_length))[:, None]  # [T, 1]
            positions = starts[batch] + np.minimum(steps, lengths[batch] - 1)  # [T, B]
            inputs = np.where(positions > 0, ids[np.maximum(positions - 1, 0)], BOUNDARY_ID).astype(np.int64)
            read_log_probs, state = engine.read(inputs, ids[positions].astype(np.int64), state)
            is_scored = (steps < lengths[batch]) & (positions >= scored[batch])
            log_probs[positions[is_scored]] = read_log_probs[is_scored]
    return log_probs


def _read_parts(
    engine: Engine, inputs: NDArray[Any], targets: NDArray[Any], layout: tuple[int, int, int], parts: range
) -> NDArray[np.float64]:
    """Return log p of the targets of some parts that follow each other, read side by side.

    Args:
        engine: The engine that runs the model.
        inputs: Token ids, [N].
        targets: The token id that follows each of them, [N].
        layout: The result of `split_into_parts`.
        parts: The parts to read.
    """
    if not parts:
        return np.empty(0)
    N = len(targets)
    _, scored_per_part, warmup = layout
    part_length = warmup + scored_per_part
    log_probs = np.empty(N)
    state = engine.initial_state(len(parts))
    numbers = np.arange(parts.start, parts.stop, dtype=np.int64)
    for offset in range(0, part_length, READ_STEPS):
        steps = np.arange(offset, min(offset + READ_STEPS, part_length))[:, None]  # [T, 1]
        positions = numbers * scored_per_part + steps  # [T, B]
        readable = np.minimum(positions, N - 1)  # a short last part reads the last token id again, unscored
        read_log_probs, state = engine.read(inputs[readable], targets[readable], state)
        is_scored = (positions < N) & ((steps >= warmup) | (numbers == 0))
        log_probs[positions[is_scored]] = read_log_probs[is_scored]
    first = parts.start * scored_per_part + (warmup if parts.start else 0)
    return log_probs[first : parts.stop * scored_per_part + warmup]


def torch_device(device: str) -> str:
    """Return the device on which torch runs a model: for "auto" a GPU if there is one; only for "cpu" without torch."""
    if device == "cpu":
        return "cpu"
    from chargen.networks.torch_runtime import resolve_device  # imports torch, which alone can find a GPU

    return resolve_device(device)


def check_device(device: str) -> str:
    """Return the name of a device of this machine unchanged; for "auto" and "cpu" torch is not imported.

    Raises:
        DeviceError: If this machine has no such device.
    """
    if device not in ("auto", "cpu"):
        from chargen.networks.torch_runtime import resolve_device

        resolve_device(device)
    return device
