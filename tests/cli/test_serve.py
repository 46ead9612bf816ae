"""`chargen serve`: what it prints, and what it refuses before it answers requests."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from chargen.checkpoint import save_checkpoint
from tests.conftest import Result, random_model

Chargen = Callable[..., Result]


@pytest.fixture(autouse=True)
def served(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """Collect the applications that would be run."""
    apps: list[Any] = []
    monkeypatch.setattr("chargen.server.run.run_server", lambda app, server: apps.append(app))
    return apps


@pytest.fixture
def models(chargen: Chargen) -> None:
    for name in ("a", "b"):
        save_checkpoint(Path("checkpoints") / name / "model.safetensors", random_model())


@pytest.mark.usefixtures("models")
def test_the_url_and_the_models_are_printed(chargen: Chargen, served: list[Any]) -> None:
    result = chargen("serve", "b", "a", "--port", "0")
    assert result.out.startswith("http://127.0.0.1:")
    assert result.out.endswith("serves b, a\n")
    assert result.err == ""
    document = json.loads(chargen("serve", "a", "--port", "0", "--json").out)
    assert document["models"] == ["a"]
    assert len(served) == 2


@pytest.mark.usefixtures("models")
def test_a_server_for_everyone_is_noted(chargen: Chargen) -> None:
    assert "everyone in the network" in chargen("serve", "a", "--host", "0.0.0.0", "--port", "0").err
    assert chargen("serve", "a", "--host", "0.0.0.0", "--port", "0", "--api-key", "k").err == ""


@pytest.mark.usefixtures("models")
@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("nonsense",), "no model named 'nonsense'"), (("a", "a"), "two models have the name a"),
        (("a", "--host", "no.such.host.invalid"), "is no address of this machine"),
        (("a", "--host", "192.0.2.1"), "is no address of this machine"),
        (("a", "--cors", "example.com"), "is no origin"), (("a", "--cors", "https://example.com/x"), "is no origin"),
        (("a", "--allow-host", "https://example.com"), "is no host name"), (("a", "--api-key", "two words"), "ASCII"),
        (("a", "--api-key", "khóa"), "ASCII"), (("a", "--port", "65536"), "--port"),
        (("a", "--timeout", "0"), "--timeout"),
    ],
    ids=str,
)  # fmt: skip
def test_wrong_arguments_are_refused(
    chargen: Chargen, arguments: tuple[str, ...], message: str, served: list[Any]
) -> None:
    result = chargen("serve", "--port", "0", *arguments) if "--port" not in arguments else chargen("serve", *arguments)
    assert result.status in (1, 2)
    assert message in " ".join(result.err.split())
    assert not served


def test_without_any_model_the_error_says_how_to_train_one(chargen: Chargen) -> None:
    result = chargen("serve")
    assert result.status == 1
    assert "chargen train" in result.err


def test_the_extra_is_named_where_it_is_missing(chargen: Chargen, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(name: str) -> None:
        raise ImportError(name)

    monkeypatch.setattr("chargen.registry.importlib.import_module", fail)
    from chargen.cli.commands.serve.command import ServeArguments, serve_models
    from chargen.errors import ChargenError

    with pytest.raises(ChargenError, match="chargen serve needs a package") as raised:
        serve_models(ServeArguments())
    assert raised.value.hint == "pip install 'chargen[serve]'"
