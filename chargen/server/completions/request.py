"""The body of a request for completions: the valid fields of OpenAI's protocol and our own, checked before any work."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from chargen.errors import ConfigError
from chargen.registry import did_you_mean
from chargen.sampling.settings import MAX_STRING_LENGTH, SampleConfig
from chargen.schema import Boolean, Integer, Nullable, Number, Record, Spec, String, format_value
from chargen.server.errors import ApiError
from chargen.server.limits import (
    MAX_PARTICLES,
    MAX_PROMPT_TOKENS,
    MAX_PROMPTS,
    MAX_STOP_CHARS,
    MAX_TEXTS,
    MAX_TEXTS_PER_PROMPT,
    Limits,
)

DEFAULT_MAX_TOKENS = 16  #: default of max_tokens in OpenAI's protocol
MAX_BIAS = 100.0
MAX_COUNT_PENALTY = 2.0  # of presence_penalty and frequency_penalty, as in OpenAI's protocol
MAX_BIASES = 50_000  # token ids of logit_bias
MAX_STOP_STRINGS = 10_000  # as in SampleConfig
RULES = ("temperature", "top_p", "top_k", "min_p", "typical", "dry", "regex", "max_copy")  #: fields of SampleConfig

FIELDS: Mapping[str, Spec] = {
    "model": String(1000),
    "max_tokens": Integer(0),
    **{name: SampleConfig.FIELDS[name] for name in (*RULES, "seed")},
    "n": Integer(1, MAX_TEXTS_PER_PROMPT),
    "best_of": Integer(1, MAX_TEXTS_PER_PROMPT),
    "stream": Boolean(),
    "stream_options": Record(optional={"include_usage": Nullable(Boolean())}),
    "echo": Boolean(),
    "logprobs": Integer(0),
    "suffix": String(MAX_STRING_LENGTH),
    "particles": Integer(1, MAX_PARTICLES),
    "presence_penalty": Number(-MAX_COUNT_PENALTY, MAX_COUNT_PENALTY),
    "frequency_penalty": Number(-MAX_COUNT_PENALTY, MAX_COUNT_PENALTY),
}
OTHER_FIELDS = ("prompt", "stop", "logit_bias")  # they have several types
# What clients send about a request and not about its texts. Any value is accepted.
IGNORED_FIELDS = (
    "user", "metadata", "store", "service_tier", "safety_identifier", "prompt_cache_key", "prompt_cache_retention",
    "request_id", "priority",
)  # fmt: skip
# Settings of other servers that many clients always send: they are accepted with the value with which they do nothing.
NEUTRAL_VALUES: Mapping[str, Any] = {
    "repetition_penalty": 1, "repeat_penalty": 1, "length_penalty": 1, "typical_p": 1, "tfs": 1, "tfs_z": 1,
    "top_a": 0, "epsilon_cutoff": 0, "eta_cutoff": 0, "mirostat": 0, "mirostat_mode": 0, "xtc_probability": 0,
    "dynatemp_range": 0, "no_repeat_ngram_size": 0, "min_tokens": 0, "dry_multiplier": 0, "smoothing_factor": 0,
    "use_beam_search": False, "early_stopping": False, "ignore_eos": False, "ban_eos_token": False,
    "skip_special_tokens": True, "spaces_between_special_tokens": True, "include_stop_str_in_output": False,
}  # fmt: skip
INSTEAD = {  # what this server has instead of settings of other servers
    "repetition_penalty": "frequency_penalty, or dry", "repeat_penalty": "frequency_penalty, or dry",
    "no_repeat_ngram_size": "dry", "dry_multiplier": "dry", "typical_p": "typical", "use_beam_search": "best_of",
}  # fmt: skip


@dataclass(frozen=True)
class CompletionRequest:
    """A checked request for completions."""

    prompts: tuple[str | tuple[int, ...], ...]  #: texts, or token ids
    settings: Mapping[str, Any]  #: fields of `SampleConfig`
    stop: tuple[str, ...]
    max_tokens: int
    logit_bias: Mapping[int, float]
    n: int = 1
    best_of: int = 1
    seed: int | None = None
    stream: bool = False
    include_usage: bool = False
    echo: bool = False
    logprobs: int | None = None
    suffix: str = ""
    particles: int | None = None
    presence_penalty: float = 0.0
    frequency_penalty: float = 0.0

    @property
    def num_texts(self) -> int:
        """Number of texts that are generated."""
        return len(self.prompts) * self.best_of

    @property
    def has_competing_texts(self) -> bool:
        """Whether each text is chosen among several that compete, so that it is complete at once."""
        return bool(self.suffix) or self.particles is not None


def parse_completion_request(body: Any, limits: Limits) -> CompletionRequest:
    """Check the body of a request.

    Args:
        body: The parsed JSON.
        limits: The limits of the server.

    Raises:
        ApiError: If a field is unknown, has another type or is out of range, or fields contradict each other.
    """
    values = check_fields(_without_effect_removed(body), FIELDS, OTHER_FIELDS)
    max_tokens = values.get("max_tokens", DEFAULT_MAX_TOKENS)
    if max_tokens > limits.max_tokens:
        raise ApiError(
            400, f"max_tokens is {max_tokens:,}, but this server allows at most {limits.max_tokens:,}", "max_tokens"
        )
    n = values.get("n", 1)
    request = CompletionRequest(
        prompts=_parse_prompts(values.get("prompt")),
        settings={name: values[name] for name in RULES if name in values},
        stop=_parse_stop(values.get("stop")),
        max_tokens=max_tokens,
        logit_bias=_parse_bias(values.get("logit_bias", {})),
        n=n,
        best_of=values.get("best_of", n),
        seed=values.get("seed"),
        stream=values.get("stream", False),
        include_usage=bool((values.get("stream_options") or {}).get("include_usage")),
        echo=values.get("echo", False),
        logprobs=values.get("logprobs"),
        suffix=values.get("suffix", ""),
        particles=values.get("particles"),
        presence_penalty=values.get("presence_penalty", 0.0),
        frequency_penalty=values.get("frequency_penalty", 0.0),
    )
    _check_combination(request, "stream_options" in values)
    return request


def _without_effect_removed(body: Any) -> Any:
    """Return the body without the fields of other servers that have no effect here.

    Raises:
        ApiError: If one of them has a value that would have an effect there.
    """
    if not isinstance(body, dict):
        return body
    for name, neutral in NEUTRAL_VALUES.items():
        value = body.get(name)
        if value is not None and (value != neutral or isinstance(value, bool) != isinstance(neutral, bool)):
            hint = f". Use {INSTEAD[name]}" if name in INSTEAD else ""
            raise ApiError(
                400,
                f"{name} is {format_value(value)}, but this server only takes {json.dumps(neutral)}, which has no "
                f"effect{hint}",
                name,
            )
    return {name: value for name, value in body.items() if name not in IGNORED_FIELDS and name not in NEUTRAL_VALUES}


def check_fields(body: Any, fields: Mapping[str, Spec], others: tuple[str, ...] = ()) -> dict[str, Any]:
    """Check the fields of a JSON object, and return those that are not null.

    Args:
        body: The parsed JSON of a request.
        fields: The type of each field.
        others: Further valid fields, which are not checked.

    Raises:
        ApiError: If the body is no object, or a field is unknown, has another type or is out of range.
    """
    if not isinstance(body, dict):
        raise ApiError(400, f"the body of the request is {format_value(body)}, but must be a JSON object")
    known = (*fields, *others)
    for name, value in body.items():
        if name not in known:
            hint = did_you_mean(name[:100], known)
            raise ApiError(400, f"unknown field {format_value(name)}. {hint}".rstrip(), name[:100], "unknown_field")
        if name in fields and value is not None:
            try:
                fields[name].check(value, name)
            except ConfigError as error:
                raise ApiError(400, f"{error.message} {error.hint}".rstrip(), name) from error
    return {name: value for name, value in body.items() if value is not None}


def _parse_prompts(prompt: Any) -> tuple[str | tuple[int, ...], ...]:
    """Return the prompts: a text, texts, token ids, or lists of token ids; null is the start of a text."""
    if prompt is None:
        return ("",)
    if isinstance(prompt, str):
        return (prompt,)
    if not isinstance(prompt, list) or not prompt:
        raise _prompt_error(prompt)
    longest = max(len(prompt), *(len(each) for each in prompt if isinstance(each, list)), 0)
    if longest > MAX_PROMPT_TOKENS:
        raise ApiError(
            400,
            f"the prompt has {longest:,} tokens, but may have at most {MAX_PROMPT_TOKENS:,}",
            "prompt",
            "context_length_exceeded",
        )
    if len(prompt) > MAX_PROMPTS and not _are_ids(prompt):
        raise ApiError(400, f"there are {len(prompt):,} prompts, but at most {MAX_PROMPTS:,} are allowed", "prompt")
    if all(isinstance(each, str) for each in prompt):
        return tuple(prompt)
    if _are_ids(prompt):
        return (tuple(prompt),)
    if all(isinstance(each, list) and _are_ids(each) for each in prompt):
        return tuple(map(tuple, prompt))
    raise _prompt_error(prompt)


def _are_ids(values: list[Any]) -> bool:
    return all(type(value) is int for value in values)


def _prompt_error(prompt: Any) -> ApiError:
    return ApiError(
        400,
        f"prompt is {format_value(prompt)}, but must be a string, a list of strings, a list of token ids or a list of "
        "lists of token ids",
        "prompt",
    )


def _parse_stop(stop: Any) -> tuple[str, ...]:
    """Return the stop strings: one string, or a list of them."""
    strings = [stop] if isinstance(stop, str) else stop or []
    if isinstance(strings, list) and len(strings) > MAX_STOP_STRINGS:
        raise ApiError(400, f"stop has {len(strings):,} strings, but may have at most {MAX_STOP_STRINGS:,}", "stop")
    if not isinstance(strings, list) or not all(isinstance(each, str) for each in strings):
        raise ApiError(400, f"stop is {format_value(stop)}, but must be a string or a list of strings", "stop")
    if "" in strings:
        raise ApiError(400, "stop contains an empty string, which occurs in every text; remove it", "stop")
    if sum(map(len, strings)) > MAX_STOP_CHARS:
        raise ApiError(400, f"stop has more than {MAX_STOP_CHARS:,} characters in total", "stop")
    try:
        SampleConfig.FIELDS["stop"].check(strings, "stop")
    except ConfigError as error:
        raise ApiError(400, error.message, "stop") from error
    return tuple(dict.fromkeys(strings))


def _parse_bias(bias: Any) -> dict[int, float]:
    """Return what is added to the logits of token ids, which are the keys of a JSON object."""
    if not isinstance(bias, dict):
        raise ApiError(400, f"logit_bias is {format_value(bias)}, but must be an object", "logit_bias")
    if len(bias) > MAX_BIASES:
        raise ApiError(400, f"logit_bias has {len(bias):,} ids, but may have at most {MAX_BIASES:,}", "logit_bias")
    parsed = {}
    for key, value in bias.items():
        if not (key.isascii() and key.isdecimal() and len(key) < 10 and str(int(key)) == key):
            raise ApiError(400, f"logit_bias has the key {format_value(key)}, which is no token id", "logit_bias")
        try:
            Number(-MAX_BIAS, MAX_BIAS).check(value, f"logit_bias[{key}]")
        except ConfigError as error:
            raise ApiError(400, error.message, "logit_bias") from error
        parsed[int(key)] = float(value)
    return parsed


def _check_combination(request: CompletionRequest, has_stream_options: bool) -> None:
    """Check what depends on several fields.

    Raises:
        ApiError: If fields contradict each other, or are too large together.
    """
    if request.best_of < request.n:
        raise ApiError(400, f"best_of is {request.best_of}, but must be at least n, which is {request.n}", "best_of")
    if request.stream and request.best_of > request.n:
        raise ApiError(400, "best_of cannot be combined with stream: the best text is known at the end", "best_of")
    if has_stream_options and not request.stream:
        raise ApiError(400, "stream_options is only allowed with stream", "stream_options")
    if request.num_texts > MAX_TEXTS:
        raise ApiError(400, f"{request.num_texts:,} texts are asked for, but at most {MAX_TEXTS:,} are allowed", "n")
    if request.has_competing_texts:
        for name, is_given in (
            ("logprobs", request.logprobs is not None),
            ("best_of", request.best_of > request.n),
        ):
            if is_given:
                raise ApiError(
                    400,
                    f"{name} cannot be combined with suffix and particles: a text is chosen as a whole among competing "
                    "texts. /v1/score gives its log probability",
                    name,
                )
        if request.max_tokens == 0:
            raise ApiError(400, "max_tokens is 0, but suffix and particles need at least 1", "max_tokens")
    if request.settings.get("regex") and request.stop:
        raise ApiError(400, "stop cannot be combined with regex, which determines where a text ends", "stop")
