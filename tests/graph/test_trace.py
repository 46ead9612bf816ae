"""Tracing: a new cell is traced, and a cell that cannot be traced runs its own step."""

from __future__ import annotations

from typing import Any

import pytest

from chargen.cells import CELLS
from chargen.engines.streams import PlainStream, TracedStream
from tests.graph.small_engines import SHAPES, CustomCell, assert_same_as_steps, crossed, engine, random_state


def rolled(xp: Any, params: Any, x_gates: Any, state: Any) -> Any:
    h, last = state
    return xp.tanh(x_gates + xp.roll(h, 1, -1) + params["bias_hh"]), h + last


def in_place(xp: Any, params: Any, x_gates: Any, state: Any) -> Any:
    h = state[0] + 0.0
    kept = h
    h += x_gates
    return xp.tanh(h), xp.tanh(kept)


def kept(xp: Any, params: Any, x_gates: Any, state: Any) -> Any:
    h, last = state
    return xp.tanh(x_gates + last), h


def branching(xp: Any, params: Any, x_gates: Any, state: Any) -> Any:
    h, last = state
    return (xp.tanh(x_gates), last + 1.0) if (x_gates > 0).any() else (h + 1.0, xp.tanh(last))


@pytest.mark.parametrize("step", [rolled, in_place, kept, branching])
def test_a_cell_that_cannot_be_traced_runs_its_own_step(step: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(CELLS, "get", lambda name: CustomCell(step))
    ours = engine()
    stream = ours.stream(ours.initial_state(1))
    assert isinstance(stream, PlainStream)
    assert_same_as_steps(ours, stream, [1, 2, 3, 1], ours.initial_state(1), 1e-5)


@pytest.mark.parametrize("shape", SHAPES)
def test_a_new_cell_is_traced(shape: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(CELLS, "get", lambda name: CustomCell(crossed))
    ours = engine(scale=0.2, **shape)
    stream = ours.stream(random_state(ours, 1))
    assert isinstance(stream, TracedStream)
    assert_same_as_steps(ours, stream, [1, 2, 3, 1, 9], random_state(ours, 1), 1e-5)
