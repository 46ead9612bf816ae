"""The number of threads of products: all threads on an idle machine, one beside a process that uses a core."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from chargen.engines import blas_threads
from chargen.engines.blas_threads import CALLS_BETWEEN_TIMINGS, NUM_SERIAL_CALLS, PAUSE_RATIO, ThreadChooser
from tests.graph.small_engines import engine, numba


class Machine:
    """A clock, and the seconds that a call takes on one thread and on all."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, max_threads: int = 2) -> None:
        self.now, self.serial_s, self.parallel_s, self.num_threads = 0.0, 1.0, 0.6, max_threads
        self.calls: list[int] = []
        functions = (lambda number: setattr(self, "num_threads", number), lambda: self.num_threads)
        monkeypatch.setattr(blas_threads, "_functions", lambda: functions)
        monkeypatch.setattr(blas_threads.time, "perf_counter", lambda: self.now)

    def work(self, argument: int) -> int:
        self.calls.append(self.num_threads)
        self.now += self.serial_s if self.num_threads == 1 else self.parallel_s
        return 2 * argument

    def run(self, chooser: ThreadChooser, count: int) -> None:
        self.calls.clear()
        assert [chooser.call(self.work, n) for n in range(count)] == [2 * n for n in range(count)]


def test_all_threads_are_used_where_they_are_faster(monkeypatch: pytest.MonkeyPatch) -> None:
    machine = Machine(monkeypatch)
    machine.run(ThreadChooser(), NUM_SERIAL_CALLS + CALLS_BETWEEN_TIMINGS + 10)
    assert machine.calls[:NUM_SERIAL_CALLS] == NUM_SERIAL_CALLS * [1]
    assert machine.calls.count(1) == 2 * NUM_SERIAL_CALLS
    assert machine.num_threads == 2


@pytest.mark.parametrize("factor", [1.2, 10.0, 100.0])
def test_beside_a_busy_process_little_time_is_lost_and_all_threads_are_tried_again(
    monkeypatch: pytest.MonkeyPatch, factor: float
) -> None:
    machine, chooser = Machine(monkeypatch), ThreadChooser()
    machine.parallel_s = factor
    machine.run(chooser, 20_000)
    assert machine.now < 20_000 * (1 + 1.5 / PAUSE_RATIO) + factor
    machine.parallel_s = 0.6  # the other process has ended
    machine.run(chooser, int(PAUSE_RATIO * 2 * factor) + 1000)
    assert machine.calls[-500:].count(2) > 490


def test_calls_on_all_threads_that_are_slow_now_and_then_lose_little_time(monkeypatch: pytest.MonkeyPatch) -> None:
    machine, chooser = Machine(monkeypatch), ThreadChooser()
    for turn in range(5_000):  # the turns of the other process: a few calls of a comparison can fall between them
        machine.parallel_s = 0.6 if turn % 12 else 45.0
        chooser.call(machine.work, turn)
    assert machine.now < 5_000 * 1.05


def test_a_process_with_one_thread_measures_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    machine = Machine(monkeypatch, max_threads=1)
    monkeypatch.setattr(blas_threads.time, "perf_counter", None)
    machine.run(ThreadChooser(), 10)  # a measurement would call the clock, which is None
    assert machine.num_threads == 1


def test_an_error_leaves_the_number_of_threads_as_it_was(monkeypatch: pytest.MonkeyPatch) -> None:
    machine = Machine(monkeypatch)
    with pytest.raises(ZeroDivisionError):
        ThreadChooser().call(lambda argument: 1 // argument, 0)
    assert machine.num_threads == 2


@numba
def test_compiled_batches_choose_the_number_of_threads_and_selections_share_the_timings(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    called: list[tuple[int, Any]] = []
    call = ThreadChooser.call

    def recorded(self: ThreadChooser, function: Any, argument: Any) -> Any:
        called.append((id(self), function))
        return call(self, function, argument)

    monkeypatch.setattr(ThreadChooser, "call", recorded)
    ours = engine("mgru")
    batch = ours.stream_batch(ours.initial_state(4))
    assert batch.compile()
    batch.step(np.arange(4))
    called.clear()
    draws = batch.draws(np.zeros(ours.vocab_size), 1.0)
    assert draws is not None and len(list(draws(np.full((3, 4), 0.5)))) == 3
    part = batch.select(np.array([0, 2]))
    part.step(np.arange(2))
    assert len(called) == 4 and len({chooser for chooser, _ in called}) == 1
