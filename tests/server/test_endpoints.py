"""The other endpoints: models, scores, the tokenizer, health, metrics; and what they refuse."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
from starlette.testclient import TestClient

from chargen.api import load
from chargen.checkpoint import save_checkpoint
from chargen.errors import ConfigError
from chargen.lm import LanguageModel
from chargen.server.connection.guard import Access
from chargen.server.limits import Limits
from chargen.server.models import ServedModel, ServedModels, open_models
from chargen.server.tokens import BEGIN, END, UNKNOWN, ServedTokenizer
from tests.conftest import VERSE, random_model
from tests.server.conftest import Serve, language_model


def test_models_are_listed_and_shown(serve: Serve) -> None:
    client = serve(language_model("verse"), language_model("other"))
    listed = client.get("/v1/models").json()
    assert listed["object"] == "list"
    assert [model["id"] for model in listed["data"]] == ["verse", "other"]
    assert client.get("/v1/models/other").json() == listed["data"][1]
    assert set(listed["data"][0]) == {"id", "object", "created", "owned_by"}


@pytest.mark.parametrize("name", ["nonsense", "../../etc/passwd", "/etc/passwd", "verse/model.safetensors", "a" * 999])
def test_an_unknown_model_is_not_found(client: TestClient, name: str) -> None:
    for response in (client.get(f"/v1/models/{name}"), client.post("/v1/completions", json={"model": name})):
        assert response.status_code == 404
        error = response.json()["error"]
        assert error["code"] in ("model_not_found", "not_found")
        assert "root:" not in response.text


def test_a_model_is_chosen_by_its_id(serve: Serve) -> None:
    models = [language_model("a"), language_model("b", random_model(seed=1))]
    client = serve(*models)
    for lm, name in zip(models, "ab", strict=True):
        answer = client.post("/v1/completions", json={"model": name, "prompt": "The ", "seed": 1}).json()
        assert answer["choices"][0]["text"] == "".join(lm.stream("The ", length=16, seed=1))


def test_two_models_of_one_name_are_refused() -> None:
    with pytest.raises(ConfigError, match="two models have the name verse"):
        ServedModels(ServedModel(language_model(), Limits()) for _ in range(2))


@pytest.mark.parametrize("kind", ["backward", "series"])
def test_models_that_do_not_continue_texts_are_refused(kind: str, tmp_path: Path) -> None:
    from dataclasses import replace

    from chargen.config import DataConfig
    from chargen.text.series.quantizer import Quantizer
    from chargen.tokenizers.mulaw import MuLawTokenizer

    checkpoint = random_model()
    if kind == "backward":
        checkpoint = replace(checkpoint, about={"data": DataConfig(direction="backward").to_json()})
    else:
        series = MuLawTokenizer(Quantizer(checkpoint.config.vocab_size - 2, 8000))
        checkpoint = replace(checkpoint, tokenizer=series)
    with pytest.raises(ConfigError, match=kind):
        ServedModel(language_model("m", checkpoint), Limits())


def test_scores_are_those_of_score(client: TestClient) -> None:
    lm = language_model()
    texts = ["The fox", "xof ehT", "☃", ""]
    answer = client.post("/v1/score", json={"texts": texts}).json()
    expected = {text: lm.score(text).to_dict() for text in texts}
    assert [entry["rank"] for entry in answer["data"]] == [1, 2, 3, 4]
    for entry in answer["data"]:
        text = texts[entry["index"]]
        assert entry["log_prob_nats"] == pytest.approx(expected[text]["log_prob_nats"], abs=1e-4)
        assert set(expected[text]) < set(entry)
    rates = [entry["bits_per_char"] for entry in answer["data"][:3]]
    assert rates == sorted(rates)
    body = {"texts": "The fox", "context": "a", "end": True, "chars": True, "sort": "none"}
    (entry,) = client.post("/v1/score", json=body).json()["data"]
    score = lm.score("The fox", context="a", end=True, pieces=True)
    assert entry["log_prob_nats"] == pytest.approx(score.log_prob_nats, abs=1e-4)
    assert "".join(char for char, _ in entry["char_log_probs_nats"]) == "The fox"
    assert "rank" not in entry


@pytest.mark.parametrize(
    "body",
    [{"texts": "a" * 20_000}, {"texts": ["a" * 500 + str(k) for k in range(9)], "context": "b" * 16_000}],
    ids=["a long text", "a long context"],
)
def test_scores_need_no_torch(client: TestClient, monkeypatch: pytest.MonkeyPatch, body: dict[str, Any]) -> None:
    def fail(lm: LanguageModel) -> None:
        raise RuntimeError("torch would be imported")

    monkeypatch.setattr(LanguageModel, "_torch", property(fail))
    response = client.post("/v1/score", json=body)
    assert response.status_code == 200, response.text


@pytest.mark.parametrize(
    ("body", "status"),
    [
        ({}, 400), ({"texts": 5}, 400), ({"texts": []}, 400), ({"texts": ["a", 5]}, 400),
        ({"texts": "a", "by": "x"}, 400),
        ({"texts": "a" * 20_001}, 400), ({"texts": ["a" * 20_000] * 11}, 413),
        ({"texts": "a" * 9_999, "context": "a" * 10_002}, 400), ({"texts": "a", "model": "x"}, 404),
        ({"texts": "a", "text": "b"}, 400),
    ],
    ids=lambda value: str(value)[:30],
)  # fmt: skip
def test_wrong_requests_for_scores_are_refused(client: TestClient, body: dict[str, Any], status: int) -> None:
    assert client.post("/v1/score", json=body).status_code == status


@pytest.mark.parametrize("tokenizer", ["char", "byte", "sp:300"])
@pytest.mark.parametrize("documents", ["none", "line"])
def test_the_tokenizer_endpoints(serve: Serve, tokenizer: str, documents: str) -> None:
    lm = language_model(checkpoint=random_model(VERSE, tokenizer, documents=documents))
    client = serve(lm)
    info = client.get("/tokenizer_info").json()

    def encode(text: str, **more: Any) -> list[int]:
        return client.post("/tokenize", json={"prompt": text, **more}).json()["tokens"]

    assert encode("Chữ fox") == lm.tokenizer.encode("Chữ fox").tolist()
    assert encode(info["bos_token"]) == [info["bos_token_id"]] == [lm.tokenizer.vocab_size]
    assert encode(info["eos_token"]) == [info["eos_token_id"]] == [0]
    assert encode("fox", add_special_tokens=True) == [info["bos_token_id"], *encode("fox")]
    assert encode(BEGIN + "fox") == [info["bos_token_id"], *encode("fox")]
    for ids, text in ((encode("Chữ fox"), "Chữ fox"), (encode(BEGIN + "a"), BEGIN + "a"), ([0], END), ([], "")):
        assert client.post("/detokenize", json={"tokens": ids}).json() == {"prompt": text}
    assert client.post("/detokenize", json={"tokens": [info["bos_token_id"] + 1]}).status_code == 400
    for path in ("/tokenize", "/detokenize"):
        assert client.post(path, json={}).status_code == 400


@pytest.mark.parametrize("tokenizer", ["char", "byte", "sp:300"])
def test_token_names_are_different_and_decode_to_their_bytes(tokenizer: str) -> None:
    checkpoint = random_model(VERSE + "\ufffd", tokenizer)
    names = ServedTokenizer(checkpoint).names
    assert len(set(names)) == len(names) == checkpoint.tokenizer.vocab_size + 1
    assert names[0] == END and names[-1] == BEGIN
    for token_id, name in enumerate(names[:-1]):
        data = checkpoint.tokenizer.token_bytes(token_id)
        if name.startswith("bytes:"):
            assert bytes.fromhex(name.removeprefix("bytes:").replace("\\x", "")) == data
        elif not name.startswith("token:") and name not in (END, UNKNOWN):
            assert name.encode() == data
    assert all(names[token_id] not in ("", "\ufffd") for token_id in range(2)) or tokenizer != "char"


def test_a_text_with_all_bytes_keeps_its_names(serve: Serve) -> None:
    client = serve(language_model(checkpoint=random_model(VERSE, "byte")))
    body = {"prompt": "ữ", "echo": True, "max_tokens": 0, "logprobs": 0}
    tokens = client.post("/v1/completions", json=body).json()["choices"][0]["logprobs"]["tokens"]
    assert tokens == ["bytes:\\xe1", "bytes:\\xbb", "bytes:\\xaf"]


def test_health_and_metrics(client: TestClient) -> None:
    assert client.get("/health").json()["status"] == "ok"
    client.post("/v1/completions", json={"prompt": "The", "max_tokens": 7})
    client.get("/nonsense")
    text = client.get("/metrics").text
    assert 'chargen_requests_total{route="/v1/completions",status="200"} 1' in text
    assert 'chargen_requests_total{route="other",status="404"} 1' in text
    assert 'chargen_generated_tokens_total{model="verse"} 7' in text
    assert 'chargen_prompt_tokens_total{model="verse"} 4' in text  # with the start of the text
    for line in text.splitlines():
        assert re.fullmatch(r'# (HELP|TYPE) \w+ .+|\w+(\{(\w+="[^"]*",?)+\})? -?[\d.]+', line), line


def test_a_defect_is_counted_as_an_error_of_the_server(client: TestClient, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*arguments: Any) -> bytes:
        raise RuntimeError("a defect")

    monkeypatch.setattr("chargen.server.tokenizer_endpoints._tokenize", fail)
    response = client.post("/tokenize", json={"prompt": "The"})
    assert response.status_code == 500
    assert "defect" not in response.text
    assert response.headers["x-should-retry"] == "false"
    assert 'chargen_requests_total{route="/tokenize",status="500"} 1' in client.get("/metrics").text


def test_the_start_page_names_the_models(client: TestClient) -> None:
    assert '"models":["verse"]' in client.get("/").text


def test_a_replaced_file_is_noticed_and_the_old_model_kept(serve: Serve, tmp_path: Path) -> None:
    path = tmp_path / "verse" / "model.safetensors"
    save_checkpoint(path, random_model())
    client = serve(load(path))
    before = client.post("/v1/completions", json={"prompt": "The", "seed": 1}).json()["choices"]
    assert client.get("/health").json()["models"] == [{"id": "verse", "is_file_replaced": False}]
    save_checkpoint(path, random_model(seed=1))
    client.app.state.server.models.find("verse")._next_check = 0.0  # type: ignore[attr-defined]
    assert client.get("/health").json()["models"] == [{"id": "verse", "is_file_replaced": True}]
    assert client.post("/v1/completions", json={"prompt": "The", "seed": 1}).json()["choices"] == before


def test_models_are_opened_by_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("a", "b"):
        save_checkpoint(Path("checkpoints") / name / "model.safetensors", random_model())
    save_checkpoint(Path("c.safetensors"), random_model())
    assert open_models(["b", "a", "c.safetensors"], Limits()).ids == ("b", "a", "c")
    assert len(open_models([], Limits()).ids) == 1


# ── access ────────────────────────────────────────────────────────────────────


def test_a_key_is_demanded(serve: Serve) -> None:
    client = serve(access=Access("secret"))
    for headers in (
        {},
        {"Authorization": "Bearer wrong"},
        {"Authorization": "secret"},
        {"Authorization": "Basic secret"},
    ):
        for method, path in (("GET", "/v1/models"), ("POST", "/v1/completions"), ("GET", "/metrics"), ("GET", "/x")):
            response = client.request(method, path, headers=headers)
            assert response.status_code == 401
            assert response.json()["error"]["code"] == "invalid_api_key"
    assert client.get("/v1/models", headers={"Authorization": "Bearer secret"}).status_code == 200
    assert client.get("/health").status_code == 200


@pytest.mark.parametrize(
    "host", ["evil.example", "evil.example:8000", "localhost.evil.example", "", "127.0.0.1.nip.io"]
)
def test_a_foreign_host_is_refused(client: TestClient, host: str) -> None:
    response = client.get("/v1/models", headers={"Host": host})
    assert response.status_code == 400
    assert response.json()["error"]["code"] == "host_not_allowed"


@pytest.mark.parametrize(
    "host", ["localhost", "LOCALHOST:8000", "127.0.0.1:8000", "[::1]:8000", "192.168.0.5", "my.host:80"]
)
def test_addresses_and_allowed_hosts_are_answered(serve: Serve, host: str) -> None:
    assert serve(access=Access(hosts=("my.host",))).get("/v1/models", headers={"Host": host}).status_code == 200


def test_pages_of_other_sites_are_refused_unless_they_are_allowed(serve: Serve) -> None:
    client = serve()
    for origin in ("https://evil.example", "null", "http://localhost:1"):
        response = client.post("/v1/completions", json={"prompt": "a"}, headers={"Origin": origin})
        assert response.status_code == 403
        assert "access-control-allow-origin" not in response.headers
    assert client.get("/v1/models", headers={"Origin": "http://localhost"}).status_code == 200
    client = serve(access=Access(origins=("https://good.example",)))
    headers = {"Origin": "https://good.example", "Access-Control-Request-Method": "POST"}
    response = client.options("/v1/completions", headers=headers)
    assert response.headers["access-control-allow-origin"] == "https://good.example"
    response = client.post("/v1/completions", json={"prompt": "a"}, headers=headers)
    assert response.headers["access-control-allow-origin"] == "https://good.example"
    assert client.post("/v1/score", json={}, headers={"Origin": "https://evil.example"}).status_code == 403


# ── bodies ────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("body", "status"),
    [
        (b"", 400), (b"{", 400), (b"[]", 400), (b"5", 400), (b'{"prompt": NaN}', 400), (b'{"prompt": "\xff"}', 400),
        (b'{"prompt": "\\ud800"}', 400), (b'{"a": ' * 100_000 + b"1" + b"}" * 100_000, 400), (b"[" * 1_000_000, 400),
        (b'{"prompt": "a", "prompt": "b"}', 400), ('{"prompt": "a"}'.encode("utf-16"), 400),
        (b" " * (1 << 21) + b"{}", 413),
        (b'{"n": 1' + b"0" * 10_000 + b"}", 400), (b'{"temperature": 1e999}', 400),
        (b'{"stop": [' + b'"a",' * 499_999 + b'"a"]}', 400), (b'{"stop": [' + b'"a",' * 999_999 + b'"a"]}', 413),
    ],
    ids=lambda value: str(value)[:30],
)  # fmt: skip
def test_a_hostile_body_is_refused(client: TestClient, body: bytes, status: int) -> None:
    for path in ("/v1/completions", "/v1/score", "/tokenize"):
        response = client.post(path, content=body)
        assert response.status_code == status, response.text
        assert len(response.text) < 1000


def test_long_bodies_take_bounded_memory_together(client: TestClient, monkeypatch: pytest.MonkeyPatch) -> None:
    bodies = client.app.state.server.bodies  # type: ignore[attr-defined]
    monkeypatch.setattr("chargen.server.connection.body.MAX_ALL_BODY_BYTES", 300_000)
    long = b'{"prompt": ' + b" " * 200_000 + b'"a", "max_tokens": 1}'
    wrong = [long[:-1], b'{"prompt": "\xff' + b"a" * 200_000, b"a" * 350_000, b" " * (1 << 21) + b"{}"]
    for content, status in [(long, 200), *zip(wrong, (400, 400, 429, 413), strict=True), (long, 200)]:
        response = client.post("/v1/completions", content=content)
        assert response.status_code == status, response.text
        assert bodies._num_long_bytes == 0
    bodies._num_long_bytes = 200_000  # of another request
    response = client.post("/v1/completions", content=long)
    assert response.status_code == 429 and response.headers["Retry-After"]
    assert client.post("/v1/completions", json={"prompt": "a", "max_tokens": 1}).status_code == 200  # a short one
    assert bodies._num_long_bytes == 200_000


@pytest.mark.parametrize("path", ["/nonsense", "/v1/completions/", "/../etc/passwd", "/v1/%2e%2e/x", "/static/../../x"])
def test_other_paths_are_not_found(client: TestClient, path: str) -> None:
    response = client.get(path)
    assert response.status_code in (404, 405)
    assert response.json()["error"]["type"] == "invalid_request_error"


def test_a_number_of_thousands_of_digits_is_named_too_large(client: TestClient) -> None:
    response = client.post("/v1/completions", content=b'{"seed": ' + b"9" * 5000 + b"}")
    assert response.json()["error"]["message"].endswith("its JSON contains a number that is too large")


def test_a_client_that_chats_is_told_what_to_use(client: TestClient) -> None:
    response = client.post("/v1/chat/completions", json={"messages": []})
    assert response.status_code == 404
    assert response.json()["error"]["message"].endswith("use POST /v1/completions")


def test_another_method_is_refused(client: TestClient) -> None:
    response = client.get("/v1/completions")
    assert response.status_code == 405
    assert response.json()["error"]["code"] == "method_not_allowed"
    assert client.delete("/v1/models").status_code == 405


def test_a_full_queue_asks_to_try_again(serve: Serve) -> None:
    client = serve(limits=Limits(max_waiting=1))
    worker = client.app.state.server.models.find(None).worker  # type: ignore[attr-defined]
    worker._max_waiting = 0
    response = client.post("/v1/completions", json={"prompt": "a"})
    assert response.status_code == 429
    assert int(response.headers["Retry-After"]) >= 1
    assert "x-should-retry" not in response.headers
    assert response.json()["error"]["code"] == "queue_full"
