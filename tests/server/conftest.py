"""A server with small random models: in this process, without a network, or as a process of its own."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
from starlette.testclient import TestClient

from chargen.checkpoint import Checkpoint
from chargen.lm import LanguageModel
from chargen.server.app import build_app
from chargen.server.connection.guard import Access
from chargen.server.limits import Limits
from chargen.server.models import ServedModel, ServedModels
from tests.conftest import random_model

Serve = Callable[..., TestClient]


def language_model(name: str = "verse", checkpoint: Checkpoint | None = None) -> LanguageModel:
    """Return a model as if it had been opened from the run of this name."""
    return LanguageModel(checkpoint or random_model(), "cpu", Path(name) / "model.safetensors")


@pytest.fixture
def serve() -> Iterator[Serve]:
    """Return a function that serves models, and returns a client."""
    with ExitStack() as stack:

        def start(
            *models: LanguageModel, limits: Limits | None = None, access: Access | None = None, notify: Any = None
        ) -> TestClient:
            limits = limits or Limits()
            served = ServedModels(ServedModel(lm, limits) for lm in models or [language_model()])
            app = build_app(served, limits, access, notify)
            client = TestClient(app, base_url="http://localhost", raise_server_exceptions=False)
            return stack.enter_context(client)

        yield start


@pytest.fixture
def client(serve: Serve) -> TestClient:
    """Return a client of a server with one model of characters."""
    return serve()
