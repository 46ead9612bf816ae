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
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING

from chargen.errors import RankLostError

if TYPE_CHECKING:
    from chargen.training.ranks.group import Ranks

ANNOUNCEMENT = struct.Struct("<dd")  # the number of a command, and its value
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

    def share_file(self, file: int | None) -> int | None:
        """Return a descriptor of the leader's open file, on every rank; None if it has none. All call this together."""
        if self._is_leader:
            with _as_lost_rank():
                for connection in self._connections:
                    socket.send_fds(connection, [b"."], [] if file is None else [file])
            return file
        with _as_lost_rank():
            message, files, _, _ = socket.recv_fds(self._connections[0], 1, 1)
        if not message:
            raise RankLostError(LOST.message, LOST.hint)
        return files[0] if files else None

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
    """Connect the ranks, all of which call this together; None if they cannot, as on several machines.

    Raises:
        RankLostError: If a rank ends meanwhile.
    """
    with ExitStack() as stack:
        own = _listen(stack, ranks.size) if ranks.rank == 0 else None
        path = ranks.send(own[1] if own else "")
        connection = _open(path) if ranks.rank > 0 else None
        if not all(ranks.collect(bool(own or connection))):
            if connection:
                connection.close()
            return None
        if connection:
            return LocalLink([connection], is_leader=False)
        assert own is not None, "the leader listens"
        with _as_lost_rank():
            return LocalLink([own[0].accept()[0] for _ in range(ranks.size - 1)], is_leader=True)


def _listen(stack: ExitStack, size: int) -> tuple[socket.socket, str] | None:
    """Return (a socket to which this many processes can connect, its path), until a stack is closed; None without one.

    No sockets of this kind exist on Windows, some file systems have none, and a long path is refused.
    """
    try:
        folder = stack.enter_context(tempfile.TemporaryDirectory(prefix="chargen-"))
        server = stack.enter_context(socket.socket(socket.AF_UNIX))
        server.bind(os.path.join(folder, "ranks"))
        server.listen(size)
    except (OSError, AttributeError):
        return None
    return server, os.path.join(folder, "ranks")


def _open(path: str) -> socket.socket | None:
    """Return a connection to the leader, which waits until the leader accepts it; None if it cannot be reached."""
    try:
        connection = socket.socket(socket.AF_UNIX)
        connection.connect(path)
    except (OSError, AttributeError):
        return None
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
