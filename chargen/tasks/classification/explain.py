"""How much each character of a text moved the decision of a classifier, by occlusion (Zeiler & Fergus 2014, section 4).

The text is classified again with a short span left out, for every position of the span. The effect of a character is
the mean change over the spans that contain it:

    effect = mean over spans s ∋ character of  log odds(text) − log odds(text without s)         in nats

The odds are p / (1 − p) of the label that is predicted for the whole text. Their log is used and not log p, because
that hardly changes where p is close to 1, although the evidence does. A positive effect speaks for the label, a
negative one against it. The method only needs the probabilities, so it is the same for every classifier.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from chargen.errors import ConfigError
from chargen.tasks.classification.classifier import TextClassifier

SPANS_PER_CHAR = 3  #: number of spans that contain a character
MAX_VARIANTS = 400  #: shortened texts that are classified; in a longer text the spans are longer
MAX_CHARS = 20_000  #: length limit of a text that is explained


@dataclass(frozen=True)
class CharEffect:
    """A character of a text and its effect on the decision."""

    text: str
    effect_nats: float  #: by how much it raises the log odds of the predicted label

    def to_json(self) -> dict[str, Any]:
        """Return the fields as JSON values."""
        return dict(vars(self))


@dataclass(frozen=True)
class Explanation:
    """The decision of a classifier about a text, and what moved it."""

    text: str
    label: str  #: the predicted label
    probability: float  #: p(label | text)
    log_odds_nats: float  #: log(p / (1 − p))
    span_chars: int  #: length of the spans that were left out
    chars: tuple[CharEffect, ...]

    def to_json(self) -> dict[str, Any]:
        """Return what the probabilities of the text do not say already, as JSON values."""
        return {
            "log_odds_nats": self.log_odds_nats,
            "span_chars": self.span_chars,
            "characters": [char.to_json() for char in self.chars],
        }


def check_explainable(text: str, number: int = 1) -> None:
    """Check that a text is short enough to be explained.

    Args:
        text: The text.
        number: Its number in the input, from 1, for the error message.

    Raises:
        ConfigError: If it has more than MAX_CHARS characters.
    """
    if len(text) > MAX_CHARS:
        raise ConfigError(
            f"texts of at most {MAX_CHARS:,} characters can be explained, and text {number:,} has {len(text):,}",
            "Split it into parts, one per line.",
        )


def explain(classifier: TextClassifier, text: str) -> Explanation:
    """Return how much each character of a text moved the decision.

    Raises:
        ConfigError: If the text has more than MAX_CHARS characters.
    """
    check_explainable(text)
    step = max(1, math.ceil(len(text) / MAX_VARIANTS))
    spans = list(_spans(len(text), step))
    log_probs = classifier.log_probs([text, *(text[:begin] + text[end:] for begin, end in spans)])
    label = int(log_probs[0].argmax())
    log_odds = _log_odds(log_probs, label)
    effects = np.zeros(len(text))
    for (begin, end), change in zip(spans, log_odds[0] - log_odds[1:], strict=True):
        effects[begin:end] += change / SPANS_PER_CHAR
    chars = tuple(CharEffect(char, effect) for char, effect in zip(text, effects.tolist(), strict=True))
    probability = math.exp(log_probs[0, label])
    return Explanation(text, classifier.labels[label], probability, float(log_odds[0]), SPANS_PER_CHAR * step, chars)


def _spans(num_chars: int, step: int) -> Iterator[tuple[int, int]]:
    """Yield (begin, end) of spans at a distance of `step`: each character is in SPANS_PER_CHAR of them."""
    length = SPANS_PER_CHAR * step
    for begin in range(step - length, num_chars, step) if num_chars else ():
        yield max(0, begin), min(num_chars, begin + length)


def _log_odds(log_probs: NDArray[np.float64], label: int) -> NDArray[np.float64]:
    """Return log p(label) − log(1 − p(label)) of each row, [N], computed without the difference 1 − p."""
    others = np.delete(log_probs, label, axis=1)
    largest = others.max(axis=1)
    log_rest = largest + np.log(np.exp(others - largest[:, None]).sum(axis=1))
    odds: NDArray[np.float64] = log_probs[:, label] - log_rest
    return odds


def strongest_runs(chars: Sequence[CharEffect], min_nats: float, limit: int) -> list[CharEffect]:
    """Return the runs of characters whose effects have the same sign and are at least `min_nats`, the strongest first.

    The effect of a run is that of its strongest character. A run is what a reader sees as one coloured passage.
    """
    runs: list[CharEffect] = []
    text, strongest = "", 0.0
    for char in (*chars, CharEffect("", 0.0)):
        is_strong = abs(char.effect_nats) >= min_nats
        if text and not (is_strong and (char.effect_nats > 0) == (strongest > 0)):
            runs.append(CharEffect(text, strongest))
            text, strongest = "", 0.0
        if is_strong:
            text += char.text
            strongest = max(strongest, char.effect_nats, key=abs)
    return sorted(runs, key=lambda run: -abs(run.effect_nats))[:limit]
