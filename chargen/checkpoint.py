"""One model, one file: weights, config and vocabulary in a .safetensors file that NumPy alone can read.

    model.safetensors
      header   {"chargen": JSON}, one entry, so that the same model is the same bytes
               JSON: {"format_version": 1, "sha256": …,
                      "model": {"config": …, "tokenizer": …, "about": what trained it, on what, how far}}
      tensors  as `cells/weights.py` names them

The checksum covers "model" and every tensor's name, type, shape and bytes, so a flipped bit is found. No pickle: what
is opened here cannot run code. A file is written whole or not at all.

A file with a correct checksum may still be hostile. Before a tensor is read or anything is built, the header is
checked: its JSON against a description (`schema.py`), its settings against their maxima, and the names, types and
shapes of its tensors against the settings. That takes time and memory in proportion to the header, whatever it claims.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save

from chargen.cells.weights import (
    FLOAT32_BYTES,
    check_shapes,
    check_weights,
    count_parameters,
    count_table_bytes,
    mask_bias,
)
from chargen.config import MAX_STEPS, DataConfig, ModelConfig
from chargen.errors import ChargenError, ConfigError, ModelError
from chargen.io import replace_non_finite, write_atomically
from chargen.schema import Integer, Nullable, Number, Record, Spec, String, format_value, parse_json
from chargen.text.cleaning import normal_form
from chargen.text.documents import NONE
from chargen.text.limits import GIB, check_memory
from chargen.tokenizers.tokenizer import BOUNDARY_ID, Ids, Tokenizer, start_ids, tokenizer_from_json

FORMAT = "chargen"
FORMAT_VERSION = 1
DTYPES = ("F32", "F64", "I64", "I32", "U8")  #: of tensors, as safetensors names them; weights are F32
MAX_HEADER_BYTES = 1 << 25  #: most of them may be a sentencepiece model
MAX_TENSORS = 1 << 15  #: a training state of `MAX_LAYERS` layers has 5,000
WEIGHT_DTYPE = "F32"
MAX_TABLE_EXPANSION = (
    64  #: tables that are made when a model is opened, over its weights; four members with one embedding: 16
)
SMALL_TABLES = 1 << 28  #: bytes of tables that are always allowed

Tensors = dict[str, np.ndarray]

NUMBER = Nullable(Number())
ABOUT: Spec = Record(  # of a model; a later version may say more
    optional={
        "chargen": String(100),
        "corpus": String(),
        "corpus_sha256": String(64, 64),
        "train_chars": Integer(),
        "choice_loss_nats_per_char": NUMBER,
        "data": Record(),
        "train": Record(),
        "step": Integer(0, MAX_STEPS),
        "result": Record(
            optional={
                "best_step": Integer(0, MAX_STEPS),
                "steps": Integer(0, MAX_STEPS),
                "epochs": NUMBER,
                "train_loss_nats_per_char": NUMBER,
                "val_loss_nats_per_char": NUMBER,
                "val_bits_per_char": NUMBER,
                "val_bits_per_byte": NUMBER,
                "val_perplexity_per_char": NUMBER,
                "val_first_half_nats_per_char": NUMBER,
                "val_second_half_nats_per_char": NUMBER,
                "ngram_5_nats_per_char": NUMBER,
                "lzma_nats_per_char": NUMBER,
                "entropy_nats_per_char": NUMBER,
                "diagnosis": String(),
                "verdict": String(),  # the name of `diagnosis` in earlier versions
            }
        ),
    }
)
MODEL: Spec = Record({"config": Record(), "tokenizer": Record({"name": String(100)})}, {"about": ABOUT})


@dataclass(frozen=True)
class Checkpoint:
    """A model as a value: all that writing and scoring text need."""

    config: ModelConfig
    tokenizer: Tokenizer
    weights: Mapping[str, np.ndarray]
    about: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Mask the ids that can never come, in models that were trained without the mask too."""
        bias = self.weights["head.bias"]
        masked = mask_bias(bias, self.tokenizer.masked_ids(self.has_documents))
        if not np.array_equal(masked, bias):
            object.__setattr__(self, "weights", {**self.weights, "head.bias": masked})

    @cached_property
    def data(self) -> DataConfig:
        """How its training text was read; the defaults, if the file does not say."""
        return DataConfig.from_json(self.about["data"]) if "data" in self.about else DataConfig()

    @property
    def has_documents(self) -> bool:
        """Whether the model learned from separate documents, and not from one running text."""
        return self.data.documents != NONE

    @property
    def start_ids(self) -> Ids:
        """Return the ids that every text starts after: the boundary in a model of documents, else a newline."""
        return start_ids(self.tokenizer, self.data.documents)

    @property
    def end_ids(self) -> Ids | None:
        """Return the ids that end a text: the boundary, or a newline; None if the model can generate neither."""
        ids = self.start_ids
        return ids if self.has_documents or ids[-1] != BOUNDARY_ID else None

    def normalize(self, text: str) -> str:
        """Return a text in the form of the training text, for example NFC with LF newlines."""
        return normal_form(text, self.data)

    def encode_context(self, context: str) -> Ids:
        """Return the ids that are read before a text is generated or scored: `start_ids`, then the context."""
        return np.concatenate([self.start_ids, self.tokenizer.encode(self.normalize(context))])


def save_checkpoint(path: Path, checkpoint: Checkpoint) -> None:
    """Write a model file.

    Raises:
        StorageError: it cannot be written; an earlier file of that name stays as it was.
    """
    described = {
        "config": checkpoint.config.to_json(),
        "tokenizer": checkpoint.tokenizer.to_json(),
        "about": dict(checkpoint.about),
    }
    save_tensors(path, dict(checkpoint.weights), described)


def load_checkpoint(path: Path) -> Checkpoint:
    """Read a model file.

    Raises:
        ModelError: the file is missing, damaged, or not a chargen model.
    """
    with open_tensors(path) as file:
        try:
            described = file.metadata
            MODEL.check(described, "header")
            config = ModelConfig.from_json(described["config"])
            check_header(config, file.tensors)
            about = described.get("about", {})
            if "data" in about:
                DataConfig.from_json(about["data"])
            tokenizer = tokenizer_from_json(described["tokenizer"])
            if tokenizer.vocab_size != config.vocab_size:
                raise ModelError(f"its vocabulary has {tokenizer.vocab_size:,} ids, its network {config.vocab_size:,}")
            weights = file.read()
            check_weights(config, weights)
        except ChargenError as error:
            if isinstance(error, DamagedError):
                raise
            raise ModelError(f"{path} cannot be used: {error.message}", error.hint) from error
    return Checkpoint(config, tokenizer, weights, about)


def check_header(config: ModelConfig, tensors: Mapping[str, TensorInfo]) -> None:
    """Check by a file's header that its tensors are the weights of a network, and that it can be opened here.

    Raises:
        ConfigError: there is no such cell, or the machine has too little memory.
        ModelError: a tensor is missing, one too many, or of another type or shape.
    """
    check_shapes(config, {name: tensor.shape for name, tensor in tensors.items()})
    for name, tensor in tensors.items():
        if tensor.dtype != WEIGHT_DTYPE:
            raise ModelError(f"the weight {name!r} is of type {tensor.dtype}, but must be {WEIGHT_DTYPE}")
    needed = count_table_bytes(config)
    if needed > MAX_TABLE_EXPANSION * FLOAT32_BYTES * count_parameters(config) + SMALL_TABLES:
        raise ModelError(f"its settings would make tables of {needed / GIB:,.1f} GiB out of small weights")
    check_memory(needed, "the model", "Open it on a machine with more memory.")


def save_tensors(path: Path, tensors: Tensors, described: Mapping[str, Any]) -> None:
    """Write tensors and a JSON value into one checked file, all or nothing.

    Raises:
        StorageError: it cannot be written; an earlier file of that name stays as it was.
    """
    tensors = {name: np.ascontiguousarray(t) for name, t in tensors.items()}
    described = replace_non_finite(described)  # a loss that is not a number is null, as in all JSON here
    header = {"format_version": FORMAT_VERSION, "sha256": _checksum(described, tensors), "model": described}
    text = json.dumps(header, ensure_ascii=False, sort_keys=True)
    write_atomically(path, [save(tensors, metadata={FORMAT: text})])


class DamagedError(ModelError):
    """A file that is missing, cannot be read, or is not as `save_tensors` wrote it; the message names it."""


class TensorInfo(NamedTuple):
    """What a file's header says of a tensor."""

    dtype: str
    shape: tuple[int, ...]


class TensorFile:
    """An open file that `save_tensors` wrote: its header, and its tensors once they are asked for.

    Args:
        path: of the file, for messages.
        file: what `safe_open` returned.
    """

    def __init__(self, path: Path, file: Any) -> None:
        self._path, self._file = path, file
        names = list(file.keys())
        if len(names) > MAX_TENSORS:
            raise ConfigError(f"it has {len(names):,} tensors")
        text = (file.metadata() or {}).get(FORMAT)
        if text is None:
            raise DamagedError(f"{path} is not a chargen model", "chargen reads the files that `chargen train` writes.")
        header = parse_json(text)
        Record({"format_version": Integer()}).check(header, "header")
        if header["format_version"] != FORMAT_VERSION:
            raise DamagedError(
                f"{path} has format {format_value(header['format_version'])}, but this version reads {FORMAT_VERSION}",
                "Update chargen: pip install --upgrade chargen.",
            )
        Record({"sha256": String(64, 64), "model": Record()}).check(header, "header")
        self._sha256: str = header["sha256"]
        self.metadata: dict[str, Any] = header["model"]
        slices = ((name, file.get_slice(name)) for name in names)
        self.tensors = {name: TensorInfo(s.get_dtype(), tuple(s.get_shape())) for name, s in slices}

    def read(self) -> Tensors:
        """Return all tensors.

        Raises:
            DamagedError: they or the header do not match the checksum.
        """
        for name, tensor in self.tensors.items():
            if tensor.dtype not in DTYPES:
                raise ConfigError(f"the tensor {format_value(name)} has the type {format_value(tensor.dtype)}")
        size = os.path.getsize(self._path)  # a sparse file may claim any, and be consistent
        check_memory(size, f"{self._path}, of {size:,} bytes,", "Open it on a machine with more memory.")
        tensors = {name: self._file.get_tensor(name) for name in self.tensors}
        if _checksum(self.metadata, tensors) != self._sha256:
            raise DamagedError(
                f"{self._path} is damaged: its content does not match its checksum",
                "Take an earlier copy, or train again.",
            )
        return tensors


@contextmanager
def open_tensors(path: Path) -> Iterator[TensorFile]:
    """Open what `save_tensors` wrote and read its header.

    Raises:
        DamagedError: the file is missing, is not a regular file, cannot be read or is not chargen's.
    """
    if not os.path.isfile(path):  # a FIFO would be waited for, a device read for ever
        raise DamagedError(f"{path} is not a regular file" if os.path.exists(path) else f"no model file at {path}")
    hint = "Take an earlier copy, or train again."
    try:
        with open(path, "rb") as start:
            header_bytes = int.from_bytes(start.read(8), "little")
        if header_bytes > MAX_HEADER_BYTES:
            raise ConfigError(f"its header would have {header_bytes:,} bytes")
        with safe_open(path, framework="numpy") as file:
            yield TensorFile(path, file)
    except ModelError:
        raise
    except OSError as error:
        raise DamagedError(f"{path} cannot be read: {error.strerror or error}") from error
    except MemoryError as error:
        raise DamagedError(f"{path} does not fit into memory") from error
    except ConfigError as error:
        raise DamagedError(f"{path} is damaged or not a model file ({error.message})", hint) from error
    except (SafetensorError, ValueError, OverflowError) as error:
        raise DamagedError(f"{path} is damaged or not a model file ({error})", hint) from error


def load_tensors(path: Path) -> tuple[Tensors, dict[str, Any]]:
    """Read what `save_tensors` wrote.

    Raises:
        ModelError: the file is missing, damaged, or not chargen's.
    """
    with open_tensors(path) as file:
        return file.read(), file.metadata


def load_metadata(path: Path) -> dict[str, Any]:
    """Read the JSON value alone that `save_tensors` wrote, at once and unchecked; empty where there is none to read."""
    try:
        with open_tensors(path) as file:
            return file.metadata
    except DamagedError:
        return {}


def _checksum(described: Mapping[str, Any], tensors: Tensors) -> str:
    digest = hashlib.sha256(json.dumps(described, sort_keys=True).encode())
    for name in sorted(tensors):
        tensor = tensors[name]
        digest.update(f"\0{name}\0{tensor.dtype.str}\0{tensor.shape}\0".encode())
        digest.update(np.ascontiguousarray(tensor).data)
    return digest.hexdigest()
