"""Where a program's numbers stand: the room of a stream, and the rows of the table that ids stand for."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from chargen.engine.graph import Node
from chargen.engine.schedule import ALIGNED, Product, Schedule

Float = NDArray[np.float32]


def new_room(plan: Schedule) -> Float:
    """Return a stream's room, with the constants in it."""
    memory = np.zeros(plan.size + ALIGNED, dtype=np.float32)
    skipped = -(memory.ctypes.data // memory.itemsize) % ALIGNED
    room = memory[skipped : skipped + plan.size]
    for node in plan.constants:
        room[plan.place(node) : plan.place(node) + node.width] = node.value
    return room


def prime(plan: Schedule, room: Float) -> None:
    """Make the products that the first step needs; the room holds the state."""
    H = plan.hidden_size
    for product in plan.steps:
        if isinstance(product, Product) and product.state is not None:
            at = plan.states[product.state]
            np.dot(product.matrix, room[at : at + H], out=room[product.begin : product.begin + len(product.matrix)])


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
