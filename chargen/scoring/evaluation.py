"""The likelihood of a whole text, by two protocols, in every unit."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from chargen.engine.engine import Engine
from chargen.engine.evaluate import carried_log_probs, document_log_probs, windows_log_probs
from chargen.engine.numpy_engine import NumpyEngine
from chargen.errors import CorpusError
from chargen.scoring.scorer import Score
from chargen.text.documents import NONE
from chargen.text.tokenizer import Ids, Tokenizer, encoder

WARMUP = 512


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


def evaluate_text(
    engine: Engine, tokenizer: Tokenizer, start: Ids, text: str, num_bytes: int, documents: str, lanes: int
) -> TextEvaluation:
    """Measure a text.

    Args:
        engine: the model.
        tokenizer: its tokenizer.
        start: what a text begins after.
        text: in the form of the training text; of documents, with their marks.
        num_bytes: of the text as it was given, in UTF-8.
        documents: what the model takes for one; NONE for one running stream.
        lanes: parts that are read side by side, each after the last WARMUP ids of the one before it; 1 is exact.

    Raises:
        CorpusError: the text is empty.
    """
    if not text:
        raise CorpusError("there is nothing to evaluate: the text is empty")
    half = max(1, len(text) // 2)
    encode = encoder(tokenizer, documents)
    ids = encode(text)
    carried = read_whole(engine, ids, start, documents, lanes)
    spelling, unknown = tokenizer.spelling_nats(ids), int(tokenizer.unknown(ids).sum())
    carried, windows = carried + spelling, windows_log_probs(engine, ids, start) + spelling
    score = Score(text, float(carried.sum()), len(text), num_bytes, unknown)
    cut = len(encode(text[:half]))
    return TextEvaluation(
        chars=score.chars,
        bytes=score.bytes,
        unknown_chars=unknown,
        loss_nats_per_char=-score.log_prob_nats / score.chars,
        bits_per_char=score.bits_per_char or 0.0,
        bits_per_byte=score.bits_per_byte or 0.0,
        perplexity_per_char=score.perplexity_per_char or 1.0,
        first_half_nats_per_char=-float(carried[:cut].sum()) / half,
        second_half_nats_per_char=-float(carried[cut:].sum()) / max(1, len(text) - half),
        windows_256_nats_per_char=-float(windows.sum()) / len(text),
    )


def read_whole(engine: Engine, ids: Ids, start: Ids, documents: str, lanes: int) -> NDArray[np.float64]:
    """Return log p of each id, [N], read with carried state, or document by document; arguments as above.

    One id after another where the engine is NumPy's, whatever `lanes` says.
    """
    if documents != NONE:
        return document_log_probs(engine, ids)
    return carried_log_probs(engine, ids, start, 1 if isinstance(engine, NumpyEngine) else lanes, WARMUP)
