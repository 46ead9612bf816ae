"""The contract of an engine. Everything above (sampling, scoring, evaluation) speaks to a model through it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Any, Protocol, TypeVar

import numpy as np
from numpy.typing import NDArray

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


class Lanes(Protocol):
    """A model that reads an id of each of many streams after another, [B]."""

    def step(self, ids: NDArray[Any]) -> NDArray[np.float32]:
        """Read an id a stream and return the logits of the next, [B, V]: a view that the next step writes over."""

    def draws(self, added: NDArray[np.float64], inverse: float) -> Draws | None:
        """Return what `Stream.draws` does, for random numbers [T, B]: ids [B], T times; each is written over."""

    def select(self, rows: NDArray[np.intp]) -> Lanes:
        """Return these streams alone."""

    def restart(self, rows: NDArray[np.intp]) -> None:
        """Put these streams back to the beginning; each reads an id before anything is drawn for it."""


EngineState = Any  #: a value: keep it, give it twice, throw it away; only the engine that made it looks inside

Item = TypeVar("Item")
Result = TypeVar("Result")


class Engine(Protocol):
    """A model that reads ids and says what comes next. Time first: ids are [T, B]."""

    vocab_size: int
    most_lanes: int  #: streams, at most, that are best stepped together

    def initial_state(self, batch_size: int) -> EngineState:
        """Return the state before the first id."""

    def select(self, state: EngineState, rows: NDArray[np.intp]) -> EngineState:
        """Return the state of these streams, [rows]; one may stand there several times, or not at all."""

    def restart(self, state: EngineState, rows: NDArray[np.intp]) -> EngineState:
        """Return the state with these streams put back to the beginning."""

    def map(self, function: Callable[[Item], Result], items: Iterable[Item]) -> Iterator[Result]:
        """Yield function(item) in the items' order; an engine that can works on several at once."""

    def step(self, ids: NDArray[Any], state: EngineState) -> tuple[NDArray[np.float32], EngineState]:
        """Read one id a stream, [B], and return (logits of the next [B, V], the state after)."""

    def stream(self, state: EngineState) -> Stream:
        """Return a stream that goes on from the state of one, id by id, as fast as can be."""

    def lanes(self, state: EngineState, num_ids: int = 0) -> Lanes:
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
