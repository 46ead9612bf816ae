"""N-best lists scored by a model: the new total is the given one + weight × the model's value.

Several lists are scored in one call, for speed; what is in memory at once does not grow with the file.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from chargen.errors import CorpusError
from chargen.scoring.nbest import Hypothesis
from chargen.scoring.scorer import Score
from chargen.scoring.tune import Candidates
from chargen.scoring.wer import edit_distances, units

TOTAL, PER_CHAR = "total", "per-char"
CHARS = 1 << 16  #: of text, about, that are handed to the model at once
PLACES = 4  #: decimals of nats that a value has: as many as are the same on every engine


@dataclass(frozen=True)
class Scored:
    """A hypothesis and what a model says of it."""

    hypothesis: Hypothesis
    score: Score
    value: float  #: log p in nats, of the whole text or for each of its characters, rounded as it is printed

    def total(self, weight: float) -> float:
        """Return the new total."""
        return self.hypothesis.given + weight * self.value


def score_lists(
    lists: Iterable[list[Hypothesis]], score: Callable[[list[str]], list[Score]], by: str = TOTAL
) -> Iterator[list[Scored]]:
    """Yield the lists with their scores, in their order.

    Args:
        lists: as `read_lists` yields them.
        score: texts → scores, as `LanguageModel.score` does it. A text that comes several times is asked for once.
        by: "total" (log p) or "per-char" (log p over the characters; 0 for an empty text).
    """
    held: list[list[Hypothesis]] = []
    chars = 0
    for hypotheses in lists:
        held.append(hypotheses)
        chars += sum(len(hypothesis.text) for hypothesis in hypotheses)
        if chars >= CHARS:
            yield from _scored(held, score, by)
            held, chars = [], 0
    if held:
        yield from _scored(held, score, by)


def best(scored: Sequence[Scored], weight: float) -> Scored:
    """Return the hypothesis with the highest new total; of equals the first."""
    return max(scored, key=lambda one: one.total(weight))


def ranked(scored: Sequence[Scored], weight: float) -> list[Scored]:
    """Return a list's hypotheses by their new total, the highest first; equals in their order."""
    return sorted(scored, key=lambda one: -one.total(weight))


def candidates(
    lists: Sequence[Sequence[Scored]], references: Mapping[str, str], where: str, error: str
) -> tuple[list[Candidates], int]:
    """Return (the lists as `tune_weight` takes them, the length of their references in words or characters).

    Args:
        lists: scored.
        references: by a list's id.
        where: what to call the references.
        error: "wer" or "cer".

    Raises:
        CorpusError: a list has no reference, or comes twice, or the references have no words.
    """
    made, length, seen = [], 0, set()
    for scored in lists:
        first = scored[0].hypothesis
        if first.list_id not in references:
            raise CorpusError(
                f"{where} has no reference for the list {first.list_id!r} (line {first.number:,})",
                "Kaldi's are `utt-id text`; Moses' a text a line, the first for the id 0.",
            )
        if first.list_id in seen:
            raise CorpusError(
                f"the list {first.list_id!r} begins again at line {first.number:,}", "Put the lines of a list together."
            )
        seen.add(first.list_id)
        reference = units(references[first.list_id], error)
        errors = edit_distances(reference, [units(one.hypothesis.text, error) for one in scored])
        given, value = np.array([one.hypothesis.given for one in scored]), np.array([one.value for one in scored])
        made.append(Candidates(given, value, errors))
        length += len(reference)
    if not length:
        raise CorpusError(f"the references in {where} are empty", "An error rate is of what should have been said.")
    return made, length


def _scored(
    lists: list[list[Hypothesis]], score: Callable[[list[str]], list[Score]], by: str
) -> Iterator[list[Scored]]:
    texts = list(dict.fromkeys(hypothesis.text for hypotheses in lists for hypothesis in hypotheses))
    scores = dict(zip(texts, score(texts), strict=True))
    for hypotheses in lists:
        yield [Scored(one, scores[one.text], _value(scores[one.text], by)) for one in hypotheses]


def _value(score: Score, by: str) -> float:
    per = 1 if by == TOTAL else max(1, score.chars)
    return round(score.log_prob_nats / per, PLACES)
