"""POST /v1/completions against `sample` and `score` of the same model."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable
from typing import Any

import numpy as np
import pytest
from starlette.testclient import TestClient

from chargen.engines.numpy_engine import NumpyEngine
from chargen.sampling.generate import Generator
from chargen.sampling.processors import StringMatcher
from chargen.server.tokens import BEGIN, END
from chargen.tokenizers.tokenizer import utf8_masks
from tests.conftest import VERSE, random_model
from tests.server.conftest import Serve, language_model

KINDS = [("char", "none"), ("char", "line"), ("byte", "none"), ("byte", "line"), ("sp:300", "none"), ("sp:300", "line")]


def complete(client: TestClient, **body: Any) -> dict[str, Any]:
    """Return the response to a request, which must succeed."""
    response = client.post("/v1/completions", json=body)
    assert response.status_code == 200, response.text
    return response.json()


def events_of(text: str) -> list[dict[str, Any]]:
    """Return the events of a stream, which must end with [DONE]."""
    events = [line.removeprefix("data: ") for line in text.split("\n\n") if line]
    assert events[-1] == "[DONE]"
    return [json.loads(event) for event in events[:-1]]


@pytest.mark.parametrize(("tokenizer", "documents"), KINDS)
@pytest.mark.parametrize(
    "settings",
    [{}, {"temperature": 0}, {"temperature": 0.7, "top_p": 0.9}, {"top_k": 3, "min_p": 0.1}, {"typical": 0.5},
     {"dry": 2.0}],
    ids=str,
)  # fmt: skip
def test_a_completion_is_the_text_that_sample_generates(
    serve: Serve, tokenizer: str, documents: str, settings: dict[str, Any]
) -> None:
    lm = language_model(checkpoint=random_model(VERSE, tokenizer, documents=documents))
    answer = complete(serve(lm), prompt="The ", max_tokens=40, seed=5, **settings)
    text = answer["choices"][0]["text"]
    expected = "".join(lm.stream("The ", length=40 if tokenizer == "char" else 400, seed=5, **settings))
    assert text == expected if tokenizer == "char" else expected.startswith(text.rstrip("\ufffd"))
    assert answer["usage"]["completion_tokens"] <= 40


def test_the_fields_of_a_response(client: TestClient) -> None:
    answer = complete(client, model="verse", prompt="The", max_tokens=7, seed=1)
    assert answer["object"] == "text_completion"
    assert answer["id"].startswith("cmpl-")
    assert answer["model"] == "verse"
    assert isinstance(answer["created"], int)
    choice = answer["choices"][0]
    assert {**choice, "text": ""} == {"index": 0, "text": "", "logprobs": None, "finish_reason": "length"}
    assert len(choice["text"]) == 7
    assert answer["usage"] == {"prompt_tokens": 3, "completion_tokens": 7, "total_tokens": 10}


def test_choices_are_numbered_by_prompt_and_then_by_text(client: TestClient) -> None:
    prompts = ["The ", "Chữ", "0"]
    answer = complete(client, prompt=prompts, n=4, max_tokens=9, seed=3)
    assert [choice["index"] for choice in answer["choices"]] == list(range(12))
    lm = language_model()
    for number, prompt in enumerate(prompts):
        texts = [choice["text"] for choice in answer["choices"][4 * number : 4 * number + 4]]
        assert texts == ["".join(lm.stream(prompt, length=9, seed=3, number=k)) for k in range(4)]


@pytest.mark.parametrize(
    "settings", [{"n": 2}, {"n": 2, "logprobs": 0}, {"particles": 2}, {"particles": 16, "suffix": " dog"}], ids=str
)
def test_equal_prompts_have_equal_texts_only_under_a_seed(client: TestClient, settings: dict[str, Any]) -> None:
    body, n = {"prompt": ["The "] * 8, "max_tokens": 12, **settings}, settings.get("n", 1)
    texts = [choice["text"] for choice in complete(client, **body, seed=1)["choices"]]
    assert texts == texts[:n] * 8
    assert len({choice["text"] for choice in complete(client, **body)["choices"]}) > n


def test_token_ids_are_prompts_like_their_text(client: TestClient) -> None:
    ids = client.post("/tokenize", json={"prompt": "The fox"}).json()["tokens"]
    from_text = complete(client, prompt="The fox", seed=2)["choices"]
    assert complete(client, prompt=ids, seed=2)["choices"] == from_text
    assert complete(client, prompt=[ids, ids], seed=2)["choices"][1]["text"] == from_text[0]["text"]


@pytest.mark.parametrize("documents", ["none", "line"])
def test_a_prompt_of_null_is_the_start_of_a_text(serve: Serve, documents: str) -> None:
    lm = language_model(checkpoint=random_model(documents=documents))
    client = serve(lm)
    expected = "".join(lm.stream(length=16, seed=2))
    begin = client.get("/tokenizer_info").json()["bos_token_id"]
    for prompt in (None, "", BEGIN, [begin]):
        assert complete(client, prompt=prompt, seed=2)["choices"][0]["text"] == expected


def test_a_text_ends_before_any_of_its_stop_strings(client: TestClient) -> None:
    whole = complete(client, prompt="a", max_tokens=200, seed=1)["choices"][0]["text"]
    stop = whole[50:52]
    choice = complete(client, prompt="a", max_tokens=200, seed=1, stop=["☃", stop])["choices"][0]
    assert choice["text"] == whole[: whole.index(stop)]
    assert choice["finish_reason"] == "stop"
    assert complete(client, prompt="a", max_tokens=20, seed=1, stop="☃")["choices"][0]["text"] == whole[:20]


@pytest.mark.parametrize("more", [{}, {"particles": 2}], ids=str)
def test_the_stop_strings_of_a_request_are_prepared_once(
    client: TestClient, monkeypatch: pytest.MonkeyPatch, more: dict[str, Any]
) -> None:
    built = []

    class CountedMatcher(StringMatcher):
        def __init__(self, strings: Iterable[Iterable[int]]) -> None:
            super().__init__(strings)
            built.append(self)

    monkeypatch.setattr("chargen.sampling.processors.StringMatcher", CountedMatcher)
    complete(client, prompt=["The ", "a", "fox"], n=2, max_tokens=5, stop=["q", "xyz"], **more)
    assert len(built) == 1


def test_a_bias_forbids_and_demands_tokens(client: TestClient) -> None:
    (t,) = client.post("/tokenize", json={"prompt": "T"}).json()["tokens"]
    assert complete(client, prompt="a", seed=1, logit_bias={t: 100})["choices"][0]["text"] == "T" * 16
    texts = [choice["text"] for choice in complete(client, prompt="a", seed=1, n=50, logit_bias={t: -100})["choices"]]
    assert "T" not in "".join(texts)


@pytest.mark.parametrize("documents", ["none", "line"])
@pytest.mark.parametrize("penalties", [(1.5, 0.0), (0.0, 0.7), (-0.5, 2.0)])
def test_penalties_of_tokens_that_the_text_already_has(
    serve: Serve, documents: str, penalties: tuple[float, float]
) -> None:
    lm = language_model(checkpoint=random_model(documents=documents))
    presence, frequency = penalties
    body = {"temperature": 0, "max_tokens": 40, "presence_penalty": presence, "frequency_penalty": frequency}
    choice = complete(serve(lm), prompt="The fox", **body)["choices"][0]
    # The definition of OpenAI, token by token.
    checkpoint, tokenizer = lm.checkpoint, lm.tokenizer
    engine = NumpyEngine(checkpoint.config, checkpoint.weights)
    state, counts, text = engine.initial_state(1), np.zeros(tokenizer.vocab_size), ""
    for token_id in [*checkpoint.start_ids, *tokenizer.encode("The fox")]:
        logits, state = engine.step(np.array([token_id]), state)
    mask = utf8_masks(tokenizer, documents == "line", False).logit_mask[0]
    for _ in range(40):
        token_id = int(np.argmax(logits[0] + mask - frequency * counts - presence * (counts > 0)))
        if token_id == 0:
            break
        counts[token_id] += 1
        text += tokenizer.decode([token_id])
        logits, state = engine.step(np.array([token_id]), state)
    assert choice["text"] == text
    assert text != complete(serve(lm), prompt="The fox", temperature=0, max_tokens=40)["choices"][0]["text"]


def test_biases_and_penalties_hold_for_competing_texts(client: TestClient) -> None:
    (t,) = client.post("/tokenize", json={"prompt": "T"}).json()["tokens"]
    for more in ({"particles": 4}, {"suffix": "dog"}):
        body = {"prompt": "a", "seed": 1, "max_tokens": 9, "logit_bias": {t: 100}, **more}
        assert set(complete(client, **body)["choices"][0]["text"]) <= {"T"}
    body = {"prompt": "a", "seed": 1, "max_tokens": 9, "particles": 1, "temperature": 0}
    plain, other = complete(client, **body), complete(client, **body, frequency_penalty=2, presence_penalty=2)
    assert len(set(other["choices"][0]["text"])) > len(set(plain["choices"][0]["text"]))


def test_fields_that_clients_always_send_are_accepted(client: TestClient) -> None:
    body = {"prompt": "a", "seed": 1}
    more = {"user": "me", "metadata": {"a": 1}, "repetition_penalty": 1.0, "typical_p": 1, "use_beam_search": False}
    assert complete(client, **body, **more)["choices"] == complete(client, **body)["choices"]
    null = dict.fromkeys(("n", "best_of", "stop", "suffix", "logprobs", "logit_bias", "stream_options", "user"))
    assert complete(client, **body, **null)["choices"] == complete(client, **body)["choices"]


# ── log probabilities ─────────────────────────────────────────────────────────


@pytest.mark.parametrize(("tokenizer", "documents"), KINDS)
@pytest.mark.parametrize("max_tokens", [0, 1])
def test_echoed_log_probabilities_are_those_of_score(
    serve: Serve, tokenizer: str, documents: str, max_tokens: int
) -> None:
    lm = language_model(checkpoint=random_model(VERSE, tokenizer, documents=documents))
    client = serve(lm)
    text = "The dog: trăm ☃ 7"
    ids = client.post("/tokenize", json={"prompt": text}).json()["tokens"]
    begin = client.get("/tokenizer_info").json()["bos_token_id"]
    vocab_size = begin
    for prompt, context in (([begin, *ids], None), (BEGIN + text, None), (ids, "first"), (text, "first")):
        answer = complete(
            client, prompt=prompt, max_tokens=max_tokens, echo=True, logprobs=vocab_size, seed=1, temperature=0
        )
        log_probs = answer["choices"][0]["logprobs"]
        num_prompt = len(ids) + (context is None)
        assert {len(values) for values in log_probs.values()} == {num_prompt + max_tokens}
        values = log_probs["token_logprobs"]
        assert values[0] is None and log_probs["top_logprobs"][0] is None
        assert all(math.isfinite(value) and value <= 0 for value in values[1:])
        expected = lm.score(text, end=False).log_prob_nats
        if context:
            expected -= first_log_prob(lm, text)
        assert sum(values[1:num_prompt]) == pytest.approx(expected, abs=1e-4)
        for token, value, top in zip(log_probs["tokens"][1:], values[1:], log_probs["top_logprobs"][1:], strict=True):
            assert len(top) == vocab_size  # no token is lost
            assert top[token] == value <= max(top.values())
            assert math.fsum(math.exp(each) for name, each in top.items() if name != "<|unknown|>") <= 1 + 1e-6


def first_log_prob(lm: Any, text: str) -> float:
    """Return log p of the first token of a text, in nats."""
    ids, start = lm.tokenizer.encode(text), lm.checkpoint.start_ids
    engine = lm._numpy
    log_probs, _ = engine.read(start[-1:, None], ids[:1, None], engine.initial_state(1))
    return float(log_probs[0, 0] + lm.tokenizer.unk_log_prob_nats(ids[:1])[0])


@pytest.mark.parametrize("num_top", [0, 1, 3, 20])
def test_the_likeliest_token_has_the_same_value_in_both_lists(client: TestClient, num_top: int) -> None:
    answer = complete(client, prompt=VERSE[:60], echo=True, logprobs=num_top, max_tokens=30, temperature=0)
    log_probs = answer["choices"][0]["logprobs"]
    for token, value, top in list(
        zip(log_probs["tokens"], log_probs["token_logprobs"], log_probs["top_logprobs"], strict=True)
    )[1:]:
        assert top[token] == value
        assert num_top <= len(top) <= num_top + 1
    for value, top in list(zip(log_probs["token_logprobs"], log_probs["top_logprobs"], strict=True))[-30:]:
        assert value == max(top.values())


@pytest.mark.parametrize("tokenizer", ["char", "byte", "sp:300"])
@pytest.mark.parametrize("stream", [False, True])
def test_offsets_are_positions_in_prompt_and_text(serve: Serve, tokenizer: str, stream: bool) -> None:
    client = serve(language_model(checkpoint=random_model(VERSE, tokenizer)))
    body = {"prompt": "Chữ tài", "echo": True, "logprobs": 2, "max_tokens": 30, "seed": 4}
    if stream:
        events = events_of(client.post("/v1/completions", json={**body, "stream": True}).text)
        choices = [event["choices"][0] for event in events]
        text = "".join(choice["text"] for choice in choices)
        names = ("tokens", "text_offset")
        tokens, offsets = ([each for c in choices for each in c["logprobs"][name]] for name in names)
    else:
        choice = complete(client, **body)["choices"][0]
        text, tokens, offsets = choice["text"], choice["logprobs"]["tokens"], choice["logprobs"]["text_offset"]
    assert text.startswith("Chữ tài")
    assert len(tokens) == len(client.post("/tokenize", json={"prompt": "Chữ tài"}).json()["tokens"]) + 30
    for token, offset in zip(tokens, offsets, strict=True):
        if not token.startswith(("bytes:", "<|")):
            assert text[offset : offset + len(token)] == token
    assert offsets == sorted(offsets)


def test_the_end_of_a_document_is_a_token_of_its_own(serve: Serve) -> None:
    client = serve(language_model(checkpoint=random_model(documents="line")))
    for seed in range(200):
        choice = complete(client, prompt="a", max_tokens=1, logprobs=1, seed=seed)["choices"][0]
        assert len(choice["logprobs"]["tokens"]) == 1
        if choice["finish_reason"] == "stop":
            assert choice["text"] == ""
            assert choice["logprobs"]["tokens"] == [END]
            return
    pytest.fail("no document ended")


def test_tokens_of_a_stop_string_have_no_log_probabilities(client: TestClient) -> None:
    whole = complete(client, prompt="a", max_tokens=200, seed=1)["choices"][0]["text"]
    choice = complete(client, prompt="a", max_tokens=200, seed=1, stop=whole[50:53], logprobs=0)["choices"][0]
    assert "".join(choice["logprobs"]["tokens"]) == choice["text"]


# ── streams ───────────────────────────────────────────────────────────────────


def test_a_stream_has_the_same_texts(client: TestClient) -> None:
    body = {"prompt": ["The ", "Chữ"], "n": 3, "max_tokens": 50, "seed": 7, "logprobs": 1}
    whole = complete(client, **body)
    response = client.post("/v1/completions", json={**body, "stream": True, "stream_options": {"include_usage": True}})
    assert response.headers["content-type"].startswith("text/event-stream")
    *events, last = events_of(response.text)
    assert last["choices"] == []
    assert last["usage"] == whole["usage"]
    for choice in whole["choices"]:
        parts = [e["choices"][0] for e in events if e["choices"][0]["index"] == choice["index"]]
        assert "".join(part["text"] for part in parts) == choice["text"]
        assert [part["finish_reason"] for part in parts] == [None] * (len(parts) - 1) + ["length"]
        for name in choice["logprobs"]:
            assert [each for part in parts for each in part["logprobs"][name]] == choice["logprobs"][name]
    assert all(event["usage"] is None and event["object"] == "text_completion" for event in events)


def test_an_event_is_one_line_for_every_client(serve: Serve) -> None:
    vocabulary = (
        "ab\x85\u2028\u2029\x0b\x0c\x1c\x1d\x1e\n"  # str.splitlines, which clients use, splits at each of the last nine
    )
    client = serve(language_model(checkpoint=random_model(vocabulary)))
    body = {"prompt": "a", "max_tokens": 200, "seed": 1, "logprobs": 3}
    text = complete(client, **body)["choices"][0]["text"]
    assert set(vocabulary) <= set(text)
    lines = client.post("/v1/completions", json={**body, "stream": True}).text.splitlines()
    assert lines[1::2] == [""] * (len(lines) // 2) and lines[-2] == "data: [DONE]"
    events = [json.loads(line.removeprefix("data: ")) for line in lines[:-2:2]]
    assert "".join(event["choices"][0]["text"] for event in events) == text


def test_a_stream_without_tokens_ends_at_once(client: TestClient) -> None:
    response = client.post("/v1/completions", json={"prompt": "ab", "max_tokens": 0, "echo": True, "stream": True})
    (event,) = events_of(response.text)
    assert event["choices"][0]["text"] == "ab"
    assert event["choices"][0]["finish_reason"] == "length"


# ── our own settings ──────────────────────────────────────────────────────────


def test_best_of_returns_the_most_likely_texts(client: TestClient) -> None:
    body = {"prompt": "The ", "max_tokens": 12, "seed": 9, "logprobs": 0}
    all_texts = complete(client, **body, n=8)["choices"]
    best = complete(client, **body, n=2, best_of=8)["choices"]
    all_texts.sort(key=lambda choice: -float(np.mean(choice["logprobs"]["token_logprobs"])))
    assert [choice["text"] for choice in best] == [choice["text"] for choice in all_texts[:2]]
    assert [choice["index"] for choice in best] == [0, 1]


def test_a_regex_is_matched(client: TestClient) -> None:
    pytest.importorskip("outlines_core")
    for choice in complete(client, prompt="a", regex="[0-9]{3};(fox|dog)", max_tokens=20, n=5, seed=1)["choices"]:
        assert choice["text"][3:] in (";fox", ";dog")
        assert choice["finish_reason"] == "stop"


def test_particles_and_suffix(client: TestClient) -> None:
    lm = language_model()
    choices = complete(client, prompt="The ", particles=4, max_tokens=9, seed=2, n=2)["choices"]
    expected = [lm.generator("The ", length=9, seed=2).particles(k, 4).text for k in range(2)]
    assert [choice["text"] for choice in choices] == expected
    choice = complete(client, prompt="The ", suffix=" dog", max_tokens=9, seed=2)["choices"][0]
    assert choice["text"] == lm.infill(1, "The ", " dog", particles=64, length=9, seed=2)[0].text
    response = client.post("/v1/completions", json={"prompt": "a", "suffix": "b", "stream": True, "seed": 1})
    assert events_of(response.text)[0]["choices"][0]["finish_reason"] == "stop"


@pytest.mark.parametrize("more", [{"particles": 2}, {"suffix": "dog", "particles": 2}], ids=str)
def test_competing_texts_follow_the_token_ids_of_the_client(
    serve: Serve, monkeypatch: pytest.MonkeyPatch, more: dict[str, Any]
) -> None:
    lm = language_model(checkpoint=random_model(VERSE, "byte"))
    # The first id is no UTF-8 alone: the text of these ids has other ids.
    prompts = [[0xE1 + 1, *lm.tokenizer.encode("The").tolist()], lm.tokenizer.encode("fox").tolist()]
    read = []
    prime = Generator.prime

    def record(self: Generator) -> Any:
        read.append(self.context.prompt_ids.tolist())
        return prime(self)

    monkeypatch.setattr(Generator, "prime", record)
    complete(serve(lm), prompt=prompts, max_tokens=3, seed=1, **more)
    assert read == [[*lm.checkpoint.start_ids.tolist(), *ids] for ids in prompts]


def test_competing_texts_after_the_end_of_a_document_start_anew(serve: Serve) -> None:
    client = serve(language_model(checkpoint=random_model(documents="line")))
    body = {"max_tokens": 12, "temperature": 0}
    expected = complete(client, prompt=[5, 6, 0, 7], **body)["choices"][0]
    assert complete(client, prompt=[5, 6, 0, 7], particles=1, **body)["choices"][0] == expected
    assert complete(client, prompt=[8, 0, 7], particles=1, **body)["choices"][0] == expected


@pytest.mark.parametrize("more", [{}, {"logprobs": 1}, {"particles": 2}, {"suffix": "a", "particles": 4}], ids=str)
@pytest.mark.parametrize("num_missing", [1, 2])
def test_a_text_completes_the_character_in_which_the_token_ids_of_a_prompt_end(
    serve: Serve, more: dict[str, Any], num_missing: int
) -> None:
    lm = language_model(checkpoint=random_model(VERSE, "byte"))
    ids = lm.tokenizer.encode("Chữ").tolist()
    body = {"prompt": ids[:-num_missing], "max_tokens": num_missing, "n": 20, "seed": 1, "echo": True, **more}
    for choice in complete(serve(lm), **body)["choices"]:
        char = choice["text"][2]
        assert choice["text"].startswith("Ch")
        assert char.encode().startswith("ữ".encode()[:-num_missing]) and len(char.encode()) == 3
