"""The routes of the server as an ASGI application."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.middleware.cors import CORSMiddleware
from starlette.requests import Request
from starlette.responses import HTMLResponse, PlainTextResponse, Response
from starlette.routing import Route

from chargen import __version__
from chargen.lm import Notify
from chargen.server.batch.jobs import JobRunner
from chargen.server.completions.endpoint import create_completion
from chargen.server.completions.response_format import JSON_TYPE, dump_json
from chargen.server.connection.body import BodyReader
from chargen.server.connection.guard import Access, Guard, error_response
from chargen.server.errors import ApiError, internal_error
from chargen.server.limits import Limits
from chargen.server.metrics import Metrics
from chargen.server.models import CHECK_INTERVAL_S, ServedModels
from chargen.server.scores import create_score
from chargen.server.state import ServerState
from chargen.server.tokenizer_endpoints import detokenize, tokenize, tokenizer_info


def build_app(
    models: ServedModels, limits: Limits | None = None, access: Access | None = None, notify: Notify | None = None
) -> Starlette:
    """Return the application of a server.

    Args:
        models: The models. Their threads run while the application does.
        limits: The limits; None for the defaults.
        access: Who may use the server; None for everyone on this machine.
        notify: Function that gets messages for the person who runs the server; None drops them.
    """
    limits, access = limits or Limits(), access or Access()
    jobs, preparations = JobRunner(limits.max_waiting), JobRunner(limits.max_waiting)
    bodies = BodyReader(limits.max_body_bytes)
    state = ServerState(models, limits, jobs, preparations, Metrics(), bodies, notify)
    routes = [
        Route("/", _index),
        Route("/health", _health),
        Route("/metrics", _metrics),
        Route("/v1/models", _list_models),
        Route("/v1/models/{id:path}", _show_model),
        Route("/v1/completions", create_completion, methods=["POST"]),
        Route("/v1/score", create_score, methods=["POST"]),
        Route("/tokenizer_info", tokenizer_info),
        Route("/tokenize", tokenize, methods=["POST"]),
        Route("/detokenize", detokenize, methods=["POST"]),
    ]
    guard = Middleware(Guard, access=access, metrics=state.metrics, routes=[route.path for route in routes])
    origins, methods = list(access.origins), ["GET", "POST"]
    cors = Middleware(CORSMiddleware, allow_origins=origins, allow_methods=methods, allow_headers=["*"])
    app = Starlette(
        routes=routes,
        middleware=[cors, guard] if origins else [guard],
        exception_handlers={ApiError: _on_api_error, HTTPException: _on_http_error, Exception: _on_defect},
        lifespan=_run_threads,
    )
    app.state.server = state
    return app


@asynccontextmanager
async def _run_threads(app: Starlette) -> AsyncIterator[None]:
    """Start the threads of the models, and stop them at the end."""
    state: ServerState = app.state.server
    for model in state.models:
        model.worker.start()
    watcher = asyncio.create_task(_watch_files(state))
    yield
    watcher.cancel()
    for model in state.models:
        model.worker.stop()
    state.jobs.close()
    state.preparations.close()


async def _watch_files(state: ServerState) -> None:
    """Say once for each model that its file was replaced or deleted, and that the server keeps the opened model."""
    replaced: set[str] = set()
    while state.notify is not None:
        await asyncio.sleep(CHECK_INTERVAL_S)
        for model in state.models:
            if model.is_replaced and model.id not in replaced:
                replaced.add(model.id)
                what = "deleted" if model.is_deleted else "replaced"
                state.notify(
                    f"note: the file of the model {model.id} was {what}; the server keeps the old one until it is "
                    "started again"
                )


def _json(value: Any) -> Response:
    return Response(dump_json(value), media_type=JSON_TYPE)


async def _index(request: Request) -> Response:
    """Show the playground: a page that uses this server; `?model=ID` chooses the model."""
    from chargen.export.interface import assemble_playground  # most servers are never asked for it

    state: ServerState = request.app.state.server
    model = state.models.find(request.query_params.get("model"))
    page = await run_in_threadpool(assemble_playground, model.checkpoint, model.id, state.models.ids)
    return HTMLResponse(page, headers={"cache-control": "no-cache"})


async def _health(request: Request) -> Response:
    """Say that the server works, and which models it has."""
    state: ServerState = request.app.state.server
    models = [{"id": model.id, "is_file_replaced": model.is_replaced} for model in state.models]
    return _json({"status": "ok", "version": __version__, "models": models})


async def _metrics(request: Request) -> Response:
    state: ServerState = request.app.state.server
    text = state.metrics.to_text(state.models)
    return PlainTextResponse(text, media_type="text/plain; version=0.0.4")


async def _list_models(request: Request) -> Response:
    state: ServerState = request.app.state.server
    return _json({"object": "list", "data": [model.to_json() for model in state.models]})


async def _show_model(request: Request) -> Response:
    state: ServerState = request.app.state.server
    return _json(state.models.find(request.path_params["id"]).to_json())


async def _on_api_error(request: Request, error: Exception) -> Response:
    assert isinstance(error, ApiError)
    return error_response(error)


async def _on_http_error(request: Request, error: Exception) -> Response:
    """Answer a request for a path or a method that there is not."""
    assert isinstance(error, HTTPException)
    what = f"{request.method} {request.url.path[:200]}"
    if error.status_code == 405:
        allowed, code = (error.headers or {}).get("Allow", "another method"), "method_not_allowed"
        message = f"{what} is not possible; the path takes {allowed}"
    elif request.url.path.rstrip("/").endswith("/chat/completions"):
        message, code = (
            "the models of this server continue texts and do not chat; use POST /v1/completions",
            "not_found",
        )
    else:
        message, code = f"there is nothing at {what}", "not_found"
    return error_response(ApiError(error.status_code, message, code=code, headers=dict(error.headers or {})))


async def _on_defect(request: Request, error: Exception) -> Response:
    logging.getLogger("chargen.server").error("%s failed", request.url.path)
    return error_response(internal_error())
