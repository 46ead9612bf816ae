"""What is said of a whole text that was read from its beginning to its end."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class TextEvaluation:
    """The likelihood of a whole text; carried is how a model is used, windows what a fixed context of 256 gets."""

    chars: int
    bytes: int
    unknown_chars: int
    loss_nats_per_char: float
    bits_per_char: float
    bits_per_byte: float
    perplexity_per_char: float
    first_half_nats_per_char: float
    second_half_nats_per_char: float
    windows_256_nats_per_char: float
