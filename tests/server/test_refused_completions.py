"""POST /v1/completions: what is refused, and how a request ends that takes too long or too much memory."""

from __future__ import annotations

import json
from concurrent.futures import ThreadPoolExecutor
from threading import Event
from typing import Any

import pytest
from starlette.testclient import TestClient

from chargen.checkpoint import Checkpoint
from chargen.sampling.copy_filter import CopyIndex
from chargen.server.limits import Limits
from tests.conftest import VERSE, random_model
from tests.sampling.test_copy_filter import index_of
from tests.server.conftest import Serve, language_model
from tests.server.test_completions import complete


@pytest.mark.parametrize(
    ("body", "param"),
    [
        ({"prompt": 5}, "prompt"), ({"prompt": []}, "prompt"), ({"prompt": ["a", 1]}, "prompt"),
        ({"prompt": [10**6]}, "prompt"), ({"prompt": [-1]}, "prompt"), ({"prompt": [0]}, "prompt"),
        ({"prompt": [True]}, "prompt"),
        ({"prompt": [5] * 20_001}, "prompt"), ({"prompt": [[5] * 20_001]}, "prompt"),
        ({"prompt": "a" * 20_001}, "prompt"), ({"prompt": ["a"] * 1025}, "prompt"),
        ({"max_tokens": -1}, "max_tokens"), ({"max_tokens": 10**9}, "max_tokens"), ({"max_tokens": 1.5}, "max_tokens"),
        ({"max_tokens": True}, "max_tokens"), ({"n": 0}, "n"), ({"n": 1000}, "n"),
        ({"n": 3, "best_of": 2}, "best_of"), ({"best_of": 2, "stream": True}, "best_of"),
        ({"temperature": "hot"}, "temperature"), ({"temperature": -1}, "temperature"), ({"top_p": 0}, "top_p"),
        ({"logprobs": 10**6}, "logprobs"), ({"logprobs": -1}, "logprobs"), ({"logprobs": True}, "logprobs"),
        ({"stop": 5}, "stop"), ({"stop": [""]}, "stop"), ({"stop": ["a", None]}, "stop"), ({"seed": -1}, "seed"),
        ({"stop": ["ab"] * 100_000}, "stop"), ({"logit_bias": []}, "logit_bias"),
        ({"logit_bias": {"x": 1}}, "logit_bias"),
        ({"logit_bias": {str(k): 1 for k in range(50_001)}}, "logit_bias"), ({"logit_bias": {"5": 1000}}, "logit_bias"),
        ({"logit_bias": {"99999": 1}}, "logit_bias"), ({"stream_options": {}}, "stream_options"),
        ({"frequency_penalty": 2.1}, "frequency_penalty"), ({"presence_penalty": -3}, "presence_penalty"),
        ({"presence_penalty": True}, "presence_penalty"), ({"repetition_penalty": 1.2}, "repetition_penalty"),
        ({"min_tokens": 5}, "min_tokens"), ({"skip_special_tokens": False}, "skip_special_tokens"),
        ({"logit_bias": {"5": 1, "05": 2}}, "logit_bias"),
        ({"dry": 1, "prompt": ["a" * 9000] * 16, "n": 8}, "dry"),
        ({"dry": 1, "prompt": "a" * 9000, "particles": 1000, "max_tokens": 1}, "dry"),
        ({"nonsense": 1}, "nonsense"), ({"model": 5}, "model"),
        ({"suffix": "a", "logprobs": 1}, "logprobs"), ({"particles": 10**6}, "particles"),
        ({"echo": "yes"}, "echo"), ({"stream": 1}, "stream"),
    ],
    ids=lambda value: str(value)[:40],
)  # fmt: skip
def test_a_wrong_value_is_refused_with_its_name(client: TestClient, body: dict[str, Any], param: str) -> None:
    response = client.post("/v1/completions", json={"prompt": "a", **body})
    assert response.status_code == 400, response.text
    error = response.json()["error"]
    assert error["param"] == param
    assert set(error) == {"message", "type", "param", "code"}
    assert "\n" not in error["message"] and len(error["message"]) < 300


@pytest.mark.parametrize("token_id", [-1, 54, 2**31, 2**63, -(10**4000)])
@pytest.mark.parametrize("is_nested", [False, True])
def test_a_token_id_out_of_range_is_named_with_the_range(client: TestClient, token_id: int, is_nested: bool) -> None:
    ids = [5, token_id]
    response = client.post("/v1/completions", json={"prompt": [ids] if is_nested else ids})
    assert response.status_code == 400
    message = response.json()["error"]["message"]
    last = client.get("/tokenizer_info").json()["bos_token_id"]
    assert message.startswith("prompt has the token id ") and message.endswith(f", but ids are from 0 to {last}")
    assert len(message) < 200


def test_what_the_model_cannot_do_is_unprocessable(client: TestClient) -> None:
    pytest.importorskip("outlines_core")
    for settings in ({"regex": "☃+"}, {"regex": "("}, {"max_copy": 5}):
        response = client.post("/v1/completions", json={"prompt": "a", **settings})
        assert response.status_code == 422, response.text
        assert "/" not in response.json()["error"]["message"]


def test_a_regex_without_its_package_says_what_is_missing(client: TestClient, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("chargen.server.completions.preparation.find_spec", lambda name: None)
    response = client.post("/v1/completions", json={"prompt": "a", "regex": "a+"})
    assert response.status_code == 422
    assert "chargen[regex]" in response.json()["error"]["message"]


@pytest.mark.parametrize("settings", [{"regex": "a+"}, {"max_copy": 5}], ids=str)
def test_a_constraint_of_characters_needs_a_prompt_of_whole_ones(serve: Serve, settings: dict[str, Any]) -> None:
    pytest.importorskip("outlines_core")
    lm = language_model(checkpoint=random_model(VERSE, "byte"))
    prompt = lm.tokenizer.encode("ữ").tolist()[:-1]
    for more in ({}, {"particles": 2}):
        response = serve(lm).post("/v1/completions", json={"prompt": prompt, **settings, **more})
        assert response.status_code == 400
        assert response.json()["error"]["param"] == "prompt"


def use_training_text(monkeypatch: pytest.MonkeyPatch, text: str) -> None:
    """Let `max_copy` find this training text."""

    def load(checkpoint: Checkpoint, max_copy: int, *others: Any) -> CopyIndex:
        return index_of(text, max_copy, checkpoint.tokenizer)

    monkeypatch.setattr("chargen.sampling.copy_filter.load_copy_index", load)


def test_no_long_passage_is_copied(client: TestClient, monkeypatch: pytest.MonkeyPatch) -> None:
    use_training_text(monkeypatch, VERSE)
    choices = complete(client, prompt="The quick", max_copy=3, max_tokens=100, n=4, seed=1, temperature=0.5)["choices"]
    for text in ("The quick" + choice["text"] for choice in choices):
        assert not any(text[k : k + 4] in VERSE for k in range(len("The quick") - 3, len(text) - 3))


def test_a_dead_end_fails_only_its_own_request(serve: Serve, monkeypatch: pytest.MonkeyPatch) -> None:
    use_training_text(monkeypatch, "aabba")  # after any letter, each letter would be a copy of two
    client = serve(language_model(checkpoint=random_model("ab")))
    with ThreadPoolExecutor(8) as executor:
        bodies = [{"prompt": "a", "max_tokens": 200, **({"max_copy": 1} if k % 2 else {})} for k in range(16)]
        responses = list(executor.map(lambda body: client.post("/v1/completions", json=body), bodies))
    assert [response.status_code for response in responses] == [200, 422] * 8
    assert "every character is forbidden" in responses[1].json()["error"]["message"]
    stream = client.post("/v1/completions", json={"prompt": "a", "max_copy": 1, "stream": True})
    assert stream.status_code == 422


def test_requests_that_hold_too_much_memory_together_wait(serve: Serve, monkeypatch: pytest.MonkeyPatch) -> None:
    client = serve()
    state = client.app.state.server  # type: ignore[attr-defined]
    monkeypatch.setattr("chargen.server.state.MAX_HELD_VALUES", 20_000)
    long = {"prompt": "a" * 1000, "n": 10, "dry": 1.0, "max_tokens": 1}
    for body, status in ((long, 200), ({**long, "n": 20}, 429), ({**long, "n": 10, "regex": "("}, 422), (long, 200)):
        assert client.post("/v1/completions", json=body).status_code == status
        assert client.post("/v1/completions", json={**body, "stream": True}).status_code == status
        assert state.num_held_values == 0


@pytest.mark.parametrize(
    "body", [{"n": 60}, {"stop": "fox" * 400}, {"logprobs": 3, "max_tokens": 200}, {"dry": 1.0, "prompt": "a" * 1000}],
    ids=lambda body: next(iter(body)),
)  # fmt: skip
def test_a_request_that_never_fits_into_memory_is_refused(
    client: TestClient, monkeypatch: pytest.MonkeyPatch, body: dict[str, Any]
) -> None:
    for module in ("state", "completions.preparation"):
        monkeypatch.setattr(f"chargen.server.{module}.MAX_HELD_VALUES", 1000)
    response = client.post("/v1/completions", json={"prompt": "a", "max_tokens": 1, **body})
    assert response.status_code == 400
    assert response.json()["error"]["param"] == "n"
    assert client.post("/v1/completions", json={"prompt": "a", "max_tokens": 1, "n": 10}).status_code == 200


def test_the_largest_request_is_answered(client: TestClient) -> None:
    answer = complete(client, prompt=["The "] * 1024, n=2, max_tokens=2, seed=1)
    assert [choice["index"] for choice in answer["choices"]] == list(range(2048))
    assert len({choice["text"] for choice in answer["choices"][::2]}) == 1


def test_a_request_that_takes_too_long_is_ended(serve: Serve) -> None:
    client = serve(limits=Limits(timeout_s=0.05, max_tokens=10**6))
    response = client.post("/v1/completions", json={"prompt": "a", "max_tokens": 10**6})
    assert response.status_code == 408
    assert response.json()["error"]["code"] == "timeout"
    assert response.headers["x-should-retry"] == "false"


def test_a_stream_that_takes_too_long_ends_each_text_and_says_why(serve: Serve) -> None:
    client = serve(limits=Limits(timeout_s=0.3, max_tokens=10**6))
    response = client.post("/v1/completions", json={"prompt": "a", "max_tokens": 10**6, "n": 3, "stream": True})
    *events, error = [json.loads(part) for part in response.text.strip().split("data: ")[1:]]  # there is no [DONE]
    assert error["error"]["code"] == "timeout"
    for index in range(3):
        reasons = [event["choices"][0]["finish_reason"] for event in events if event["choices"][0]["index"] == index]
        assert reasons == [None] * (len(reasons) - 1) + ["length"] and len(reasons) > 1


def test_the_time_limit_includes_the_wait_for_other_preparations(serve: Serve) -> None:
    client = serve(limits=Limits(timeout_s=0.05))
    is_done = Event()
    client.app.state.server.preparations._executor.submit(is_done.wait)  # type: ignore[attr-defined]
    response = client.post("/v1/completions", json={"prompt": "a", "regex": "a+"})
    is_done.set()
    assert response.status_code == 408
