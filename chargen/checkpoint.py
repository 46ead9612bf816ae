"""One model, one file: weights, config and vocabulary in a .safetensors file that NumPy alone can read.

    model.safetensors
      header   {"chargen": JSON}, one entry, so that the same model is the same bytes
               JSON: {"format_version": 1, "sha256": …,
                      "model": {"config": …, "tokenizer": …, "about": what trained it, on what, how far}}
      tensors  as `cells/weights.py` names them

The checksum covers "model" and every tensor's name, type, shape and bytes, so a flipped bit is found. No pickle: what
is opened here cannot run code. A file is written whole or not at all.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save

from chargen.cells.weights import check_weights, masked_bias
from chargen.config import DataConfig, ModelConfig
from chargen.errors import ChargenError, ModelError
from chargen.files import write_atomically
from chargen.text.documents import NONE
from chargen.text.tokenizer import Tokenizer, tokenizer_from_json

FORMAT = "chargen"
FORMAT_VERSION = 1

Tensors = dict[str, np.ndarray]


@dataclass(frozen=True)
class Checkpoint:
    """A model as a value: all that writing and scoring text need."""

    config: ModelConfig
    tokenizer: Tokenizer
    weights: Mapping[str, np.ndarray]
    about: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Mask the ids that can never come: models of version 1.0 and earlier did not."""
        bias = self.weights["head.bias"]
        masked = masked_bias(bias, self.tokenizer.masked_ids(self.data.documents != NONE))
        if not np.array_equal(masked, bias):
            object.__setattr__(self, "weights", {**self.weights, "head.bias": masked})

    @property
    def data(self) -> DataConfig:
        """How its training text was read; the defaults, if the file does not say."""
        return DataConfig.from_json(self.about["data"]) if "data" in self.about else DataConfig()


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
    weights, described = load_tensors(path)
    try:
        config = ModelConfig.from_json(described["config"])
        tokenizer = tokenizer_from_json(described["tokenizer"])
        check_weights(config, weights)
    except KeyError as error:
        raise ModelError(f"{path} is not a chargen model: its header has no {error}") from error
    except ChargenError as error:
        raise ModelError(f"{path} cannot be used: {error.message}", error.hint) from error
    if tokenizer.vocab_size != config.vocab_size:
        raise ModelError(f"{path}: its vocabulary has {tokenizer.vocab_size} ids, its network {config.vocab_size}")
    return Checkpoint(config, tokenizer, weights, described.get("about", {}))


def save_tensors(path: Path, tensors: Tensors, described: Mapping[str, Any]) -> None:
    """Write tensors and a JSON value into one checked file, all or nothing.

    Raises:
        StorageError: it cannot be written; an earlier file of that name stays as it was.
    """
    tensors = {name: np.ascontiguousarray(t) for name, t in tensors.items()}
    header = {"format_version": FORMAT_VERSION, "sha256": _checksum(described, tensors), "model": described}
    text = json.dumps(header, ensure_ascii=False, sort_keys=True)
    write_atomically(path, [save(tensors, metadata={FORMAT: text})])


def load_tensors(path: Path) -> tuple[Tensors, dict[str, Any]]:
    """Read what `save_tensors` wrote.

    Raises:
        ModelError: the file is missing, damaged, or not chargen's.
    """
    if not path.is_file():
        raise ModelError(f"no model file at {path}")
    try:
        with safe_open(path, framework="numpy") as file:
            text = (file.metadata() or {}).get(FORMAT)
            if text is None:
                raise ModelError(
                    f"{path} is not a chargen model", "chargen reads the files that `chargen train` writes."
                )
            header = json.loads(text)
            if header["format_version"] != FORMAT_VERSION:
                raise ModelError(
                    f"{path} has format {header['format_version']}, but this version reads {FORMAT_VERSION}",
                    "Update chargen: pip install --upgrade chargen.",
                )
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (not a dict)
        described: dict[str, Any] = header["model"]
        if _checksum(described, tensors) != header["sha256"]:
            raise ModelError(
                f"{path} is damaged: its content does not match its checksum",
                "Take an earlier copy, or train again.",
            )
        return tensors, described
    except OSError as error:
        raise ModelError(f"{path} cannot be read: {error.strerror or error}") from error
    except (SafetensorError, KeyError, ValueError, TypeError) as error:
        if isinstance(error, ChargenError):
            raise
        raise ModelError(
            f"{path} is damaged or not a model file ({error})", "Take an earlier copy, or train again."
        ) from error


def load_described(path: Path) -> dict[str, Any]:
    """Read the JSON value alone that `save_tensors` wrote, at once and unchecked; empty where there is none to read."""
    try:
        with safe_open(path, framework="numpy") as file:
            described = json.loads((file.metadata() or {})[FORMAT])["model"]
    except (OSError, SafetensorError, KeyError, ValueError, TypeError):
        return {}
    return described if isinstance(described, dict) else {}


def _checksum(described: Mapping[str, Any], tensors: Tensors) -> str:
    digest = hashlib.sha256(json.dumps(described, sort_keys=True).encode())
    for name in sorted(tensors):
        tensor = tensors[name]
        digest.update(f"\0{name}\0{tensor.dtype.str}\0{tensor.shape}\0".encode())
        digest.update(np.ascontiguousarray(tensor).data)
    return digest.hexdigest()
