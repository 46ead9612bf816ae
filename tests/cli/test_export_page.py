"""`chargen export page`: what it writes and prints, and the models that it refuses."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from chargen.checkpoint import save_checkpoint, save_tensors
from chargen.config import WEIGHT_STORAGES
from chargen.ui.console import format_size
from tests.conftest import Result, random_model

Chargen = Callable[..., Result]


@pytest.fixture
def model(chargen: Chargen) -> Path:
    path = Path("checkpoints/poems/model.safetensors")
    save_checkpoint(path, random_model(ngrams=3, ngram_rows=16))
    return path


def test_a_page_is_written_and_its_size_is_printed(chargen: Chargen, model: Path) -> None:
    result = chargen("export", "page", "poems", "-o", "poems.html", "--license", "CC BY 4.0 <x>")
    assert result.status == 0, result.err
    page = Path("poems.html").read_text(encoding="utf-8")
    assert result.out == f"poems.html: poems, {format_size(len(page.encode()))} (int8, 32 n-gram rows)\n"
    assert page.startswith("<!doctype html>") and page.endswith("</html>\n")
    assert "CC BY 4.0 \\u003cx>" in page and "createModel" in page


def test_json_has_the_size_in_bytes(chargen: Chargen, model: Path) -> None:
    result = chargen("export", "page", str(model), "-o", "p.html", "--weights", "float32", "--json")
    assert json.loads(result.out) == {
        "path": "p.html", "model": "poems", "size_bytes": os.path.getsize("p.html"), "weights": "float32",
        "ngram_rows": 32,
    }  # fmt: skip
    sizes = {}
    for kind in WEIGHT_STORAGES:
        written = chargen("export", "page", "poems", "-o", "p.html", "--weights", kind, "--json")
        sizes[kind] = json.loads(written.out)["size_bytes"]
    assert sizes["int8"] < sizes["float16"] < sizes["float32"]


def test_what_is_wrong_is_said_in_two_lines_at_most(chargen: Chargen, model: Path) -> None:
    save_tensors(Path("encoder.safetensors"), {}, {"kind": "encoder"})
    for words, status, reason in [
        (["poems"], 2, "Missing option '-o' / '--output'"),
        (["poem", "-o", "p.html"], 1, "no model named 'poem' under checkpoints/ Did you mean 'poems'?"),
        (["encoder.safetensors", "-o", "p.html"], 1, "is a bidirectional encoder"),
        (["poems", "-o", "missing/p.html"], 2, "there is no folder missing"),
        (["poems", "-o", str(model)], 2, "would overwrite"),
        (["poems", "-o", "p.html", "--weights", "int4"], 2, "'int4' is not one of"),
    ]:
        result = chargen("export", "page", *words)
        assert (result.status, result.out) == (status, ""), words
        assert reason in " ".join(result.err.split()), words
        assert not Path("p.html").exists()
