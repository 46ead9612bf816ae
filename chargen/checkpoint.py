"""Model files: one `.safetensors` file contains weights, config and vocabulary, and NumPy alone can read it.

    model.safetensors
      header   {"chargen": JSON}: a single entry, so that the same model always gives the same bytes
               JSON: {"format_version": 1, 2 or 3, "sha256": …,
                      "model": {"config": …, "tokenizer": …, "about": how the model was trained, and on which text}}
      tensors  the weights, with the names of `cells/weights.py`; in version 3 as `storage/stored_weights.py` says

Version 2 is for networks that version 1 cannot describe: those with different cells, residual or skip connections, or
layer normalization (`cells/stack.py`). Version 3 is for files whose weights have fewer bits than float32, and for
networks with an index of n-grams. Other files have version 1, so earlier releases read them.

The checksum covers "model" and the name, dtype, shape and bytes of every tensor, so it detects any flipped bit. There
is no pickle, so opening a file cannot run code. Files are written atomically (`io.py`).

A file with a correct checksum may still be hostile. Therefore the header is checked before any tensor is read or
anything is built from it: the JSON against a type (`schema.py`), the settings against their limits, and the names,
dtypes and shapes of the tensors against the settings. The check takes time and memory in proportion to the size of the
header, for any numbers in it.
"""

from __future__ import annotations

import hashlib
import json
import math
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save

from chargen.about import MODEL_SPEC
from chargen.cells.weights import FIXED_DTYPES, FLOAT32_BYTES, check_shapes, count_table_bytes, mask_bias, table_rows
from chargen.config import FLOAT32, WEIGHT_STORAGES, DataConfig, ModelConfig
from chargen.errors import KINDS, ChargenError, ConfigError, ModelError, WrongKindError
from chargen.io import replace_non_finite, write_atomically
from chargen.schema import Integer, Record, String, format_value, parse_json
from chargen.storage.stored_weights import (
    StoredWeights,
    TensorInfo,
    Tensors,
    describe_weights,
    find_storage,
    pack_weights,
)
from chargen.text.cleaning import check_given_text, normalize_text
from chargen.text.documents import NONE
from chargen.text.limits import GIB, check_memory
from chargen.tokenizers.direction import reverse
from chargen.tokenizers.tokenizer import BOUNDARY_ID, Ids, Tokenizer, start_ids, tokenizer_from_json

FORMAT = "chargen"
#: the format versions that this release reads
PLAIN_VERSION, STACK_VERSION, STORAGE_VERSION = FORMAT_VERSIONS = (1, 2, 3)
DTYPES = ("F32", "F64", "I64", "I32", "U8")  #: dtypes of tensors in any file, as safetensors names them
STORAGE_DTYPES = ("F16", "I8", "U16")  #: and in files of version 3
WEIGHT_DTYPE = "F32"  #: dtype of the weights of a model
#: dtypes of the arrays that training does not change
FIXED_TYPES = {name: dtype.replace("uint", "U") for name, dtype in FIXED_DTYPES.items()}
MAX_HEADER_BYTES = 1 << 25  #: a sentencepiece model may be most of it
MAX_TENSORS = 1 << 15  #: a training state of `MAX_LAYERS` layers has 5,000
MAX_TABLE_EXPANSION = 64  #: bytes of tables of an opened model per byte of weights; 4 tied networks have 16
ALWAYS_ALLOWED_TABLE_BYTES = 1 << 28  #: tables up to this size are allowed for any size of the weights


@dataclass(frozen=True)
class Checkpoint:
    """A trained model as a value: everything that is needed to generate and score text.

    Args:
        config: The architecture of the network.
        tokenizer: The tokenizer with the vocabulary.
        weights: float32 arrays by name, see `cells/weights.py`.
        about: How the model was trained, as JSON: corpus, settings, steps, results. May be empty.
        weight_storage: How a file stores the weights, see `storage/stored_weights.py`: one of WEIGHT_STORAGES.
    """

    config: ModelConfig
    tokenizer: Tokenizer = field(repr=False)
    weights: Mapping[str, np.ndarray] = field(repr=False)
    about: Mapping[str, Any] = field(default_factory=dict)
    weight_storage: str = FLOAT32

    def __post_init__(self) -> None:
        """Mask the token ids that can never occur. Models of earlier versions were trained without this mask."""
        bias = self.weights["head.bias"]
        masked = mask_bias(bias, self.tokenizer.masked_ids(self.has_documents))
        if not np.array_equal(masked, bias):
            object.__setattr__(self, "weights", {**self.weights, "head.bias": masked})

    @cached_property
    def data(self) -> DataConfig:
        """How the training text was read and encoded; the defaults if the file does not say."""
        return DataConfig.from_json(self.about["data"]) if "data" in self.about else DataConfig()

    @property
    def has_documents(self) -> bool:
        """Whether the model was trained on separate documents, not on a continuous text."""
        return self.data.documents != NONE

    @property
    def default_until(self) -> str:
        """Where a generated text ends if nothing else is said: with its document in a model of documents."""
        return "boundary" if self.has_documents else "length"

    @property
    def start_ids(self) -> Ids:
        """Return the token ids that every text starts after: the boundary in a model of documents, else a newline."""
        return start_ids(self.tokenizer, self.data.documents)

    @property
    def end_ids(self) -> Ids | None:
        """Return the token ids that end a text: the boundary, or a newline; None if the model can generate neither."""
        ids = self.start_ids
        return ids if self.has_documents or ids[-1] != BOUNDARY_ID else None

    def scored_end_ids(self, scores_end: bool) -> Ids | None:
        """Return the token ids that are scored as the end of a text; None if the end is not scored.

        Raises:
            ConfigError: If the end is to be scored, but the model can generate none.
        """
        if scores_end and self.end_ids is None:
            raise ConfigError(
                "the end of a text cannot be scored: the model has no newline, and was trained on one continuous text",
                "Leave out --end (end=True), or train with --documents or with a text of several lines.",
            )
        return self.end_ids if scores_end else None

    def normalize(self, text: str, name: str = "text") -> str:
        """Return a text in the form of the training text, for example NFC with LF newlines.

        Every text that a model is given passes here; `name` is its name in an error message.

        Raises:
            TypeError: If it is not a string.
            TokenizerError: If it contains a lone surrogate, which is no character, or the model is of a series of
                numbers and not of texts.
        """
        check_given_text(text, name)
        self.tokenizer.check_text(text, name)
        return normalize_text(text, self.data)

    def reorder(self, text: str) -> str:
        """Return a normalized text in the order in which the model reads it, or such a text in reading order again."""
        return reverse(text) if self.data.is_backward else text

    def encode_context(self, context: str | None) -> Ids:
        """Return the token ids that are read before a text is generated or scored: `start_ids`, then the context.

        The context is the text before it; of a backward model, the text after it.
        """
        text = "" if context is None else self.reorder(self.normalize(context, "context"))
        return np.concatenate([self.start_ids, self.tokenizer.encode(text)])


def save_checkpoint(path: Path, checkpoint: Checkpoint, weight_storage: str | None = None) -> None:
    """Write a model file atomically. `weight_storage` is that of the checkpoint if it is None.

    Raises:
        ConfigError: If there is no such storage.
        StorageError: If the file cannot be written. An existing file is then unchanged.
    """
    metadata = {
        "config": checkpoint.config.to_json(),
        "tokenizer": checkpoint.tokenizer.to_json(),
        "about": dict(checkpoint.about),
    }
    config, storage = checkpoint.config, weight_storage or checkpoint.weight_storage
    String(choices=WEIGHT_STORAGES).check(storage, "weight_storage")
    tensors = pack_weights(checkpoint.weights, storage, table_rows(config))
    save_tensors(path, tensors, metadata, format_version(config, storage))


def format_version(config: ModelConfig, weight_storage: str = FLOAT32) -> int:
    """Return the version of the files of a network: the lowest one that can describe it."""
    if weight_storage != FLOAT32 or config.ngram_index:
        return STORAGE_VERSION
    return PLAIN_VERSION if config.is_plain_stack else STACK_VERSION


def load_checkpoint(path: Path) -> Checkpoint:
    """Read and check a model file.

    Raises:
        ModelError: If the file is missing, damaged, or not a chargen model, or needs more memory than there is.
    """
    with open_tensors(path) as file:
        try:
            metadata = file.metadata
            if metadata.get("kind") in KINDS:
                raise WrongKindError.of(path, str(metadata["kind"]))
            MODEL_SPEC.check(metadata, "header")
            config = ModelConfig.from_json(metadata["config"])
            tables = table_rows(config)
            check_header(config, file.tensors, tables)
            about = metadata.get("about", {})
            if "data" in about:
                DataConfig.from_json(about["data"])
            tokenizer = tokenizer_from_json(metadata["tokenizer"])
            if tokenizer.vocab_size != config.vocab_size:
                raise ModelError(
                    f"its vocabulary has {tokenizer.vocab_size:,} token ids, its network {config.vocab_size:,}"
                )
            weights = file.read_weights(tables)
        except ChargenError as error:
            if isinstance(error, (DamagedError, WrongKindError)):
                raise
            raise ModelError(f"{path} cannot be used: {error.message}", error.hint) from error
    return Checkpoint(config, tokenizer, weights, about, find_storage(weights.tensors, tables))


def check_header(config: ModelConfig, tensors: Mapping[str, TensorInfo], tables: Mapping[str, int]) -> None:
    """Check that the tensors in the header of a file are the weights of a network that this machine can open.

    Args:
        config: The settings in the header.
        tensors: The dtype and shape of each tensor in the header.
        tables: The result of `table_rows`.

    Raises:
        ConfigError: If there is no such cell, or this machine has too little memory.
        ModelError: If a tensor is missing, is unknown, or has another dtype or shape, or if the tables of the opened
            model would be far larger than the weights.
    """
    weights = describe_weights(tensors, tables)
    check_shapes(config, {name: weight.shape for name, weight in weights.items()})
    for name, weight in weights.items():
        wanted = FIXED_TYPES.get(name, WEIGHT_DTYPE)
        if weight.dtype != wanted:
            raise ModelError(f"the weight {name!r} is of type {weight.dtype}, but must be {wanted}")
    num_table_bytes = count_table_bytes(config)
    num_values = sum(math.prod(tensor.shape) for tensor in tensors.values())
    if num_table_bytes > MAX_TABLE_EXPANSION * FLOAT32_BYTES * num_values + ALWAYS_ALLOWED_TABLE_BYTES:
        raise ModelError(f"its settings would make tables of {num_table_bytes / GIB:,.1f} GiB out of small weights")
    check_memory(num_table_bytes, "the model", "Open it on a machine with more memory.")


def save_tensors(
    path: Path, tensors: Tensors, metadata: Mapping[str, Any], format_version: int = PLAIN_VERSION
) -> None:
    """Write tensors and a JSON value to one file with a checksum, atomically.

    Args:
        path: The path of the file.
        tensors: Arrays by name.
        metadata: A JSON object; numbers that are not finite are written as null.
        format_version: One of FORMAT_VERSIONS.

    Raises:
        StorageError: If the file cannot be written. An existing file is then unchanged.
    """
    tensors = {name: np.ascontiguousarray(t) for name, t in tensors.items()}
    metadata = replace_non_finite(metadata)  # for example a loss that is NaN
    header = {"format_version": format_version, "sha256": _checksum(metadata, tensors), "model": metadata}
    text = json.dumps(header, ensure_ascii=False, sort_keys=True)
    write_atomically(path, [save(tensors, metadata={FORMAT: text})])


class DamagedError(ModelError):
    """A file is missing, cannot be read, or was not written by `save_tensors`. The message contains its path."""


class TensorFile:
    """An open file of `save_tensors`: the header is read at once, the tensors are read by `read`.

    Attributes:
        metadata: The JSON object that the file contains. It is not checked against the checksum before `read`.
        tensors: The dtype and shape of each tensor.

    Args:
        path: The path of the file, for error messages.
        file: The object that `safe_open` returned.
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
        if header["format_version"] not in FORMAT_VERSIONS:
            known = ", ".join(map(str, FORMAT_VERSIONS))
            raise DamagedError(
                f"{path} has format {format_value(header['format_version'])}, but this version reads {known}",
                "Update chargen: pip install --upgrade chargen.",
            )
        Record({"sha256": String(64, 64), "model": Record()}).check(header, "header")
        self._sha256: str = header["sha256"]
        self._dtypes = DTYPES + (STORAGE_DTYPES if header["format_version"] == STORAGE_VERSION else ())
        self.metadata: dict[str, Any] = header["model"]
        slices = ((name, file.get_slice(name)) for name in names)
        self.tensors = {name: TensorInfo(s.get_dtype(), tuple(s.get_shape())) for name, s in slices}

    def read(self) -> Tensors:
        """Read all tensors.

        Returns:
            The arrays by name.

        Raises:
            ConfigError: If a tensor has an unexpected dtype, or this machine has too little memory.
            DamagedError: If the content of the file does not match its checksum.
        """
        for name, tensor in self.tensors.items():
            if tensor.dtype not in self._dtypes:
                raise ConfigError(f"the tensor {format_value(name)} has the type {format_value(tensor.dtype)}")
        size = os.path.getsize(self._path)  # a sparse file can have any size and still be consistent
        check_memory(size, f"{self._path}, of {size:,} bytes,", "Open it on a machine with more memory.")
        tensors = {name: self._file.get_tensor(name) for name in self.tensors}
        if _checksum(self.metadata, tensors) != self._sha256:
            raise DamagedError(
                f"{self._path} is damaged: its content does not match its checksum",
                "Use an earlier copy, or train again.",
            )
        return tensors

    def read_weights(self, tables: Mapping[str, int]) -> StoredWeights:
        """Read the arrays of a header that `describe_weights` has checked, and check their values.

        Raises:
            ConfigError, DamagedError: As for `read`; or if a weight has an invalid value.
        """
        weights = StoredWeights(self.read(), tables)
        problem = weights.find_invalid()
        if problem:
            raise ConfigError(problem, "Train again with a lower --lr, which keeps weights small.")
        return weights


@contextmanager
def open_tensors(path: Path) -> Iterator[TensorFile]:
    """Open a file of `save_tensors` and read its header; a context manager that gives a `TensorFile`.

    Raises:
        DamagedError: If the file is missing, is not a regular file, cannot be read, or is not a chargen file.
    """
    if not os.path.isfile(path):  # opening a FIFO would block, and reading a device might never end
        raise DamagedError(f"{path} is not a regular file" if os.path.exists(path) else f"no model file at {path}")
    hint = "Use an earlier copy, or train again."
    try:
        with open(path, "rb") as raw_file:
            num_header_bytes = int.from_bytes(raw_file.read(8), "little")
        if num_header_bytes > MAX_HEADER_BYTES:
            raise ConfigError(f"its header would have {num_header_bytes:,} bytes")
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
    """Read a file of `save_tensors`.

    Returns:
        (arrays by name, the JSON object).

    Raises:
        DamagedError: If the file is missing, damaged, not a chargen file, or too large for this machine.
    """
    with open_tensors(path) as file:
        return file.read(), file.metadata


def load_metadata(path: Path) -> dict[str, Any]:
    """Return the JSON object in a file of `save_tensors`, without checking the checksum; empty if it cannot be read."""
    try:
        with open_tensors(path) as file:
            return file.metadata
    except DamagedError:
        return {}


def _checksum(metadata: Mapping[str, Any], tensors: Tensors) -> str:
    """Return the SHA-256 of the JSON object and of the name, dtype, shape and bytes of every tensor."""
    digest = hashlib.sha256(json.dumps(metadata, sort_keys=True).encode())
    for name in sorted(tensors):
        tensor = tensors[name]
        digest.update(f"\0{name}\0{tensor.dtype.str}\0{tensor.shape}\0".encode())
        digest.update(np.ascontiguousarray(tensor).data)
    return digest.hexdigest()
