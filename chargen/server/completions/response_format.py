"""The JSON of completions, with the fields of OpenAI's protocol."""

from __future__ import annotations

import json
import random
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from chargen.server.batch.log_probs import TokenLogProb
from chargen.server.batch.worker import PromptStream
from chargen.server.batch.written_text import WrittenText
from chargen.server.models import ServedModel
from chargen.server.tokens import Prompt
from chargen.tokenizers.tokenizer import BOUNDARY_ID

Token = tuple[int, TokenLogProb | None]  # (position of its first character, log probability)


JSON_TYPE = "application/json"


LINE_ENDS = {char: f"\\u{ord(char):04x}" for char in "\x85\u2028\u2029"}  # of Unicode, besides the control characters


def dump_json(value: Any) -> bytes:
    """Return a value as strict JSON in UTF-8, on one line also for clients that take U+2028 as the end of a line."""
    text = json.dumps(value, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    for char, escaped in () if text.isascii() else LINE_ENDS.items():
        text = text.replace(char, escaped)
    return text.encode()


@dataclass(frozen=True)
class Envelope:
    """What all parts of a response have in common."""

    model: ServedModel
    id: str = field(default_factory=lambda: f"cmpl-{random.getrandbits(96):024x}")
    created: int = field(default_factory=lambda: int(time.time()))

    def wrap(self, choices: Sequence[dict[str, Any]], **more: Any) -> dict[str, Any]:
        """Return a response, or an event of a stream, with these choices."""
        return {
            "id": self.id,
            "object": "text_completion",
            "created": self.created,
            "model": self.model.id,
            "system_fingerprint": self.model.fingerprint,
            "choices": list(choices),
            **more,
        }


def make_usage(num_prompt_tokens: int, num_completion_tokens: int) -> dict[str, int]:
    """Return the number of tokens of a request."""
    return {
        "prompt_tokens": num_prompt_tokens,
        "completion_tokens": num_completion_tokens,
        "total_tokens": num_prompt_tokens + num_completion_tokens,
    }


def make_choice(
    index: int, text: str, finish_reason: str | None, log_probs: dict[str, Any] | None = None
) -> dict[str, Any]:
    """Return a choice."""
    return {"index": index, "text": text, "logprobs": log_probs, "finish_reason": finish_reason}


def make_log_probs(model: ServedModel, tokens: Sequence[Token], first_position: int) -> dict[str, Any]:
    """Return the log probabilities of the tokens of a text.

    Args:
        model: The model.
        tokens: The tokens.
        first_position: Where the text starts, in characters from the start of the prompt.
    """
    found: dict[str, Any] = empty_log_probs()
    names = model.tokenizer.names
    for position, entry in tokens:
        if entry is not None:
            top = zip(entry.top_ids, entry.top_log_probs_nats, strict=True)
            found["tokens"].append(names[entry.token_id])
            found["token_logprobs"].append(entry.log_prob_nats)
            found["top_logprobs"].append({names[token_id]: nats for token_id, nats in top})
            found["text_offset"].append(first_position + position)
    return found


def empty_log_probs() -> dict[str, Any]:
    """Return the log probabilities of no tokens."""
    return {"tokens": [], "token_logprobs": [], "top_logprobs": [], "text_offset": []}


def make_prompt_log_probs(model: ServedModel, prompt: Prompt, stream: PromptStream) -> dict[str, Any]:
    """Return the log probabilities of a prompt; that of its first token is null, because it follows nothing."""
    positions = model.tokenizer.offsets(prompt)
    found = make_log_probs(model, list(zip(positions[1:], stream.echoed, strict=True)), 0)
    found["tokens"].insert(0, model.tokenizer.names[prompt.ids[0]])
    found["token_logprobs"].insert(0, None)
    found["top_logprobs"].insert(0, None)
    found["text_offset"].insert(0, 0)
    return found


def join_log_probs(first: dict[str, Any], second: dict[str, Any]) -> dict[str, Any]:
    """Return the log probabilities of two texts, one after the other."""
    return {name: first[name] + second[name] for name in first}


def complete_tokens(text: WrittenText, start: int, num_chars: int) -> list[Token]:
    """Return the tokens from index `start` on that belong to the first `num_chars` characters of a text.

    Of a text that has ended, all tokens belong to it but those of a stop string. A token without characters, such as
    <|end|>, belongs to it, too.
    """
    has_stop = text.ended in ("stop", "newline")
    if text.ended and not has_stop:
        return text.tokens[start:]
    found = []
    for position, entry in text.tokens[start:]:
        is_end = has_stop and entry is not None and entry.token_id == BOUNDARY_ID
        if position >= num_chars and not is_end:
            break
        found.append((position, entry))
    return found
