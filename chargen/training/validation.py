"""The numbers at the end of a run: the best model on all of validation, and what needs no network beside it."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from chargen.config import LN2
from chargen.data.baselines import lzma_nats, ngram_nats
from chargen.data.dataset import Dataset, Part, split
from chargen.engines.interface import Engine, carried_log_probs, document_log_probs, split_into_parts
from chargen.text.documents import NONE
from chargen.tokenizers.tokenizer import Ids, encoder

LANES = 32  #: that validation is read in
WARMUP = 256  #: ids that a lane reads before its part; see benchmarks/LOG.md for what that costs in accuracy
BASELINE_TRAIN_BYTES = 1 << 20  #: of training text, about, that the baselines learn from, at most: its end
BASELINE_VAL_CHARS = 1 << 17  #: of validation, at most, that they are measured on: its beginning


@dataclass(frozen=True)
class Baselines:
    """Validation, in nats per character, by models that are not networks."""

    ngram_5: float
    lzma: float


@dataclass(frozen=True)
class Measured:
    """Validation by the carried protocol."""

    nats_per_char: float
    bits_per_char: float
    bits_per_byte: float
    perplexity_per_char: float
    first_half_nats_per_char: float
    second_half_nats_per_char: float


def loss_nats_per_char(engine: Engine, data: Dataset, part: Part) -> float:
    """Return the loss on one part of the text, carried from its own beginning."""
    return float(_nats(engine, data, part.ids).sum()) / part.num_chars


def measure(engine: Engine, data: Dataset) -> Measured:
    """Measure a model on the whole of validation."""
    ids = np.concatenate([part.ids for part in data.val])
    nats = _nats(engine, data, ids)
    half = len(data.val[0].ids) + len(data.val[1].ids)
    first_chars = data.val[0].num_chars + data.val[1].num_chars
    chars = first_chars + data.val[2].num_chars
    total = float(nats.sum())
    return Measured(
        nats_per_char=total / chars,
        bits_per_char=total / chars / LN2,
        bits_per_byte=total / LN2 / sum(part.num_bytes for part in data.val),
        perplexity_per_char=math.exp(min(700.0, total / chars)),
        first_half_nats_per_char=float(nats[:half].sum()) / first_chars,
        second_half_nats_per_char=float(nats[half:].sum()) / max(1, data.val[2].num_chars),
    )


def _nats(engine: Engine, data: Dataset, ids: Ids) -> NDArray[np.float64]:
    """Return −log p of each id, [N]; an unknown character of a validation file of its own costs what it should."""
    if data.config.documents == NONE:
        log_probs = carried_log_probs(engine, ids, data.start, LANES, WARMUP)
    else:
        log_probs = document_log_probs(engine, ids)
    return -log_probs - data.tokenizer.unk_log_prob_nats(ids)


def closing_ids(data: Dataset) -> int:
    """Return how many ids are read after a run's last step: one more look, and the whole of validation."""
    return ids_read(len(data.val[0].ids)) + ids_read(sum(len(part.ids) for part in data.val))


def ids_read(num_ids: int) -> int:
    """Return how many ids are read to measure so many, warm-ups counted."""
    lanes, own, warmup = split_into_parts(num_ids, LANES, WARMUP)
    return lanes * (own + warmup)


def baselines(data: Dataset) -> Baselines:
    """Return what an interpolated 5-gram and LZMA make of validation; of long texts, of its beginning."""
    train, val = split(data.corpus, data.val_corpus, data.config.val_fraction)
    measured = sum(part.num_chars for part in data.val)
    learned = BASELINE_TRAIN_BYTES * measured // max(1, sum(part.num_bytes for part in data.val))
    train_text, val_text = train.read(-learned), val.read(0, min(BASELINE_VAL_CHARS, measured))
    train_ids = np.asarray(data.train.ids[-int(learned * data.ids_per_char) :])
    ids = encoder(data.tokenizer, data.config.documents)(val_text)
    # LZMA first: it leaves Python alone, which at that time is busy importing torch.
    compressed = lzma_nats(train_text, val_text)
    ngram = ngram_nats(train_ids, ids, data.tokenizer.vocab_size) * len(ids) / len(val_text)
    return Baselines(ngram, compressed)
