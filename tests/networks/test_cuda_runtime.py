"""The CUDA runtime on a machine without a GPU: what happens around a recording."""

from __future__ import annotations

import gc
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
import torch

from chargen.networks import cuda_runtime

GPU = torch.device("cuda")


class Graph:
    """Takes the place of a CUDA graph."""

    def replay(self) -> None: ...


@pytest.fixture
def streams(monkeypatch: pytest.MonkeyPatch) -> list[object]:
    """Let `record` use a stand-in for the library, and return the list of the streams that it records on."""
    used: list[object] = []

    @contextmanager
    def graph(graph: Graph, stream: object, capture_error_mode: str) -> Iterator[None]:
        used.append(stream)
        yield

    for name, value in {"CUDAGraph": Graph, "graph": graph, "Stream": lambda device: object()}.items():
        monkeypatch.setattr(torch.cuda, name, value)
    return used


@pytest.mark.parametrize("fails", [False, True])
def test_no_cycle_is_freed_during_a_recording(fails: bool, streams: list[object]) -> None:
    seen: list[bool] = []

    def function() -> None:
        seen.append(gc.isenabled())
        if fails:
            raise ValueError

    assert gc.isenabled()
    if fails:
        with pytest.raises(ValueError):
            cuda_runtime.record(function, GPU)
    else:
        cuda_runtime.record(function, GPU)
    assert seen == [False]
    assert gc.isenabled()


def test_garbage_collection_that_was_off_stays_off(streams: list[object]) -> None:
    gc.disable()
    try:
        cuda_runtime.record(lambda: None, GPU)
        assert not gc.isenabled()
    finally:
        gc.enable()


def test_each_recording_has_a_stream_of_its_own(streams: list[object]) -> None:
    for _ in range(3):
        cuda_runtime.record(lambda: None, GPU)
    assert len(set(map(id, streams))) == 3
