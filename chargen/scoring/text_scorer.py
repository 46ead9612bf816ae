"""All that one model says of texts in numbers: made ready once, asked as often as anyone likes."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from chargen.config import DataConfig
from chargen.engines.interface import Engine
from chargen.errors import ConfigError
from chargen.scoring.scorer import Score, score_chunks, score_texts, utf8_size
from chargen.text.cleaning import normalize_text
from chargen.text.documents import NONE
from chargen.tokenizers.tokenizer import BOUNDARY_ID, Ids, Tokenizer, start_ids

if TYPE_CHECKING:  # what reads whole texts, or mends them, is imported when it is asked for
    from chargen.scoring.edits import Suggestion
    from chargen.scoring.whole_text import TextEvaluation


@dataclass(frozen=True)
class Scoring:
    """A model's numbers; `LanguageModel` has the same methods, and says what they take."""

    engine: Callable[[int], Engine]  #: which to take for so many ids
    tokenizer: Tokenizer
    data: DataConfig  #: of the training text: what form texts are brought into

    @property
    def start(self) -> Ids:
        """What a text begins after."""
        return start_ids(self.tokenizer, self.data.documents)

    @property
    def end(self) -> Ids | None:
        """What ends a text: the boundary, or a newline; None for a model of running text that knows no newline."""
        ids = self.start
        can_come = self.data.documents != NONE or ids[-1] != BOUNDARY_ID
        return ids if can_come else None

    def normal(self, text: str) -> str:
        """Bring a text into the form that the training text had: composed characters, one kind of newline."""
        return normalize_text(text, self.data)

    def context(self, text: str) -> Ids:
        """What is read before anything is drawn or scored: what a text begins after, and then `text`."""
        return np.concatenate([self.start, self.tokenizer.encode(self.normal(text))])

    def score_stream(self, texts: Iterable[str], context: str, end: bool, pieces: bool) -> Iterator[Score]:
        """Yield the scores of any number of texts in their order.

        Raises:
            ConfigError: the end is asked for, and the model knows none.
        """
        scored_end = self.end if end else None
        if end and scored_end is None:
            raise ConfigError(
                "the end of a text cannot be scored: the model has no newline, and it learned from one running text",
                "Leave out --end (end=True), or train with --documents or with a text of several lines.",
            )
        before = self.context(context)
        engine: Engine | None = None

        def scored(many: list[str]) -> list[Score]:
            nonlocal engine  # of a whole stream what its first chunk is worth
            engine = engine or self.engine(sum(len(text) for text in many) + len(before))
            found = score_texts(engine, self.tokenizer, before, [self.normal(t) for t in many], scored_end, pieces)
            return [replace(score, text=text, bytes=utf8_size(text)) for text, score in zip(many, found, strict=True)]

        return score_chunks(texts, scored)

    def suggest(self, text: str, context: str, most: int) -> list[Suggestion]:
        """Return the single edits that raise log p of a text and its end most; of the text alone if it knows no end."""
        from chargen.scoring.edits import suggest

        engine, before = self.engine(1), self.context(context)
        end = np.zeros(0, dtype=np.int32) if self.end is None else self.end
        return suggest(engine, self.tokenizer, before, end, self.normal(text), self.normal, most)

    def evaluate(self, text: str, lanes: int) -> TextEvaluation:
        """Measure the likelihood of a whole text, by both protocols."""
        from chargen.scoring.whole_text import WholeText, evaluate_text

        whole = WholeText.of(text, self.tokenizer, self.data)
        return evaluate_text(self.engine(2 * len(whole.ids)), whole, self.start, self.data.documents, lanes)

    def by_line(self, lines: Sequence[str], lanes: int) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Return (−log p of each line of a text, in nats; its unknown characters), read as `evaluate` reads it."""
        from chargen.data.dataset import line_ids
        from chargen.scoring.whole_text import read_whole

        ids, numbers = line_ids(self.tokenizer, self.data.documents, [self.normal(line) for line in lines])
        carried = read_whole(self.engine(len(ids)), ids, self.start, self.data.documents, lanes)
        both = (-carried - self.tokenizer.unk_log_prob_nats(ids), self.tokenizer.is_unknown(ids))
        costs, unknown = (np.bincount(numbers, values, len(lines)).astype(np.float64) for values in both)
        return costs, unknown
