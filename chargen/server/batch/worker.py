"""Continuous batching: one thread per model steps all texts that are being written, as one batch.

    waiting requests ─▶ [ read │ read │ write │ write │ write ]  one step of the model for all streams
                            │                      │
                            ▼                      ▼
              next id of the prompt        a token id is drawn, or the text has ended and leaves

A stream reads its prompt one token id per step, like all streams; when it has read it, the stream is copied for each
text that continues this prompt. Streams join and leave between two steps. Each text has its own random numbers, and a
row of a matrix product does not depend on the other rows, so a text does not depend on what else is in the batch, up to
rounding. The draws are those of `sampling/decoding.py`.

The thread shares only a few attributes with the event loop: it appends to the outputs of texts, and the loop reads from
them; the loop sets `Ticket.is_cancelled`, and the thread reads it.
"""

from __future__ import annotations

import logging
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from chargen.engines.interface import Engine, EngineState, concatenate_states
from chargen.errors import ChargenError
from chargen.sampling.decoding import draw_next_ids, step
from chargen.sampling.logits_rules import Logits
from chargen.server.batch.log_probs import TokenLogProb, TokenLogProbs
from chargen.server.batch.written_text import WrittenText
from chargen.server.limits import MAX_BATCH_STREAMS

# Time between two pieces that a client gets; the first and the last one are sent at once. Sending a piece takes 0.1 ms,
# so with more streams, each gets its pieces less often.
WAKE_INTERVAL_S, WAKE_INTERVAL_PER_STREAM_S = 0.02, 0.001
MAX_PASSED_STEPS = 1000  # steps for which smaller prompts pass one that needs more streams than are free


@dataclass(eq=False)
class PromptStream:
    """A prompt that is read, and the texts that continue it."""

    ids: Sequence[int]  #: what the model reads
    texts: list[WrittenText]  #: empty if the prompt is only scored
    echo_from: int  #: index of the first of `ids` whose log probability is wanted; len(ids) for none of them
    num_top: int  #: number of alternatives in each of these log probabilities
    echoed: list[TokenLogProb] = field(default_factory=list)  #: log probabilities of ids[echo_from:]
    position: int = 0  #: how many ids the model has read
    is_read: bool = False  #: whether all is read, and `echoed` is complete; set last, for other threads

    @property
    def num_read_ids(self) -> int:
        """Number of ids that must be read: all, or all but the last one if nothing is written after it."""
        if self.texts:
            return len(self.ids)
        return len(self.ids) - 1 if self.echo_from < len(self.ids) else 0


@dataclass(eq=False)
class Ticket:
    """The prompts of a request, as a worker knows them.

    Args:
        prompts: The prompts.
        wake: A function that tells the event loop, from the worker's thread, that there is something new.
    """

    prompts: list[PromptStream]
    wake: Callable[[], object]
    is_streamed: bool = False  #: whether the client gets pieces while the texts grow
    is_cancelled: bool = False  #: set by the event loop when nothing more is wanted
    error: Exception | None = None  #: why the worker gave the request up
    started: float = field(default_factory=time.perf_counter)
    first_token_s: float | None = None  #: time from the start to the first token
    num_open: int = 0  #: prompts and texts that are not finished
    last_wake: float = 0.0
    passed_from: int | None = None  #: step of the worker at which a smaller prompt first passed one of this request

    def __post_init__(self) -> None:
        self.pending = deque(self.prompts)
        self.num_open = len(self.prompts) + sum(len(prompt.texts) for prompt in self.prompts)

    @property
    def is_done(self) -> bool:
        """Whether all texts are complete, or the worker gave them up."""
        return self.num_open == 0 or self.error is not None

    def fail(self, error: Exception) -> None:
        """Give the request up."""
        self.error = error
        self.wake()


class QueueFullError(Exception):
    """Too many requests wait."""


Row = tuple[Ticket, PromptStream | WrittenText]  # what a stream of the batch is reading or writing


class BatchWorker:
    """A thread that reads prompts and writes texts with one model.

    Args:
        engine: The engine of the model. Only this thread uses it.
        log_probs: Computes log probabilities of token ids from logits.
        max_waiting: Number of requests that may wait for a stream.
    """

    def __init__(self, engine: Engine, log_probs: TokenLogProbs, max_waiting: int) -> None:
        self._engine, self._log_probs, self._max_waiting = engine, log_probs, max_waiting
        self._waiting: deque[Ticket] = deque()
        self._rows: list[Row] = []
        self._state: EngineState | None = None
        self._condition = threading.Condition()
        self._is_stopping = False
        self.num_prompt_tokens = self.num_written_tokens = self.num_steps = 0  #: since the start, for the metrics
        self._thread = threading.Thread(target=self._run, name="chargen-batch", daemon=True)

    def start(self) -> None:
        """Start the thread."""
        self._thread.start()

    def stop(self) -> None:
        """Give up what is left, and wait for the end of the thread."""
        with self._condition:
            self._is_stopping = True
            self._condition.notify()
        self._thread.join()

    def submit(self, ticket: Ticket) -> None:
        """Add a request to the queue.

        Raises:
            QueueFullError: If too many wait already.
        """
        with self._condition:
            self._forget_cancelled()
            if len(self._waiting) >= self._max_waiting:
                raise QueueFullError
            self._waiting.append(ticket)
            self._condition.notify()

    @property
    def num_waiting(self) -> int:
        """Number of requests that wait for a stream."""
        with self._condition:
            self._forget_cancelled()
            return len(self._waiting)

    @property
    def num_streams(self) -> int:
        """Number of streams of the batch."""
        return len(self._rows)

    # ── the thread ────────────────────────────────────────────────────────────

    def _run(self) -> None:
        while self._wait_for_work():
            try:
                self._remove_cancelled()
                self._admit()
                if self._rows:
                    self._step()
            except Exception as error:  # a defect must not end the thread: the requests of this batch fail
                logging.getLogger("chargen.server").exception("a step of the batch failed")
                for ticket, _ in self._rows:
                    ticket.fail(error)
                self._rows, self._state = [], None

    def _wait_for_work(self) -> bool:
        """Wait until there is something to do, and return whether the thread goes on."""
        with self._condition:
            while not (self._is_stopping or self._waiting or self._rows):
                self._condition.wait()
            return not self._is_stopping

    def _remove_cancelled(self) -> None:
        """Remove the streams of requests that were cancelled or have failed, and what waits for one in vain."""
        with self._condition:
            self._forget_cancelled()
        rows = [row for row, (ticket, _) in enumerate(self._rows) if not (ticket.is_cancelled or ticket.error)]
        if len(rows) < len(self._rows):
            self._keep(rows, [self._rows[row] for row in rows])

    def _forget_cancelled(self) -> None:
        """Remove cancelled requests from the queue, whose lock is held: their texts would take memory."""
        if any(each.is_cancelled for each in self._waiting):
            self._waiting = deque(each for each in self._waiting if not each.is_cancelled)

    def _keep(self, sources: Sequence[int], rows: list[Row]) -> None:
        """Let the batch consist of these rows, whose states are those of the streams `sources`."""
        if not rows:
            self._state = None
        elif self._state is not None and list(sources) != list(range(len(self._rows))):
            self._state = self._engine.select(self._state, np.array(sources, dtype=np.intp))
        self._rows = rows

    def _admit(self) -> None:
        """Give free streams to the prompts of waiting requests, one prompt of each request in turn.

        A prompt that needs more streams than are free waits, and smaller ones pass it for some steps.
        """
        if not self._waiting:
            return
        joining: list[Row] = []
        too_large: list[Ticket] = []  # requests whose next prompt does not fit
        num_streams = sum(_num_streams(each) for _, each in self._rows)
        with self._condition:
            while self._waiting and num_streams < MAX_BATCH_STREAMS:
                ticket = self._waiting.popleft()
                if ticket.is_cancelled or ticket.error or not ticket.pending:
                    continue
                size = _num_streams(ticket.pending[0])
                if num_streams and num_streams + size > MAX_BATCH_STREAMS:
                    too_large.append(ticket)
                    if len(too_large) == 1 and self._is_due(ticket):
                        break
                    continue
                prompt = ticket.pending.popleft()
                if ticket.pending:
                    self._waiting.append(ticket)
                if prompt.num_read_ids:
                    num_streams += size
                    joining.append((ticket, prompt))
                else:
                    prompt.is_read = True
                    self._close(ticket, 1)
            self._waiting.extendleft(reversed(too_large))
        if joining:
            new = self._engine.initial_state(len(joining))
            self._state = new if self._state is None else concatenate_states([self._state, new])
            self._rows = [*self._rows, *joining]

    def _is_due(self, ticket: Ticket) -> bool:
        """Return whether smaller prompts have passed those of a request for so long that it is its turn."""
        if ticket.passed_from is None:
            ticket.passed_from = self.num_steps
        return self.num_steps - ticket.passed_from >= MAX_PASSED_STEPS

    def _step(self) -> None:
        """Let every stream read a token id, and draw the next one of every text that is being written."""
        assert self._state is not None
        ids = [each.ids[each.position] if isinstance(each, PromptStream) else each.last_id for _, each in self._rows]
        logits, self._state = step(self._engine, ids, self._state)
        self.num_steps += 1
        writing: list[tuple[int, Ticket, WrittenText]] = []  # (row of the logits, the request, the text)
        kept: list[tuple[int, Row]] = []
        scored: list[tuple[int, PromptStream]] = []
        for row, (ticket, each) in enumerate(self._rows):
            if isinstance(each, WrittenText):
                writing.append((row, ticket, each))
                continue
            each.position += 1
            self.num_prompt_tokens += 1
            if each.echo_from <= each.position < len(each.ids):
                scored.append((row, each))
            if each.position < each.num_read_ids:
                kept.append((row, (ticket, each)))
            else:
                writing += [(row, ticket, text) for text in each.texts]
        self._echo(logits, scored)
        for ticket, each in self._rows:
            if isinstance(each, PromptStream) and each.position >= each.num_read_ids:
                each.is_read = True
                self._close(ticket, 1)
        kept += self._write(logits, writing)
        kept.sort(key=lambda entry: entry[0])
        self._keep([row for row, _ in kept], [entry for _, entry in kept])

    def _echo(self, logits: Logits, scored: Sequence[tuple[int, PromptStream]]) -> None:
        """Append the log probabilities of the token ids that follow in prompts."""
        if scored:
            targets = [prompt.ids[prompt.position] for _, prompt in scored]
            num_top = [prompt.num_top for _, prompt in scored]
            entries = self._log_probs.of_ids(logits[[row for row, _ in scored]], targets, num_top)
            for (_, prompt), entry in zip(scored, entries, strict=True):
                prompt.echoed.append(entry)

    def _write(self, logits: Logits, writing: Sequence[tuple[int, Ticket, WrittenText]]) -> list[tuple[int, Row]]:
        """Draw the next token id of each text, and return the texts that have not ended, each with its row."""
        groups: dict[int, list[tuple[int, Ticket, WrittenText]]] = {}
        for entry in writing:
            groups.setdefault(entry[2].group, []).append(entry)
        kept: list[tuple[int, Row]] = []
        now = time.perf_counter()
        interval_s = WAKE_INTERVAL_S + WAKE_INTERVAL_PER_STREAM_S * len(self._rows)
        for group in groups.values():
            try:
                kept += self._write_group(logits, group)
            except ChargenError as error:  # for example, every token id is forbidden
                for _, ticket, _ in group:
                    ticket.fail(error)
        for _, ticket, _ in writing:
            if ticket.first_token_s is None:
                ticket.first_token_s = now - ticket.started
            if ticket.is_streamed and now - ticket.last_wake >= interval_s:
                ticket.last_wake = now
                ticket.wake()
        return kept

    def _write_group(self, logits: Logits, group: Sequence[tuple[int, Ticket, WrittenText]]) -> list[tuple[int, Row]]:
        """Draw the next token id of texts with the same sampling rules."""
        texts = [text for _, _, text in group]
        if len(group) < len(logits) or len({row for row, _, _ in group}) < len(group):
            logits = logits[[row for row, _, _ in group]]
        sequences = [text.sequence for text in texts]
        ids = draw_next_ids(logits, sequences, [text.rng for text in texts], texts[0].context)
        self.num_written_tokens += len(ids)
        log_probs = self._written_log_probs(logits, texts, ids)
        kept: list[tuple[int, Row]] = []
        for (row, ticket, text), token_id, log_prob in zip(group, ids, log_probs, strict=True):
            text.append(token_id, log_prob)
            if text.ended:
                self._close(ticket, 1)
            else:
                kept.append((row, (ticket, text)))
        return kept

    def _written_log_probs(
        self, logits: Logits, texts: Sequence[WrittenText], ids: Sequence[int]
    ) -> list[TokenLogProb | None]:
        """Return the log probabilities of drawn token ids, where they are wanted."""
        wanted: NDArray[np.intp] = np.flatnonzero([text.has_log_probs for text in texts])
        found: list[TokenLogProb | None] = [None] * len(texts)
        if len(wanted):
            num_top = [texts[row].num_top or 0 for row in wanted]
            entries = self._log_probs.of_ids(logits[wanted], [ids[row] for row in wanted], num_top)
            for row, entry in zip(wanted.tolist(), entries, strict=True):
                found[row] = entry
        return found

    def _close(self, ticket: Ticket, number: int) -> None:
        """Note that prompts or texts of a request are complete; wake the event loop when all of them are."""
        ticket.num_open -= number
        if not ticket.num_open:
            ticket.wake()


def _num_streams(each: PromptStream | WrittenText) -> int:
    """Return how many streams of the batch a prompt or a text takes."""
    return max(1, len(each.texts)) if isinstance(each, PromptStream) else 1
