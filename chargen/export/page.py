"""Write the page of a model: one HTML file with the model, the interface and the style in it."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

from chargen.export.interface import assemble_page
from chargen.export.payload import make_payload
from chargen.io import write_atomically
from chargen.lm import LanguageModel
from chargen.runs import MODEL_FILE


class WrittenPage(NamedTuple):
    """A page that was written."""

    name: str  #: name of the model
    size_bytes: int
    num_ngram_rows: int  #: number of rows of the n-gram table in it


def write_page(model: LanguageModel, path: Path, weights: str = "int8", license_note: str = "") -> WrittenPage:
    """Write the page of a model atomically.

    Args:
        model: The model, which `api.load` opened.
        path: Path of the HTML file; an existing file is replaced.
        weights: How the weights are stored: "int8", "float16" or "float32".
        license_note: What the page says about the licence; "" says that none is stated.

    Raises:
        ModelError: If a page cannot run the model (`payload.make_payload`).
        StorageError: If the file cannot be written.
    """
    name = model_name(model.path)
    payload = make_payload(model.checkpoint, name, weights, license_note)
    data = assemble_page(name, payload.values, payload.script).encode("utf-8", "replace")  # a name may be no Unicode
    write_atomically(path, [data])
    return WrittenPage(name, len(data), payload.num_ngram_rows)


def model_name(path: Path | None) -> str:
    """Return the name of a model: that of its run, or of its file."""
    if path is None:
        return "model"
    return path.resolve().parent.name if path.name == MODEL_FILE else path.stem
