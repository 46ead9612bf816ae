"""Evaluate a model on the validation text, and compute the baselines it is compared with.

The loss of the training steps cannot be compared with the validation loss: it is measured with dropout, and while the
weights change. So the best model also reads a sample of the training text, just as it reads the validation text.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import numpy as np
from numpy.typing import NDArray

from chargen.config import LN2
from chargen.data.baselines import lzma_nats_per_char, ngram_log_probs
from chargen.data.dataset import Dataset, Part
from chargen.engines.interface import Engine, carried_log_probs, document_log_probs, split_into_parts
from chargen.text.documents import NONE
from chargen.text.long_text import Span
from chargen.tokenizers.tokenizer import BOUNDARY_ID, Ids, encoder

Read = Callable[[Ids], NDArray[np.float64]]  #: token ids of a text [N] → log p of each in nats [N]

NUM_STREAMS = 32  #: number of parallel streams that the validation text is divided into
WARMUP_IDS = 256  #: tokens that a stream reads before its part; benchmarks/LOG.md has the effect on accuracy
MAX_DOCUMENT_IDS = 4096  #: longer documents are divided among several streams, too
MAX_BASELINE_TRAIN_BYTES = 1 << 20  #: approximate maximum size of the training text of the baselines (its end)
MAX_BASELINE_VAL_CHARS = 1 << 17  #: maximum size of the validation text of the baselines (its start)
# An .xz file grows in steps of four bytes: of 40 characters, one step is 0.8 bits per character. And an n-gram model of
# less text than this has hardly seen any n-gram twice.
MIN_BASELINE_CHARS = 40  #: minimum size of the training and of the validation text of the baselines
MAX_COUNTED_IDS = 1 << 20  #: token ids, from the end of the training text, that are counted for `relative_difficulty`
MAX_DIFFICULTY = 2.0  #: texts that differ by a larger factor cannot be compared


@dataclass(frozen=True)
class Baselines:
    """Validation loss of methods that are not networks."""

    ngram_5_nats_per_char: float | None  #: None if the texts are too short, see MIN_BASELINE_CHARS
    lzma_nats_per_char: float | None  #: the same
    unigram_nats_per_char: float  #: by the frequencies of the token ids in the training text alone
    uniform_nats_per_char: float  #: with the same probability for each token id


@dataclass(frozen=True)
class ValidationResult:
    """Loss on the whole validation text, with the state carried from its first character to its last."""

    nats_per_char: float
    bits_per_char: float
    bits_per_byte: float
    perplexity_per_char: float
    first_half_nats_per_char: float
    second_half_nats_per_char: float | None  #: None if that half is empty


def read_text(
    engine: Engine,
    ids: Ids,
    start_ids: Ids,
    has_documents: bool,
    choose_parts: Callable[[int], range] = range,
) -> NDArray[np.float64]:
    """Return log p of each token id of a text, [N], in nats, as a validation reads it.

    Args:
        engine: The engine that runs the model.
        ids: Token ids of the text, [N].
        start_ids: The token ids that the model reads before the text.
        has_documents: Whether the text consists of documents, each of which is read from the initial state.
        choose_parts: Returns which parts of the text are read, given their number. The result has only their token ids.
    """
    if not has_documents:
        return carried_log_probs(engine, ids, start_ids, NUM_STREAMS, WARMUP_IDS, choose_parts)
    ends = np.flatnonzero(ids == BOUNDARY_ID) + 1
    cuts = [0, *ends[: len(ends) - bool(len(ends) and ends[-1] == len(ids))], len(ids)]
    documents = choose_parts(len(cuts) - 1)
    own = ids[cuts[documents.start] : cuts[documents.stop]]
    return document_log_probs(engine, own, part_size=MAX_DOCUMENT_IDS, warmup=WARMUP_IDS)


def read_alone(engine: Engine, data: Dataset) -> Read:
    """Return a function that reads the validation text, or a sample of the training text, in this process."""
    return partial(read_text, engine, start_ids=data.start_ids, has_documents=data.config.documents != NONE)


def loss_nats_per_char(read: Read, data: Dataset, part: Part) -> float:
    """Return the loss on one part of the text, read from the initial state."""
    return float(_id_nats(read, data, part.ids).sum()) / part.num_chars


def evaluate_validation(read: Read, data: Dataset) -> ValidationResult:
    """Evaluate a model on the whole validation text."""
    ids = np.concatenate([part.ids for part in data.val])
    nats = _id_nats(read, data, ids)
    half = len(data.val[0].ids) + len(data.val[1].ids)
    first_chars = data.val[0].num_chars + data.val[1].num_chars
    chars = first_chars + data.val[2].num_chars
    total = float(nats.sum())
    return ValidationResult(
        nats_per_char=total / chars,
        bits_per_char=total / chars / LN2,
        bits_per_byte=total / LN2 / sum(part.num_bytes for part in data.val),
        perplexity_per_char=math.exp(min(700.0, total / chars)),
        first_half_nats_per_char=float(nats[:half].sum()) / first_chars,
        second_half_nats_per_char=float(nats[half:].sum()) / data.val[2].num_chars if data.val[2].num_chars else None,
    )


def _id_nats(read: Read, data: Dataset, ids: Ids) -> NDArray[np.float64]:
    """Return −log p of each token id, [N], including the cost of characters that the vocabulary does not have."""
    return -read(ids) - data.tokenizer.unk_log_prob_nats(ids)


def training_sample(data: Dataset) -> Part:
    """Return a sample of the training text, about as long as the selection part of the validation text.

    It is the end of a continuous text: the passage that is most like the validation text, which follows it. Of
    documents, it is some at equal distances, since a list of them may be sorted.
    """
    ids = data.train.ids
    size = max(1, min(len(ids), len(data.val[0].ids)))
    if data.config.documents == NONE and data.config.is_backward:  # the training text that the model reads first
        sample = np.asarray(ids[:size], dtype=np.int32)
    elif data.config.documents == NONE:
        sample = np.asarray(ids[-size:], dtype=np.int32)
    else:
        ends = np.flatnonzero(ids == BOUNDARY_ID) + 1
        starts = np.concatenate([[0], ends[:-1]])
        chosen = range(0, len(ends), max(1, len(ids) // size))
        sample = np.concatenate([ids[starts[k] : ends[k]] for k in chosen]).astype(np.int32)[:size]
    num_boundaries = int(np.count_nonzero(sample == BOUNDARY_ID))  # each counts as a character, as in validation
    return Part(sample, max(1, len(data.tokenizer.decode(sample)) + num_boundaries))


def relative_difficulty(data: Dataset, sample: Part) -> float:
    """Return how much more a character of the validated text costs than one of a sample of the training text.

    The costs are by the frequencies of the token ids in the training text, which no network can memorize. So the
    factor is about 1 if the texts are alike, and the training loss times this factor is on an equal footing with the
    validation loss. It is at least 1 / MAX_DIFFICULTY and at most MAX_DIFFICULTY.
    """
    counts = np.bincount(np.asarray(data.train.ids[-MAX_COUNTED_IDS:]), minlength=data.tokenizer.vocab_size) + 1.0
    log_probs = np.log(counts / counts.sum())

    def loss(part: Part) -> float:
        nats = -log_probs[part.ids] - data.tokenizer.unk_log_prob_nats(part.ids)
        return float(nats.sum()) / part.num_chars

    return min(MAX_DIFFICULTY, max(1 / MAX_DIFFICULTY, loss(data.val[0]) / loss(sample)))


def num_final_ids(data: Dataset) -> int:
    """Return how many tokens are read after the last step: for one more validation, a sample of the training text, and
    the whole validation text.
    """
    sample = min(len(data.train.ids), len(data.val[0].ids))
    return num_ids_read(len(data.val[0].ids)) + num_ids_read(sample) + num_ids_read(sum(len(p.ids) for p in data.val))


def num_ids_read(num_ids: int) -> int:
    """Return how many tokens are read to evaluate `num_ids` tokens, including the warm-up of the streams."""
    num_streams, own, warmup = split_into_parts(num_ids, NUM_STREAMS, WARMUP_IDS)
    return num_streams * (own + warmup)


def measure_baselines(data: Dataset) -> Baselines:
    """Return the loss of simple methods on the validation text, or on its start if it is long."""
    val_chars = sum(part.num_chars for part in data.val)
    train_chars = MAX_BASELINE_TRAIN_BYTES * val_chars // max(1, sum(part.num_bytes for part in data.val))
    train_text = data.train_text.excerpt(train_chars)
    val_text = data.val_text.read(0, min(MAX_BASELINE_VAL_CHARS, val_chars))
    encode = encoder(data.tokenizer, data.config.documents)
    if isinstance(data.train_text, Span):  # the excerpt is its end, which is already encoded
        train_ids = np.asarray(data.train.ids[-int(train_chars * data.ids_per_char) :])
    else:
        train_ids = encode(train_text)
    val_ids = encode(val_text)
    V = data.tokenizer.vocab_size
    unknown_nats = -float(data.tokenizer.unk_log_prob_nats(val_ids).sum())  # added to the loss of the model, too
    counts = np.bincount(train_ids, minlength=V) + 1.0  # no id has the probability 0
    unigram = (unknown_nats - float(np.log(counts / counts.sum())[val_ids].sum())) / len(val_text)
    uniform = (unknown_nats + math.log(V) * len(val_ids)) / len(val_text)
    if min(len(train_text), len(val_text)) < MIN_BASELINE_CHARS:
        return Baselines(None, None, unigram, uniform)
    # LZMA first: it releases Python's global lock while the main thread imports torch.
    lzma = lzma_nats_per_char(train_text, val_text)
    ngram = (unknown_nats - float(ngram_log_probs(train_ids, val_ids, V).sum())) / len(val_text)
    return Baselines(ngram, lzma, unigram, uniform)
