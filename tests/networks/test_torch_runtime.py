import pytest
import torch

from chargen.networks.torch_runtime import MAX_PATIENCE, ThreadTuner, single_thread


class Machine:
    """A machine whose speed depends on the number of threads and on whether another process is running."""

    def __init__(self) -> None:
        self.is_busy = False

    def speed(self) -> float:
        threads = torch.get_num_threads()
        return (10.0 if threads > 1 else 20.0) if self.is_busy else (30.0 if threads > 1 else 20.0)


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


def test_an_idle_machine_keeps_its_threads_after_one_trial(threads: ThreadTuner) -> None:
    counts = observe(threads, Machine(), 100)
    assert counts.count(1) == 1


def test_a_busy_machine_gets_one_thread_until_it_is_idle_again(threads: ThreadTuner) -> None:
    machine = Machine()
    observe(threads, machine, 10)
    machine.is_busy = True
    counts = observe(threads, machine, 200)
    assert 0 < counts[-100:].count(2) <= 100 // MAX_PATIENCE + 1  # all threads are tried now and then
    machine.is_busy = False
    assert set(observe(threads, machine, 60)[-20:]) == {2}


def test_a_run_with_a_fixed_number_of_steps_keeps_its_threads() -> None:
    threads, before, machine = ThreadTuner(adapt=False), torch.get_num_threads(), Machine()
    assert set(observe(threads, machine, 30)) == {before}


def test_the_number_of_threads_is_restored(threads: ThreadTuner) -> None:
    machine = Machine()
    machine.is_busy = True
    with threads:
        observe(threads, machine, 20)
        assert torch.get_num_threads() == 1
    assert torch.get_num_threads() == 2


def test_single_thread_restores_the_number_of_threads_after_an_error(threads: ThreadTuner) -> None:
    with pytest.raises(KeyError), single_thread():
        assert torch.get_num_threads() == 1
        raise KeyError
    assert torch.get_num_threads() == 2
