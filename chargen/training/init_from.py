"""Start a new run from the weights and the vocabulary of a trained model.

The vocabulary can grow by the characters of the new text. Two vocabularies are compared by the bytes that their token
ids represent, never by size or position: each row of the embedding and of the head moves to the new token id of its
    character.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from chargen.cells.ngram_index import build_index, move_rows
from chargen.cells.weights import NGRAM_INDEX, NGRAM_TABLE, NGRAM_WORDS, mask_bias
from chargen.checkpoint import Checkpoint, load_metadata
from chargen.config import MULAW, ModelConfig
from chargen.errors import ConfigError, TokenizerError
from chargen.runs import find_model
from chargen.schema import format_count
from chargen.storage.stored_weights import Tensors
from chargen.text.cleaning import quote_characters
from chargen.text.documents import NONE
from chargen.text.long_text import TextPart
from chargen.text.series.quantizer import Quantizer
from chargen.tokenizers.tokenizer import Tokenizer, tokenizer_from_json
from chargen.tokenizers.words import word_kinds
from chargen.training.choices import ModelChoices

NEW_CHARS = ("grow", "error", "unknown")  #: how to treat characters that the model does not know
FREE_FIELDS = ("vocab_size", "dropout", "weight_dropout", "ngram_dropout")  #: fields that the new run may change
SHAPE_FIELDS = tuple(f.name for f in fields(ModelConfig) if f.name not in FREE_FIELDS)


@dataclass(frozen=True)
class InitialModel:
    """The weights, vocabulary and shape from which a new run starts, instead of random weights."""

    tokenizer: Tokenizer
    shape: ModelChoices  #: what the weights determine
    weights: Tensors
    loss_nats_per_char: float  #: loss of the model on its own validation text
    note: str  #: message for the user, or empty
    #: the number in the model of each token id, or that of the unknown character, [V]; None if no number has changed
    old_ids: NDArray[np.int64] | None = None
    old_words: NDArray[np.uint8] | None = None  #: kind of each token id of the model, [V]; None without an index


def init_from_model(
    checkpoint: Checkpoint,
    text: TextPart,
    new_chars: str,
    choices: ModelChoices,
    has_documents: bool | None = None,
    direction: str | None = None,
) -> InitialModel:
    """Prepare the weights and the vocabulary of a model for training on another text.

    Args:
        checkpoint: The model.
        text: The text of the new run.
        new_chars: How to treat characters that the model does not know: "grow" adds them to the vocabulary, "unknown"
            encodes them as the unknown character, and "error" raises an error.
        choices: What the user chose.
        has_documents: Whether the new run is trained on documents, in which the boundary id can occur. None: whether
            the model was.
        direction: The direction in which the new run reads texts. None: that of the model.

    Raises:
        ConfigError: If a choice contradicts the shape or the direction of the model, or if `new_chars` is invalid.
        TokenizerError: If there are new characters and `new_chars` is "error".
    """
    if new_chars not in NEW_CHARS:
        raise ConfigError(f"new_chars is {new_chars!r}, but must be one of {', '.join(NEW_CHARS)}")
    if direction not in (None, checkpoint.data.direction):
        raise ConfigError(
            f"the initial model reads texts {checkpoint.data.direction}, but the run is {direction}",
            f"Give --direction {checkpoint.data.direction}, or train without --init-from.",
        )
    shape = {name: getattr(checkpoint.config, name) for name in SHAPE_FIELDS}
    for name, value in choices.chosen().items():
        if shape.get(name, value) != value:
            raise ConfigError(
                f"{name} is {value}, but the initial model has {shape[name]}",
                "Leave it out, or train without --init-from.",
            )
    if has_documents is None:
        has_documents = checkpoint.data.documents != NONE
    kept = ModelChoices(**shape)
    own_loss = float(checkpoint.about.get("choice_loss_nats_per_char") or 0.0)
    old = checkpoint.tokenizer
    grown = old.extend_vocabulary(text)
    num_new = grown.vocab_size - old.vocab_size
    if num_new and new_chars == "error":
        shown = quote_characters(grown.decode([i]) for i in np.flatnonzero(map_ids(old, grown) < 0).tolist())
        raise TokenizerError(
            f"the text has {format_count(num_new, 'character')} that the model does not know: {shown}",
            "--new-chars grow adds them to the vocabulary; --new-chars unknown encodes them as the unknown character.",
        )
    if not num_new or new_chars == "unknown":
        return InitialModel(old, kept, _masked(checkpoint.weights, old, has_documents), own_loss, "")
    old_ids = map_ids(old, grown)
    weights = _masked(_grow_weights(checkpoint, grown, old_ids), grown, has_documents)
    note = f"the vocabulary grew by {format_count(num_new, 'character')} of this text"
    is_appended = np.array_equal(old_ids[: old.vocab_size], np.arange(old.vocab_size))
    as_read = np.where(old_ids < 0, old.unknown_id or 0, old_ids)
    words = checkpoint.weights.get(NGRAM_WORDS)
    return InitialModel(grown, kept, weights, own_loss, note, None if is_appended else as_read, words)


def fit_ngrams(initial: InitialModel, ids: NDArray[Any]) -> InitialModel:
    """Return the model with an n-gram table for the text of the new run.

    The frequent n-grams of the text get the rows of the table that no n-gram owns. A vocabulary that grows gives token
    ids other numbers, and so n-grams other hashes: those of the text take their rows with them, and the others, which
    the text does not contain, lose theirs.

    Args:
        initial: The model.
        ids: Token ids of the training text of the new run, [N].
    """
    old_ids, weights = initial.old_ids, dict(initial.weights)
    config = ModelConfig(vocab_size=initial.tokenizer.vocab_size, **initial.shape.chosen())
    if not config.ngrams or (old_ids is None and not config.ngram_index):
        return initial
    index = old_index = None
    if config.ngram_index:
        words, owned = weights[NGRAM_WORDS], weights[NGRAM_INDEX]
        old_index = None if initial.old_words is None else (owned, initial.old_words)
        weights[NGRAM_INDEX] = build_index(config, ids, words, owned if old_ids is None else None)
        index = (weights[NGRAM_INDEX], words)
    if old_ids is not None:
        weights[NGRAM_TABLE] = move_rows(config, ids, old_ids, index, old_index, weights[NGRAM_TABLE])
    return replace(initial, weights=weights)


def read_quantizer(model: str) -> Quantizer | None:
    """Return the quantizer of a model, with which the new run reads its series; None if the model is of texts.

    Args:
        model: Path or name of the model.

    Raises:
        ModelError: If there is no such model.
        ConfigError, TokenizerError: If its file is damaged.
    """
    described = load_metadata(find_model(model)).get("tokenizer")
    if not isinstance(described, Mapping) or described.get("name") != MULAW:
        return None
    return tokenizer_from_json(described).quantizer


def check_same_quantizer(checkpoint: Checkpoint, quantizer: Quantizer | None) -> None:
    """Check that a corpus was read as the training text of the model that a run starts from.

    Raises:
        ConfigError: If one of them is a series and the other one is not, or has another range.
    """
    own = checkpoint.tokenizer.quantizer
    if own == quantizer:
        return
    kinds = [each.summary if each else "texts" for each in (own, quantizer)]
    raise ConfigError(
        f"the initial model is of {kinds[0]}, but the corpus is of {kinds[1]}",
        "Read a series with read_corpus(FILE, quantizer=model.tokenizer.quantizer), or train without --init-from.",
    )


def map_ids(old: Tokenizer, new: Tokenizer) -> np.ndarray:
    """Return the old id of each new token id, [V] int64: the one with the same bytes, or −1 if there is none."""
    special = set(old.special_ids())
    old_ids = {old.token_bytes(i): i for i in range(old.vocab_size) if i not in special}
    special = set(new.special_ids())
    return np.array(
        [i if i in special else old_ids.get(new.token_bytes(i), -1) for i in range(new.vocab_size)], dtype=np.int64
    )


def _masked(weights: Mapping[str, np.ndarray], tokenizer: Tokenizer, has_documents: bool) -> Tensors:
    """Return the weights with a mask on exactly the token ids that cannot occur in the new run."""
    return {**weights, "head.bias": mask_bias(weights["head.bias"], tokenizer.masked_ids(has_documents))}


def _grow_weights(checkpoint: Checkpoint, new: Tokenizer, old_ids: np.ndarray) -> Tensors:
    """Return the weights with a row for each new token id.

    The new rows of the embedding are random and as large as the others. The new rows of the head are zero, and their
    bias is the lowest of the others, so a new character is as unlikely at first as the least likely known character.

    Args:
        checkpoint: The model.
        new: The tokenizer with the new token ids.
        old_ids: The old id of each token id, −1 for a new one, [V].
    """
    weights = dict(checkpoint.weights)
    rng = np.random.default_rng(0)
    is_new = old_ids < 0
    if NGRAM_WORDS in weights:
        weights[NGRAM_WORDS] = word_kinds(new)
    for name in ("embedding.weight", "head.weight", "ngrams.head"):
        if name in weights:
            old = weights[name]
            scale = float(old.std()) if name == "embedding.weight" else 0.0
            grown = rng.normal(0.0, scale, (len(old_ids), old.shape[1])).astype(old.dtype)
            grown[~is_new] = old[old_ids[~is_new]]
            weights[name] = grown
    bias = weights["head.bias"]
    weights["head.bias"] = np.where(is_new, bias[2:].min(initial=0.0), bias[np.maximum(old_ids, 0)]).astype(bias.dtype)
    return weights
