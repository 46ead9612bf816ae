"""POST /v1/completions: a request becomes texts of a worker, and these become JSON or a stream of events."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from threading import Event
from typing import Any

from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from chargen.errors import ChargenError
from chargen.server.batch.jobs import JobStoppedError
from chargen.server.batch.worker import PromptStream, QueueFullError, Ticket
from chargen.server.batch.written_text import WrittenText
from chargen.server.completions.preparation import (
    PreparedCompletion,
    is_quick,
    is_slow,
    make_generator,
    make_ticket,
    num_particles,
    prepare,
    with_prompt,
)
from chargen.server.completions.request import parse_completion_request
from chargen.server.completions.response_format import (
    JSON_TYPE,
    Envelope,
    complete_tokens,
    dump_json,
    join_log_probs,
    make_choice,
    make_log_probs,
    make_prompt_log_probs,
    make_usage,
)
from chargen.server.connection.progress import DisconnectedError, Progress
from chargen.server.errors import ApiError, OutOfTimeError, from_chargen, internal_error, too_many_requests
from chargen.server.limits import RETRY_AFTER_S
from chargen.server.state import ServerState

SLOW_READER_S = 30.0  # how much longer than the time limit a client may take to read events
MAX_QUICK_TOKENS = 1000  # tokens with log probabilities that become JSON without a thread of their own
DONE = b"data: [DONE]\n\n"
EVENT_HEADERS = {"cache-control": "no-cache", "x-accel-buffering": "no"}  # the second one is for nginx


async def create_completion(request: Request) -> Response:
    """Answer a request for completions.

    Raises:
        ApiError: If the request is refused.
    """
    state: ServerState = request.app.state.server
    body = await state.bodies.read_json(request)
    parsed = parse_completion_request(body, state.limits)
    model = state.models.find(body.get("model"))
    prepared = prepare(parsed, model) if is_quick(parsed) else await run_in_threadpool(prepare, parsed, model)
    progress = state.start_request()
    if parsed.has_competing_texts:
        return await _create_competing(state, prepared, progress, request.receive)
    try:
        state.hold(prepared.num_held_values)
        try:
            ticket, texts = await _make_ticket(state, prepared, progress, request.receive)
            model.worker.submit(ticket)
        except BaseException:
            state.release(prepared.num_held_values)
            raise
    except QueueFullError:
        raise too_many_requests(model.worker.num_waiting, RETRY_AFTER_S) from None
    except DisconnectedError:
        return Response(status_code=499)  # it is not read
    answer = _Answer(state, prepared, ticket, texts)
    if parsed.stream:
        return EventStream(answer, progress)
    async with progress.watch(request.receive):
        return await _wait_for_answer(answer, progress)


async def _make_ticket(
    state: ServerState, prepared: PreparedCompletion, progress: Progress, receive: Receive
) -> tuple[Ticket, list[list[WrittenText]]]:
    """Return the ticket of a request, and the texts of each prompt; what takes long is done in another thread."""
    if is_quick(prepared.request):
        return make_ticket(prepared, progress.wake, state.notify)
    if is_slow(prepared.request):
        work = state.preparations.run(lambda stop: make_ticket(prepared, progress.wake, state.notify))
        return await progress.finish(work, receive)
    return await run_in_threadpool(make_ticket, prepared, progress.wake, state.notify)


async def _wait_for_answer(answer: _Answer, progress: Progress) -> Response:
    """Return the complete answer; if the client is gone, the worker is told to stop."""
    try:
        while not answer.ticket.is_done:
            await progress.wait()
        answer.raise_failure()
        body = await answer.to_json()
    except DisconnectedError:
        return Response(status_code=499)  # it is not read
    finally:
        answer.close()
    return Response(body, media_type=JSON_TYPE)


class _Answer:
    """The texts of a request, and how much of them was sent.

    Args:
        state: The server.
        prepared: The request.
        ticket: The ticket of the request.
        texts: The texts of each prompt.
    """

    def __init__(
        self, state: ServerState, prepared: PreparedCompletion, ticket: Ticket, texts: Sequence[Sequence[WrittenText]]
    ) -> None:
        self.ticket = ticket
        self._state, self._prepared, self._texts = state, prepared, texts
        self._request, self._model = prepared.request, prepared.model
        self._envelope = Envelope(prepared.model)
        self._usage = {"usage": None} if self._request.include_usage else {}

    def close(self) -> None:
        """Tell the worker that nothing more is wanted, and count what was done."""
        self.ticket.is_cancelled = True
        self._state.release(self._prepared.num_held_values)
        self._state.metrics.observe_first_token(self.ticket.first_token_s)

    def raise_failure(self) -> None:
        """Raise the error for which the worker gave the request up, if it did.

        Raises:
            ApiError: If it did.
        """
        error = self.ticket.error
        if error is not None:
            raise from_chargen(error) if isinstance(error, ChargenError) else internal_error() from error

    async def to_json(self) -> bytes:
        """Return the body of the response, once all texts are complete."""
        num_tokens = self._num_written + (self._prepared.num_prompt_tokens if self._request.echo else 0)
        if self._request.logprobs is not None and num_tokens > MAX_QUICK_TOKENS:
            return await run_in_threadpool(self._to_json)
        return self._to_json()

    @property
    def _num_written(self) -> int:
        return sum(text.num_tokens for texts in self._texts for text in texts)

    def _to_json(self) -> bytes:
        choices: list[dict[str, Any]] = []
        for number, stream in enumerate(self.ticket.prompts):
            for text in self._best(number):
                choices.append(self._choice(len(choices), number, stream, text))
        usage = make_usage(self._prepared.num_prompt_tokens, self._num_written)
        return dump_json(self._envelope.wrap(choices, usage=usage))

    def _best(self, number: int) -> list[WrittenText | None]:
        """Return the n texts of a prompt that are returned, the best first if there are more; None for no text."""
        texts = list(self._texts[number])
        if self._request.best_of > self._request.n:
            texts.sort(key=lambda text: -text.mean_log_prob_nats)
        return [*texts[: self._request.n]] or [None] * self._request.n

    def _choice(self, index: int, number: int, stream: PromptStream, text: WrittenText | None) -> dict[str, Any]:
        prompt, echo = self._prepared.prompts[number], self._request.echo
        written = "" if text is None else text.read_text()[0]
        log_probs = None
        if self._request.logprobs is not None:
            tokens = [] if text is None else complete_tokens(text, 0, len(written))
            log_probs = make_log_probs(self._model, tokens, len(prompt.text))
            if echo:
                log_probs = join_log_probs(make_prompt_log_probs(self._model, prompt, stream), log_probs)
        reason = "length" if text is None else text.finish_reason
        return make_choice(index, (prompt.text if echo else "") + written, reason, log_probs)

    async def events(self, progress: Progress) -> AsyncIterator[bytes]:
        """Yield the events of a stream until all texts are complete.

        Raises:
            DisconnectedError: If the client is gone.
            ApiError: If the request fails. If time is over, the texts get a last event before.
        """
        pending = [
            _StreamedText(len(self._best(0)) * number + k, number, stream, text)
            for number, stream in enumerate(self.ticket.prompts)
            for k, text in enumerate(self._best(number))
        ]
        try:
            while pending:
                progress.check_time()
                self.raise_failure()
                choices = [choice for each in pending if (choice := self._next_choice(each)) is not None]
                pending = [each for each in pending if not each.is_complete]
                for choice in choices:
                    yield self._event([choice], **self._usage)
                if pending and not choices:
                    await progress.wait()
        except OutOfTimeError:
            if any(each.has_started for each in pending):  # otherwise the error is the whole response
                for each in pending:
                    yield self._event([self._last_choice(each)], **self._usage)
            raise
        if self._request.include_usage:
            yield self._event([], usage=make_usage(self._prepared.num_prompt_tokens, self._num_written))
        yield DONE

    def _event(self, choices: Sequence[dict[str, Any]], **more: Any) -> bytes:
        return b"data: " + dump_json(self._envelope.wrap(choices, **more)) + b"\n\n"

    def _next_choice(self, each: _StreamedText) -> dict[str, Any] | None:
        """Return what is new in a text, as a choice; None if there is nothing."""
        prompt, text, stream = self._prepared.prompts[each.number], each.text, each.stream
        wants_log_probs = self._request.logprobs is not None
        if not stream.is_read:
            return None  # the prompt comes first
        ended = "length" if text is None else text.ended  # read before the pieces: an ended text does not grow
        new, each.place = ("", 0) if text is None else text.read_text(each.place)
        each.num_chars += len(new)
        tokens = [] if text is None or not wants_log_probs else complete_tokens(text, each.num_tokens, each.num_chars)
        each.num_tokens += len(tokens)
        log_probs = make_log_probs(self._model, tokens, len(prompt.text)) if wants_log_probs else None
        if self._request.echo and not each.has_started:
            new = prompt.text + new
            if log_probs is not None:
                log_probs = join_log_probs(make_prompt_log_probs(self._model, prompt, stream), log_probs)
        each.has_started, each.is_complete = True, bool(ended)
        if not (new or tokens or ended):
            return None
        reason = None if not ended else "length" if text is None else text.finish_reason
        return make_choice(each.index, new, reason, log_probs)

    def _last_choice(self, each: _StreamedText) -> dict[str, Any]:
        """Return the end of a text for which no time is left."""
        choice = self._next_choice(each) or make_choice(each.index, "", None)
        return {**choice, "finish_reason": choice["finish_reason"] or "length"}


class _StreamedText:
    """A text of a stream, and how much of it was sent."""

    def __init__(self, index: int, number: int, stream: PromptStream, text: WrittenText | None) -> None:
        self.index, self.number, self.stream, self.text = index, number, stream, text
        self.place = self.num_chars = self.num_tokens = 0
        self.has_started = self.is_complete = False


class EventStream(Response):
    """A response of server-sent events. If the client is gone, the worker is told to stop."""

    media_type = "text/event-stream"

    def __init__(self, answer: _Answer, progress: Progress) -> None:
        super().__init__(headers=EVENT_HEADERS)
        del self.headers["content-length"]
        self._answer, self._progress = answer, progress

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send the events."""
        events = self._answer.events(self._progress)
        try:
            async with self._progress.watch(receive):
                first = await anext(events)  # an error before the first event has its own status
                await send({"type": "http.response.start", "status": 200, "headers": self.raw_headers})
                await send({"type": "http.response.body", "body": first, "more_body": True})
                await asyncio.wait_for(self._send_rest(events, send), self._progress.seconds_left + SLOW_READER_S)
        except (DisconnectedError, asyncio.TimeoutError, TimeoutError):  # the client is gone, or does not read
            return
        finally:
            self._answer.close()

    async def _send_rest(self, events: AsyncIterator[bytes], send: Send) -> None:
        """Send the events after the first one; an error is the last event."""
        try:
            async for event in events:
                await send({"type": "http.response.body", "body": event, "more_body": True})
                if self._progress.is_disconnected:
                    return
        except ApiError as error:
            event = b"data: " + dump_json(error.to_json()) + b"\n\n"
            await send({"type": "http.response.body", "body": event, "more_body": True})
        await send({"type": "http.response.body", "body": b""})


# ── texts that compete ────────────────────────────────────────────────────────


async def _create_competing(
    state: ServerState, prepared: PreparedCompletion, progress: Progress, receive: Receive
) -> Response:
    """Answer a request with `particles` or `suffix`: every text is complete before anything is sent."""
    num_competing = num_particles(prepared.request)
    try:
        work = state.jobs.run(lambda stop: _write_competing(prepared, num_competing, stop))
        texts = await progress.finish(work, receive)
    except DisconnectedError:
        return Response(status_code=499)  # it is not read
    except QueueFullError:
        raise too_many_requests(state.jobs.num_jobs, RETRY_AFTER_S) from None
    except ChargenError as error:
        raise from_chargen(error) from error
    return _respond(prepared, texts)


def _write_competing(prepared: PreparedCompletion, num_competing: int, stop: Event) -> list[tuple[str, str]]:
    """Return the texts, each with the reason why it ended, in the order of the choices."""
    request, model = prepared.request, prepared.model
    engine = model.job_engine
    engine.stop = stop
    generator = make_generator(prepared, engine)
    context = generator.context
    texts: list[tuple[str, str]] = []
    for index, prompt in enumerate(prepared.prompts):
        generator.context = with_prompt(context, prompt.text, prompt.last_document_ids)
        for number in prepared.text_numbers(index):
            if stop.is_set():
                raise JobStoppedError
            if request.suffix:
                suffix = model.checkpoint.normalize(request.suffix, "suffix")
                texts.append((generator.infill(suffix, number, num_competing).text, "stop"))
            else:
                sample = generator.particles(number, num_competing)
                texts.append((sample.text, "length" if sample.ended == "length" else "stop"))
    return texts


def _respond(prepared: PreparedCompletion, texts: Sequence[tuple[str, str]]) -> Response:
    """Return the response with complete texts, as JSON or as events."""
    request, envelope = prepared.request, Envelope(prepared.model)
    choices = []
    for index, (text, reason) in enumerate(texts):
        prompt = prepared.prompts[index // request.n]
        choices.append(make_choice(index, (prompt.text if request.echo else "") + text, reason))
    num_tokens = sum(len(prepared.model.lm.tokenizer.encode(text)) for text, _ in texts)
    usage = make_usage(prepared.num_prompt_tokens, num_tokens)
    if not request.stream:
        return Response(dump_json(envelope.wrap(choices, usage=usage)), media_type=JSON_TYPE)
    more = {"usage": None} if request.include_usage else {}
    events = [envelope.wrap([choice], **more) for choice in choices]
    events += [envelope.wrap([], usage=usage)] if request.include_usage else []
    body = b"".join(b"data: " + dump_json(event) + b"\n\n" for event in events) + DONE
    return Response(body, media_type=EventStream.media_type, headers=EVENT_HEADERS)
