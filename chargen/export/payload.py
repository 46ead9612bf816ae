"""What a page needs to run a model: its description, its vocabulary, its weights, and the script of its network.

The payload is a JSON object. `createModel(payload)` in `assets/engine.js` makes a model of it, with the function
`createNetwork` that the script contains:

    about                            name, corpus, bits per character, version, licence note, …
    tokenizer, normalize, newline    how a text is turned into token ids, as `checkpoint.Checkpoint` does
    start_ids, end_ids, masked_ids, unknown_id
    network    {arrays: descriptions (`weights.py`), data: their bytes in base64, ngrams: constants of the hashes}
"""

from __future__ import annotations

import base64
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.resources import files
from typing import TYPE_CHECKING, Any

import numpy as np

from chargen import __version__
from chargen.cells.ngram_features import make_hash_parameters, make_word_hashing
from chargen.cells.weights import FIXED_DTYPES, NGRAM_INDEX, NGRAM_TABLE, NGRAM_WORDS, count_parameters
from chargen.checkpoint import Checkpoint
from chargen.config import ModelConfig
from chargen.engines.numpy_engine import NumpyEngine
from chargen.errors import ModelError
from chargen.export.weights import StoredArray, join_arrays, store_array, store_integers
from chargen.graph.graph import TraceError
from chargen.graph.javascript_backend import build_javascript
from chargen.graph.memory_plan import plan_memory
from chargen.storage.rounding import find_ngram_scale
from chargen.tokenizers.tokenizer import Tokenizer

if TYPE_CHECKING:
    from chargen.tokenizers.sentencepiece import SentencePieceTokenizer

NO_LICENSE = "No licence is stated for this model or its corpus."
SCRIPTS = ("engine.js", "direction.js", "tokenizers.js", "weights.js")  #: files of `assets/` that a model consists of
SUBWORDS = "sp"  #: name of the sentencepiece tokenizer
ALGORITHMS = (
    "unigram",
    "bpe",
    "char",
)  #: kinds of sentencepiece models, as in `assets/tokenizers.js`
MAX_DATA_BYTES = 1 << 28  #: bytes of weights; in base64 they must fit into a string of a browser, of 2²⁹ characters
LIMB_BITS = 24  #: the multipliers of the hash are split into numbers of this size, because JavaScript has 53 bits


@dataclass(frozen=True)
class Payload:
    """A model as a page gets it.

    Attributes:
        values: The JSON object.
        script: A script that defines `createModel`, and no other name.
        num_ngram_rows: Number of rows of the n-gram table that are stored; 0 without n-grams.
    """

    values: dict[str, Any]
    script: str
    num_ngram_rows: int


def make_payload(checkpoint: Checkpoint, name: str, weights: str = "int8", license_note: str = "") -> Payload:
    """Return what a page needs to run a model.

    Args:
        checkpoint: The model.
        name: Name of the model, as the page shows it.
        weights: How the weights are stored: one of `config.WEIGHT_STORAGES`.
        license_note: What the page says about the licence of the model; "" says that none is stated.

    Raises:
        ModelError: If a page cannot run the model: it is of series of numbers, has a sentencepiece model of words, is
            too large, or has a cell without an operator graph.
    """
    _check_model(checkpoint, name)
    engine = NumpyEngine(checkpoint.config, checkpoint.weights)
    embedding = np.asarray(checkpoint.weights["embedding.weight"], dtype=np.float32)
    try:
        graph = engine.trace(checkpoint.config.embedding_dim)
        network = build_javascript(plan_memory(graph, checkpoint.config.hidden_size), embedding)
    except TraceError as error:
        raise ModelError(
            f"the model {name} has a cell that cannot run in a page ({error})", "Train with another --cell."
        ) from error
    arrays = [store_array(array, values, weights) for array, values in network.weights.items()]
    tables = _store_ngrams(checkpoint, weights)
    num_rows = sum(table.num_rows for table in tables if table.description["is_sparse"])
    descriptions, data = join_arrays([*arrays, *tables])
    if len(data) > MAX_DATA_BYTES:
        raise ModelError(
            f"the weights of {name} have {len(data) / 1e6:,.0f} MB, but a browser can read at most "
            f"{MAX_DATA_BYTES / 1e6:,.0f} MB of them from a page",
            "Use --weights int8, or a smaller model.",
        )
    values = {
        "about": describe_model(checkpoint, name, weights, license_note),
        "tokenizer": _describe_tokenizer(checkpoint.tokenizer),
        "normalize": checkpoint.data.normalize,
        "newline": checkpoint.data.newline,
        "start_ids": checkpoint.start_ids.tolist(),
        "end_ids": None if checkpoint.end_ids is None else checkpoint.end_ids.tolist(),
        "masked_ids": checkpoint.tokenizer.masked_ids(checkpoint.has_documents),
        "unknown_id": checkpoint.tokenizer.unknown_id,
        "network": {
            "arrays": descriptions,
            "data": base64.b64encode(data).decode("ascii"),
            "ngrams": _hash_constants(checkpoint.config) if tables else None,
        },
    }
    assets = files("chargen.export").joinpath("assets")
    script = "".join(assets.joinpath(file).read_text(encoding="utf-8") for file in SCRIPTS)
    script = f'const createModel = (() => {{\n"use strict";\n{network.source}{script}return createModel;\n}})();\n'
    return Payload(values, script, num_rows)


def _check_model(checkpoint: Checkpoint, name: str) -> None:
    tokenizer = checkpoint.tokenizer
    if tokenizer.quantizer is not None:
        raise ModelError(
            f"the model {name} continues a series of numbers, and a page shows texts",
            f"Continue the series with: chargen sample -m {name}",
        )
    subwords = _subword_tokenizer(tokenizer)
    if subwords is not None and subwords.algorithm() not in ALGORITHMS:
        raise ModelError(
            f"the sentencepiece model of {name} encodes texts by another algorithm ({subwords.algorithm()}) than those "
            f"of a page ({', '.join(ALGORITHMS)})",
            "Export a model that was trained with --tokenizer char, byte or sp:SIZE.",
        )


def describe_model(
    checkpoint: Checkpoint, name: str, weights: str = "float32", license_note: str = ""
) -> dict[str, Any]:
    """Return what a page says about a model, as JSON values; see `make_payload`."""
    about = checkpoint.about
    result = about.get("result", {})
    return {
        "name": name,
        "corpus": about.get("corpus"),
        "train_chars": about.get("train_chars"),
        "bits_per_char": result.get("val_bits_per_char"),
        "version": __version__,
        "license_note": license_note or NO_LICENSE,
        "network": str(checkpoint.config),
        "num_parameters": count_parameters(checkpoint.config),
        "tokenizer": checkpoint.tokenizer.name,
        "documents": checkpoint.data.documents,
        "direction": checkpoint.data.direction,
        "weights": weights,
    }


def _describe_tokenizer(tokenizer: Tokenizer) -> dict[str, Any]:
    """Return what `assets/tokenizers.js` needs: for sentencepiece, the pieces instead of the model file."""
    subwords = _subword_tokenizer(tokenizer)
    if subwords is None:
        return tokenizer.to_json()
    pieces = [list(piece) for piece in subwords.pieces()]
    return {"name": subwords.name, "algorithm": subwords.algorithm(), "pieces": pieces}


def _subword_tokenizer(tokenizer: Tokenizer) -> SentencePieceTokenizer | None:
    """Return a sentencepiece tokenizer as such; None for another one, so that the library is not imported."""
    if tokenizer.name != SUBWORDS:
        return None
    from chargen.tokenizers.sentencepiece import SentencePieceTokenizer

    assert isinstance(tokenizer, SentencePieceTokenizer)
    return tokenizer


def _store_ngrams(checkpoint: Checkpoint, weights: str) -> list[StoredArray]:
    """Return the n-gram table as it is stored, and what belongs to it; an empty list if the network has none.

    Without an index, there is an array for each n from 2 on. With an index, there are the table, the tags of its stored
    rows, and the kinds of the token ids.
    """
    config = checkpoint.config
    if not config.ngrams:
        return []
    table = np.asarray(checkpoint.weights[NGRAM_TABLE], dtype=np.float32)
    scale = find_ngram_scale(checkpoint.weights["ngrams.head"], config.num_ngrams)
    parts = {NGRAM_TABLE: table}
    if not config.ngram_index:
        parts = {f"ngrams{n}": part for n, part in enumerate(np.split(table, config.ngrams - 1), 2)}
    stored = [
        store_array(name, part, weights, config.ngram_rows, is_sparse=True, min_scale=scale)
        for name, part in parts.items()
    ]
    if config.ngram_index:
        tags, kinds = (np.asarray(checkpoint.weights[name], dtype=dtype) for name, dtype in FIXED_DTYPES.items())
        stored += [store_integers(NGRAM_INDEX, tags[stored[0].is_stored]), store_integers(NGRAM_WORDS, kinds)]
    return stored


def _hash_constants(config: ModelConfig) -> dict[str, Any]:
    """Return the constants of the hash functions.

    Each multiplier of n-grams of a fixed length is three numbers, the highest bits first. The constants of the n-grams
    that start with a word are numbers of 64 bits as two, the higher half first: the multiplier, that of a token id,
    what is added to it, and the last multiplier of each word.
    """
    multipliers, _ = make_hash_parameters(config.ngrams, config.ngram_rows)
    used = [int(row[j]) for n, row in enumerate(multipliers.view(np.uint64), 2) for j in range(n)]
    words = make_word_hashing(config.ngram_words)
    of_words = [words.m, words.a, words.b, *words.final]
    return {
        "length": config.ngrams,
        "num_rows": config.ngram_rows,
        "multipliers": [limb for multiplier in used for limb in _split(multiplier)],
        "has_index": config.ngram_index,
        "num_words": config.ngram_words,
        "word_constants": [half for number in of_words for half in (number >> 32 & 0xFFFFFFFF, number & 0xFFFFFFFF)],
    }


def _split(multiplier: int) -> Iterator[int]:
    """Yield a number of 64 bits as its highest 16 bits and two numbers of LIMB_BITS."""
    mask = (1 << LIMB_BITS) - 1
    yield multiplier >> 2 * LIMB_BITS
    yield multiplier >> LIMB_BITS & mask
    yield multiplier & mask
