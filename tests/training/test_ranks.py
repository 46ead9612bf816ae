"""Training on several processes: every number is that of a single process."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from chargen.cells import CELLS
from chargen.training.ranks.follower import follow
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
