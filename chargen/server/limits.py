"""The limits of a server: how large a request may be, how long it may take, and how many may wait."""

from __future__ import annotations

from dataclasses import dataclass

from chargen.sampling.generate import MAX_PROMPT_IDS

MAX_BODY_BYTES = 1 << 21  #: size of the body of a request: 2 MiB
MAX_ALL_BODY_BYTES = 1 << 26  #: maximum size of all bodies above 64 KiB that are being read together
MAX_PROMPT_TOKENS = MAX_PROMPT_IDS  #: tokens of a prompt: what a model of chargen reads at most
MAX_PROMPTS = 1024  #: prompts of a request
MAX_TEXTS_PER_PROMPT = 128  #: `n` and `best_of`
MAX_TEXTS = 2048  #: prompts × texts that are generated for each
MAX_LOG_PROBS = 1_000_000  #: numbers in the log probabilities of a request; each takes about 100 bytes
MAX_DRY_TOKENS = 1_000_000  #: tokens of prompts × texts of a request with `dry`, which indexes the prompt for each text
VALUES_PER_TEXT = 20  #: what a text takes besides its log probabilities and its index, in values of about 100 bytes
VALUES_PER_SCORED_TOKEN = 3  #: what a token takes besides the numbers of its log probabilities
MAX_HELD_VALUES = 4_000_000  #: such values of all requests that are being answered
MAX_STOP_CHARS = 100_000  #: characters of all stop strings together; their automaton takes 100 bytes for each
MAX_PARTICLES = 4096  #: texts that compete for a completion with `particles` or `suffix`
MAX_PARTICLE_STEPS = 1 << 21  #: particles × tokens × texts of a request
MAX_SCORED_CHARS = 200_000  #: characters of the texts of a request to /v1/score
MAX_BATCH_STREAMS = 128  #: streams that a model steps together
MAX_CONNECTIONS = 900  #: open connections; fewer where the process may open only few files
MAX_BACKLOG = 256  #: connections that the system accepts at a time, before the server sees them
RESERVED_FILES = 64  #: open files of the process besides the connections
RETRY_AFTER_S = 1  #: when a client that found the queue full may try again
HEADER_TIMEOUT_S = 10.0  #: within which a client must have sent the header of a request
BODY_TIMEOUT_S = 20.0  #: within which a client must have sent the body, too
SEND_TIMEOUT_S = 120.0  #: within which a client must go on reading a response
SHUTDOWN_S = 30  #: how long running requests may take to finish when the server is stopped
LAST_EVENTS_S = 5  #: the end of this time, in which requests that are not finished get an error


@dataclass(frozen=True)
class Limits:
    """The limits that the command line sets."""

    max_tokens: int = 4096  #: tokens of a completion
    max_waiting: int = 256  #: requests that wait for a place in the batch of a model
    timeout_s: float = 300.0  #: time for a request
    max_body_bytes: int = MAX_BODY_BYTES
