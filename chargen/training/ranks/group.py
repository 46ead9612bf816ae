"""The processes of a run, and how they communicate.

`torchrun` starts the processes, which are called ranks, and numbers them from 0. Rank 0 is the leader: it decides
everything, it alone writes files, and it alone reads the clock. The others follow. Before anything that all ranks do
together, the leader announces it (`Command`); the followers wait for its announcements (`follower.py`). So a run has
one clock, one budget and one set of files, however many ranks it has.

    rank 0   ── announce STEP ──▶ compute own rows ──▶ add up ──▶ … announce STATE ──▶ gather ──▶ write the file
    rank 1   ◀── STEP ─────────── compute own rows ──▶ add up ──▶ … ◀── STATE ───────── send
    rank 2   ◀── STEP ─────────── compute own rows ──▶ add up ──▶ … ◀── STATE ───────── send

Tensors on a GPU are exchanged by NCCL, everything else by gloo; on a single machine, what every step needs has shorter
paths (`local_link.py`, `shared_memory.py`). With a single process nothing is sent.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from datetime import timedelta
from enum import IntEnum
from typing import Any, TypeVar

import numpy as np
import torch
import torch.distributed as dist
from numpy.typing import NDArray
from torch import Tensor
from torch.distributed.rendezvous import rendezvous

from chargen.errors import ConfigError, RankLostError
from chargen.networks.draws import Rows
from chargen.storage.stored_weights import Tensors
from chargen.training.ranks import launch
from chargen.training.ranks.job import name_job
from chargen.training.ranks.local_link import LOST, LocalLink, connect
from chargen.training.ranks.meeting import meet
from chargen.training.ranks.shared_memory import SharedMemory

MAX_WAIT = timedelta(hours=24)  #: while the leader encodes a long text, the followers wait for it
Item = TypeVar("Item")


class Command(IntEnum):
    """What the leader announces."""

    END = 0  #: the run is over; the value is 1 if it has ended as it should
    CHECK = 1  #: compare the arguments and the texts of the ranks
    SET_UP = 2  #: build the network
    STEP = 3  #: make a training step
    STATE = 4  #: send the carried state of the own batch rows
    RESTORE = 5  #: take over a training state
    WEIGHTS = 6  #: take over weights
    READ = 7  #: compute the log probabilities of a part of a text


class Ranks:
    """The processes of a run, as one of them sees them.

    Args:
        rank: The number of this process, from 0.
        size: The number of processes.
        job: The name of the job that started them (`job.py`), on the leader; "" if it has none.
        is_restarted: Whether the job has started them again after a failure, on the leader.
    """

    def __init__(self, rank: int = 0, size: int = 1, job: str = "", is_restarted: bool = False) -> None:
        self.rank = rank
        self.size = size
        self.job = job
        self.is_restarted = is_restarted
        self._has_ended = False
        self._link: LocalLink | None = None
        self._memory: SharedMemory | None = None

    def connect_locally(self) -> None:
        """Use faster connections if all ranks are on one machine; all of them call this together."""
        self._link = connect(self) if self.is_divided else None

    @property
    def is_divided(self) -> bool:
        """Whether there are several processes."""
        return self.size > 1

    def rows(self, total: int) -> Rows:
        """Return the rows of a batch of `total` rows that this process computes: about the same number on each."""
        first, end = (rank * total // self.size for rank in (self.rank, self.rank + 1))
        return Rows(first, end - first, total)

    def part(self, total: int) -> range:
        """Return the part of `total` items that this process works on."""
        rows = self.rows(total)
        return range(rows.first, rows.first + rows.count)

    def announce(self, command: Command, value: float = 0.0) -> None:
        """Tell the followers what to do next. A follower, and a single process, announces nothing."""
        if not self.is_divided or self.rank > 0:
            return
        if self._link:
            self._link.announce(command, value)
        else:
            with _rank_lost():
                dist.broadcast(torch.tensor([float(command), value], dtype=torch.float64), src=0)

    def next_command(self) -> tuple[Command, float]:
        """Wait for the next announcement and return (the command, its value)."""
        if self._link:
            number, value = self._link.next_command()
            return Command(number), value
        announced = torch.zeros(2, dtype=torch.float64)
        with _rank_lost():
            dist.broadcast(announced, src=0)
        command, value = announced.tolist()
        return Command(int(command)), value

    def end(self, is_done: bool) -> None:
        """Tell the followers that the run is over. A rank that has been lost is no error here.

        Args:
            is_done: Whether the run has ended as it should, and was neither stopped nor refused.
        """
        with suppress(RankLostError):
            if not self._has_ended:
                self.announce(Command.END, float(is_done))
            self._has_ended = True

    def send(self, item: Item | None) -> Item:
        """Return the leader's item, which can be any object that Python can pickle, on every rank."""
        items = [item]
        if self.is_divided:
            with _rank_lost():
                dist.broadcast_object_list(items, src=0)
        found = items[0]
        assert found is not None, "the leader sends an item"
        return found

    def send_arrays(self, arrays: Mapping[str, NDArray[Any]] | None) -> Tensors:
        """Return the leader's arrays, by name, on every rank."""
        if not self.is_divided:
            return dict(arrays or {})
        described = self.send({name: (a.dtype.str, a.shape) for name, a in arrays.items()} if arrays else None)
        received = {}
        for name, (dtype, shape) in described.items():
            array = np.array(arrays[name], order="C") if arrays else np.empty(shape, np.dtype(dtype))
            with _rank_lost():
                dist.broadcast(torch.from_numpy(array.reshape(-1).view(np.uint8)), src=0)
            received[name] = array
        return received

    def collect(self, item: Item) -> list[Item]:
        """Return the items of all ranks, in their order, on every rank."""
        if not self.is_divided:
            return [item]
        items: list[Any] = [None] * self.size
        with _rank_lost():
            dist.all_gather_object(items, item)
        return items

    def join_rows(self, own: Tensor, total: int) -> Tensor:
        """Return the batch rows of all ranks, [total, …], on the leader, from the own rows of each, on the CPU.

        The result of a follower is undefined.
        """
        return self._join(own, [Ranks(rank, self.size).rows(total).count for rank in range(self.size)])

    def join_arrays(self, own: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return the arrays of all ranks, one after another, on the leader, from the own array of each, [N]."""
        return self._join(torch.from_numpy(own), self.collect(len(own))).numpy()

    def _join(self, own: Tensor, sizes: list[int]) -> Tensor:
        if not self.is_divided:
            return own
        padded = own.new_zeros((max(sizes), *own.shape[1:]))  # gloo gathers only tensors of the same shape
        padded[: len(own)] = own
        parts = [torch.empty_like(padded) for _ in sizes] if self.rank == 0 else None
        with _rank_lost():
            dist.gather(padded, parts, dst=0)
        return torch.cat([part[:size] for part, size in zip(parts or [padded], sizes, strict=False)])

    def add_up(self, tensor: Tensor) -> None:
        """Replace a tensor, [n] of float32, by the sum over all ranks: the same on each of them, bit for bit."""
        if self._link and tensor.device.type == "cpu" and self._shared_memory(self._link, len(tensor)).is_shared:
            self._shared_memory(self._link, len(tensor)).add_up(tensor)
            return
        with _rank_lost():
            dist.all_reduce(tensor)

    def _shared_memory(self, link: LocalLink, capacity: int) -> SharedMemory:
        """Return memory that holds an array of a size from each rank, if the ranks can share any."""
        if self._memory is None or self._memory.capacity < capacity:
            self._memory = SharedMemory(self, link, capacity)
        return self._memory


ALONE = Ranks()  #: a run of a single process


@contextmanager
def _rank_lost() -> Iterator[None]:
    """Raise RankLostError for an error of the connection to the other ranks."""
    try:
        yield
    except RuntimeError as error:  # torch has no narrower class for gloo's errors
        if "out of memory" in str(error):
            raise
        raise RankLostError(LOST.message, LOST.hint) from error


@contextmanager
def joined_ranks(device: str) -> Iterator[Ranks]:
    """Join the processes that torchrun has started, while a `with` block runs.

    The followers are told at its end that the run is over, and whether the block has raised an error.

    Args:
        device: The device that the user chose: "auto", "cpu" or "cuda".

    Raises:
        ConfigError: If the processes cannot use this device together.
        RankLostError: If the other processes cannot be reached.
    """
    if device == "mps":
        raise ConfigError("the device mps cannot be used by several processes", "Use --device cpu.")
    on_gpu = device != "cpu" and torch.cuda.is_available()
    if on_gpu:
        num_local, num_gpus = launch.num_local_processes(), torch.cuda.device_count()
        if num_local > num_gpus:
            raise ConfigError(
                f"{num_local} processes of this machine need a GPU each, but there are {num_gpus}",
                "Start as many processes as the machine has GPUs (torchrun --nproc-per-node gpu), or use --device cpu.",
            )
        torch.cuda.set_device(launch.local_rank())
    with _rank_lost():
        shared_store, rank, size = next(rendezvous("env://"))
        job, is_restarted = name_job(shared_store) if rank == 0 else ("", False)
        store = meet(shared_store, rank, size)
        backend = "cpu:gloo,cuda:nccl" if on_gpu else "gloo"
        dist.init_process_group(backend, store=store, rank=rank, world_size=size, timeout=MAX_WAIT)
    ranks = Ranks(rank, size, job, is_restarted)
    ranks.connect_locally()
    try:
        yield ranks
        ranks.end(is_done=True)
    except RankLostError:  # nothing can be announced any more
        raise
    except BaseException:
        ranks.end(is_done=False)
        raise
    finally:
        dist.destroy_process_group()
