"""The order of scored texts: the likeliest per character first."""

from __future__ import annotations

from collections.abc import Sequence

from chargen.scoring.scorer import Score


def rank(scores: Sequence[Score]) -> list[Score]:
    """Return scores from the fewest bits per character to the most; equals in their order, empty texts last."""
    return sorted(scores, key=lambda score: (score.bits_per_char is None, score.bits_per_char or 0.0))
