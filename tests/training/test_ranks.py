"""Training on several processes: every number is that of a single process."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from chargen.cells import CELLS
from chargen.networks.network import TableReads
from chargen.training.ranks.follower import follow
from chargen.training.ranks.gradients import GradientSum
from chargen.training.ranks.group import Command, Ranks

PROCESS = Path(__file__).parent / "rank_process.py"
SHORT = ("gru, every dropout, n-grams", "documents", "index")
LONG = ("members", "a stack", "sampled softmax", *CELLS.names())


def run_processes(folder: Path, size: int, cases: tuple[str, ...], how: str = "local") -> list[dict[str, np.ndarray]]:
    """Train in some processes, and return what rank 0 found in each case.

    `how` is "local" for the connections of a single machine, and "gloo" for those of several.
    """
    arguments = [str(size), how, folder / f"store{size}", folder / f"{size}", *cases]
    processes = [subprocess.Popen([sys.executable, PROCESS, str(rank), *arguments]) for rank in range(size)]
    assert [process.wait(150) for process in processes] == [0] * size
    return [dict(np.load(folder / f"{size}-{k}.npz")) for k in range(len(cases))]


def differs(several: dict[str, np.ndarray], one: dict[str, np.ndarray]) -> list[str]:
    """Return the names of the arrays that differ: losses by more than 1e-5, weights by more than 1e-4.

    The others (moments, carried state, random state, log probabilities) may differ by 1e-4 and a thousandth.
    """
    bounds = {"losses": (0.0, 1e-5), "weights": (0.0, 1e-4)}
    found = []
    for name, array in several.items():
        rtol, atol = bounds.get(name.partition(".")[0], (1e-3, 1e-4))
        if array.shape != one[name].shape or not np.allclose(array, one[name], rtol=rtol, atol=atol):
            found.append(name)
    return found


def test_two_processes_compute_what_one_computes(tmp_path: Path) -> None:
    for one, two in zip(*(run_processes(tmp_path, size, SHORT) for size in (1, 2)), strict=True):
        assert two.keys() == one.keys()
        assert differs(two, one) == []


@pytest.mark.slow
@pytest.mark.parametrize(("size", "how"), [(2, "gloo"), (3, "local")])
def test_every_cell_is_trained_on_several_processes_as_on_one(tmp_path: Path, size: int, how: str) -> None:
    for one, several in zip(*(run_processes(tmp_path, n, LONG, how) for n in (1, size)), strict=True):
        assert several.keys() == one.keys()
        assert differs(several, one) == []


@pytest.mark.parametrize(("total", "size"), [(1, 1), (5, 2), (7, 3), (64, 5)])
def test_every_row_belongs_to_one_rank(total: int, size: int) -> None:
    parts = [Ranks(rank, size).part(total) for rank in range(size)]
    assert [row for part in parts for row in part] == list(range(total))
    assert max(map(len, parts)) - min(map(len, parts)) <= 1


class OneOfTwo(Ranks):
    """The first of two ranks that have the same gradients: the sum is twice what each has."""

    def __init__(self) -> None:
        super().__init__(0, 2)
        self.sizes: list[int] = []

    def add_up(self, tensor: torch.Tensor) -> None:
        self.sizes.append(len(tensor))
        tensor.mul_(2.0)


def test_windows_of_all_lengths_use_one_buffer_and_send_only_their_part_of_it() -> None:
    B, K, D, lengths = 4, 3, 5, (3, 10, 1, 7)
    ranks, parameter = OneOfTwo(), torch.nn.Parameter(torch.zeros(7))
    gradients = GradientSum(ranks, ranks.rows(B), [parameter], max(lengths))
    addresses = set()
    for T in lengths:
        parameter.grad = torch.full((7,), float(T))
        features = torch.zeros(2 * T, D, requires_grad=True)
        features.grad = torch.ones(2 * T, D)
        reads = TableReads(torch.arange(2 * T * K).view(2 * T, K) + 5000, None, features)
        gradients.pack(torch.tensor(1.5), reads, T)
        assert gradients.exchange(T) == 3.0
        assert parameter.grad.tolist() == [2.0 * T] * 7
        rows, _, of_features = gradients.all_reads(reads, T)
        own, others = rows.view(T, B, K).split(2, dim=1)
        assert torch.equal(own.reshape(-1, K), 2 * reads.rows) and not others.any()
        assert of_features.view(T, B, D).sum(dim=(0, 2)).tolist() == [2.0 * T * D] * 2 + [0.0] * 2
        addresses.add(parameter.grad.data_ptr())
    assert len(addresses) == 1
    assert ranks.sizes == [7 + 1 + T * B * (K + K + D) for T in lengths]


@pytest.mark.parametrize("is_done", [True, False])
def test_a_follower_knows_whether_the_run_has_ended_as_it_should(is_done: bool) -> None:
    announced: list[tuple[Command, float]] = []
    leader = Ranks(0, 2)
    leader.announce = lambda *what: announced.append(what)  # type: ignore[assignment]
    leader.end(is_done)
    leader.end(not is_done)  # after an error in between: the followers have gone
    assert len(announced) == 1
    follower = Ranks(1, 2)
    follower.next_command = lambda: announced[0]  # type: ignore[method-assign]
    assert follow(follower, None, None) is is_done  # type: ignore[arg-type]


@pytest.mark.slow
def test_ranks_without_local_sockets_exchange_through_gloo(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    long_folder = tmp_path / ("d" * 120)  # the name of a socket in it is longer than the system allows
    long_folder.mkdir()
    monkeypatch.setenv("TMPDIR", str(long_folder))
    for one, two in zip(*(run_processes(tmp_path, size, SHORT[:1]) for size in (1, 2)), strict=True):
        assert two.keys() == one.keys()
        assert differs(two, one) == []
    assert not list(long_folder.iterdir())
