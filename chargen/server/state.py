"""What all requests of a server share."""

from __future__ import annotations

from dataclasses import dataclass, field
from weakref import WeakSet

from chargen.lm import Notify
from chargen.server.batch.jobs import JobRunner
from chargen.server.batch.worker import QueueFullError
from chargen.server.connection.body import BodyReader
from chargen.server.connection.progress import Progress
from chargen.server.limits import MAX_HELD_VALUES, Limits
from chargen.server.metrics import Metrics
from chargen.server.models import ServedModels


@dataclass
class ServerState:
    """The models, the limits and the counters of a server."""

    models: ServedModels
    limits: Limits
    jobs: JobRunner  #: texts that compete, and scores
    preparations: JobRunner  #: preparations that may take seconds: a regular expression, the index of a training text
    metrics: Metrics
    bodies: BodyReader
    notify: Notify | None = None  #: gets messages for the person who runs the server
    num_held_values: int = 0  #: what all requests that are being answered hold in memory, in values of about 100 bytes
    _open: WeakSet[Progress] = field(default_factory=WeakSet)

    def start_request(self) -> Progress:
        """Return what tells the handler of a new request when there is something new, or its time is over."""
        progress = Progress(self.limits.timeout_s)
        self._open.add(progress)
        return progress

    def hold(self, num_values: int) -> None:
        """Note that a request will hold this number of values in memory, until `release`.

        Raises:
            QueueFullError: If the requests that are being answered hold too many already.
        """
        if self.num_held_values + num_values > MAX_HELD_VALUES:
            raise QueueFullError
        self.num_held_values += num_values

    def release(self, num_values: int) -> None:
        """Note that a request holds these values no more."""
        self.num_held_values -= num_values

    def end_requests(self, seconds: float) -> None:
        """Give all running requests at most this time from now on, because the server is to end."""
        for progress in self._open:
            progress.end_within(seconds)
