"""The likelihood of a whole text, by two protocols, in every unit.

The ids of a text, line by line: what a model gives to a line when it reads the whole text.

A model of documents reads boundaries where the text has a separator. What ends a document counts with its last line,
and a line that is only a separator costs nothing.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from chargen.config import DataConfig
from chargen.engines.interface import Engine, carried_log_probs, document_log_probs, windows_log_probs
from chargen.engines.numpy_engine import NumpyEngine
from chargen.errors import CorpusError
from chargen.scoring.scorer import Score, utf8_size
from chargen.text.cleaning import normalize_text
from chargen.text.documents import MARK, NONE, split_documents
from chargen.tokenizers.tokenizer import Ids, Tokenizer, encoder

WARMUP = 512


@dataclass(frozen=True)
class TextEvaluation:
    """The likelihood of a whole text; carried is how a model is used, windows what a fixed context of 256 gets."""

    chars: int  #: in the training text's form, in which the end of a document is one
    document_ends: int  #: of them; 0 of one running text
    bytes: int  #: of the text as it was given, in UTF-8
    unknown_chars: int
    loss_nats_per_char: float
    bits_per_char: float
    bits_per_byte: float
    perplexity_per_char: float
    first_half_nats_per_char: float
    second_half_nats_per_char: float
    windows_256_nats_per_char: float


@dataclass(frozen=True)
class WholeText:
    """A text to be measured, in the form of a model's training text."""

    tokenizer: Tokenizer
    text: str  #: of documents, with their marks
    ids: Ids
    num_bytes: int  #: of the text as it was given, in UTF-8
    half: int  #: characters of its first half
    cut: int  #: ids of that

    @classmethod
    def of(cls, original: str, tokenizer: Tokenizer, data: DataConfig) -> WholeText:
        """Make one of a text as it is given.

        Raises:
            CorpusError: it is empty.
        """
        text = normalize_text(original, data)
        if data.documents != NONE:
            text = "".join(split_documents([text], data.documents))
        if not text:
            raise CorpusError("there is nothing to evaluate: the text is empty")
        encode, half = encoder(tokenizer, data.documents), max(1, len(text) // 2)
        return cls(tokenizer, text, encode(text), utf8_size(original), half, len(encode(text[:half])))

    def units(self, log_probs: NDArray[np.float64]) -> dict[str, float]:
        """Return log p of each id, [N], in every unit, of the whole and of its halves."""
        nats = -(log_probs + self.tokenizer.unk_log_prob_nats(self.ids))
        score = Score(self.text, -float(nats.sum()), len(self.text), self.num_bytes, 0)
        return {
            "loss_nats_per_char": -score.log_prob_nats / score.chars,
            "bits_per_char": score.bits_per_char or 0.0,
            "bits_per_byte": score.bits_per_byte or 0.0,
            "perplexity_per_char": score.perplexity_per_char or 1.0,
            "first_half_nats_per_char": float(nats[: self.cut].sum()) / self.half,
            "second_half_nats_per_char": float(nats[self.cut :].sum()) / max(1, len(self.text) - self.half),
        }


def evaluate_text(engine: Engine, whole: WholeText, start: Ids, documents: str, lanes: int) -> TextEvaluation:
    """Measure a text by both protocols.

    Args:
        engine: the model.
        whole: the text.
        start: what a text begins after.
        documents: what the model takes for one; NONE for one running stream.
        lanes: parts that are read side by side, each after the last WARMUP ids of the one before it; 1 is exact.
    """
    windows = windows_log_probs(engine, whole.ids, start) + whole.tokenizer.unk_log_prob_nats(whole.ids)
    return TextEvaluation(
        chars=len(whole.text),
        document_ends=whole.text.count(MARK) if documents != NONE else 0,
        bytes=whole.num_bytes,
        unknown_chars=int(whole.tokenizer.is_unknown(whole.ids).sum()),
        windows_256_nats_per_char=-float(windows.sum()) / len(whole.text),
        **whole.units(read_whole(engine, whole.ids, start, documents, lanes)),
    )


def read_whole(engine: Engine, ids: Ids, start: Ids, documents: str, lanes: int) -> NDArray[np.float64]:
    """Return log p of each id, [N], read with carried state, or document by document; arguments as above.

    One id after another where the engine is NumPy's, whatever `lanes` says.
    """
    if documents != NONE:
        return document_log_probs(engine, ids)
    return carried_log_probs(engine, ids, start, 1 if isinstance(engine, NumpyEngine) else lanes, WARMUP)
