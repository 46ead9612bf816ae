"""The number of threads of products: all threads on an idle machine, one beside a process that uses a core."""

from __future__ import annotations

import os
import subprocess
import sys
from threading import Event, Thread
from typing import Any

import numpy as np
import pytest

from chargen.engines import blas_threads
from chargen.engines.blas_threads import (
    CALLS_BETWEEN_TIMINGS,
    NUM_SERIAL_CALLS,
    PAUSE_RATIO,
    ThreadChooser,
    on_one_thread,
    start_threads,
)
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


def test_calls_of_several_threads_restore_the_number_of_threads(monkeypatch: pytest.MonkeyPatch) -> None:
    machine, first_runs, second_runs = Machine(monkeypatch), Event(), Event()

    def first(argument: None) -> None:
        first_runs.set()
        assert second_runs.wait(10)

    def second(argument: None) -> int:
        second_runs.set()
        thread.join(10)  # the first call leaves before this one
        return machine.num_threads

    thread = Thread(target=on_one_thread(first), args=(None,))
    thread.start()
    assert first_runs.wait(10)
    assert on_one_thread(second)(None) == 1
    assert machine.num_threads == 2


def test_threads_that_are_started_during_a_call_on_one_thread_are_used_after_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    machine = Machine(monkeypatch, max_threads=1)
    monkeypatch.setattr(blas_threads._State, "is_deferred", True)
    monkeypatch.setattr(blas_threads, "_num_cores", lambda: 4)

    def start(argument: None) -> int:
        start_threads()
        return machine.num_threads

    assert on_one_thread(start)(None) == 1
    assert machine.num_threads == 4


def test_a_chooser_that_is_made_during_a_call_on_one_thread_uses_all_threads_later(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    machine = Machine(monkeypatch)
    machine.run(on_one_thread(lambda argument: ThreadChooser())(None), NUM_SERIAL_CALLS + 1)
    assert machine.calls == [1] * NUM_SERIAL_CALLS + [2]


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


DEFERRED = """
import os
from chargen.engines.blas_threads import _functions, defer_threads, num_threads, start_threads

defer_threads()
import numpy

get_number = _functions()[1]
print(get_number(), num_threads(), sorted(name for name in os.environ if name.endswith("NUM_THREADS")))
start_threads()
print(get_number(), num_threads())
"""


def run_deferred(code: str = DEFERRED, **variables: str) -> list[str]:
    """Run code in a new process, and return the lines that it prints."""
    environment = {name: value for name, value in os.environ.items() if not name.endswith("NUM_THREADS")}
    words = [sys.executable, "-c", code]
    done = subprocess.run(words, env={**environment, **variables}, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()


openblas = pytest.mark.skipif(blas_threads._functions() is None, reason="NumPy uses another library than OpenBLAS")


@openblas
def test_deferred_threads_are_started_later_and_child_processes_do_not_notice() -> None:
    cores = blas_threads._num_cores()
    assert run_deferred() == [f"1 {cores} []", f"{cores} {cores}"]


@openblas
def test_nothing_is_deferred_if_the_user_has_set_a_number_or_numpy_is_loaded() -> None:
    assert run_deferred(OMP_NUM_THREADS="1") == ["1 1 ['OMP_NUM_THREADS']", "1 1"]
    cores = blas_threads._num_cores()
    assert run_deferred("import numpy" + DEFERRED) == [f"{cores} {cores} []", f"{cores} {cores}"]


@openblas
def test_a_chooser_starts_deferred_threads_after_its_calls_on_one_thread() -> None:
    code = """
from chargen.engines.blas_threads import NUM_SERIAL_CALLS, ThreadChooser, _functions, defer_threads

defer_threads()
chooser, numbers = ThreadChooser(), []
for _ in range(NUM_SERIAL_CALLS + 1):
    chooser.call(lambda argument: numbers.append(_functions()[1]()), None)
print(numbers == [1] * NUM_SERIAL_CALLS + [numbers[-1]], numbers[-1])
"""
    assert run_deferred(code) == [f"True {blas_threads._num_cores()}"]


@openblas
@pytest.mark.parametrize("max_weights", [400, 10**6])
def test_a_stream_of_large_matrices_starts_deferred_threads(max_weights: int) -> None:
    code = f"""
from chargen.engines.blas_threads import _functions, defer_threads

defer_threads()
from chargen.graph import numpy_backend
from tests.graph.small_engines import engine

numpy_backend.MAX_SERIAL_WEIGHTS = {max_weights}
model = engine("gru")
model.stream(model.initial_state(1))
print(_functions()[1]())
"""
    assert run_deferred(code) == [str(blas_threads._num_cores() if max_weights == 400 else 1)]
