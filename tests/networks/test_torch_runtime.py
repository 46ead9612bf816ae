from collections.abc import Iterator

import pytest
import torch

from chargen.errors import DeviceError
from chargen.networks.torch_runtime import MAX_PATIENCE, ThreadTuner, has_free_cores, resolve_device, single_thread


class Machine:
    """A machine whose speed depends on the number of threads and on whether another process is running."""

    def __init__(self) -> None:
        self.is_busy = False

    def has_free_cores(self, num_threads: int) -> bool:
        return not self.is_busy

    def speed(self) -> float:
        threads = torch.get_num_threads()
        return (10.0 if threads > 1 else 20.0) if self.is_busy else (30.0 if threads > 1 else 20.0)


@pytest.fixture
def machine(monkeypatch: pytest.MonkeyPatch) -> Machine:
    machine = Machine()
    monkeypatch.setattr("chargen.networks.torch_runtime.has_free_cores", machine.has_free_cores)
    return machine


@pytest.fixture
def threads(machine: Machine) -> Iterator[ThreadTuner]:
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


def test_an_idle_machine_keeps_its_threads_after_one_trial(threads: ThreadTuner, machine: Machine) -> None:
    counts = observe(threads, machine, 100)
    assert counts.count(1) == 1


def test_a_busy_machine_gets_one_thread_until_it_is_idle_again(threads: ThreadTuner, machine: Machine) -> None:
    observe(threads, machine, 10)
    machine.is_busy = True
    counts = observe(threads, machine, 200)
    assert counts.count(2) == 1  # the report that shows that the machine is slow; no later step is tried on two threads
    machine.is_busy = False
    assert set(observe(threads, machine, MAX_PATIENCE + 20)[-20:]) == {2}


def test_a_machine_that_is_busy_at_the_start_gets_one_thread_for_the_first_step(
    threads: ThreadTuner, machine: Machine
) -> None:
    machine.is_busy = True
    with threads:
        assert set(observe(threads, machine, 50)) == {1}
    assert torch.get_num_threads() == 2


def test_a_network_that_is_faster_on_one_thread_of_an_idle_machine_gets_one_thread(
    threads: ThreadTuner, monkeypatch: pytest.MonkeyPatch, machine: Machine
) -> None:
    monkeypatch.setattr(machine, "speed", lambda: 30.0 / torch.get_num_threads())
    assert set(observe(threads, machine, 60)[-4:]) == {1}


def test_reports_without_tokens_end_no_trial_and_start_none(threads: ThreadTuner, machine: Machine) -> None:
    for _ in range(50):
        threads.observe(0.0)
        assert torch.get_num_threads() == 2
    counts = observe(threads, machine, 20)
    assert counts.count(1) == 1
    while torch.get_num_threads() == 2:  # until the next trial starts
        threads.observe(machine.speed() / 2)
    for _ in range(5):
        threads.observe(0.0)
    assert torch.get_num_threads() == 1


def test_free_cores_are_measured_without_changing_the_number_of_threads(monkeypatch: pytest.MonkeyPatch) -> None:
    before = torch.get_num_threads()
    for seconds_of_two, is_free in ((0.5, True), (1.0, False), (50.0, False)):
        durations: list[float] = []

        def time_product(*arrays: torch.Tensor, shared_s: float = seconds_of_two, durations=durations) -> float:
            durations.append(1.0 if torch.get_num_threads() == 1 else shared_s)
            return durations[-1]

        monkeypatch.setattr("chargen.networks.torch_runtime._time_product", time_product)
        assert has_free_cores(2) is is_free
        assert sum(durations) <= 2 * 50.0 + 4.0  # the first slow product decides
        assert torch.get_num_threads() == before


def test_a_run_with_a_fixed_number_of_steps_keeps_its_threads(machine: Machine) -> None:
    machine.is_busy = True
    before = torch.get_num_threads()
    with ThreadTuner(adapt=False) as threads:
        assert set(observe(threads, machine, 30)) == {before}


def test_the_number_of_threads_is_restored(threads: ThreadTuner, machine: Machine) -> None:
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


@pytest.mark.parametrize(
    ("name", "preferred", "devices", "expected"),
    [
        ("auto", "auto", ["cpu", "mps"], "cpu"), ("auto", "auto", ["cpu", "cuda"], "cuda"),
        ("auto", "cpu", ["cpu", "cuda"], "cpu"), ("auto", "mps", ["cpu", "mps"], "mps"),
        ("auto", "cuda", ["cpu"], "cpu"), ("auto", "mps", ["cpu", "cuda"], "cuda"),
        ("cpu", "cuda", ["cpu", "cuda"], "cpu"), ("cuda", "cpu", ["cpu", "cuda"], "cuda"),
    ],
)  # fmt: skip
def test_auto_is_the_device_of_the_run_to_resume_if_the_machine_has_it(
    name: str, preferred: str, devices: list[str], expected: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("chargen.networks.torch_runtime.list_devices", lambda: devices)
    assert resolve_device(name, preferred) == expected


def test_a_device_that_is_named_is_used_or_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("chargen.networks.torch_runtime.list_devices", lambda: ["cpu"])
    with pytest.raises(DeviceError, match="no device 'cuda'"):
        resolve_device("cuda", "cpu")
