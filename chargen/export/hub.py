"""A folder for a model hub: the model file, a description for programs, and a model card for people.

    model.safetensors    the model file itself; `chargen.load` opens it, or the folder
    config.json          architecture, size of the vocabulary and tokenizer
    README.md            model card: YAML fields for the hub, measured figures, the corpus, and how to use the model

A person edits the card: the license and the languages cannot be known here. So a file that is in the folder already is
kept, and a folder that belongs to anything but the same model is refused.
"""

from __future__ import annotations

import filecmp
import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from chargen import __version__
from chargen.cells.weights import count_parameters
from chargen.checkpoint import Checkpoint, format_version
from chargen.errors import StorageError
from chargen.export.model_card import make_model_card
from chargen.io import make_storage_error, write_atomically
from chargen.runs import MODEL_FILE

CONFIG_FILE, CARD_FILE = "config.json", "README.md"
HUB_FILES = (MODEL_FILE, CONFIG_FILE, CARD_FILE)
BLOCK_BYTES = 1 << 20


def write_hub_folder(folder: Path, model_path: Path, checkpoint: Checkpoint, repository: str = "") -> list[str]:
    """Write the files for a model hub. Files that are in the folder already are kept.

    Args:
        folder: The folder. It is created if it does not exist.
        model_path: The path of the model file.
        checkpoint: The content of the model file.
        repository: The name of the repository ("person/model") for the examples of the card; "" if it is not known.

    Returns:
        The names of the files that were there and are kept.

    Raises:
        StorageError: If the folder has other content, belongs to the run itself, or cannot be written.
    """
    check_hub_folder(folder, model_path)
    kept = [name for name in HUB_FILES if os.path.lexists(folder / name)]
    if MODEL_FILE not in kept:  # it comes first: what an interrupted call has written then belongs to it
        write_atomically(folder / MODEL_FILE, _read_blocks(model_path))
    if CONFIG_FILE not in kept:
        write_atomically(
            folder / CONFIG_FILE, [_to_bytes(json.dumps(describe(checkpoint), ensure_ascii=False, indent=2))]
        )
    if CARD_FILE not in kept:
        write_atomically(folder / CARD_FILE, [_to_bytes(make_model_card(checkpoint, repository))])
    return kept


def check_hub_folder(folder: Path, model_path: Path) -> None:
    """Check that a folder is missing, empty, or was written for the same model.

    Raises:
        StorageError: If it is something else.
    """
    hint = "Name a folder that does not exist yet."
    try:
        if not os.path.lexists(folder):
            return
        if not folder.is_dir():
            raise StorageError(f"{folder} is not a folder", hint)
        if os.path.samefile(folder, model_path.parent):
            raise StorageError(f"{folder} is the folder of the model itself", hint)
        names = sorted(os.listdir(folder))
        if names and not (folder / MODEL_FILE).is_file():
            raise StorageError(f"the folder {folder} has other content, such as {names[0]}", hint)
        if names and not filecmp.cmp(folder / MODEL_FILE, model_path, shallow=False):
            raise StorageError(f"the folder {folder} has another model", f"Remove {folder / MODEL_FILE}, or: {hint}")
    except OSError as error:
        if isinstance(error, StorageError):
            raise
        raise make_storage_error(folder, error) from error


def describe(checkpoint: Checkpoint) -> dict[str, Any]:
    """Return the content of config.json."""
    return {
        "library_name": "chargen",
        "model_type": "chargen",
        "chargen_version": __version__,
        "format_version": format_version(checkpoint.config, checkpoint.weight_storage),
        "weight_storage": checkpoint.weight_storage,
        "vocab_size": checkpoint.config.vocab_size,
        "parameters": count_parameters(checkpoint.config),
        "architecture": checkpoint.config.to_json(),
        "tokenizer": checkpoint.tokenizer.to_json(),
        "direction": checkpoint.data.direction,
        "documents": checkpoint.data.documents,
    }


def _read_blocks(path: Path) -> Iterator[bytes]:
    with open(path, "rb") as file:
        while block := file.read(BLOCK_BYTES):
            yield block


def _to_bytes(text: str) -> bytes:
    return f"{text}\n".encode("utf-8", "replace")
