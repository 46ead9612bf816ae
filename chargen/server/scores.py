"""POST /v1/score: how likely texts are, as `chargen score` prints it, ranked or in the order of the request."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from threading import Event
from typing import Any

from starlette.requests import Request
from starlette.responses import Response

from chargen.errors import ChargenError
from chargen.schema import Boolean, ListOf, Nullable, String
from chargen.scoring.ranking import BEST, BY, WORST, sort_key
from chargen.scoring.scorer import Score, score_batches
from chargen.server.batch.jobs import JobStoppedError
from chargen.server.batch.worker import QueueFullError
from chargen.server.completions.request import check_fields
from chargen.server.completions.response_format import JSON_TYPE, dump_json
from chargen.server.connection.progress import DisconnectedError
from chargen.server.errors import ApiError, from_chargen, too_many_requests
from chargen.server.limits import MAX_PROMPT_TOKENS, MAX_SCORED_CHARS, RETRY_AFTER_S
from chargen.server.models import ServedModel
from chargen.server.state import ServerState

MAX_TEXTS = 10_000
CHUNK_CHARS = 10_000  # characters of texts that are scored together
SORT = {"best": BEST, "worst": WORST, "none": None}
FIELDS = {
    "model": String(1000),
    "context": String(MAX_PROMPT_TOKENS),
    "end": Nullable(Boolean()),
    "chars": Boolean(),
    "by": String(choices=BY),
    "sort": String(choices=tuple(SORT)),
}
TEXTS = ListOf(String(MAX_PROMPT_TOKENS), 1, MAX_TEXTS)


async def create_score(request: Request) -> Response:
    """Answer with the scores of texts.

    Raises:
        ApiError: If the request is refused.
    """
    state: ServerState = request.app.state.server
    body = check_fields(await state.bodies.read_json(request), FIELDS, ("texts",))
    texts = _parse_texts(body.get("texts"), body.get("context", ""))
    model = state.models.find(body.get("model"))
    progress = state.start_request()
    try:
        scores = await progress.finish(state.jobs.run(lambda stop: _score(model, texts, body, stop)), request.receive)
    except DisconnectedError:
        return Response(status_code=499)  # it is not read
    except QueueFullError:
        raise too_many_requests(state.jobs.num_jobs, RETRY_AFTER_S) from None
    except ChargenError as error:
        raise from_chargen(error) from error
    answer = {"object": "list", "model": model.id, "data": _ranked(scores, body)}
    return Response(dump_json(answer), media_type=JSON_TYPE)


def _parse_texts(texts: Any, context: str) -> list[str]:
    """Return the texts: one string, or a list of them. The context is read before each of them.

    Raises:
        ApiError: If there are none, or too many, or they are too long.
    """
    strings = [texts] if isinstance(texts, str) else texts
    try:
        TEXTS.check(strings, "texts")
    except ChargenError as error:
        raise ApiError(400, error.message, "texts") from error
    longest = max(map(len, strings)) + len(context)
    if longest > MAX_PROMPT_TOKENS:
        raise ApiError(
            400,
            f"a text with its context has {longest:,} characters, but may have at most {MAX_PROMPT_TOKENS:,}",
            "texts",
        )
    num_chars = sum(map(len, strings))
    if num_chars > MAX_SCORED_CHARS:
        raise ApiError(
            413, f"the texts have {num_chars:,} characters, but may have at most {MAX_SCORED_CHARS:,}", "texts"
        )
    return list(strings)


def _score(model: ServedModel, texts: Sequence[str], body: dict[str, Any], stop: Event) -> list[Score]:
    """Return the scores of texts, in their order.

    The engine is that of NumPy, however long the texts are: the server would import torch while others wait.
    """
    checkpoint, engine = model.checkpoint, model.job_engine
    engine.stop = stop
    context = checkpoint.encode_context(body.get("context"))
    end = checkpoint.scored_end_ids(body.get("end", model.lm.scores_end))
    scores: list[Score] = []
    for score in score_batches(checkpoint, lambda _: engine, _chunks(texts), context, end, body.get("chars", False)):
        if stop.is_set():
            raise JobStoppedError
        scores.append(score)
    return scores


def _chunks(texts: Sequence[str]) -> Iterator[list[str]]:
    """Yield the texts in lists of about CHUNK_CHARS characters."""
    chunk: list[str] = []
    num_chars = 0
    for text in texts:
        if chunk and num_chars + len(text) > CHUNK_CHARS:
            yield chunk
            chunk, num_chars = [], 0
        chunk.append(text)
        num_chars += len(text)
    yield chunk


def _ranked(scores: Sequence[Score], body: dict[str, Any]) -> list[dict[str, Any]]:
    """Return the scores as JSON, in the order that the request asks for."""
    order, by = SORT[body.get("sort", "best")], body.get("by", BY[0])
    indices = list(range(len(scores)))
    if order is not None:
        indices.sort(key=lambda index: sort_key(scores[index], by, order))
    entries = []
    for rank, index in enumerate(indices, 1):
        entry: dict[str, Any] = {"object": "score", "index": index, **scores[index].to_dict()}
        entries.append(entry if order is None else {"rank": rank, **entry})
    return entries
