"""A model as the beginning of a new run: its weights and vocabulary, which may grow by the new text's characters.

Vocabularies are compared by what their ids write, never by their sizes or places: an old row of the embedding or the
head goes to wherever its character now stands.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any

import numpy as np

from chargen.cells.weights import mask_bias
from chargen.checkpoint import Checkpoint, Tensors
from chargen.config import ModelConfig
from chargen.errors import ConfigError, TokenizerError
from chargen.text.documents import NONE
from chargen.text.long_text import Span
from chargen.tokenizers.tokenizer import Tokenizer

NEW_CHARS = ("grow", "error", "unknown")  #: what becomes of characters that the model does not know
NO_SHAPE = ("vocab_size", "dropout", "weight_dropout", "ngram_dropout")  #: of a network's settings
SHAPE = tuple(f.name for f in fields(ModelConfig) if f.name not in NO_SHAPE)


@dataclass(frozen=True)
class InitialModel:
    """What a new run starts from instead of random weights."""

    tokenizer: Tokenizer
    shape: Mapping[str, Any]  #: settings of `ModelConfig` that the weights decide
    weights: Tensors
    loss_nats_per_char: float  #: of the model on its own validation text
    note: str


def init_from_model(
    checkpoint: Checkpoint, text: Span, new_chars: str, chosen: Mapping[str, Any], documents: bool | None = None
) -> InitialModel:
    """Return a model's weights and vocabulary for training on another text.

    Args:
        checkpoint: the model.
        text: what it is to be trained on.
        new_chars: "grow" gives every character that it does not know a row of its own, "unknown" reads them as the
            unknown one, "error" refuses them.
        chosen: what the person chose of `ModelConfig`.
        documents: whether the new run is one of documents, in which the boundary can come; None: as the model is.

    Raises:
        ConfigError: the person chose another shape than the model has, or `new_chars` is none of these.
        TokenizerError: there are new characters, and they are an error.
    """
    if new_chars not in NEW_CHARS:
        raise ConfigError(f"new_chars is {new_chars!r}, but must be one of {', '.join(NEW_CHARS)}")
    shape = {name: getattr(checkpoint.config, name) for name in SHAPE}
    for name, value in chosen.items():
        if shape.get(name, value) != value:
            raise ConfigError(
                f"{name} is {value}, but the model to begin from has {shape[name]}", "Leave it out, or begin anew."
            )
    documents = checkpoint.data.documents != NONE if documents is None else documents
    before, own_loss = checkpoint.tokenizer, float(checkpoint.about.get("choice_loss_nats_per_char") or 0.0)
    grown = before.extend_vocabulary(text)
    count = grown.vocab_size - before.vocab_size
    if count and new_chars == "error":
        shown = "".join(grown.decode([i]) for i in range(grown.vocab_size) if rows_of(before, grown)[i] < 0)[:20]
        raise TokenizerError(
            f"the text has {count:,} characters that the model does not know: {shown!r}",
            "--new-chars grow gives them a place; --new-chars unknown reads them as unknown.",
        )
    if not count or new_chars == "unknown":
        return InitialModel(before, shape, _masked(checkpoint.weights, before, documents), own_loss, "")
    weights = _masked(_with_rows(checkpoint, rows_of(before, grown)), grown, documents)
    return InitialModel(grown, shape, weights, own_loss, f"the vocabulary grew by {count:,} characters of this text")


def rows_of(before: Tokenizer, after: Tokenizer) -> np.ndarray:
    """Return for each id of a vocabulary the id in another that writes the same, −1 where there is none, [V]."""
    special = set(before.special_ids())
    old = {before.token_bytes(i): i for i in range(before.vocab_size) if i not in special}
    special = set(after.special_ids())
    return np.array(
        [i if i in special else old.get(after.token_bytes(i), -1) for i in range(after.vocab_size)], dtype=np.int64
    )


def _masked(weights: Mapping[str, np.ndarray], tokenizer: Tokenizer, documents: bool) -> Tensors:
    """Return weights in which the ids that can never come in the new run are masked, and no others."""
    return {**weights, "head.bias": mask_bias(weights["head.bias"], tokenizer.masked_ids(documents))}


def _with_rows(checkpoint: Checkpoint, rows: np.ndarray) -> Tensors:
    """Return the weights with a row for each new id: in the embedding one as large as the others, in the head small.

    A new character is as unlikely at first as the least likely one that the model knows.
    """
    weights = dict(checkpoint.weights)
    rng = np.random.default_rng(0)
    new = rows < 0
    for name in ("embedding.weight", "head.weight", "ngrams.head"):
        if name in weights:
            old = weights[name]
            scale = float(old.std()) if name == "embedding.weight" else 0.0
            made = rng.normal(0.0, scale, (len(rows), old.shape[1])).astype(old.dtype)
            made[~new] = old[rows[~new]]
            weights[name] = made
    bias = weights["head.bias"]
    weights["head.bias"] = np.where(new, bias[2:].min(initial=0.0), bias[np.maximum(rows, 0)]).astype(bias.dtype)
    return weights
