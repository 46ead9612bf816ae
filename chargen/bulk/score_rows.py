"""Score the texts of a slice, and compare them with a reference sample."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from chargen.bulk.job import Counts
from chargen.bulk.reading.rows import open_rows
from chargen.bulk.storage import find_inputs
from chargen.bulk.task import FLOAT, INT, Output
from chargen.errors import CorpusError

if TYPE_CHECKING:
    from chargen.lm import LanguageModel

MAX_REFERENCE_TEXTS = 1_000_000  #: 8 bytes of memory each, in every worker


@dataclass(frozen=True)
class ScoreTask:
    """Add the score of the text to each row.

    Attributes:
        text_column: Name of the column of the text.
        prefix: What the names of the added columns start with.
        scores_end: Whether the end of each text is scored; None: as `LanguageModel.score` does.
        keep_below: Only rows with fewer bits per character are written; None: all rows.
        reference_bits: Bits per character of the texts of a reference sample, sorted; None: there is none.
        reference_sha256: The hash of these numbers.
    """

    text_column: str = "text"
    prefix: str = ""
    scores_end: bool | None = None
    keep_below: float | None = None
    reference_bits: tuple[float, ...] | None = None
    reference_sha256: str | None = None

    @property
    def columns(self) -> dict[str, str]:
        """The added columns."""
        types = {"log_prob_nats": FLOAT, "chars": INT, "bits_per_char": FLOAT, "unknown_chars": INT}
        if self.reference_sha256 is not None:
            types["percentile"] = FLOAT
        return {f"{self.prefix}{name}": kind for name, kind in types.items()}

    def identity(self) -> dict[str, Any]:
        """Return what determines the result."""
        return {
            "command": "bulk score",
            "text_column": self.text_column,
            "prefix": self.prefix,
            "end": self.scores_end,
            "keep_below": self.keep_below,
            "reference_sha256": self.reference_sha256,
        }

    def run(self, lm: LanguageModel, texts: Sequence[str | None], numbers: Sequence[int]) -> Output:
        """Score the texts of a slice; the scores of a null text are null."""
        scores = list(lm.score_stream((text for text in texts if text is not None), end=self.scores_end))
        present = [k for k, text in enumerate(texts) if text is not None]
        values: list[tuple[float | int | None, ...]] = [(None, None, None, None)] * len(texts)
        for k, score in zip(present, scores, strict=True):
            values[k] = (score.log_prob_nats, score.chars, score.bits_per_char, score.unknown_chars)
        bits = [row[2] for row in values]
        limit = self.keep_below
        kept = [k for k, rate in enumerate(bits) if limit is None or (rate is not None and rate < limit)]
        columns: dict[str, Sequence[Any]] = {}
        for index, name in enumerate(self.columns):
            if index < 4:
                columns[name] = [values[k][index] for k in kept]
            else:
                columns[name] = percentiles([bits[k] for k in kept], self.reference_bits or ())
        return Output(
            kept,
            columns,
            Counts(
                rows_read=len(texts),
                rows_written=len(kept),
                null_texts=len(texts) - len(present),
                chars=sum(score.chars for score in scores),
                unknown_chars=sum(score.unknown_chars for score in scores),
                log_prob_nats=sum(score.log_prob_nats for score in scores),
            ),
        )


def percentiles(bits: Sequence[float | None], reference: Sequence[float]) -> list[float | None]:
    """Return the percentage of the reference texts that have at most as many bits per character; None for None.

    >>> percentiles([1.0, 2.5, None], [1.0, 2.0, 3.0, 4.0])
    [25.0, 50.0, None]
    """
    known = np.array([rate for rate in bits if rate is not None], dtype=np.float64)
    ranks = iter((100.0 * np.searchsorted(np.asarray(reference), known, side="right") / len(reference)).tolist())
    return [None if rate is None else next(ranks) for rate in bits]


def score_reference(task: ScoreTask, lm: LanguageModel, path: str) -> ScoreTask:
    """Return a task that also adds the percentile against the texts of a file; empty texts and nulls are left out.

    Args:
        task: The task, which says how texts are scored.
        lm: The model.
        path: A file in any of the forms of `rows.py`; a table has the text in the column of the task.

    Raises:
        CorpusError: If the file cannot be read, or has no text or more than MAX_REFERENCE_TEXTS texts.
    """
    rates: list[float] = []
    for file in find_inputs([path]):
        with closing(open_rows(file.path, task.text_column, ())) as source:
            plan = source.plan()
            for part in plan.slices:
                texts = [text for text in source.read(part).texts if text]
                scores = lm.score_stream(texts, end=task.scores_end)
                rates += [score.bits_per_char for score in scores if score.bits_per_char is not None]
                if len(rates) > MAX_REFERENCE_TEXTS:
                    raise CorpusError(
                        f"{path} has more than {MAX_REFERENCE_TEXTS:,} texts", "Give a random sample of them."
                    )
    if not rates:
        raise CorpusError(f"{path} has no text to compare with", "Give a file of texts, one per line or row.")
    values = np.sort(np.array(rates))
    digest = hashlib.sha256(values.tobytes()).hexdigest()
    return replace(task, reference_bits=tuple(values.tolist()), reference_sha256=digest)
