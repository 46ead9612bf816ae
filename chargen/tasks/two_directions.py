"""Score texts by a forward and a backward model together: `chargen score --backward`.

    log score(text) = (1 − w) · log p_forward(text) + w · log p_backward(text)

The forward model predicts each character from the text before it, and the backward model from the text after it. An
error is often unlikely on one side only: after the error, or before it. The score of a character is the weighted
geometric mean of the two probabilities that its model gave it.

A geometric mean of two distributions adds up to at most 1 over all texts (Hölder's inequality), and to less if they
differ. So the score ranks texts, but it is not a probability, and its bits are not a code length.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from itertools import tee

from chargen.config import FRACTION
from chargen.errors import ConfigError
from chargen.lm import LanguageModel, Texts
from chargen.scoring.scorer import Score


@dataclass(frozen=True)
class TwoDirections:
    """A forward and a backward model that score texts together.

    Raises:
        ConfigError: If a model has the other direction, only one is a model of documents, or the weight is not from 0
            to 1.
    """

    forward: LanguageModel
    backward: LanguageModel
    weight: float = 0.5  #: weight w of the backward model, from 0 to 1

    def __post_init__(self) -> None:
        FRACTION.check(self.weight, "weight")
        for lm, name in ((self.forward, "forward"), (self.backward, "backward")):
            if lm.checkpoint.data.direction != name:
                raise ConfigError(
                    f"{lm.path or 'a model'} is a {lm.checkpoint.data.direction} model, but is given as the {name} one",
                    f"Train a {name} model: chargen train CORPUS --direction {name}.",
                )
        if self.forward.scores_end != self.backward.scores_end:
            raise ConfigError(
                "one of the two models is a model of documents, the other one of continuous text",
                "Train both with the same --documents.",
            )

    def score_batches(self, batches: Iterable[Texts], end: bool | None = None, pieces: bool = False) -> Iterator[Score]:
        """Yield the scores of batches of texts, as `LanguageModel.score_batches` does, which also lists the errors.

        `Score.directions` has log p of the text by each model.

        Raises:
            ConfigError: If `pieces` is True, and the models divide a text into different pieces.
        """
        for_forward, for_backward = tee(batches)
        forward = self.forward.score_batches(for_forward, end=end, pieces=pieces)
        backward = self.backward.score_batches(for_backward, end=end, pieces=pieces)
        for pair in zip(forward, backward, strict=True):
            yield self._combine(*pair)

    def _combine(self, forward: Score, backward: Score) -> Score:
        end = None
        if forward.end_log_prob_nats is not None and backward.end_log_prob_nats is not None:
            end = self._mean(forward.end_log_prob_nats, backward.end_log_prob_nats)
        return replace(
            forward,
            log_prob_nats=self._mean(forward.log_prob_nats, backward.log_prob_nats),
            unknown_chars=max(forward.unknown_chars, backward.unknown_chars),
            unknown="".join(dict.fromkeys(forward.unknown + backward.unknown)),
            end_log_prob_nats=end,
            pieces=self._combine_pieces(forward, backward),
            directions=(forward.log_prob_nats, backward.log_prob_nats),
        )

    def _combine_pieces(self, forward: Score, backward: Score) -> tuple[tuple[str, float], ...] | None:
        if forward.pieces is None or backward.pieces is None:
            return None
        if [text for text, _ in forward.pieces] != [text for text, _ in backward.pieces]:
            raise ConfigError(
                "the two models divide a text into different pieces, so their characters cannot be compared",
                "Use models of characters or bytes, trained with the same --normalize and --newline.",
            )
        pairs = zip(forward.pieces, backward.pieces, strict=True)
        return tuple((text, self._mean(nats, other)) for (text, nats), (_, other) in pairs)

    def _mean(self, forward: float, backward: float) -> float:
        return (1.0 - self.weight) * forward + self.weight * backward
