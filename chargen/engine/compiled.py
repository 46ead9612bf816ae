"""A step with compiled loops (`kernel.py`) between its products, and the same from one draw to the next.

From draw to draw the loops at a step's end, the draw and the loops at the next step's beginning are one call:

    … ─▶ product ─▶ │ logits ─▶ draw an id ─▶ its row ─▶ gates ─▶ h' │ ─▶ product ─▶ …
                    └────────────────────── a call ──────────────────┘

The weights push everything else out of the cache once for each character, and every call of Python's then looks for its
own code and data in memory: four calls less save 4 µs of 34, where the product takes 24 (GRU 1×384).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from chargen.engine.graph import Node
from chargen.engine.kernel import Kernels
from chargen.engine.ngrams import Reader
from chargen.engine.program import Step, Writer
from chargen.engine.room import Float, Rows
from chargen.engine.schedule import Copy, Product, Schedule

Part = list[Node] | Product | Copy  #: of a step: a run of operations that are compiled, or what NumPy does
Draw = Callable[[Any], Any]  #: a random number → an id, or [B] → [B], which the next draw writes over


def compiled_step(
    plan: Schedule, room: Float, rows: Rows, kernels: Kernels, parted: bool = False, reader: Reader | None = None
) -> Step:
    """Return a step of a stream, as `numpy_step` does, or of many: ids [B] → logits [B, V].

    Raises:
        TraceError: the loops cannot be compiled.
    """
    writer = _writer(plan, room, rows, parted)
    writer.line("ids[:] = given" if room.ndim > 1 else "ids = given")
    writer.read(reader, "ids")
    _write(writer, kernels, _parts(plan), room.ndim > 1)
    return writer.finish(writer.logits())


def compiled_draw(
    plan: Schedule,
    room: Float,
    rows: Rows,
    kernels: Kernels,
    added: Any,
    inverse: float,
    parted: bool = False,
    reader: Reader | None = None,
) -> Draw:
    """Return what draws an id by a random number and reads it, or B ids by B numbers.

    Args:
        reader: of n-grams, where there are any.
        added, inverse: to the logits, and 1 / temperature: see `drawing.py`.

    Raises:
        TraceError: as above.
    """
    parts, many = _parts(plan), room.ndim > 1
    before: list[Node] = []
    # From the last product to the logits is left to the next draw. After a step it is done a second time, so nothing of
    # the state may be among it.
    if isinstance(parts[-1], list) and not any(plan.place(node) in plan.states for node in parts[-1]):
        before = parts.pop()  # type: ignore[assignment]
    after: list[Node] = parts.pop(0) if isinstance(parts[0], list) else []  # type: ignore[assignment]
    writer = _writer(plan, room, rows, parted)
    if many:
        writer.line("draw(table, room, added, space, inverse, given, ids)")
    else:
        writer.line("ids = draw(table, room, added, space, inverse, given)")
    space = np.zeros(plan.graph.logits.width)
    writer.names |= {"draw": kernels.draw(before, after, many), "added": added, "space": space, "inverse": inverse}
    writer.read(reader, "ids")
    _write(writer, kernels, parts, many)
    return writer.finish("ids")


def _writer(plan: Schedule, room: Float, rows: Rows, parted: bool) -> Writer:
    writer = Writer(plan, room, parted)
    writer.names |= {"table": rows.table, "room": room}
    if room.ndim > 1:
        writer.names["ids"] = np.zeros(len(room), dtype=np.int64)
    return writer


def _write(writer: Writer, kernels: Kernels, parts: Sequence[Part], many: bool) -> None:
    for number, part in enumerate(parts):
        if isinstance(part, list):
            writer.names[f"k{number}"] = kernels.loops(part, many)
            writer.line(f"k{number}(table, ids, room)")
        else:
            writer.steps([part])


def _parts(plan: Schedule) -> list[Part]:
    parts: list[Part] = []
    for step in plan.steps:
        if not isinstance(step, Node):
            parts.append(step)
        elif parts and isinstance(parts[-1], list):
            parts[-1].append(step)
        else:
            parts.append([step])
    return parts
