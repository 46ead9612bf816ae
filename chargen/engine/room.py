"""Where a program's numbers stand: the room of a stream, [size], those of many, [B, size], and the rows of the table.

What is at a place of a room is `room[..., place : place + width]`, of one stream or of many.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from chargen.cells.cell import State
from chargen.engine.graph import Node
from chargen.engine.schedule import ALIGNED, Product, Schedule

Float = NDArray[np.float32]


def new_room(plan: Schedule, count: int | None = None) -> Float:
    """Return a stream's room, or those of many, with the constants in them."""
    room = _aligned(plan.size) if count is None else _aligned(count, _odd(plan.size))
    for node in plan.constants:
        room[..., plan.place(node) : plan.place(node) + node.width] = node.value
    return room


def enter(plan: Schedule, room: Float, state: Iterable[State]) -> None:
    """Put a state into a room, and make the products that the first step needs."""
    H = plan.hidden_size
    for place, part in zip(plan.states, (part for layer in state for part in layer), strict=True):
        room[..., place : place + H] = part
    for product in plan.steps:
        if isinstance(product, Product) and product.state is not None:
            at = plan.states[product.state]
            operand, out = room[..., at : at + H], room[..., product.begin : product.begin + len(product.matrix)]
            if room.ndim == 1:
                np.dot(product.matrix, operand, out)
            else:
                np.matmul(operand, product.columns, out)


def leave(plan: Schedule, room: Float, like: Iterable[State]) -> tuple[State, ...]:
    """Return the state in a room as a value, [1, H] or [B, H], in the form of another."""
    parts = (np.atleast_2d(room[..., place : place + plan.hidden_size]).copy() for place in plan.states)
    return tuple(tuple(next(parts) for _ in layer) for layer in like)


class Rows(dict[int, tuple[Float, ...]]):
    """What depends on the id alone, in parts, worked out when an id is first read.

    Args:
        plan: a network's step.
        tables: the input gates of every id, a table [V, X·H] for each member.
    """

    def __init__(self, plan: Schedule, tables: Sequence[Float]) -> None:
        super().__init__()
        self._plan, self._tables = plan, tables

    def __missing__(self, token_id: int) -> tuple[Float, ...]:
        self[token_id] = self._parts([table[token_id] for table in self._tables])
        return self[token_id]

    @cached_property
    def table(self) -> Float:
        """Those of all ids, the parts of each behind one another, [V, R]."""
        return np.concatenate([self._tables[0][:, :0], *self._parts(self._tables)], axis=1)

    def _parts(self, inputs: Sequence[Float]) -> tuple[Float, ...]:
        return tuple(_value(node, inputs) for node in self._plan.rows)


def _value(node: Node, inputs: Sequence[Float]) -> Float:
    """Work out what depends on the id alone, of one id or of all."""
    if node.op == "constant":
        return node.value  # type: ignore[no-any-return]
    if node.op == "input":
        return inputs[node.begin]
    args = [_value(arg, inputs) for arg in node.args]
    if node.op == "slice":
        return args[0][..., node.begin : node.begin + node.width]
    if node.op == "product":
        return args[0] @ node.value.T  # type: ignore[no-any-return]
    return getattr(np, node.op)(*args)  # type: ignore[no-any-return]


def _aligned(*shape: int) -> Float:
    """Return zeros that begin at a line of the cache."""
    size = int(np.prod(shape))
    memory = np.zeros(size + ALIGNED, dtype=np.float32)
    skipped = -(memory.ctypes.data // memory.itemsize) % ALIGNED
    return memory[skipped : skipped + size].reshape(shape)


def _odd(size: int) -> int:
    """Return at least this size, an odd number of the cache's lines.

    In an array of another width what stands under each other finds its way to the same few places of the cache.
    """
    return (-(-size // ALIGNED) | 1) * ALIGNED
