"""Evaluate a whole text by two protocols, in several units: `chargen eval`, and line by line for `chargen compare`.

    carried   the text is one stream, and the state is carried from its first token id to its last
    windows   non-overlapping windows of 256 tokens, each read from the initial state: a fixed context

A backward model reads the text from its end, or each document from its end. The first half is the one that it reads
first.

In a model of documents the carried protocol resets the state at each boundary. The separators of the text are read as
boundaries; each boundary is scored and counts with the last line of its document, and a line that is only a separator
costs nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from chargen.checkpoint import Checkpoint
from chargen.data.dataset import encode_lines
from chargen.engines.interface import Engine, carried_log_probs, document_log_probs, windows_log_probs
from chargen.engines.numpy_engine import NumpyEngine
from chargen.errors import CorpusError
from chargen.schema import iterate_strings
from chargen.scoring.scorer import Score, utf8_size
from chargen.text.documents import MARK, split_documents
from chargen.tokenizers.tokenizer import Ids, Tokenizer, encoder

NUM_PARTS = 32  #: parts of a continuous text that torch reads side by side
WARMUP = 512  #: tokens that each part but the first reads before its own, to restore the state
MAX_DOCUMENT_IDS = 8192  #: longer documents are read in parts by torch, too


@dataclass(frozen=True)
class TextEvaluation:
    """The likelihood of a whole text. All rates are of the carried protocol, except for windows_256_nats_per_char."""

    chars: int  #: characters in the training text's form, where the end of a document counts as one
    document_ends: int  #: how many of these characters are ends of documents; 0 in a model of continuous text
    bytes: int  #: size in UTF-8 of the text as it was given
    unknown_chars: int
    loss_nats_per_char: float
    bits_per_char: float
    bits_per_byte: float
    perplexity_per_char: float
    first_half_nats_per_char: float
    second_half_nats_per_char: float | None  #: None if that half is empty
    windows_256_nats_per_char: float


@dataclass(frozen=True)
class WholeText:
    """A text to evaluate, in the form of a model's training text and in the order in which the model reads it."""

    tokenizer: Tokenizer
    text: str  #: the text, with a MARK at the end of each document, in a model of documents
    ids: Ids  #: [N]
    num_bytes: int  #: size in UTF-8 of the text as it was given
    num_half_chars: int  #: characters of the first half
    num_half_ids: int  #: tokens of the first half

    @classmethod
    def from_text(cls, original: str, checkpoint: Checkpoint) -> WholeText:
        """Normalize and encode a text for a model.

        Raises:
            CorpusError: If the text is empty.
        """
        documents = checkpoint.data.documents
        text = checkpoint.normalize(original)
        if checkpoint.has_documents:
            text = "".join(split_documents([text], documents))
        text = checkpoint.reorder(text)
        if not text:
            raise CorpusError("there is nothing to evaluate: the text is empty")
        encode = encoder(checkpoint.tokenizer, documents)
        half = max(1, len(text) // 2)
        return cls(checkpoint.tokenizer, text, encode(text), utf8_size(original), half, len(encode(text[:half])))

    def losses(self, log_probs: NDArray[np.float64]) -> dict[str, Any]:
        """Return the loss of the text and of its halves, by the name of the field of TextEvaluation.

        Args:
            log_probs: Log p of each token id in nats, [N].
        """
        nats = -(log_probs + self.tokenizer.unk_log_prob_nats(self.ids))
        score = Score(self.text, -float(nats.sum()), len(self.text), self.num_bytes, 0)
        num_second_chars = len(self.text) - self.num_half_chars
        second_nats = float(nats[self.num_half_ids :].sum())
        return {
            "loss_nats_per_char": -score.log_prob_nats / score.chars,
            "bits_per_char": score.bits_per_char or 0.0,
            "bits_per_byte": score.bits_per_byte or 0.0,
            "perplexity_per_char": score.perplexity_per_char or 1.0,
            "first_half_nats_per_char": float(nats[: self.num_half_ids].sum()) / self.num_half_chars,
            "second_half_nats_per_char": second_nats / num_second_chars if num_second_chars else None,
        }


def evaluate_text(checkpoint: Checkpoint, select_engine: Callable[[int], Engine], text: str) -> TextEvaluation:
    """Evaluate a text by both protocols.

    Args:
        checkpoint: The model.
        select_engine: Returns the engine for a number of tokens to read.
        text: Text in any form.

    Raises:
        CorpusError: If the text is empty.
    """
    whole = WholeText.from_text(text, checkpoint)
    engine = select_engine(2 * len(whole.ids))  # both protocols read all tokens
    windows = windows_log_probs(engine, whole.ids, checkpoint.start_ids) + whole.tokenizer.unk_log_prob_nats(whole.ids)
    return TextEvaluation(
        chars=len(whole.text),
        document_ends=whole.text.count(MARK) if checkpoint.has_documents else 0,
        bytes=whole.num_bytes,
        unknown_chars=int(whole.tokenizer.is_unknown(whole.ids).sum()),
        windows_256_nats_per_char=-float(windows.sum()) / len(whole.text),
        **whole.losses(carried_protocol(engine, checkpoint, whole.ids)),
    )


def evaluate_lines(
    checkpoint: Checkpoint, select_engine: Callable[[int], Engine], lines: Sequence[str]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return (−log p of each line in nats, its number of unknown characters), both [len(lines)].

    The lines are read as one text, by the carried protocol.

    Args:
        checkpoint: The model.
        select_engine: Returns the engine for a number of tokens to read.
        lines: Lines of a text in any form, newlines included.
    """
    normalized = [checkpoint.normalize(line) for line in iterate_strings(lines, "lines")]
    if not any(normalized):
        return np.zeros(len(normalized)), np.zeros(len(normalized))
    data = checkpoint.data
    ids, line_numbers = encode_lines(checkpoint.tokenizer, data.documents, normalized, data.is_backward)
    log_probs = carried_protocol(select_engine(len(ids)), checkpoint, ids)
    nats = -log_probs - checkpoint.tokenizer.unk_log_prob_nats(ids)
    line_nats = np.bincount(line_numbers, nats, len(normalized)).astype(np.float64)
    unknown = np.bincount(line_numbers, checkpoint.tokenizer.is_unknown(ids), len(normalized)).astype(np.float64)
    return line_nats, unknown


def carried_protocol(engine: Engine, checkpoint: Checkpoint, ids: Ids) -> NDArray[np.float64]:
    """Return log p of each token id of a text by the carried protocol, in nats, [N].

    Torch reads documents in batches, long ones in parts, and NUM_PARTS parts of a continuous text side by side, each
    after the last WARMUP tokens of the part before it. The NumPy engine reads a document, or a continuous text, as one
    stream, which is exact.
    """
    is_exact = isinstance(engine, NumpyEngine)
    if checkpoint.has_documents:
        return document_log_probs(engine, ids, part_size=None if is_exact else MAX_DOCUMENT_IDS)
    num_parts = 1 if is_exact else NUM_PARTS
    return carried_log_probs(engine, ids, checkpoint.start_ids, num_parts, WARMUP)
