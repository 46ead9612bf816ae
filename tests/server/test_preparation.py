"""A checked request for one model: what it holds in memory until it is answered."""

from __future__ import annotations

from typing import Any

from chargen.server.completions.preparation import prepare
from chargen.server.completions.request import parse_completion_request
from chargen.server.limits import Limits
from chargen.server.models import ServedModel
from tests.server.conftest import language_model


def held_values(**body: Any) -> int:
    """Return how many values of about 100 bytes a request holds."""
    request = parse_completion_request({"prompt": "a", **body}, Limits())
    return prepare(request, ServedModel(language_model(), Limits())).num_held_values


def test_stop_strings_count_once_for_all_prompts() -> None:
    for prompt in ("a", ["a"] * 3):
        assert held_values(prompt=prompt, stop=["The", "fox"]) == held_values(prompt=prompt) + 6
