"""Connections between the ranks of the same machine, for the short messages of every step.

The main threads of the processes write and read these sockets themselves. gloo hands each message to another thread,
which has to wait for a core while all cores compute: a message then takes 1 to 3 ms instead of 0.1 to 0.2 ms (measured
on two cores, benchmarks/LOG.md).
"""

from __future__ import annotations

import os
import socket
import struct
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from chargen.errors import RankLostError

if TYPE_CHECKING:
    from chargen.training.ranks.group import Ranks

ANNOUNCEMENT = struct.Struct("<dd")  # the number of a command, and its value
CONNECT_TIMEOUT_S = 60.0
LOST = RankLostError(
    "another process of this run has ended, or the connection to it is lost", "Its own output says why."
)


class LocalLink:
    """The connections of a rank: those of the leader to each follower, or that of a follower to the leader.

    Args:
        connections: The sockets.
        is_leader: Whether this rank is the leader.
    """

    def __init__(self, connections: list[socket.socket], is_leader: bool) -> None:
        self._connections, self._is_leader = connections, is_leader

    def announce(self, command: int, value: float) -> None:
        """Send a command and its value to every follower."""
        for connection in self._connections:
            _send(connection, ANNOUNCEMENT.pack(command, value))

    def next_command(self) -> tuple[int, float]:
        """Wait for the next announcement of the leader, and return (the command, its value)."""
        command, value = ANNOUNCEMENT.unpack(_receive(self._connections[0], ANNOUNCEMENT.size))
        return int(command), value

    def meet(self) -> None:
        """Wait until all ranks are here: the leader hears from each follower, and then tells them."""
        if not self._is_leader:
            _send(self._connections[0], b".")
        for connection in self._connections:
            _receive(connection, 1)
        if self._is_leader:
            for connection in self._connections:
                _send(connection, b".")


def connect(ranks: Ranks) -> LocalLink | None:
    """Connect the ranks, all of which call this together; None if they are not on the same machine.

    Raises:
        RankLostError: If a rank ends meanwhile.
    """
    if not hasattr(socket, "AF_UNIX"):
        return None
    with tempfile.TemporaryDirectory(prefix="chargen-") as folder:
        if ranks.rank == 0:
            with socket.socket(socket.AF_UNIX) as server:
                server.bind(os.path.join(folder, "ranks"))
                server.listen(ranks.size)
                server.settimeout(CONNECT_TIMEOUT_S)
                path = ranks.send(os.path.join(folder, "ranks"))
                if not all(ranks.collect(True)):
                    return None
                with _as_lost_rank():
                    return LocalLink([_blocking(server.accept()[0]) for _ in range(ranks.size - 1)], is_leader=True)
        path = ranks.send("")
        if not all(ranks.collect(os.path.exists(path))):
            return None
        with _as_lost_rank():
            connection = socket.socket(socket.AF_UNIX)
            connection.connect(path)
        return LocalLink([connection], is_leader=False)


def _blocking(connection: socket.socket) -> socket.socket:
    connection.settimeout(None)
    return connection


def _send(connection: socket.socket, message: bytes) -> None:
    with _as_lost_rank():
        connection.sendall(message)


def _receive(connection: socket.socket, size: int) -> bytes:
    with _as_lost_rank():
        message = connection.recv(size, socket.MSG_WAITALL)
    if len(message) < size:
        raise RankLostError(LOST.message, LOST.hint)
    return message


@contextmanager
def _as_lost_rank() -> Iterator[None]:
    """Raise RankLostError for an error of a connection."""
    try:
        yield
    except OSError as error:
        raise RankLostError(LOST.message, LOST.hint) from error
