"""What all requests of a server share."""

from __future__ import annotations

from dataclasses import dataclass, field
from weakref import WeakSet

from chargen.lm import Notify
from chargen.server.batch.jobs import JobRunner
from chargen.server.connection.body import BodyReader
from chargen.server.connection.progress import Progress
from chargen.server.limits import Limits
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
    num_log_probs: int = 0  #: numbers in the log probabilities of all requests that are being answered
    _open: WeakSet[Progress] = field(default_factory=WeakSet)

    def start_request(self) -> Progress:
        """Return what tells the handler of a new request when there is something new, or its time is over."""
        progress = Progress(self.limits.timeout_s)
        self._open.add(progress)
        return progress

    def end_requests(self, seconds: float) -> None:
        """Give all running requests at most this time from now on, because the server is to end."""
        for progress in self._open:
            progress.end_within(seconds)
