"""Dynamic evaluation: a whole text measured by a model that goes on learning from it (Krause et al. 2018, 1709.07432).

    segment   ├── scored ──┤├── scored ──┤├── scored ──┤      then learned from (`learner.py`), each before the next

The number is not comparable with that of a model that stands still, and is never given without saying so.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict, dataclass
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from chargen.checkpoint import Checkpoint
from chargen.scoring.evaluation import WholeText
from chargen.scoring.learner import Adaptation, Learner
from chargen.text.documents import NONE
from chargen.text.tokenizer import BOUNDARY_ID, Ids, start_ids


@dataclass(frozen=True)
class AdaptedEvaluation:
    """The likelihood of a whole text by a model that learned from it on the way."""

    rule: str
    learning_rate: float
    decay: float
    segment_ids: int
    chars: int
    loss_nats_per_char: float
    bits_per_char: float
    bits_per_byte: float
    perplexity_per_char: float
    first_half_nats_per_char: float
    second_half_nats_per_char: float

    def to_json(self) -> dict[str, Any]:
        return {"method": "dynamic evaluation", **asdict(self)}


def adapted_log_probs(
    checkpoint: Checkpoint, ids: Ids, how: Adaptation, device: str = "cpu"
) -> Iterator[NDArray[np.float64]]:
    """Yield log p of each id given all before it, segment after segment, [T] each, in nats.

    Args:
        checkpoint: the model, which is not changed.
        ids: the text, [N]; of a model of documents with the boundary after each of them, where the state begins anew.
        how: rule, rate, decay, segments.
        device: where torch works.
    """
    documents = checkpoint.data.documents
    before = start_ids(checkpoint.tokenizer, documents)[-1:]
    learner = Learner(checkpoint, before, how, device)
    state = learner.initial_state()
    ends = np.flatnonzero(ids == BOUNDARY_ID) + 1 if documents != NONE else np.zeros(0, dtype=np.int64)
    for begin, end in [*pairwise([0, *ends.tolist()]), (int(ends[-1]) if len(ends) else 0, len(ids))]:
        for place in range(begin, end, how.segment_ids):
            targets = ids[place : min(end, place + how.segment_ids)]
            log_probs, state = learner.read(np.concatenate([before, targets[:-1]]), targets, state)
            yield log_probs
            before = targets[-1:]
        state = learner.initial_state()


def evaluate_adapted(
    checkpoint: Checkpoint, text: str, how: Adaptation, device: str = "cpu"
) -> Iterator[float | AdaptedEvaluation]:
    """Measure a whole text by dynamic evaluation: yield the share of it that is done, now and then; last the result.

    Raises:
        CorpusError: the text is empty.
        DivergenceError: the rate is too high for this model.
    """
    whole = WholeText.of(text, checkpoint.tokenizer, checkpoint.data)
    parts, done = [], 0
    for part in adapted_log_probs(checkpoint, whole.ids, how, device):
        parts.append(part)
        done += len(part)
        yield done / len(whole.ids)
    yield AdaptedEvaluation(
        rule=how.rule,
        learning_rate=how.rate,
        decay=how.decay,
        segment_ids=how.segment_ids,
        chars=len(whole.text),
        **whole.units(np.concatenate(parts)),
    )
