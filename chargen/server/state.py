"""What all requests of a server share."""

from __future__ import annotations

from dataclasses import dataclass

from chargen.lm import Notify
from chargen.server.batch.jobs import JobRunner
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
    notify: Notify | None = None  #: gets messages for the person who runs the server
    num_log_probs: int = 0  #: numbers in the log probabilities of all requests that are being answered
