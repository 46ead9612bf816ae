import pytest
import torch

from chargen.networks.torch_runtime import LONGEST, ThreadTuner


class Machine:
    """A machine whose speed depends on the number of threads, and on whether somebody else is busy on it."""

    def __init__(self) -> None:
        self.busy = False

    def speed(self) -> float:
        threads = torch.get_num_threads()
        return (10.0 if threads > 1 else 20.0) if self.busy else (30.0 if threads > 1 else 20.0)


@pytest.fixture
def threads() -> ThreadTuner:
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    yield ThreadTuner(adapt=True)
    torch.set_num_threads(before)


def observe(threads: ThreadTuner, machine: Machine, times: int) -> list[int]:
    counts = []
    for _ in range(times):
        counts.append(torch.get_num_threads())
        threads.observe(machine.speed())
    return counts


def test_a_quiet_machine_keeps_its_threads_after_one_try(threads: ThreadTuner) -> None:
    counts = observe(threads, Machine(), 100)
    assert counts.count(1) == 1


def test_a_busy_machine_is_left_with_one_thread_and_taken_up_again_when_it_is_quiet(threads: ThreadTuner) -> None:
    machine = Machine()
    observe(threads, machine, 10)
    machine.busy = True
    counts = observe(threads, machine, 200)
    assert 0 < counts[-100:].count(2) <= 100 // LONGEST + 1  # now and then all of them are tried
    machine.busy = False
    assert set(observe(threads, machine, 60)[-20:]) == {2}


def test_a_run_by_steps_keeps_its_threads() -> None:
    threads, before, machine = ThreadTuner(adapt=False), torch.get_num_threads(), Machine()
    assert set(observe(threads, machine, 30)) == {before}


def test_the_process_gets_back_its_threads(threads: ThreadTuner) -> None:
    machine = Machine()
    machine.busy = True
    with threads:
        observe(threads, machine, 20)
        assert torch.get_num_threads() == 1
    assert torch.get_num_threads() == 2
